"""How long is a message on its way? One sender, one receiver, a bus of its own; open loop at a fixed rate.

    python bench/delivery.py [--rate 200] [--seconds 5] [--durability always] [--json]

Prints p50, p90, p99 and the maximum, in milliseconds, from the moment a message should have been sent (a late sender
does not hide a slow bus) to the moment its handler ran. One machine, loopback; a number from here is good for comparing
with another from the same run, and gates nothing.
"""

import argparse
import asyncio
import json
import os
import tempfile
from pathlib import Path
from statistics import quantiles
from time import monotonic

from sos.broker.app import Running, run
from sos.broker.config import Config
from sos.broker.control.tokens import Principal
from sos.sdk import AsyncAgent, Message
from sos.wire import api

ARRIVE_WITHIN_S = 30.0


async def agent(bus: Running, name: str) -> AsyncAgent:
    """A minted agent, not started."""
    made = await bus.bus.agents.mint(Principal(None), "bench", api.MintAgent(agent_name=name))
    return AsyncAgent(made.raw_token, name, url=bus.url)


async def measure(bus: Running, rate: float, seconds: float) -> list[float]:
    """The delays, in milliseconds."""
    sender, receiver = await agent(bus, "sender"), await agent(bus, "receiver")
    due: dict[str, float] = {}
    delays: list[float] = []
    all_in = asyncio.Event()
    count = int(rate * seconds)

    @receiver.on_message
    async def take(message: Message) -> None:
        delays.append((monotonic() - due[message.text]) * 1e3)
        if len(delays) == count:
            all_in.set()

    async with receiver, sender:
        begun = monotonic()
        sends: list[asyncio.Task[object]] = []
        for n in range(count):
            due[str(n)] = begun + n / rate
            await asyncio.sleep(max(0.0, due[str(n)] - monotonic()))
            sends.append(asyncio.create_task(sender.send("receiver", str(n))))
        await asyncio.gather(*sends)
        await asyncio.wait_for(all_in.wait(), ARRIVE_WITHIN_S)
    return delays


async def main(rate: float, seconds: float, durability: str, as_json: bool) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="sos-bench-") as home:
        os.environ["SOS_HOME"] = home
        config = Config(home=Path(home), http_port=0, nats_port=0, durability=durability)
        async with run(config) as bus:
            await bus.bus.projects.create(Principal(None), api.CreateProject(slug="bench"))
            delays = await measure(bus, rate, seconds)
            version = bus.nats_version
    cuts = quantiles(delays, n=100)
    shown = {
        "messages": len(delays),
        "rate_per_s": rate,
        "durability": durability,
        "nats_server": version,
        "p50_ms": round(cuts[49], 2),
        "p90_ms": round(cuts[89], 2),
        "p99_ms": round(cuts[98], 2),
        "max_ms": round(max(delays), 2),
    }
    print(json.dumps(shown) if as_json else "\n".join(f"{name:12} {value}" for name, value in shown.items()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=200.0, help="messages a second")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--durability", default="always")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    asyncio.run(main(given.rate, given.seconds, given.durability, given.json))
