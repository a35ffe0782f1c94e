"""Keeps each sender's messages in order across a lost connection. Pure: no I/O, the clock comes in.

Every delivery of a consumer has the next consumer sequence. Within one connection nothing is lost, so a step there
means only that another session got something. The first delivery after a new connection is different: if it is not
the next one, then what lies between was sent to a connection that died, and the server will send it again when its
acknowledgement is overdue. Until then newer messages are held here, for at most `hold_s`, and go on in stream order.
"""

from collections.abc import Sequence
from typing import NamedTuple

MAX_HELD = 512
"""What is held at most; the pull loop asks for no more than that while a gap is open."""


class _Held[T](NamedTuple):
    stream_seq: int
    item: T


class Order[T]:
    """The gate between the pull loop and the handlers of one session."""

    def __init__(self, cursor: int | None, hold_s: float) -> None:
        self.last = cursor or 0
        """The highest consumer sequence received since the server last went back."""
        self._known = cursor is not None
        self._hold_s = hold_s
        self._boundary = True
        self._missing = 0
        self._deadline = 0.0
        self._held: list[_Held[T]] = []

    @property
    def holding(self) -> bool:
        """Whether a gap is open."""
        return self._missing > 0

    @property
    def held(self) -> int:
        """How many messages wait behind the gap."""
        return len(self._held)

    def new_connection(self) -> None:
        """The next delivery is the first of a new connection."""
        self._boundary = True

    def passed(self, consumer_seq: int, now: float) -> None:
        """A delivery that goes to nobody (a duplicate, an own broadcast…), but counts."""
        if self._boundary:
            self._boundary = False
            gap = consumer_seq - self.last - 1
            if self._known and gap > 0:
                self._missing, self._deadline = gap, now + self._hold_s
        self._known = True
        self.last = consumer_seq

    def arrived(self, item: T, stream_seq: int, consumer_seq: int, again: bool, now: float) -> Sequence[T]:
        """One delivery for the handlers, `again` if not its first. What may go on now, in order."""
        self.passed(consumer_seq, now)
        if not self._missing:
            return (item,)
        self._held.append(_Held(stream_seq, item))
        if again:
            self._missing -= 1
        return self._release() if self._missing <= 0 else ()

    def due(self, now: float) -> Sequence[T]:
        """What may go on because it was held long enough: what is missing went to another session."""
        return self._release() if self._missing and now >= self._deadline else ()

    def flush(self) -> Sequence[T]:
        """Everything held, in order, because nothing more will come."""
        return self._release()

    def _release(self) -> Sequence[T]:
        self._missing = 0
        held, self._held = sorted(self._held, key=lambda h: h.stream_seq), []
        return [h.item for h in held]
