"""Keeps each sender's messages in order across a lost connection or a killed process. Pure: the clock comes in.

Every delivery of a consumer has the next consumer sequence. Within one connection nothing is lost, so a step there
means only that another session got something. The first delivery of a new connection is different: if it is not the
next one, then what lies between was sent to somebody who died, and the server gives it out again once its
acknowledgement is overdue, before anything new. So the first pull of a connection asks for one message. If that shows a
gap, it is held, and nothing is asked for until what is missing must have become due; then exactly that much is. The
hold ends when the missing ones are there, when the server has nothing but new ones (the missing went to another
session), or after `hold_s`; what was held goes on in stream order.

A redelivery fills the gap only if it lies beyond what was settled before: the server also delivers again what was
handled but whose acknowledgement was lost, and that is not what is waited for.
"""

from collections.abc import Sequence
from typing import NamedTuple

MAX_ASK = 256
"""Redeliveries asked for at a time."""
DUE_MARGIN_S = 0.5
"""Beyond the server's acknowledgement wait, until everything overdue is sure to be queued for redelivery."""
ARRIVE_S = 5.0
"""Beyond that, for the redeliveries to be asked for and to arrive. Only met where no newer mail ends the hold."""


MAX_HOLDS = 4
"""Connections that are lost one after the other extend a hold no further than this many times its length."""


class _Held[T](NamedTuple):
    stream_seq: int
    item: T


class Cursor(NamedTuple):
    """Up to where every delivery is settled: by the consumer's count of deliveries, and by the stream's sequence."""

    consumer_seq: int
    stream_seq: int


class Order[T]:
    """The gate between the pull loop and the handlers of one session.

    `cursor` is what this agent's home knows; None if it knows nothing: then nothing is held. `wait_s` is the consumer's
    acknowledgement wait.
    """

    def __init__(self, cursor: Cursor | None, wait_s: float) -> None:
        self.last = cursor or Cursor(0, 0)
        """The last consumer sequence and the highest stream sequence received."""
        self.hold_s = wait_s + DUE_MARGIN_S + ARRIVE_S
        self._known = cursor is not None
        self._boundary = True
        self._missing = 0
        self._base = 0
        self._waited = False
        self._quiet_until = 0.0
        self._deadline = self._last_deadline = 0.0
        self._held: list[_Held[T]] = []

    @property
    def holding(self) -> bool:
        """Whether a gap is open."""
        return self._missing > 0

    @property
    def held(self) -> int:
        """How many messages wait behind the gap."""
        return len(self._held)

    def limit(self, now: float) -> int | None:
        """How many deliveries may be asked for now; None for as many as there is room for."""
        if self._missing:
            return 0 if now < self._quiet_until else 1 if self._boundary else min(self._missing, MAX_ASK)
        return 1 if self._boundary and self._known else None

    def new_connection(self, now: float) -> None:
        """The next delivery is the first of a new connection, after one that was lost. A hold begins anew, for
        meanwhile nothing could arrive; but it ends at the latest `MAX_HOLDS` times `hold_s` after the first gap."""
        self._boundary = True
        if self._missing:
            self._begin(now)

    def passed(self, at: Cursor, again: bool, now: float) -> Sequence[T]:
        """A delivery that goes to nobody (a duplicate, an own broadcast…), but counts. What may go on now, in order."""
        self._count(at, again, now)
        return self._release() if self._held and not self._missing else ()

    def arrived(self, item: T, at: Cursor, again: bool, now: float) -> Sequence[T]:
        """One delivery for the handlers, `again` if not its first. What may go on now, in order."""
        self._count(at, again, now)
        if not self._missing and not self._held:
            return (item,)
        self._held.append(_Held(at.stream_seq, item))
        if self._missing and not again:
            self._new_one_in_a_gap(now)
        return () if self._missing else self._release()

    def due(self, now: float) -> Sequence[T]:
        """What may go on because it was held long enough."""
        return self._release() if self._missing and now >= self._deadline else ()

    def flush(self) -> Sequence[T]:
        """Everything held, in order, because nothing more will come."""
        return self._release()

    def _count(self, at: Cursor, again: bool, now: float) -> None:
        gap = at.consumer_seq - self.last.consumer_seq - 1
        if self._boundary and self._known and gap > 0:
            self._base = self._base if self._missing else self.last.stream_seq
            self._last_deadline = self._last_deadline if self._missing else now + MAX_HOLDS * self.hold_s
            self._missing += gap
            self._begin(now)
        if self._missing and again and at.stream_seq > self._base:
            self._missing -= 1
        self._boundary, self._known = False, True
        self.last = Cursor(at.consumer_seq, max(at.stream_seq, self.last.stream_seq))

    def _begin(self, now: float) -> None:
        self._waited, self._quiet_until = False, now
        self._deadline = min(now + self.hold_s, self._last_deadline)

    def _new_one_in_a_gap(self, now: float) -> None:
        """What is missing is not due yet: wait for it once. After that, it went to another session."""
        if self._waited and now >= self._quiet_until:
            self._missing = 0
        self._waited = True
        self._quiet_until = self._deadline - ARRIVE_S

    def _release(self) -> Sequence[T]:
        self._missing = 0
        held, self._held = sorted(self._held, key=lambda h: h.stream_seq), []
        return [h.item for h in held]
