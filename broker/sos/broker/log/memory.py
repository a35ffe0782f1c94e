"""The log's twin in memory: the same bytes, the same sequences, the same refusals, no server."""

import asyncio
from collections.abc import AsyncIterator, Callable

from sos.broker.domain import Event
from sos.broker.errors import WrongLastSequence
from sos.broker.log.record import FIRST_PREV, Reader, Recorded, seal, unseal
from sos.wire.ids import uuid7


class MemoryStream:
    """What a server would hold: bodies in order, sequences from 1. Many logs may stand on one stream."""

    def __init__(self) -> None:
        self.stored: list[tuple[int, str, bytes]] = []
        self._last_of: dict[str, int] = {}
        self.grown = asyncio.Event()

    def last(self, pattern: str) -> int:
        """The last sequence on any subject that `pattern` matches, `*` standing for one token; 0 for none."""
        if "*" not in pattern:
            return self._last_of.get(pattern, 0)
        wanted = pattern.split(".")
        return max((seq for subject, seq in self._last_of.items() if _matches(wanted, subject.split("."))), default=0)

    def store(self, subject: str, body: bytes) -> int:
        """Append a body and wake who waits."""
        seq = len(self.stored) + 1
        self.stored.append((seq, subject, body))
        self._last_of[subject] = seq
        self.grown.set()
        self.grown = asyncio.Event()
        return seq


class MemoryLog:
    """A `Log` on a `MemoryStream`, its own unless one is given. No step of an append can be interrupted."""

    def __init__(
        self,
        stream: str,
        chained: bool,
        held: MemoryStream | None = None,
        new_id: Callable[[], str] = uuid7,
    ) -> None:
        self.stream = stream
        self.held = held or MemoryStream()
        self._chained = chained
        self._new_id = new_id

    async def append(self, subject: str, event: Event, expected_seq: int | None, within: str = "") -> int:
        """See `Log.append`."""
        await asyncio.sleep(0)  # a server would let others run here; so does this, or races would never be seen
        if expected_seq is not None and expected_seq != self.held.last(within or subject):
            raise WrongLastSequence(subject=subject, expected=expected_seq)
        _, body = seal(subject, event, self._new_id(), self._prev())
        return self.held.store(subject, body)

    async def read(self, from_seq: int) -> AsyncIterator[Recorded]:
        """See `Log.read`."""
        first = max(from_seq, 1)
        reader = Reader(self.stream, self._chained, FIRST_PREV if first == 1 else None)
        for seq, subject, body in self.held.stored[first - 1 :]:
            yield reader.read(seq, subject, body)

    async def head(self) -> int:
        """See `Log.head`."""
        return len(self.held.stored)

    async def wait_beyond(self, seq: int, timeout_s: float) -> None:
        """See `Log.wait_beyond`."""
        grown = self.held.grown
        if len(self.held.stored) > seq:
            return
        try:
            async with asyncio.timeout(timeout_s):
                await grown.wait()
        except TimeoutError:
            return

    def _prev(self) -> str | None:
        if not self._chained:
            return None
        return unseal(self.held.stored[-1][2]).hash if self.held.stored else FIRST_PREV


def _matches(wanted: list[str], tokens: list[str]) -> bool:
    return len(wanted) == len(tokens) and all(w in {"*", t} for w, t in zip(wanted, tokens, strict=True))
