"""The pull requests of one consumer: always one waiting at the server, never more asked for than there is room.

One reply subscription and overlapping requests. `credit` counts what was asked for and has not come. The requests of a
connection that died die with it; one that was orphaned on a living connection (no message and no heartbeat for two
intervals) is given up and made again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count
from time import monotonic

import msgspec

from sos.sdk.lasting import lasting
from sos.sdk.link import Arrived, Line, Tap
from sos.wire import subjects
from sos.wire.errors import BadSubject, NatsUnreachable

log = logging.getLogger("sos.sdk")

EXPIRES_S = 30.0
HEARTBEAT_S = 10.0
"""While a request waits the server says so this often; two missed ones mean that nobody holds the request any more."""
FIRST_EXPIRES_S = 1.0
FIRST_HEARTBEAT_S = 0.4
"""Until the first word on a connection: a server that has just started takes requests for a consumer that it has not
restored yet and never answers them [measured, 2.15], so the first ones are short and soon made again."""
MAX_BATCH = 256
REFUSED_PAUSE_S = 0.25
"""After the server refused a request (consumer not there yet, limits): the next one waits this long."""
CHECK_EVERY_S = 1.0

OnDelivery = Callable[[Arrived, subjects.Delivery], Awaitable[None]]


class Pull:
    """Pulls for `agent`'s consumer on whichever line it was last moved to, and gives each delivery to `on_delivery`.

    `room` says how many deliveries would be taken now. With `once` each request takes what is there and `empty` is set
    when the server says that nothing more is.
    """

    def __init__(self, agent: str, room: Callable[[], int], on_delivery: OnDelivery, *, once: bool = False) -> None:
        self._agent = agent
        self._room, self._on_delivery = room, on_delivery
        self._once = once
        self._line: Line | None = None
        self._tap: Tap | None = None
        self._credit = 0
        self._open: dict[str, int] = {}
        self._serial = count()
        self._heard_at = 0.0
        self._heard = False
        self._asked_at = 0.0
        self._pause_until = 0.0
        self._wake = asyncio.Event()
        self._asking: asyncio.Task[None] | None = None
        self.empty = asyncio.Event()

    @property
    def line(self) -> Line | None:
        """The line in use, None if it is closed or there never was one."""
        return self._line if self._line is not None and not self._line.closed.is_set() else None

    async def move(self, line: Line) -> bool:
        """Pull on `line` from now on. What the server had sent to the line before is taken in first, so that the order
        stands; False if that could not be, because that line was lost."""
        complete = await self._leave()
        self._credit, self._open = 0, {}
        self._line = line
        try:
            self._tap = await line.subscribe(f"{line.inbox_prefix}.p.*", self._arrived)
        except NatsUnreachable:
            return False  # this line is gone already: the session makes another and moves us there
        self._heard_at, self._heard = monotonic(), False
        if self._asking is None:
            self._asking = asyncio.create_task(lasting(self._ask, "asking for messages"), name="sos-pull")
        self.wake()
        return complete

    async def stop(self) -> None:
        """Ask for no more; returns when all that was on its way has been given to `on_delivery`."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])
            self._asking = None
        await self._leave()

    def wake(self) -> None:
        """There may be more room now."""
        self._wake.set()

    async def _leave(self) -> bool:
        """Whether everything that was sent to the line so far has arrived."""
        tap, self._tap = self._tap, None
        return tap is not None and self.line is not None and await tap.drain()

    async def _ask(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), CHECK_EVERY_S if self._heard else FIRST_HEARTBEAT_S)
        self._wake.clear()
        self._give_up_orphans()
        batch = self._wanted()
        if batch > 0 and self.line is not None:
            await self._request(self.line, batch)

    def _wanted(self) -> int:
        """How much to ask for: all the room that was not asked for yet, once that is half of it."""
        if self._tap is None or monotonic() < self._pause_until:
            return 0
        room = self._room()
        ask = min(room - self._credit, MAX_BATCH)
        return ask if self._credit == 0 or ask * 2 >= room else 0

    async def _request(self, line: Line, batch: int) -> None:
        serial = str(next(self._serial))
        ask: dict[str, int | bool] = {
            "batch": batch,
            "expires": int((EXPIRES_S if self._heard else FIRST_EXPIRES_S) * 1e9),
        }
        if self._once:
            ask = {"batch": batch, "no_wait": True}
        else:
            ask["idle_heartbeat"] = int(self._heartbeat_s * 1e9)
        self._credit += batch
        self._open[serial] = batch
        self._asked_at = monotonic()
        if not await line.send(subjects.pull(self._agent), msgspec.json.encode(ask), f"{line.inbox_prefix}.p.{serial}"):
            self._credit, self._open = 0, {}

    @property
    def _heartbeat_s(self) -> float:
        return HEARTBEAT_S if self._heard else FIRST_HEARTBEAT_S

    def _give_up_orphans(self) -> None:
        if self._credit and monotonic() - self._asked_at > 2 * self._heartbeat_s < monotonic() - self._heard_at:
            log.info("no word on pending pull requests for %g s: asking again", 2 * self._heartbeat_s)
            self._credit, self._open = 0, {}

    async def _arrived(self, msg: Arrived) -> None:
        try:
            delivery = subjects.parse_ack(msg.reply)
        except BadSubject:
            self._control(msg)
            return
        if delivery.stream != subjects.MESSAGES or delivery.consumer != self._agent:
            return  # not a delivery of our own consumer: somebody aimed it here
        self._heard_at, self._heard = monotonic(), True
        self._spend(1)
        await self._on_delivery(msg, delivery)
        self.wake()

    def _control(self, msg: Arrived) -> None:
        """A status of the server on one of our requests. Anything else that reaches this subject is nobody's."""
        prefix, _, serial = msg.subject.rpartition(".")
        if self._line is None or prefix != f"{self._line.inbox_prefix}.p" or not msg.status:
            return
        self._heard_at, self._heard = monotonic(), msg.status != "503"
        if msg.status == "100":
            return
        if (asked := self._open.pop(serial, None)) is not None:
            left = (msg.headers or {}).get("Nats-Pending-Messages", "")
            self._spend(int(left) if left.isdigit() else asked)
        if msg.status in {"409", "503"}:
            self._pause_until = monotonic() + REFUSED_PAUSE_S
            asyncio.get_running_loop().call_later(REFUSED_PAUSE_S, self.wake)
        elif self._once:
            self.empty.set()
        else:
            self.wake()

    def _spend(self, n: int) -> None:
        self._credit = max(0, self._credit - n)
        if self._credit == 0:
            self._open.clear()
