"""Errors: one code each, fields, a cure, and the same class with the same fields on the other side of a door."""

import copy
import importlib
import pickle
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import msgspec
import pytest

import sos.broker.errors
from sos.wire import errors
from sos.wire.errors import ErrorBody, Internal, Kind, MessageTooLarge, SosError, UnknownRecipient, from_wire

PINNED = {
    # Programs match these. To change one is to break them: do it on purpose, here too.
    *("bad_name", "bad_subject", "bad_request", "bad_envelope", "message_too_large", "too_many_hops"),
    *("malformed_token", "unknown_token", "missing_token", "wrong_identity", "forbidden", "missing_scope"),
    *("unknown_recipient", "unknown_squad", "unknown_project", "unknown_agent", "not_found"),
    *("name_taken", "not_a_member", "contended", "storage_exhausted", "limit_reached", "body_too_large"),
    *("gateway_unreachable", "nats_unreachable", "not_stored", "stopped", "internal"),
    *("agent_disabled", "name_claimed", "reserved_name", "secret_in_message", "rate_limited"),
    *("idempotency_mismatch", "in_progress", "unknown_verb", "unknown_message", "unknown_context"),
    *("not_in_catalogue", "revocation_pending"),
    # sos.broker.errors
    *("no_server_binary", "server_too_old", "server_failed", "unsafe_server", "home_in_use", "data_loss"),
    *("empty_grant", "wrong_last_sequence", "missing_extra", "nothing_there", "bad_key_file", "unsafe_key_file"),
}


def in_module(cls: type[SosError]) -> bool:
    """Whether it is one of the bus' own errors, in its own modules (a test may have made others)."""
    return cls.__module__ == sos.broker.errors.__name__ or cls.__module__.startswith(f"{errors.__name__}.")


ALL = sorted((c for c in SosError.__subclasses__() if in_module(c)), key=lambda c: c.code)


SAMPLES: dict[str, Callable[[int], Any]] = {
    "str": lambda i: f"some{i}",
    "int": lambda i: i + 41,
    "float": lambda i: i + 0.25,
    "tuple[str, ...]": lambda i: (f"v{i}", f"w{i}"),
}


def sample(cls: type[SosError]) -> SosError:
    """One with every field filled, in the field's type."""
    values: dict[str, Any] = {}
    for i, field in enumerate(fields(cls)):
        values[field.name] = SAMPLES[str(field.type).removeprefix("<class '").removesuffix("'>")](i)
    return cls(**values)


def over_the_wire(error: SosError) -> SosError:
    """What the other side of a door makes of it."""
    return from_wire(msgspec.json.decode(msgspec.json.encode(error.to_wire()), type=ErrorBody))


def test_the_codes_are_what_programs_know():
    assert {c.code for c in ALL} == PINNED
    assert len(ALL) == len(PINNED)


def test_every_error_of_the_wire_is_told_by_its_package():
    assert {c.__name__ for c in ALL if c.__module__.startswith("sos.wire.")} <= set(errors.__all__)
    assert sorted(errors.__all__) == list(errors.__all__)


def test_every_error_stands_right_below_the_root_where_from_wire_finds_it():
    importlib.import_module("sos.broker.doors.http")  # errors of every room are loaded
    assert [c.__name__ for c in ALL if any(d.__module__.startswith("sos.") for d in c.__subclasses__())] == []


@pytest.mark.parametrize("cls", ALL, ids=lambda c: c.code)
def test_an_error_says_what_happened_and_what_to_do_with_its_fields_filled_in(cls: type[SosError]):
    error = sample(cls)
    assert error.detail.endswith((".", ")."))
    assert error.remedy.endswith((".", "…"))
    assert str(error) == f"{error.detail} {error.remedy}"
    assert not set("{}") & set(str(error))
    assert "None" not in str(error)
    assert isinstance(error.kind, Kind)
    assert cls.__doc__


@pytest.mark.parametrize("cls", ALL, ids=lambda c: c.code)
def test_every_field_is_said_or_there_for_programs(cls: type[SosError]):
    error = sample(cls)
    assert error.shown() == {f.name: getattr(error, f.name) for f in fields(cls)}
    said = {f.name for f in fields(cls) if "{" + f.name in cls.says + cls.cure}
    assert said == {f.name for f in fields(cls)}


@pytest.mark.parametrize("cls", ALL, ids=lambda c: c.code)
def test_an_error_crosses_a_door_with_its_class_and_fields(cls: type[SosError]):
    error = sample(cls)
    there = over_the_wire(error)
    assert type(there) is cls
    assert there.shown() == error.shown()
    assert [type(v) for v in there.shown().values()] == [type(v) for v in error.shown().values()]
    assert str(there) == str(error)


@pytest.mark.parametrize("cls", ALL, ids=lambda c: c.code)
def test_an_error_pickles_and_copies(cls: type[SosError]):
    error = sample(cls)
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):  # noqa: S301 - our own bytes
        assert type(again) is cls
        assert again.shown() == error.shown()


def test_a_code_that_is_not_known_here_becomes_internal_with_what_was_said():
    found = from_wire(ErrorBody(code="of_a_later_version", detail="Something new.", cure="", fields={"a": 1}))
    assert isinstance(found, Internal)
    assert "of_a_later_version" in str(found)
    assert "Something new." in str(found)


@pytest.mark.parametrize("code", ["sos_error", "", "Internal", "__class__", "bad_name "])
def test_a_code_that_is_almost_one_becomes_internal(code: str):
    assert isinstance(from_wire(ErrorBody(code=code, detail="x", cure="y")), Internal)


def test_fields_of_a_later_version_are_left_out_and_missing_ones_make_it_internal():
    body = ErrorBody(code="unknown_squad", detail="x", cure="y", fields={"project": "p", "squad": "s", "new": 1})
    assert from_wire(body).shown() == {"project": "p", "squad": "s", "close": ()}
    assert isinstance(from_wire(ErrorBody(code="unknown_squad", detail="x", cure="y")), Internal)


@pytest.mark.parametrize("size", ["big", None, [1], {"a": 1}, 1.5])
def test_fields_of_another_type_make_it_internal(size: object):
    fields_: dict[str, Any] = {"size_bytes": size, "limit_bytes": 1}
    body = ErrorBody(code=MessageTooLarge.code, detail="x", cure="y", fields=fields_)
    assert isinstance(from_wire(body), Internal)


def test_names_in_a_list_read_as_words_and_none_as_none():
    assert "closest names: bob, rob." in str(UnknownRecipient("p", "bbo", ("bob", "rob")))
    assert "closest names: none." in str(UnknownRecipient("p", "bbo"))


@pytest.mark.parametrize("text", ["{", "}", "{x}", "{0}", "{name.__class__}", "{{}}", "%s", "\n"])
def test_text_in_a_field_is_text_and_no_format(text: str):
    error = UnknownRecipient(project=text, name=text, close=(text,))
    assert repr(text) in error.detail
    assert over_the_wire(error).shown()["name"] == text


def test_an_error_with_a_lone_surrogate_still_crosses_a_door():
    # argv holds one for each byte that is not UTF-8, and `sos … --json` writes the refusal as JSON.
    error = errors.BadName(what="agent name", given="caf\udce9")
    assert isinstance(over_the_wire(error), errors.BadName)


def test_two_errors_are_equal_only_if_they_are_one():
    assert errors.Stopped("a") != errors.Stopped("a")
    assert len({errors.Stopped("a"), errors.Stopped("a")}) == 2
