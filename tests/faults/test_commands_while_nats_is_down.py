"""A command that is on record keeps what it promised, though NATS dies before its consequences are made."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.conftest import OPERATOR, ROOMY, eventually

from sos.broker.app import Running, run
from sos.broker.config import Config
from sos.broker.control.tenant import Tenant
from sos.sdk import AsyncAgent
from sos.wire import api
from sos.wire.errors import NatsUnreachable


@pytest.fixture
async def own_bus(home: Path) -> AsyncIterator[Running]:
    """A bus whose server may be killed."""
    async with run(Config(home=home / "bus", http_port=0, nats_port=0, tiers=ROOMY)) as running:
        await running.bus.projects.create(OPERATOR, api.CreateProject(slug="acme", tier="starter"))
        yield running


async def test_a_mint_whose_inbox_could_not_be_made_yet_still_gives_its_token_and_the_inbox_follows(
    own_bus: Running, monkeypatch: pytest.MonkeyPatch
):
    settle, killed = Tenant.settle_agent, asyncio.Event()

    async def kill_first(self: Tenant, name: str) -> None:
        if not killed.is_set():
            killed.set()
            os.kill(own_bus.server.pid, signal.SIGKILL)
            raise NatsUnreachable(servers=own_bus.nats_urls, why="killed between the fact and its consequence")
        await settle(self, name)

    monkeypatch.setattr(Tenant, "settle_agent", kill_first)
    minted = await own_bus.bus.agents.mint(OPERATOR, "acme", api.MintAgent(agent_name="bob"))
    views = own_bus.bus.registry.views
    async with asyncio.timeout(20):
        while (await views.address("acme", "agent", "bob"))[0] is None:
            await asyncio.sleep(0.05)
    got: list[str] = []
    bob = AsyncAgent(minted.raw_token, "bob", url=own_bus.url)

    @bob.on_message
    async def take(message: object) -> None:
        got.append(str(message))

    async with bob:
        await bob.send("bob", "to myself")
        await eventually(lambda: len(got) == 1, "the inbox is not there")


async def test_what_is_asked_while_nats_is_down_is_refused_in_time_and_works_when_it_is_back(own_bus: Running):
    pid = own_bus.server.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(NatsUnreachable):
            async with asyncio.timeout(60):
                await own_bus.bus.agents.mint(OPERATOR, "acme", api.MintAgent(agent_name="carol"))
    finally:
        os.kill(pid, signal.SIGCONT)
    async with asyncio.timeout(30):
        made = await own_bus.bus.agents.mint(OPERATOR, "acme", api.MintAgent(agent_name="dave"))
    assert made.name == "dave"
