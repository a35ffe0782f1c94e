"""What every fact and every command has: when, and by whom.

The law of this room: no I/O, no clock, no randomness. Times, ids and hashes come in with the command, so that the same
history always gives the same state. `decide` may refuse; `apply` folds what `decide` allowed and never refuses it.
"""

from dataclasses import dataclass

import msgspec

from sos.wire.envelope import Moment
from sos.wire.errors import Kind, SosError


class Event(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True, forbid_unknown_fields=True
):
    """A fact. `actor` is who caused it: `operator`, `tenant:acme`, `agent:bob` or `gateway`; `token_id` tells which
    token they showed (never the token itself), `decision` by what right it was done.

    Defaults are left out of the JSON, so that a field added later, with a default, leaves the bytes of older
    facts as they were: the hash chain stands on those bytes. Unknown fields are refused: a fact half understood would
    be folded into half a state.
    """

    at: Moment
    actor: str
    token_id: str = ""
    decision: str = ""


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants done, when they asked, and by what right."""

    at: Moment
    actor: str
    token_id: str = ""
    decision: str = ""


@dataclass(eq=False)
class UnknownFact(
    SosError,
    kind=Kind.INTERNAL,
    says="Not a fact that this version knows: {why}.",
    cure="A newer gateway may have written it: update this one; else docs/recovery.md tells how to restore the stream.",
):
    """Bytes that are no fact, or one from a later version."""

    why: str


@dataclass(eq=False)
class BrokenHistory(
    SosError,
    kind=Kind.INTERNAL,
    says="The fact {fact} about {subject} cannot follow what was recorded before it.",
    cure="Do not serve from this stream: restore it from a backup; docs/recovery.md tells how.",
):
    """A fact that `decide` never allows at this place: something else wrote to the stream, or facts are missing."""

    subject: str
    fact: str


def broken(subject: str, event: Event) -> BrokenHistory:
    """The error for `event` where it cannot be."""
    return BrokenHistory(subject=subject, fact=str(type(event).__struct_config__.tag))
