"""An agent's process is killed while mail streams in: its successor on the same home goes on where it was, in order."""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.conftest import OPERATOR, ROOMY, Project, eventually

from sos.broker.app import Running, run
from sos.broker.config import Config
from sos.sdk import AsyncAgent
from sos.wire import api

SCRIPT = Path(__file__).with_name("receiver.py")
MESSAGES_BETWEEN_KILLS = 200
MOST_UNHANDLED = 400
ACK_WAIT_S = 2.0
WITHIN_S = 60.0


class Receiver:
    """The process, and what it wrote."""

    def __init__(self, url: str, token: str, out: Path) -> None:
        self._url, self._token, self._out = url, token, out
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, str(SCRIPT), self._url, "bob", str(self._out), env=os.environ | {"SOS_TOKEN": self._token}
        )

    async def kill(self) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def handled(self) -> list[tuple[str, int]]:
        """What was handled so far, by the lines that are complete."""
        text = self._out.read_text() if self._out.exists() else ""
        lines = text[: text.rfind("\n") + 1].splitlines()
        return [(sender, int(n)) for sender, n in (line.split() for line in lines)]


async def _send_until(
    stop: asyncio.Event, sender: AsyncAgent, receiver: Receiver, acked: list[tuple[str, int]]
) -> None:
    """Numbered messages, without running ahead of the receiver by more than a few hundred."""
    n = 0
    while not stop.is_set():
        if n % 50 == 0:
            await eventually(lambda: len(acked) - len(receiver.handled()) < MOST_UNHANDLED, "stuck", WITHIN_S)
        await sender.send("bob", str(n))
        acked.append((sender.name, n))
        n += 1


@pytest.fixture
async def quick_bus(tmp_path: Path) -> AsyncIterator[Running]:
    """A bus that gives out again soon what a dead agent left: the successor waits for that."""
    config = Config(home=tmp_path / "bus", http_port=0, nats_port=0, tiers=ROOMY, ack_wait_s=ACK_WAIT_S)
    async with run(config) as running:
        yield running


async def test_a_killed_agents_successor_loses_nothing_and_keeps_every_senders_order(
    quick_bus: Running, home: Path, tmp_path: Path, kills: int
):
    made = await quick_bus.bus.projects.create(OPERATOR, api.CreateProject(slug="acme"))
    project = Project(quick_bus, made)
    receiver = Receiver(project.bus.url, await project.mint("bob"), tmp_path / "handled")
    senders = [await project.agent(f"sender-{i}") for i in range(3)]
    acked: list[tuple[str, int]] = []
    stop = asyncio.Event()
    for sender in senders:
        await sender.start()
    await receiver.start()
    sending = [asyncio.create_task(_send_until(stop, sender, receiver, acked)) for sender in senders]
    try:
        for _ in range(kills):
            wanted = len(receiver.handled()) + MESSAGES_BETWEEN_KILLS
            await eventually(lambda: len(receiver.handled()) >= wanted, "it handles nothing more", WITHIN_S)  # noqa: B023
            await receiver.kill()
            await receiver.start()
        stop.set()
        await asyncio.gather(*sending)
        await eventually(lambda: set(acked) <= set(receiver.handled()), "some were lost", WITHIN_S)
    finally:
        stop.set()
        await receiver.kill()
        await project.close()
    handled = receiver.handled()
    again = sum(Counter(handled).values()) - len(set(handled))
    assert again <= kills, "more than the one message that was in its handler came again"
    first = list(dict.fromkeys(handled))
    for sender in senders:
        mine = [n for name, n in first if name == sender.name]
        assert mine == sorted(mine)
