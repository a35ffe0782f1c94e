"""Everything addressed to this agent, verified, without duplicates and in order, into a sink; and its settlement.

The law: whatever reaches this agent's consumer is passed to the sink once, or skipped because it was handled before, or
set aside because it is no message. Nothing stops the loop, and nothing is acknowledged before it is on record.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from time import monotonic

import msgspec

from sos.sdk.lasting import lasting
from sos.sdk.link import Arrived, Line
from sos.sdk.message import Message
from sos.sdk.order import Cursor, Order
from sos.sdk.pull import Pull
from sos.sdk.seen import Seen
from sos.wire import subjects
from sos.wire.api import Membership
from sos.wire.envelope import Envelope, decode
from sos.wire.errors import BadEnvelope, BadSubject, SosError

log = logging.getLogger("sos.sdk")


class Arrival(msgspec.Struct, kw_only=True, eq=False):
    """A message on its way to a handler."""

    message: Message
    subject: str
    body: bytes
    delivery: subjects.Delivery
    reply: str
    """Where it is acknowledged; the newest one if it was delivered again meanwhile."""

    @property
    def key(self) -> tuple[str, str]:
        """What makes it one message."""
        return (self.message.sender, self.message.id)


class Counts(msgspec.Struct):
    """What the inbox saw, for whoever asks."""

    received: int = 0
    duplicates: int = 0
    own: int = 0
    before_joining: int = 0
    set_aside: int = 0


class Inbox:
    """One agent's inbox on whichever line it was last moved to.

    `sink` gets each message once; `room` says how many more it would take now. Everything given to the sink is settled
    by exactly one of `done`, `again` and `park`; until then the server is told that it is still being worked on.
    """

    def __init__(
        self,
        project: str,
        name: str,
        seen: Seen,
        ack_wait_s: float,
        membership: Callable[[str], Awaitable[Membership | None]],
        sink: Callable[[Arrival], None],
        room: Callable[[], int],
        *,
        once: bool = False,
    ) -> None:
        self._project, self._name = project, name
        self._seen = seen
        self._ack_wait_s = ack_wait_s
        self._membership = membership
        self._sink, self._room = sink, room
        self._order = Order[Arrival](None if once else seen.cursor, ack_wait_s)
        self._inflight: dict[tuple[str, str], Arrival] = {}
        self._ticker: asyncio.Task[None] | None = None
        self._extend_at = monotonic() + ack_wait_s / 3
        self._stopping = False
        self.pull = Pull(name, self._pull_room, self._take, once=once)
        self.counts = Counts()

    async def move(self, line: Line) -> None:
        """Read from `line` from now on."""
        if self._ticker is None:
            self._ticker = asyncio.create_task(lasting(self._tick, "keeping the inbox"), name="sos-inbox")
        if not await self.pull.move(line):
            self._order.new_connection(monotonic())

    async def stop(self) -> None:
        """Take nothing more, and hand back at once whatever still arrives. What the sink has stays its own."""
        self._stopping = True
        await self.pull.stop()
        for arrival in self._order.flush():
            await self.again(arrival, 0.0)

    async def close(self) -> None:
        """End the extending of what is in flight; after this nothing is settled any more."""
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.wait([self._ticker])
            self._ticker = None

    def _pull_room(self) -> int:
        limit = self._order.limit(monotonic())
        return self._room() if limit is None else limit

    # ── receiving ────────────────────────────────────────────────────────────────────────────────────────────────

    async def _take(self, msg: Arrived, delivery: subjects.Delivery) -> None:
        """Verify one delivery and pass it on, or settle it here."""
        try:
            to, envelope = self._verify(msg)
        except SosError as e:
            await self._set_aside(msg, delivery, str(e))
            return
        key = (to.sender, envelope.id)
        if (known := self._inflight.get(key)) is not None:
            known.reply = msg.reply
            self.counts.duplicates += 1
            await self._pass_by(delivery)
        elif self._seen.handled(*key):
            self.counts.duplicates += 1
            await self._skip(msg, delivery)
        elif isinstance(to, subjects.ToSquad) and not await self._is_due(to, delivery):
            await self._skip(msg, delivery)
        else:
            await self._pass_on(msg, delivery, _message(self._name, to, envelope, delivery))

    def _verify(self, msg: Arrived) -> tuple[subjects.Message, Envelope]:
        """The subject's and the body's parts; raises for what is not a message to this agent."""
        to = subjects.parse_message(msg.subject)
        if to.project != self._project or (isinstance(to, subjects.ToAgent) and to.to != self._name):
            raise BadSubject(subject=msg.subject)
        if not msg.body:
            raise BadEnvelope(why="the body is empty")
        return to, decode(msg.body)

    async def _is_due(self, to: subjects.ToSquad, delivery: subjects.Delivery) -> bool:
        """Not this agent's own broadcast, and not from before it joined."""
        if to.sender == self._name:
            self.counts.own += 1
            return False
        membership = await self._membership(to.squad)
        if membership is not None and delivery.stream_seq < membership.from_seq:
            self.counts.before_joining += 1
            return False
        return True

    async def _pass_on(self, msg: Arrived, delivery: subjects.Delivery, message: Message) -> None:
        arrival = Arrival(message=message, subject=msg.subject, body=msg.body, delivery=delivery, reply=msg.reply)
        self.counts.received += 1
        self._inflight[arrival.key] = arrival
        await self._give(self._order.arrived(arrival, _cursor(delivery), delivery.deliveries > 1, monotonic()))

    async def _give(self, arrivals: Sequence[Arrival]) -> None:
        for arrival in arrivals:
            if self._stopping:
                await self.again(arrival, 0.0)
            else:
                self._sink(arrival)

    async def _set_aside(self, msg: Arrived, delivery: subjects.Delivery, why: str) -> None:
        self.counts.set_aside += 1
        log.warning("sequence %d is not a message and was set aside", delivery.stream_seq)
        self._seen.set_aside(delivery.stream_seq, msg.subject, why, msg.body)
        await self._pass_by(delivery)
        await self._settle(msg.reply, b"+TERM not a message")

    async def _pass_by(self, delivery: subjects.Delivery) -> None:
        await self._give(self._order.passed(_cursor(delivery), delivery.deliveries > 1, monotonic()))

    async def _skip(self, msg: Arrived, delivery: subjects.Delivery) -> None:
        await self._pass_by(delivery)
        await self._settle(msg.reply, b"")

    # ── settling ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def done(self, arrival: Arrival) -> None:
        """It was handled: first into the record, then to the server."""
        self._inflight.pop(arrival.key, None)
        self._seen.record(*arrival.key, self._floor())
        await self._settle(arrival.reply, b"")

    async def again(self, arrival: Arrival, after_s: float) -> None:
        """It was not handled: the server gives it out again, after `after_s`."""
        self._inflight.pop(arrival.key, None)
        await self._settle(arrival.reply, b'-NAK {"delay": %d}' % int(after_s * 1e9) if after_s > 0 else b"-NAK")

    async def park(self, arrival: Arrival, error: str) -> None:
        """It cannot be handled: keep it with its error, and have the server give it out no more."""
        self._inflight.pop(arrival.key, None)
        seq = arrival.delivery.stream_seq
        self._seen.park(*arrival.key, seq, arrival.subject, arrival.body, error, self._floor())
        await self._settle(arrival.reply, b"+TERM parked")

    def _floor(self) -> Cursor:
        """Up to where every delivery is settled. What is in flight stands in the order in which it came."""
        oldest = next(iter(self._inflight.values()), None)
        if oldest is None:
            return self._order.last
        lowest = min(a.delivery.stream_seq for a in self._inflight.values())
        return Cursor(oldest.delivery.consumer_seq - 1, lowest - 1)

    async def _settle(self, reply: str, verdict: bytes) -> None:
        """Tell the server. On a lost line it is not told, and delivers again: the record of handled messages knows."""
        if (line := self.pull.line) is not None:
            await line.send(reply, verdict)

    async def _tick(self) -> None:
        """Keep what is in flight ours, and end holds that took too long."""
        await asyncio.sleep(min(self._ack_wait_s / 3, 1.0))
        now = monotonic()
        if now >= self._extend_at:
            self._extend_at = now + self._ack_wait_s / 3
            for arrival in list(self._inflight.values()):
                await self._settle(arrival.reply, b"+WPI")
        if self.pull.line is not None:
            await self._give(self._order.due(now))
        self.pull.wake()  # a pause for what is missing may be over


def _cursor(delivery: subjects.Delivery) -> Cursor:
    return Cursor(delivery.consumer_seq, delivery.stream_seq)


def _message(name: str, to: subjects.Message, e: Envelope, delivery: subjects.Delivery) -> Message:
    return Message(
        id=e.id,
        sender=to.sender,
        to=name,
        squad=to.squad if isinstance(to, subjects.ToSquad) else None,
        kind=e.kind,
        text=e.text,
        data=e.data,
        thread=e.thread,
        reply_to=e.reply_to,
        ack=e.ack,
        ack_for=e.ack_for,
        ok=e.ok,
        hops=e.hops,
        session=e.session,
        sent_at=e.sent_at,
        stored_at=datetime.fromtimestamp(delivery.stored_ns / 1e9, UTC),
        seq=delivery.stream_seq,
        attempt=delivery.deliveries,
    )
