"""Skills: what `checked` lets through can be written into a fact and read again, to the byte; all else is refused."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sos.broker.domain import decode, encode
from sos.broker.domain.agent_facts import AgentJoined
from sos.broker.log.record import FIRST_PREV, seal, unseal
from sos.wire import api
from sos.wire.errors import BadName, BadRequest
from sos.wire.ids import uuid7
from sos.wire.names import is_name
from sos.wire.skills import MAX_SCHEMA_LEVELS, MAX_SKILLS, MAX_SKILLS_BYTES, Skill, checked, named

T0 = datetime(2026, 1, 1, tzinfo=UTC)
FULL = Skill(
    id="code-review",
    name="Code review",
    description="Reads a change and says what is wrong with it.",
    input_schema={"type": "object", "properties": {"diff": {"type": "string"}}, "required": ["diff"]},
    output_schema={"type": "array", "items": {"type": "string"}},
    labels=("review",),
    keywords=("code", "review", "diff"),
)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
schemas = st.none() | st.dictionaries(st.text(), values, max_size=4)
words = st.lists(st.text(min_size=1, max_size=64), max_size=4).map(tuple)
skills = st.builds(
    Skill,
    id=st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True),
    name=st.text(max_size=128),
    description=st.text(max_size=60),
    input_schema=schemas,
    output_schema=schemas,
    labels=words,
    keywords=words,
)
lists = st.lists(skills, max_size=4, unique_by=lambda s: s.id).map(tuple)


def joined(held: tuple[Skill, ...]) -> AgentJoined:
    """The fact that an agent has joined with these."""
    return AgentJoined(at=T0, actor="x", project="acme", name="bob", install="i", role="human", skills=held)


def nested(levels: int) -> bytes:
    """A request to join whose one schema has so many levels, itself the first."""
    inside = b"[" * (levels - 1) + b"]" * (levels - 1)
    return b'{"install":"12345678","skills":[{"id":"a","input_schema":{"x":' + (inside or b"1") + b"}}]}"


def schema(value: Any) -> tuple[Skill, ...]:
    """One skill with that in its schema."""
    return (Skill(id="a", input_schema={"x": value}),)


@given(lists)
@example((FULL,))
@example(schema(2**64))
@example(schema(-(2**63) - 1))
@example(schema(-0.0))
@example(schema(5e-324))
@example(schema("\x00\x7f\u2028\U0001f600"))
def test_a_fact_with_checked_skills_survives_its_bytes_exactly(given_: tuple[Skill, ...]):
    held = checked(given_)
    fact = joined(held)
    assert decode(encode(fact)) == fact
    assert encode(decode(encode(fact))) == encode(fact)
    record, body = seal("registry.acme.agent.bob", fact, uuid7(), FIRST_PREV)
    assert unseal(body) == record


@given(lists)
def test_checked_skills_are_those_that_were_given_sorted_by_id_and_checking_again_changes_nothing(
    given_: tuple[Skill, ...],
):
    held = checked(given_)
    assert sorted(given_, key=lambda s: s.id) == list(held)
    assert checked(held) == held
    assert msgspec.json.decode(msgspec.json.encode(held), type=tuple[Skill, ...]) == held


@pytest.mark.parametrize("levels", [1, 2, MAX_SCHEMA_LEVELS])
def test_a_schema_as_deep_as_allowed_is_kept(levels: int):
    asked = api.decode(nested(levels), api.JoinAgent)
    assert checked(asked.skills) == asked.skills


@pytest.mark.parametrize("levels", [MAX_SCHEMA_LEVELS + 1, 1_000, 1_400, 1_490, 1_494])
def test_a_schema_that_could_be_written_and_not_be_read_again_is_refused(levels: int):
    # A fact is nested more deeply than the request that it comes of. One level more than a reader's stack holds, and
    # the chain has a record that no gateway can read.
    with pytest.raises(BadRequest):
        checked(api.decode(nested(levels), api.JoinAgent).skills)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"x", {1}, (1,), T0, object(), "\ud800", {1: 2}])
def test_what_json_does_not_hold_or_would_change_is_refused(value: Any):
    with pytest.raises(BadRequest):
        checked(schema(value))


def test_a_number_that_no_reader_takes_is_refused():
    with pytest.raises(BadRequest):
        checked(schema(10**5_000))


def test_a_schema_that_holds_itself_is_refused():
    endless: dict[str, Any] = {}
    endless["x"] = endless
    with pytest.raises(BadRequest, match="RecursionError"):
        checked(schema(endless))


@pytest.mark.parametrize("id_", ["", "Code", "a b", "a.b", "-a", "a-", "a\n", "é", "a" * 64])
def test_an_id_that_is_no_name_is_refused(id_: str):
    with pytest.raises(BadRequest):
        checked((Skill(id=id_),))


def test_an_id_with_a_lines_end_behind_it_is_refused_although_the_pattern_lets_it_through():
    (read,) = msgspec.json.decode(b'[{"id":"a\\n"}]', type=tuple[Skill, ...])
    with pytest.raises(BadRequest, match="skill's id"):
        checked((read,))


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "x" * 129},
        {"description": "x" * 2_001},
        {"labels": ("",)},
        {"labels": ("x" * 65,)},
        {"keywords": ("x",) * 33},
        {"input_schema": [1]},
        {"labels": (1,)},
    ],
)
def test_a_field_out_of_its_bounds_is_refused_naming_it(fields: dict[str, Any]):
    with pytest.raises(BadRequest, match=next(iter(fields))):
        checked((Skill(id="a", **fields),))


def test_a_skill_that_stands_twice_is_refused():
    with pytest.raises(BadRequest, match="twice"):
        checked((Skill(id="a"), Skill(id="b"), Skill(id="a", name="another")))


def test_as_many_skills_as_allowed_are_taken_and_one_more_is_not():
    many = tuple(Skill(id=f"s{n}") for n in range(MAX_SKILLS))
    assert len(checked(many)) == MAX_SKILLS
    with pytest.raises(BadRequest, match=str(MAX_SKILLS)):
        checked((*many, Skill(id="more")))


def test_skills_may_be_as_many_bytes_together_as_fit_into_a_fact_and_no_more():
    empty = len(msgspec.json.encode(schema("")))
    assert checked(schema("x" * (MAX_SKILLS_BYTES - empty)))
    with pytest.raises(BadRequest, match=str(MAX_SKILLS_BYTES)):
        checked(schema("x" * (MAX_SKILLS_BYTES - empty + 1)))


def test_a_field_of_a_later_version_is_refused_so_that_it_is_not_lost_unnoticed():
    with pytest.raises(BadRequest, match="mood"):
        api.decode(b'{"install":"12345678","skills":[{"id":"a","mood":"sad"}]}', api.JoinAgent)


def test_a_skill_of_which_only_a_name_is_given_gets_a_full_descriptor():
    assert named("Code_Review") == Skill(
        id="code-review", name="Code review", description="code review", keywords=("code", "review")
    )


@given(st.text(max_size=70))
@example("-".join("a" * 32))
def test_any_name_gives_a_skill_that_passes_the_check_or_bad_name(text: str):
    try:
        skill = named(text)
    except BadName:
        return
    assert is_name(skill.id)
    assert checked((skill,)) == (skill,)
