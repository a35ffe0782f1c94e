"""Skills: what an agent says that it can do, in full, so that others may find it and call on it."""

from typing import Annotated, Any, cast

import msgspec

from sos.wire.errors import BadRequest
from sos.wire.names import is_name, normalise

MAX_SKILLS = 32
MAX_SKILLS_BYTES = 128 * 1024
"""All of an agent's skills together, encoded: they stand in one fact, and a fact is at most 256 KiB."""
MAX_SCHEMA_LEVELS = 64
"""Arrays and objects inside one another. A schema that people write has about ten; a fact that is nested more deeply
than a reader's stack could be written once and never read again, which would break the chain it stands in."""

Word = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Schema = dict[str, Any]


class Skill(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One skill. The schemas are JSON Schemas of what it takes and gives; None where it says nothing of them."""

    id: Annotated[str, msgspec.Meta(pattern="^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$", max_length=63)]
    name: Annotated[str, msgspec.Meta(max_length=128)] = ""
    description: Annotated[str, msgspec.Meta(max_length=2_000)] = ""
    input_schema: Schema | None = None
    output_schema: Schema | None = None
    labels: Annotated[tuple[Word, ...], msgspec.Meta(max_length=32)] = ()
    keywords: Annotated[tuple[Word, ...], msgspec.Meta(max_length=32)] = ()


def named(text: str) -> Skill:
    """The full descriptor of a skill of which only a name was given: `code review` → id `code-review`."""
    id_ = normalise(text, "skill")
    words = id_.split("-")
    return Skill(id=id_, name=" ".join(words).capitalize(), description=" ".join(words), keywords=tuple(words))


def checked(skills: tuple[Skill, ...]) -> tuple[Skill, ...]:
    """`skills` by id, as they read once they were written, if there are not too many, each id stands once, and they
    fit into one fact. `BadRequest` says what does not."""
    if len({s.id for s in skills}) != len(skills):
        raise BadRequest(why="a skill's id stands twice")
    if len(skills) > MAX_SKILLS:
        raise BadRequest(why=f"{len(skills)} skills; an agent may register {MAX_SKILLS}")
    body, read = _written(skills)
    if len(body) > MAX_SKILLS_BYTES:
        raise BadRequest(why=f"the skills are {len(body)} bytes together; the limit is {MAX_SKILLS_BYTES}")
    for skill in read:
        if not is_name(skill.id):  # the pattern lets a line's end through behind a good id
            raise BadRequest(why=f"{skill.id!r} cannot be a skill's id")
        if not (_within(skill.input_schema, MAX_SCHEMA_LEVELS) and _within(skill.output_schema, MAX_SCHEMA_LEVELS)):
            raise BadRequest(why=f"a schema of {skill.id} is nested more than {MAX_SCHEMA_LEVELS} levels deep")
    return tuple(sorted(read, key=lambda s: s.id))


def _written(skills: tuple[Skill, ...]) -> tuple[bytes, tuple[Skill, ...]]:
    """The bytes of `skills`, and what a reader makes of them."""
    try:
        body = msgspec.json.encode(skills)
        read = msgspec.json.decode(body, type=tuple[Skill, ...])
        if read == skills and msgspec.json.encode(read) == body:
            return body, read
    except msgspec.ValidationError as e:
        raise BadRequest(why=str(e)) from e
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as e:
        raise BadRequest(why=f"a schema cannot be written as JSON ({type(e).__name__})") from e
    raise BadRequest(why="a schema would not be read as it was written; use JSON's own types and sizes")


def _within(value: Any, levels: int) -> bool:
    """Whether at most so many arrays and objects stand inside one another."""
    if not isinstance(value, dict | list):
        return True
    inside = cast("dict[str, Any]", value).values() if isinstance(value, dict) else cast("list[Any]", value)
    return levels > 0 and all(_within(each, levels - 1) for each in inside)
