"""Refusals of what was given: names, subjects, bodies, messages."""

from dataclasses import dataclass

from sos.wire.error import Kind, SosError


@dataclass(eq=False)
class BadName(
    SosError,
    kind=Kind.INVALID,
    says="{given!r} cannot be a {what}.",
    cure="Use 1 to 63 of a-z, 0-9 and hyphens, with a letter or digit at both ends.",
):
    """Text that is not, and cannot become, a name."""

    what: str
    given: str


@dataclass(eq=False)
class BadSubject(
    SosError,
    kind=Kind.INVALID,
    says="{subject!r} is not a subject of the bus.",
    cure="Build subjects with sos.wire.subjects.",
):
    """A subject that is none of ours."""

    subject: str


@dataclass(eq=False)
class BadRequest(
    SosError,
    kind=Kind.INVALID,
    says="The request does not fit: {why}.",
    cure="Correct it and send it again; nothing was changed.",
):
    """A body or argument that does not fit."""

    why: str


@dataclass(eq=False)
class BadEnvelope(
    SosError,
    kind=Kind.INVALID,
    says="Not a message of the bus: {why}.",
    cure="Messages are JSON objects as sos.wire.envelope describes them.",
):
    """Bytes that are not a message."""

    why: str


@dataclass(eq=False)
class MessageTooLarge(
    SosError,
    kind=Kind.INVALID,
    says="The message is {size_bytes} bytes encoded; the limit is {limit_bytes}.",
    cure="Put large content where the recipient can fetch it and send its address.",
):
    """An envelope past the limit, refused before anything was sent."""

    size_bytes: int
    limit_bytes: int


@dataclass(eq=False)
class BodyTooLarge(
    SosError,
    kind=Kind.INVALID,
    says="The body is larger than {limit_bytes} bytes.",
    cure="Send less at a time; nothing was changed.",
):
    """A request's body past the limit, refused before it was read."""

    limit_bytes: int


@dataclass(eq=False)
class TooManyHops(
    SosError,
    kind=Kind.REFUSED,
    says="This conversation has made {limit} hops without a person or a new request.",
    cure="Start a new message with send() if it should go on.",
):
    """A reply to a reply to a reply…: two agents answering each other for ever."""

    limit: int


@dataclass(eq=False)
class SecretInMessage(
    SosError,
    kind=Kind.INVALID,
    says="The text holds a secret ({what}); nothing was sent.",
    cure="Take it out. If others may have seen it: 'sos agent rotate NAME' makes it worthless.",
):
    """A token, a NATS seed or a JWT in what was to be sent. `what` is its kind and last four characters."""

    what: str


@dataclass(eq=False)
class ReservedName(
    SosError,
    kind=Kind.INVALID,
    says="{name!r} is kept for the bus itself.",
    cure="Choose another name.",
):
    """A name under which the bus itself writes."""

    name: str


@dataclass(eq=False)
class RateLimited(
    SosError,
    kind=Kind.THROTTLED,
    says="Calls came faster than the {per_s} a second that this token, or an address with unknown ones, may make.",
    cure="Wait {retry_after_s} s and go on more slowly; nothing was changed.",
):
    """Too many calls of the gateway in too short a time: a token has the rate of its project's tier."""

    per_s: float
    retry_after_s: float


@dataclass(eq=False)
class IdempotencyMismatch(
    SosError,
    kind=Kind.INVALID,
    says="This Idempotency-Key was used before, for another request.",
    cure="Use a new key for each request, and the same key only to repeat it unchanged; nothing was changed.",
):
    """One key, two requests: neither answer would be right."""


@dataclass(eq=False)
class InProgress(
    SosError,
    kind=Kind.CONFLICT,
    says="The first request with this Idempotency-Key is still under way.",
    cure="Repeat it with the same key in {retry_after_s} s.",
):
    """A repetition that came before the first answer."""

    retry_after_s: float
