"""Refusals of who asks: tokens, identities, rights."""

from dataclasses import dataclass

from sos.wire.error import Kind, SosError


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
    cure="The project's owner grants it: 'sos agent scopes NAME --add {scope}'.",
):
    """The agent lacks a scope."""

    scope: str


@dataclass(eq=False)
class AgentDisabled(
    SosError,
    kind=Kind.REFUSED,
    says="The agent {name} of project {project} is disabled.",
    cure="Its mail is kept. The project's owner enables it with 'sos agent enable {name} --project {project}'.",
):
    """A suspended agent: it may do nothing, and what is sent to it waits."""

    project: str
    name: str


@dataclass(eq=False)
class NameClaimed(
    SosError,
    kind=Kind.CONFLICT,
    says="{name} of project {project} has joined from another install, on {since}.",
    cure="Join under another name. If this install is to take over, the project's owner lets the name go first: "
    "'sos agent release {name} --project {project}'.",
):
    """Two installs claim one name, and the other one has it."""

    project: str
    name: str
    since: str
