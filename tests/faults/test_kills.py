"""Servers and gateways die without warning while agents talk: nothing acknowledged is lost, nothing is handled twice,
no sender's messages change places."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from tests.faults.gateway_process import GatewayProcess, gateway_process

from sos.sdk import AsyncAgent
from sos.sdk.demo.traffic import Tally, Traffic
from sos.sdk.gateway import Gateway
from sos.wire import api

SENDERS, RECEIVERS = 4, 4
MESSAGES_BETWEEN_KILLS = 150
MOVE_ON_WITHIN_S = 60.0
NO_END = 10_000_000


async def _mint(gateway: Gateway, name: str) -> AsyncAgent:
    path = "/api/tenants/acme/agents/mint"
    token = (await gateway.call("POST", path, api.AgentMinted, {"agent_name": name})).raw_token
    return AsyncAgent(token, name, url=gateway.url)


async def _traffic(process: GatewayProcess, stack: AsyncExitStack) -> Traffic:
    gateway = Gateway(process.up.url, (process.home / "operator.token").read_text().strip())
    await gateway.call("POST", "/api/projects", api.ProjectCreated, {"slug": "acme"})
    senders = [await _mint(gateway, f"sender-{i}") for i in range(SENDERS)]
    receivers = [await _mint(gateway, f"receiver-{i}") for i in range(RECEIVERS)]
    traffic = Traffic(senders, receivers, NO_END)
    for agent in (*receivers, *senders):
        await stack.enter_async_context(agent)
    return traffic


async def _more(traffic: Traffic, kill: int) -> None:
    """Let the traffic go on for a while, so that the next kill falls into it."""
    wanted = len(traffic.acked) + MESSAGES_BETWEEN_KILLS
    assert await traffic.bell.until(lambda: len(traffic.acked) >= wanted, MOVE_ON_WITHIN_S), f"stuck after kill {kill}"


async def test_nothing_is_lost_doubled_or_out_of_order_when_servers_and_gateways_are_killed(home: Path, kills: int):
    async with gateway_process(home, "--session-s", "10") as process, AsyncExitStack() as stack:
        traffic = await _traffic(process, stack)
        running = asyncio.create_task(traffic.run())
        for kill in range(kills):
            await _more(traffic, kill)
            assert process.kill_nats(), "there was no server to kill"
            await _more(traffic, kill)
            await process.kill()
            await _more(traffic, kill)  # without a gateway: messages do not pass through it
            await process.start()
        traffic.stopped = True
        await running
        tally = traffic.tally()
    assert tally == Tally(acked=tally.acked), tally
    assert tally.acked >= kills * 3 * MESSAGES_BETWEEN_KILLS
