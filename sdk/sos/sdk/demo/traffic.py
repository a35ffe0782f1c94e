"""Numbered traffic from several senders to several receivers, and what became of it: lost, twice, out of order."""

import asyncio
from collections.abc import Callable

import msgspec

from sos.sdk import AsyncAgent, Message

ARRIVE_WITHIN_S = 60.0
"""After the last send. The longest wait is for mail that a killed server had given to a dead connection."""


class Tally(msgspec.Struct, kw_only=True):
    """What became of numbered traffic. All but `acked` should be 0."""

    acked: int = 0
    lost: int = 0
    duplicates: int = 0
    order_breaks: int = 0


class Bell:
    """Rung whenever something happened; whoever waits for a condition looks again then."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Something happened."""
        self._rung.set()
        self._rung = asyncio.Event()

    async def until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Whether `condition` came true in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while not condition():
                    await self._rung.wait()
        except TimeoutError:
            return False
        return True


class Traffic:
    """Each sender sends up to `count` numbered messages, to each receiver in turn, waiting for each to be stored."""

    def __init__(self, senders: list[AsyncAgent], receivers: list[AsyncAgent], count: int) -> None:
        self._senders, self._receivers, self._count = senders, receivers, count
        self.stopped = False
        """Set to end the sending before `count` is reached."""
        self.bell = Bell()
        self.acked: set[tuple[str, str, int]] = set()
        self.handled: list[tuple[str, str, int]] = []
        for receiver in receivers:
            receiver.on_message(self._take)

    async def _take(self, message: Message) -> None:
        self.handled.append((message.sender, message.to, int(message.text)))
        self.bell.ring()

    async def run(self) -> None:
        """Send it all, then wait until everything that was acknowledged was handled, or `ARRIVE_WITHIN_S` is over."""
        await asyncio.gather(*(self._send(sender) for sender in self._senders))
        await self.bell.until(lambda: len(self.handled) >= len(self.acked), ARRIVE_WITHIN_S)
        await self.bell.until(lambda: self.acked <= set(self.handled), ARRIVE_WITHIN_S)

    async def _send(self, sender: AsyncAgent) -> None:
        for n in range(self._count):
            if self.stopped:
                return
            to = self._receivers[n % len(self._receivers)].name
            await sender.send(to, str(n))
            self.acked.add((sender.name, to, n))
            self.bell.ring()

    def tally(self) -> Tally:
        """What became of it so far."""
        last: dict[tuple[str, str], int] = {}
        breaks = 0
        for sender, to, n in self.handled:
            breaks += n <= last.get((sender, to), -1)
            last[sender, to] = n
        return Tally(
            acked=len(self.acked),
            lost=len(self.acked - set(self.handled)),
            duplicates=len(self.handled) - len(set(self.handled)),
            order_breaks=breaks,
        )
