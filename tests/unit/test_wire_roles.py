"""Mesh roles: seven words, and the labels people use instead of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sos.wire.names import normalise
from sos.wire.roles import DEFAULT_ROLE, LABELS, ROLES, mesh_role


def test_the_roles_are_the_seven_of_the_mesh():
    assert ROLES == ("coordinator", "executor", "specialist", "oracle", "medic", "service", "human")


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_itself_however_it_is_written(role: str):
    assert mesh_role(role) == mesh_role(f" {role.upper()} ") == (role, True)


@pytest.mark.parametrize("label", LABELS)
def test_every_label_can_be_reached_and_is_no_role_itself(label: str):
    assert normalise(label) == label
    assert label not in ROLES
    assert mesh_role(label) == (LABELS[label], True)


@pytest.mark.parametrize(
    ("label", "role"),
    [
        *(("code-reviewer", "specialist"), ("Code Reviewer", "specialist"), ("code_reviewer", "specialist")),
        *(("lead engineer", "executor"), ("engineering lead", "coordinator"), ("security.auditor", "oracle")),
        *(("CI", "service"), ("on-call responder", "medic"), ("the founder", "human"), ("human resources", "human")),
    ],
)
def test_the_last_word_that_says_something_decides(label: str, role: str):
    assert mesh_role(label) == (role, True)


@pytest.mark.parametrize("label", ["", "  ", "\t", "gardener", "leads", "xhuman"])
def test_a_label_that_means_no_role_is_a_specialists_and_that_is_told(label: str):
    assert mesh_role(label) == (DEFAULT_ROLE, False) == ("specialist", False)


@pytest.mark.parametrize("label", ["!!!", "-", "a*b", "Prüfer", "x" * 64, "\x00"])
def test_a_label_that_is_no_word_keeps_nobody_from_joining(label: str):
    assert mesh_role(label) == ("specialist", False)


@given(st.text(max_size=70) | st.lists(st.sampled_from([*ROLES, *LABELS, "blue", "7"]), min_size=1).map(" ".join))
def test_any_text_gives_a_role(label: str):
    role, said = mesh_role(label)
    assert role in ROLES
    assert said or role == DEFAULT_ROLE
