"""The port: what every log does, in memory or on JetStream. tests/conformance/test_log.py holds for both."""

from collections.abc import AsyncIterator
from typing import Protocol

from sos.broker.domain import Event
from sos.broker.log.record import FIRST_PREV, Head, Recorded

MAX_CONTENTION_TRIES = 32
"""How often a chained append starts again because others moved the stream's head, before it gives up."""

READ_BATCH_MESSAGES = 256
"""How many records one request to the server brings: the memory of one read is bounded by it."""


class Log(Protocol):
    """One stream of facts, append only."""

    @property
    def stream(self) -> str:
        """The stream's name: REGISTRY or EVENTS."""
        ...

    async def append(self, subject: str, event: Event, expected_seq: int | None, within: str = "") -> int:
        """Store `event` and return its sequence: when this returns, it has happened.

        `expected_seq` is the last sequence the decision saw on this subject, 0 for none, None for whatever it is. With
        `within`, a pattern that the subject matches, it is the last sequence on any subject that does: for a decision
        that stands on all of them.
        `WrongLastSequence` if somebody else was first: read, decide and append again.
        """
        ...

    def read(self, from_seq: int) -> AsyncIterator[Recorded]:
        """Every fact from `from_seq` (from 1) up to the head at the call, in order; `DataLoss` at a damaged one."""
        ...

    async def head(self) -> int:
        """The last sequence of the stream, 0 if it is empty."""
        ...

    async def wait_beyond(self, seq: int, timeout_s: float) -> None:
        """Return when the stream is probably beyond `seq`, or the time is up. A hint: read to know."""
        ...


async def verify_log(log: Log) -> Head:
    """Read a log from its beginning, which checks its chain if it has one, and return its head."""
    head = Head(0, FIRST_PREV)
    async for recorded in log.read(1):
        head = Head(recorded.seq, recorded.hash)
    return head
