"""Leaks: secrets that were found in stored messages, and what was done. Stream EVENTS, one fact a message."""

from typing import Annotated, Literal

import msgspec
from msgspec.structs import asdict

from sos.broker.domain.event import Command, Event
from sos.wire.envelope import Moment
from sos.wire.subjects import Fact

SecretKind = Literal["agent_token", "tenant_token", "operator_token", "nats_seed", "jwt"]
LeakAction = Literal["voided", "rotated", "revoked", "cut", "none", "failed"]
"""`none`: it opens nothing here, or not any more. `failed`: it could not be made worthless, the log says why."""


class Leaked(msgspec.Struct, frozen=True, kw_only=True):
    """One secret, told by its kind and last four characters; `of` is whose it is, such as `agent:bob`, if known."""

    kind: SecretKind
    tail: str
    of: str
    action: LeakAction


class Leak(msgspec.Struct, frozen=True, kw_only=True):
    """State. `message_seq` is the message's sequence in MESSAGES; it is erased there."""

    project: str
    message_seq: int
    sender: str
    secrets: tuple[Leaked, ...]
    found_at: Moment


class ReportLeak(Command, frozen=True, kw_only=True):
    """A message held secrets and was erased."""

    project: str
    message_seq: Annotated[int, msgspec.Meta(ge=1)]
    sender: str
    secrets: tuple[Leaked, ...]


class LeakFound(Event, frozen=True, kw_only=True, tag="leak.found"):
    """A message held secrets and was erased."""

    project: str
    message_seq: Annotated[int, msgspec.Meta(ge=1)]
    sender: str
    secrets: tuple[Leaked, ...]


def decide(state: Leak | None, command: ReportLeak) -> tuple[LeakFound, ...]:
    """Once for each message, whoever finds it."""
    return () if state is not None else (LeakFound(**asdict(command)),)


def apply(_: Leak | None, event: LeakFound) -> Leak:
    """The leak."""
    return Leak(
        project=event.project,
        message_seq=event.message_seq,
        sender=event.sender,
        secrets=event.secrets,
        found_at=event.at,
    )


def subject(project: str, message_seq: int) -> str:
    """Where a leak's fact is: `project.<project>.event.leak.<sequence>`."""
    return str(Fact(project, "leak", str(message_seq)))
