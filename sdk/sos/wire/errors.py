"""Every refusal and failure of the bus that crosses a door. The root is in `sos.wire.error`.

The law: each has one code and names its cure; `to_wire` on one side, `from_wire` on the other give the same class with
the same fields.
"""

from dataclasses import dataclass, fields
from typing import get_type_hints

import msgspec

from sos.wire.error import ErrorBody as ErrorBody
from sos.wire.error import Kind as Kind
from sos.wire.error import SosError as SosError


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
class TooManyHops(
    SosError,
    kind=Kind.REFUSED,
    says="This conversation has made {limit} hops without a person or a new request.",
    cure="Start a new message with send() if it should go on.",
):
    """A reply to a reply to a reply…: two agents answering each other for ever."""

    limit: int


@dataclass(eq=False)
class MalformedToken(
    SosError,
    kind=Kind.UNAUTHENTICATED,
    says="This is not a token of the kind {expected}: its form or its checksum is wrong.",
    cure="Copy the token again, whole; if it is lost, mint a new one.",
):
    """Not one of our tokens at all, told by its form and checksum, without asking anybody."""

    expected: str


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
class UnknownToken(
    SosError,
    kind=Kind.UNAUTHENTICATED,
    says="The token ending in {tail} is not known here, or not any more.",
    cure="Check that it was minted on this bus (SOS_URL) and not revoked; else mint a new one.",
):
    """A well-formed token that opens nothing here."""

    tail: str


@dataclass(eq=False)
class MissingToken(
    SosError,
    kind=Kind.UNAUTHENTICATED,
    says="No token was given; this needs {expected}.",
    cure="Give it as 'Authorization: Bearer …', in SOS_TOKEN, or with --as NAME from a saved agent.",
):
    """No token was given where one is needed."""

    expected: str


@dataclass(eq=False)
class WrongIdentity(
    SosError,
    kind=Kind.REFUSED,
    says="This token belongs to {actual}, not to {claimed}.",
    cure="Use the name the token was minted for, or mint a token for the other name.",
):
    """The token is good, but it is somebody else's."""

    claimed: str
    actual: str


@dataclass(eq=False)
class Forbidden(
    SosError,
    kind=Kind.REFUSED,
    says="This token may not {what}; that needs {needs}.",
    cure="Ask the project's owner or the operator.",
):
    """A good token that does not reach this far."""

    what: str
    needs: str


@dataclass(eq=False)
class MissingScope(
    SosError,
    kind=Kind.REFUSED,
    says="This agent does not hold the scope {scope}.",
    cure="Ask the project's owner to mint it with that scope.",
):
    """The agent lacks a scope."""

    scope: str


@dataclass(eq=False)
class UnknownRecipient(
    SosError,
    kind=Kind.NOT_FOUND,
    says="There is no agent {name!r} in project {project!r}; closest names: {close}.",
    cure="See who is there with 'sos agent peers'; nothing was sent.",
):
    """No agent of that name has an address in the project."""

    project: str
    name: str
    close: tuple[str, ...] = ()


@dataclass(eq=False)
class UnknownSquad(
    SosError,
    kind=Kind.NOT_FOUND,
    says="There is no squad {squad!r} in project {project!r}; closest names: {close}.",
    cure="Create it with 'sos squad create {squad} --project {project}'; nothing was sent.",
):
    """No squad of that id in the project."""

    project: str
    squad: str
    close: tuple[str, ...] = ()


@dataclass(eq=False)
class UnknownProject(
    SosError,
    kind=Kind.NOT_FOUND,
    says="There is no project {project!r}; closest names: {close}.",
    cure="Create it with 'sos project create {project}'.",
):
    """No project of that slug."""

    project: str
    close: tuple[str, ...] = ()


@dataclass(eq=False)
class UnknownAgent(
    SosError,
    kind=Kind.NOT_FOUND,
    says="There is no agent {name!r} in project {project!r}; closest names: {close}.",
    cure="Mint it with 'sos agent mint {name} --project {project} --save'.",
):
    """No saved or minted agent of that name."""

    project: str
    name: str
    close: tuple[str, ...] = ()


@dataclass(eq=False)
class NotFound(
    SosError,
    kind=Kind.NOT_FOUND,
    says="There is nothing at {path}.",
    cure="GET /openapi.json lists what there is.",
):
    """An address of the HTTP API that does not exist."""

    path: str


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
    kind=Kind.EXHAUSTED,
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


def from_wire(body: ErrorBody) -> SosError:
    """The error that a door sent, as the class it was; a code that is not known here becomes `Internal`."""
    unknown = Internal(what=f"a call ({body.code}: {body.detail})")
    cls = next((c for c in SosError.__subclasses__() if c.code == body.code), None)
    if cls is None:
        return unknown
    types, names = get_type_hints(cls), {f.name for f in fields(cls)}
    try:
        return cls(**{k: msgspec.convert(v, types[k]) for k, v in body.fields.items() if k in names})
    except (TypeError, msgspec.ValidationError):
        return unknown
