"""Idempotency-Key across the lives of gateways and servers, on a home of older limits, and in a stream that is full."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from tests.conftest import ROOMY
from tests.faults.gateway_process import GatewayProcess, gateway_process
from tests.integration.raw_http import Answer, asking

from sos.broker.app import run
from sos.broker.config import Config
from sos.broker.nats import keys, streams
from sos.broker.nats.accounts import gateway_user
from sos.broker.nats.connection import Connection, Received, connect
from sos.broker.nats.keys import open_keyring
from sos.broker.nats.server import serve
from sos.broker.nats.tiers import SOS_LIMITS, TIERS
from sos.wire import subjects

MINT = "/api/tenants/acme/agents/mint"
SMALLEST = replace(TIERS["starter"], custom_agents=None, messages_max_bytes=2**20, events_max_bytes=2**20)
KILL_TRIES = 10
ENOUGH = 20
"""Answers, to fill 4 KiB several times over."""
REPLY_WITHIN_S = 10.0


def config(home: Path) -> Config:
    """A gateway of the test's own."""
    return Config(home=home, http_port=0, nats_port=0, tiers={**ROOMY, "starter": SMALLEST})


async def post(url: str, path: str, token: str, body: object, key: str) -> Answer:
    return await asking(url, "POST", path, token, body, more={"Idempotency-Key": key})


async def test_answers_outlive_the_gateway_and_nats(home: Path):
    ask = {"slug": "acme", "tier": "starter"}
    async with run(config(home)) as bus:
        operator = bus.operator_token
        project = await post(bus.url, "/api/projects", operator, ask, "key-1")
        agent = await post(bus.url, MINT, operator, {"agent_name": "bob"}, "key-2")
        assert (project.status, agent.status) == (201, 201)
    async with run(config(home)) as bus:
        for first, path, body, key in (
            (project, "/api/projects", ask, "key-1"),
            (agent, MINT, {"agent_name": "bob"}, "key-2"),
        ):
            again = await post(bus.url, path, operator, body, key)
            assert (again.status, again.body) == (first.status, first.body)
            assert again.headers["idempotency-replayed"] == "true"


# ── kill -9 between the fact and the answer ──────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def connected(home: Path) -> AsyncGenerator[Connection]:
    """In the account SOS of a home that a gateway holds, to see what it stores."""
    user, jwt = gateway_user(open_keyring(home).sos, "test")
    port = int((home / "nats" / "port").read_text())
    async with connect((f"nats://127.0.0.1:{port}",), user, jwt, "test") as nats:
        yield nats


async def killed_at_the_fact(process: GatewayProcess, nats: Connection, token: str, name: str) -> bool:
    """Ask for an agent and kill the gateway the moment its fact is on the way to the stream; whether the fact was
    stored and no answer came."""
    published = asyncio.Event()

    async def seen(_: Received) -> None:
        published.set()

    subject = str(subjects.RegistryFact("acme", "agent", name))
    async with await nats.subscribe(subject, seen):
        asked = asyncio.create_task(post(process.up.url, MINT, token, {"agent_name": name}, name))
        async with asyncio.timeout(REPLY_WITHIN_S):
            await published.wait()
        await process.kill()
        answered = (await asyncio.gather(asked, return_exceptions=True))[0]
    stored = await nats.last_of(subjects.REGISTRY, subject)
    return stored is not None and not isinstance(answered, Answer)


async def killed_in_between(process: GatewayProcess, nats: Connection, token: str) -> str:
    """The agent whose fact is stored and whose answer was never given; the gateway runs again."""
    for name in (f"agent-{n}" for n in range(KILL_TRIES)):
        hit = await killed_at_the_fact(process, nats, token, name)
        await process.start()
        if hit:
            return name
    pytest.fail(f"in {KILL_TRIES} tries the answer was faster than the kill, or the fact slower")


async def test_a_gateway_that_is_killed_between_the_fact_and_the_answer_gives_the_same_answer_at_its_next_life(
    home: Path,
):
    async with gateway_process(home) as process:
        token = (home / "operator.token").read_text().strip()
        created = await post(process.up.url, "/api/projects", token, {"slug": "acme"}, "key-1")
        assert created.status == 201
        async with connected(home) as nats:
            name = await killed_in_between(process, nats, token)
        again = await post(process.up.url, MINT, token, {"agent_name": name}, name)
        assert again.status == 201, again.body
        assert "idempotency-replayed" not in again.headers  # it was not stored: it was carried out to its end
        shown = await asking(process.up.url, "GET", "/api/agent", msgspec.json.decode(again.body)["raw_token"])
        assert msgspec.json.decode(shown.body)["agent"]["name"] == name
        listed = await asking(process.up.url, "GET", "/api/tenants/acme/agents", token)
        assert [a["name"] for a in msgspec.json.decode(listed.body)].count(name) == 1


# ── homes and streams of another size ────────────────────────────────────────────────────────────────────────────


async def test_a_home_made_with_room_for_one_stream_starts_and_gets_the_second(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    old = replace(SOS_LIMITS, streams=1, messages_max_bytes=0)
    monkeypatch.setattr(keys, "SOS_LIMITS", old)
    keyring = open_keyring(home)
    async with serve(home, keyring=keyring) as server:
        user, jwt = gateway_user(keyring.sos)
        async with connect(server.urls, user, jwt, "old gateway") as sos:
            await sos.ensure_stream(streams.registry_stream())
            with pytest.raises(Exception, match="maximum"):
                await sos.ensure_stream(streams.idempotency_stream())
    monkeypatch.undo()
    monkeypatch.setenv("SOS_HOME", str(home))
    async with run(config(home)) as bus:
        first = await post(bus.url, "/api/projects", bus.operator_token, {"slug": "acme", "tier": "starter"}, "key-1")
        again = await post(bus.url, "/api/projects", bus.operator_token, {"slug": "acme", "tier": "starter"}, "key-1")
    assert (first.status, again.status) == (201, 201)
    assert first.body == again.body


async def test_when_the_stream_is_full_requests_are_carried_out_and_say_the_same_where_they_can(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(streams, "IDEMPOTENCY_MAX_BYTES", 4_096)
    async with run(config(home)) as bus:
        created = await asking(
            bus.url, "POST", "/api/projects", bus.operator_token, {"slug": "acme", "tier": "starter"}
        )
        owner = msgspec.json.decode(created.body)["tenant_token"]
        names = [f"agent-{n}" for n in range(ENOUGH)]
        answers = [await post(bus.url, MINT, owner, {"agent_name": n}, n) for n in names]
        assert {a.status for a in answers} == {201}
        again = await post(bus.url, MINT, owner, {"agent_name": names[-1]}, names[-1])
        assert again.status == 201
        assert "idempotency-replayed" not in again.headers
        assert again.body == answers[-1].body
        cut = await post(bus.url, "/api/tenants/acme/agents/agent-1/disable", owner, None, "key")
        assert cut.status == 200
    told = [r for r in caplog.records if "not kept" in r.getMessage()]
    assert len(told) == 1
