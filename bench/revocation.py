"""How soon is an agent cut off? From the HTTP request that revokes it to the server's confirmation that it is gone.

    python bench/revocation.py [--agents 200] [--durability always] [--json]

Connects that many agents, each with nothing but nats-py, revokes one after the other over HTTP, and prints p50, p99 and
the maximum in milliseconds of three times: what the gateway itself measured, what its client saw of the whole request,
and when the agent's own connection noticed. Then each tries to connect again, and to open a new session; none may.
One machine, loopback; a number from here is good for comparing with another from the same run, and gates nothing.
"""

import argparse
import asyncio
import http.client
import json
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import quantiles
from time import monotonic
from urllib.parse import urlsplit

import msgspec
import nats.errors
from tests.faults.gateway_process import gateway_process
from tests.security.attacker import Attacker, LoginRefused, connected, open_session

from sos.sdk.credential import SessionKey
from sos.sdk.gateway import Gateway
from sos.wire import api
from sos.wire.errors import SosError

CUT_WITHIN_S = 10.0


class Bus(msgspec.Struct, frozen=True):
    """A bus in a process of its own, and its operator's token."""

    url: str
    operator_token: str

    @property
    def operator(self) -> Gateway:
        """Its HTTP door."""
        return Gateway(self.url, self.operator_token)


class Victim(msgspec.Struct):
    """A connected agent, and when its connection fell."""

    name: str
    token: str
    key: SessionKey
    opened: api.SessionOpened
    connection: Attacker
    fell_at: float = 0.0


class Found(msgspec.Struct):
    """Milliseconds of each revocation, and how often a revoked agent came back."""

    confirmed: list[float] = []
    answered: list[float] = []
    fell: list[float] = []
    reconnected: int = 0
    reopened: int = 0


async def connect_all(bus: Bus, agents: int, stack: AsyncExitStack) -> list[Victim]:
    """Every agent minted and connected."""
    victims: list[Victim] = []
    for n in range(agents):
        name = f"agent-{n}"
        ask = {"agent_name": name}
        made = await bus.operator.call("POST", "/api/tenants/bench/agents/mint", api.AgentMinted, ask)
        token = made.raw_token
        key, opened = await open_session(bus.url, token)
        connection = await stack.enter_async_context(connected("bench", name, key, opened.nats_urls, opened.jwt))
        victims.append(Victim(name=name, token=token, key=key, opened=opened, connection=connection))
    return victims


def revoke(bus: Bus, name: str) -> float:
    """One request; the milliseconds that the gateway says the cut took."""
    parts = urlsplit(bus.url)
    client = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=CUT_WITHIN_S)
    try:
        client.request(
            "DELETE", f"/api/tenants/bench/agents/{name}", headers={"Authorization": f"Bearer {bus.operator_token}"}
        )
        response = client.getresponse()
        body = response.read()
        assert response.status == 200, body
        return msgspec.json.decode(body, type=api.AgentCut).took_ms
    finally:
        client.close()


async def cut_off(bus: Bus, victim: Victim, found: Found) -> None:
    """Revoke one, and note the three times."""
    noticing = asyncio.create_task(victim.connection.closed.wait())
    noticing.add_done_callback(lambda _: setattr(victim, "fell_at", monotonic()))
    began = monotonic()
    found.confirmed.append(await asyncio.to_thread(revoke, bus, victim.name))
    found.answered.append((monotonic() - began) * 1e3)
    await asyncio.wait_for(noticing, CUT_WITHIN_S)
    await asyncio.sleep(0)
    found.fell.append((victim.fell_at - began) * 1e3)


async def comes_back(bus: Bus, victim: Victim, found: Found) -> None:
    """Try the old credential, and the token."""
    try:
        async with connected("bench", victim.name, victim.key, victim.opened.nats_urls, victim.opened.jwt):
            found.reconnected += 1
    except (LoginRefused, nats.errors.Error, OSError):
        pass
    try:
        await open_session(bus.url, victim.token)
        found.reopened += 1
    except SosError:
        pass


async def bench(agents: int, durability: str) -> Found:
    """On a bus of its own."""
    found = Found()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "bus"
        async with gateway_process(home, "--durability", durability) as process:
            bus = Bus(process.up.url, (home / "operator.token").read_text().strip())
            await bus.operator.call("POST", "/api/projects", api.ProjectCreated, {"slug": "bench"})
            async with AsyncExitStack() as stack:
                victims = await connect_all(bus, agents, stack)
                for victim in victims:
                    await cut_off(bus, victim, found)
                for victim in victims:
                    await comes_back(bus, victim, found)
    return found


def shown(ms: list[float]) -> dict[str, float]:
    """The figures of a row."""
    cuts = quantiles(ms, n=100, method="inclusive")
    return {"p50": round(cuts[49], 2), "p99": round(cuts[98], 2), "max": round(max(ms), 2)}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--agents", type=int, default=200)
    parser.add_argument("--durability", default="always")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = asyncio.run(bench(options.agents, options.durability))
    rows = {"confirmed": shown(found.confirmed), "answered": shown(found.answered), "fell": shown(found.fell)}
    refused = {
        "reconnects_refused": options.agents - found.reconnected,
        "sessions_refused": options.agents - found.reopened,
    }
    if options.json:
        print(json.dumps({"agents": options.agents, "ms": rows, **refused}))
        return
    print(f"{options.agents} connected agents revoked one by one, milliseconds from the HTTP request:")
    for name, row in rows.items():
        print(f"  {name:<10} p50 {row['p50']:>8}   p99 {row['p99']:>8}   max {row['max']:>8}")
    for what, count in refused.items():
        print(f"  {what.replace('_', ' '):<20} {count} of {options.agents}")


if __name__ == "__main__":
    main()
