"""What only the views refuse."""

from dataclasses import dataclass

from sos.wire.errors import Kind, SosError


@dataclass(eq=False)
class NewerDatabase(
    SosError,
    kind=Kind.INTERNAL,
    says="{path} has schema {found}; this gateway knows schemas up to {known}.",
    cure="Update the gateway, or delete the file with its -wal and -shm: it is folded again from the streams.",
):
    """A database that a later version of the gateway wrote."""

    path: str
    found: int
    known: int


@dataclass(eq=False)
class ViewsBehind(
    SosError,
    kind=Kind.UNREACHABLE,
    says="The views did not reach sequence {seq} of {stream} within {timeout_s} s; what was asked for is stored.",
    cure="Read again in a moment; do not send the command a second time.",
):
    """Read-your-writes ran out of time. The write itself has happened."""

    stream: str
    seq: int
    timeout_s: float
