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
