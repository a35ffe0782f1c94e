"""NATS that hangs: a bus of its own, as a process, whose nats-server is stopped with SIGSTOP and let go again."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import msgspec
import pytest

from sos.sdk import AsyncAgent
from sos.sdk.gateway import Gateway
from sos.wire import api
from sos.wire.errors import GatewayUnreachable, NatsUnreachable, NotStored, SosError
from sos.wire.ids import uuid7

SOS = Path(sys.executable).with_name("sos")
GIVE_UP_S = 2.0
TRY_S = 0.5
LOOK_UP_S = 2.0
ONE_REQUEST_S = 2.0
MARGIN_S = 1.0
UP_S = 20.0


class Own(msgspec.Struct):
    """A bus that these tests may hurt: its gateway's process is a child of ours, and its server is that one's."""

    url: str
    nats_pid: int
    nats_urls: tuple[str, ...]
    home: str

    @contextmanager
    def hung(self) -> Generator[None]:
        """While inside, its nats-server does nothing."""
        os.kill(self.nats_pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.nats_pid, signal.SIGCONT)


@pytest.fixture(scope="module")
async def own(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Own]:
    home = tmp_path_factory.mktemp("own") / "home"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SOS_")} | {"SOS_HOME": str(home)}
    process = await asyncio.create_subprocess_exec(
        SOS, "up", "--json", "--port", "0", "--nats-port", "0", stdout=subprocess.PIPE, env=environment
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), UP_S)
        yield msgspec.json.decode(line, type=Own)
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), UP_S)


@pytest.fixture
async def pair(own: Own, home: Path) -> AsyncIterator[tuple[AsyncAgent, AsyncAgent]]:
    """Alice and Bob, connected, in a project of their own."""
    operator = Gateway(own.url, (Path(own.home) / "operator.token").read_text().strip())
    slug = f"d{uuid7()[-12:]}"
    await operator.call("POST", "/api/projects", api.ProjectCreated, {"slug": slug, "tier": "scale"})
    made: list[AsyncAgent] = []
    for name in ("alice", "bob"):
        ask = api.MintAgent(agent_name=name)
        minted = await operator.call("POST", f"/api/tenants/{slug}/agents/mint", api.AgentMinted, ask)
        made.append(await AsyncAgent(minted.raw_token, name, url=own.url).connect())
    yield made[0], made[1]
    for agent in made:
        await agent.stop(drain_s=1.0)


@pytest.fixture(autouse=True)
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sos.sdk.outbox.GIVE_UP_AFTER_S", GIVE_UP_S)
    monkeypatch.setattr("sos.sdk.outbox.TRY_TIMEOUT_S", TRY_S)
    monkeypatch.setattr("sos.sdk.addresses.LOOKUP_TIMEOUT_S", LOOK_UP_S)
    monkeypatch.setattr("sos.sdk.aio.INBOX_WAIT_S", LOOK_UP_S)


async def test_a_send_that_nobody_confirms_gives_up_in_time_and_again_with_its_id_is_stored_once(
    own: Own, pair: tuple[AsyncAgent, AsyncAgent]
):
    alice, bob = pair
    await alice.send("bob", "before")
    id_, began = uuid7(), monotonic()
    with own.hung():
        with pytest.raises(NotStored, match="Send it again with id=") as unsure:
            await alice.send("bob", "unsure", id=id_)
        assert GIVE_UP_S <= monotonic() - began < GIVE_UP_S + MARGIN_S
        assert unsure.value.id == id_
        assert unsure.value.tries >= 2
    receipt = await alice.send("bob", "unsure", id=id_)
    assert (receipt.id, receipt.renamed) == (id_, False)
    await alice.send("bob", "after")
    got = await bob.inbox()
    assert [m.text for m in got] == ["before", "unsure", "after"]
    assert [m.id for m in got].count(id_) == 1


async def test_a_send_to_a_name_that_was_not_looked_up_before_is_told_in_time_and_nothing_is_sent(
    own: Own, pair: tuple[AsyncAgent, AsyncAgent]
):
    alice, bob = pair
    began = monotonic()
    with own.hung():
        with pytest.raises(NatsUnreachable, match="not stored"):
            await alice.send("bob", "never sent")
        assert monotonic() - began < LOOK_UP_S + ONE_REQUEST_S + MARGIN_S
    await alice.send("bob", "after")
    assert [m.text for m in await bob.inbox()] == ["after"]


async def test_an_inbox_that_nobody_serves_is_told_in_time_and_keeps_its_mail(
    own: Own, pair: tuple[AsyncAgent, AsyncAgent]
):
    alice, bob = pair
    await alice.send("bob", "kept")
    began = monotonic()
    with own.hung():
        with pytest.raises(NatsUnreachable):
            await bob.inbox()
        assert monotonic() - began < LOOK_UP_S + ONE_REQUEST_S + MARGIN_S
    texts: list[str] = []
    async with asyncio.timeout(30.0):  # what was pulled and never seen comes again after the server's ack wait
        while not texts:
            texts += [m.text for m in await bob.inbox()]
    assert texts == ["kept"]


async def test_calls_to_the_gateway_that_hang_on_nats_are_told_in_time(own: Own, pair: tuple[AsyncAgent, AsyncAgent]):
    alice, _ = pair
    began = monotonic()
    with own.hung():
        with pytest.raises(GatewayUnreachable):
            await alice.peers()
        assert monotonic() - began < 5.0 + MARGIN_S
    assert {p.name for p in await alice.peers()} == {"alice", "bob"}


async def test_a_new_session_while_nats_hangs_is_refused_in_time(own: Own, pair: tuple[AsyncAgent, AsyncAgent]):
    operator = Gateway(own.url, (Path(own.home) / "operator.token").read_text().strip())
    ask = api.MintAgent(agent_name="late")
    minted = await operator.call("POST", f"/api/tenants/{pair[0].project}/agents/mint", api.AgentMinted, ask)
    late, began = AsyncAgent(minted.raw_token, "late", url=own.url, connect_timeout_s=2.0), monotonic()
    with own.hung():
        with pytest.raises(SosError) as refused:
            await late.start()
        assert refused.value.code in {"gateway_unreachable", "nats_unreachable"}
        assert monotonic() - began < 2.0 + ONE_REQUEST_S + MARGIN_S
    async with asyncio.timeout(10.0):
        await late.connect()
    assert late.name == "late"
    await late.stop()
