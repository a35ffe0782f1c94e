"""What commands print, how they fail, and with which exit code. Nothing else of the command line knows rich."""

import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Annotated, NoReturn

import msgspec
import typer

from sos.wire.errors import Kind, SosError
from sos.wire.tokens import redact

EXIT_CODES: dict[Kind, int] = {
    Kind.INTERNAL: 1,
    Kind.EXHAUSTED: 1,
    Kind.THROTTLED: 1,
    Kind.INVALID: 2,
    Kind.UNREACHABLE: 3,
    Kind.UNAUTHENTICATED: 4,
    Kind.REFUSED: 4,
    Kind.CONFLICT: 4,
    Kind.NOT_FOUND: 5,
}
"""0 done, 1 failed, 2 usage, 3 unreachable, 4 refused, 5 not found."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def text(line: str = "") -> None:
    """One line for a person."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def show_json(shown: object) -> None:
    """One line of JSON for a program."""
    text(msgspec.json.encode(shown).decode())


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], empty: str) -> None:
    """Rows for a person; `empty` if there are none. Piped, columns keep their full width."""
    if not rows:
        text(empty)
        return
    widths = [max(len(c), *(len(row[i]) for row in rows)) for i, c in enumerate(columns)]
    for line in (columns, *rows):
        text("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def fail(error: SosError, *, as_json: bool = False) -> NoReturn:
    """Tell what happened and what to do, on standard error, and exit with the code of its kind."""
    shown = msgspec.json.encode({"error": error.to_wire()}).decode() if as_json else f"{error.code}: {error}"
    sys.stderr.write(redact(shown) + "\n")
    raise typer.Exit(EXIT_CODES[error.kind])


@contextmanager
def failing(*, as_json: bool) -> Generator[None]:
    """Turns a `SosError` raised inside into its message and exit code."""
    try:
        yield
    except SosError as e:
        fail(e, as_json=as_json)
