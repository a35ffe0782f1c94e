"""The token an agent acts with: one that was given, or the one in its home, read anew each time it is needed.

So an agent whose token is rotated from its home goes on without a restart. The two halves of a rotation are not one
step: the gateway refuses the old token a moment before the new one is written, and an agent that asks in between waits.
"""

import asyncio
from pathlib import Path
from time import monotonic

from sos.wire.errors import MalformedToken
from sos.wire.tokens import TokenKind, check

ROTATION_WAIT_S = 10.0
"""From the gateway's refusal of the old token to the new one in the home: one answer of the gateway and one file."""
LOOK_EVERY_S = 0.05
"""A file's reading costs some 20 µs: this often it is nothing, and nobody notices the wait."""


class Holding:
    """A token and where it comes from. `path` is None for one that was given. Neither repr nor str shows it."""

    def __init__(self, token: str, path: Path | None = None) -> None:
        self._token = token
        self._path = path

    def __repr__(self) -> str:
        return f"Holding({self._path or 'given'})"

    def now(self) -> str:
        """The token as of now; the last one that was good if the file holds none just now: it is being written by
        another program than ours, or is out of reach."""
        if self._path is not None:
            try:
                found = self._path.read_text().strip()
                check(found, TokenKind.AGENT)
            except (OSError, UnicodeDecodeError, MalformedToken):
                return self._token
            self._token = found
        return self._token

    async def another_than(self, refused: str, wait_s: float = ROTATION_WAIT_S) -> bool:
        """Whether there is another token than the one that was refused, waiting a little for one to be written."""
        if self._path is None:
            return False
        deadline = monotonic() + wait_s
        while self.now() == refused:
            if monotonic() >= deadline:
                return False
            await asyncio.sleep(LOOK_EVERY_S)
        return True
