"""What does the tap cost, and how soon is a published token void? A bus of its own, one project.

    python bench/tap.py [--messages 20000] [--bytes 300] [--leaks 50] [--json]

Prints the processor time that reading and searching takes per message, from the stream as the tap does it, and, for
tokens that are published straight to NATS one after the other, the milliseconds from the publish to the moment at which
the token opens nothing (p50, maximum) and to that at which the message is erased. One machine, loopback, durability
always; it gates nothing.
"""

import argparse
import asyncio
import json
import tempfile
from pathlib import Path
from statistics import median
from time import monotonic, process_time

from sos.broker.app import Running, run
from sos.broker.config import Config
from sos.broker.control.tap import searched
from sos.broker.control.tenant import Tenant
from sos.broker.control.tokens import Principal
from sos.wire import api
from sos.wire.envelope import Envelope, encode, now
from sos.wire.ids import uuid7
from sos.wire.subjects import MESSAGES, ToAgent
from sos.wire.tokens import digest

OPERATOR = Principal(None)
SLUG = "bench"
AT_ONCE = 128
WITHIN_S = 10.0
POLL_S = 0.001


def body(text: str) -> bytes:
    """A message."""
    return encode(Envelope(v=1, id=uuid7(), kind="message", text=text, session="bench", sent_at=now()))


async def store(tenant: Tenant, text: str) -> int:
    """As an agent would; the sequence."""
    to = str(ToAgent(SLUG, "receiver", "sender"))
    return (await tenant.connection.store(MESSAGES, to, body(text), msg_id=uuid7())).seq


async def cost_us(tenant: Tenant, messages: int, size: int) -> tuple[float, float]:
    """Microseconds of processor time per message: for reading, and for searching."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with room:
            await store(tenant, "word " * (size // 5))

    await asyncio.gather(*(one() for _ in range(messages)))
    seq, seen, reading, searching = 1, 0, 0.0, 0.0
    while True:
        began = process_time()
        batch = await tenant.connection.read_batch(MESSAGES, seq)
        reading += process_time() - began
        if not batch:
            return reading / seen * 1e6, searching / seen * 1e6
        began = process_time()
        assert await searched(batch) == []
        searching += process_time() - began
        seq, seen = batch[-1].seq + 1, seen + len(batch)


async def is_there(tenant: Tenant, seq: int) -> bool:
    """Whether the message is still in the stream."""
    return any(m.seq == seq for m in await tenant.connection.read_batch(MESSAGES, seq, 1))


async def delays_ms(bus: Running, tenant: Tenant, leaks: int) -> tuple[list[float], list[float]]:
    """For each leaked token, until it was void and until its message was gone."""
    void: list[float] = []
    gone: list[float] = []
    views = bus.bus.registry.views
    for n in range(leaks):
        minted = await bus.bus.agents.mint(OPERATOR, SLUG, api.MintAgent(agent_name=f"agent-{n}"))
        began = monotonic()
        seq = await store(tenant, f"here it is: {minted.raw_token}")
        async with asyncio.timeout(WITHIN_S):
            while await views.agents_by_token(digest(minted.raw_token)):  # noqa: ASYNC110 - as seen from outside
                await asyncio.sleep(POLL_S)
            void.append((monotonic() - began) * 1e3)
            while await is_there(tenant, seq):  # noqa: ASYNC110 - as seen from outside
                await asyncio.sleep(POLL_S)
            gone.append((monotonic() - began) * 1e3)
    return void, gone


async def main(messages: int, size: int, leaks: int, as_json: bool) -> None:
    """Measure once and print."""
    with tempfile.TemporaryDirectory(prefix="sos-bench-") as home:
        async with run(Config(home=Path(home), http_port=0, nats_port=0)) as bus:
            await bus.bus.projects.create(OPERATOR, api.CreateProject(slug=SLUG, tier="scale"))
            tenant = await bus.bus.projects.tenant(SLUG)
            reading, searching = await cost_us(tenant, messages, size)
            void, gone = await delays_ms(bus, tenant, leaks)
    result = {
        "messages": messages,
        "read_us": round(reading, 1),
        "search_us": round(searching, 1),
        "leaks": leaks,
        "void_p50_ms": round(median(void), 1),
        "void_max_ms": round(max(void), 1),
        "erased_p50_ms": round(median(gone), 1),
        "erased_max_ms": round(max(gone), 1),
    }
    print(json.dumps(result) if as_json else "\n".join(f"{name:14} {value}" for name, value in result.items()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--bytes", type=int, default=300)
    parser.add_argument("--leaks", type=int, default=50)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    asyncio.run(main(given.messages, given.bytes, given.leaks, given.json))
