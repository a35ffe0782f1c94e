"""What cannot be just now: conflicts, limits, parts of the bus that do not answer, and our own defects."""

from dataclasses import dataclass

from sos.wire.error import Kind, SosError


@dataclass(eq=False)
class NameTaken(
    SosError,
    kind=Kind.CONFLICT,
    says="The {what} {name!r} exists already.",
    cure="Choose another name, or use the one that is there.",
):
    """Names are first come, first served, and the server decides the race."""

    what: str
    name: str


@dataclass(eq=False)
class NotAMember(
    SosError,
    kind=Kind.CONFLICT,
    says="{name} is not a member of the squad {squad!r}.",
    cure="Join it first with 'sos squad join {squad}'.",
):
    """The agent is not in that squad."""

    squad: str
    name: str


@dataclass(eq=False)
class Contended(
    SosError,
    kind=Kind.CONFLICT,
    says="{subject} changed under {tries} attempts in a row.",
    cure="Try again; nothing was changed by this call.",
):
    """Too many lost races in a row."""

    subject: str
    tries: int


@dataclass(eq=False)
class StorageExhausted(
    SosError,
    kind=Kind.EXHAUSTED,
    says="No room is left in {what}.",
    cure="Free space or raise the limit; nothing already stored was dropped.",
):
    """The stream or the account is full: the publisher is told, no mail is dropped."""

    what: str


@dataclass(eq=False)
class LimitReached(
    SosError,
    kind=Kind.REFUSED,
    says="The {what} are {limit}, and no more are allowed.",
    cure="Revoke one that is not needed, or choose a larger tier; nothing was changed.",
):
    """A project's tier is used up."""

    what: str
    limit: int


@dataclass(eq=False)
class GatewayUnreachable(
    SosError,
    kind=Kind.UNREACHABLE,
    says="No gateway answers at {url} ({why}).",
    cure="Start it with 'sos up', or point SOS_URL at the right one.",
):
    """The gateway did not answer within the bound."""

    url: str
    why: str


@dataclass(eq=False)
class NatsUnreachable(
    SosError,
    kind=Kind.UNREACHABLE,
    says="No NATS server answers at {servers} ({why}).",
    cure="Check that the server runs and that this machine can reach it; unsent messages were not stored.",
):
    """No NATS server answered within the bound."""

    servers: tuple[str, ...]
    why: str


@dataclass(eq=False)
class NotStored(
    SosError,
    kind=Kind.UNREACHABLE,
    says="Message {id} was not confirmed by NATS in {tries} tries; it may or may not be stored.",
    cure="Send it again with id={id!r}: if it was stored, the server drops the second copy.",
):
    """Every bounded try to store a message went unanswered. It may still have been stored: the id is safe to retry."""

    id: str
    tries: int


@dataclass(eq=False)
class Stopped(
    SosError,
    kind=Kind.UNREACHABLE,
    says="{what} is stopped.",
    cure="Start it again.",
):
    """The agent was stopped while this was under way."""

    what: str


@dataclass(eq=False)
class Internal(
    SosError,
    kind=Kind.INTERNAL,
    says="The gateway failed while it handled {what}.",
    cure="Its log has the details; please report it.",
):
    """A defect of ours. The text behind it is in the log, never in the answer."""

    what: str


@dataclass(eq=False)
class RevocationPending(
    SosError,
    kind=Kind.UNREACHABLE,
    says="NATS does not answer. That {name} of {project} is to be cut off is on the gateway's disk.",
    cure="Nothing more is needed: it happens before the gateway serves anything else when NATS is back.",
):
    """Decided and durable, but not confirmed by the server yet."""

    project: str
    name: str
