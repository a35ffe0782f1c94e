"""What is not there, with the closest names where a name was meant."""

from dataclasses import dataclass

from sos.wire.error import Kind, SosError


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
class UnknownVerb(
    SosError,
    kind=Kind.NOT_FOUND,
    says="This gateway does not serve {verb!r}.",
    cure="It serves: {known}.",
):
    """A call to the gateway that it does not know."""

    verb: str
    known: tuple[str, ...] = ()


@dataclass(eq=False)
class NotInCatalogue(
    SosError,
    kind=Kind.NOT_FOUND,
    says="The catalogue has no agent {name!r}; closest names: {close}.",
    cure="The operator adds it with 'sos catalog add {name}'; 'sos catalog list' shows what there is.",
):
    """No platform-managed agent of that name."""

    name: str
    close: tuple[str, ...] = ()


@dataclass(eq=False)
class UnknownMessage(
    SosError,
    kind=Kind.NOT_FOUND,
    says="Project {project!r} holds no message {id}.",
    cure="Take the id from the message or its receipt; messages are kept for 30 days.",
):
    """No message of that id is stored, or not any more."""

    project: str
    id: str


@dataclass(eq=False)
class UnknownContext(
    SosError,
    kind=Kind.NOT_FOUND,
    says="There is no context {name!r}; there are: {known}.",
    cure="Add it with 'sos context add {name} --url URL'.",
):
    """No saved context of that name on this machine."""

    name: str
    known: tuple[str, ...] = ()
