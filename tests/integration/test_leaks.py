"""What becomes of each kind of secret that was published, under each policy, and across restarts."""

import asyncio
import os
import signal
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import OPERATOR, Project, eventually
from tests.faults.gateway_process import gateway_process
from tests.leaking import (
    PROMISED_S,
    bus_with,
    erased,
    leak_in,
    letters,
    looked_through,
    mint,
    refusal,
    report_to,
    stored,
    told,
    until,
)
from tests.security.attacker import Attacker, attacking, connected, envelope, open_session

from sos.broker.app import Running
from sos.broker.control.bus import Bus
from sos.broker.control.cutting import Cutting
from sos.broker.control.leaks import Leaks
from sos.broker.control.tap import tapped
from sos.broker.control.tokens import OPERATOR_TOKEN_FILE
from sos.broker.domain import leaks
from sos.broker.domain.agent_facts import AgentRotated
from sos.broker.domain.leaks import Leaked, ReportLeak
from sos.broker.nats.connection import Connection, Received
from sos.broker.nats.nkeys import KeyPair
from sos.sdk.credential import SessionKey
from sos.sdk.gateway import Gateway
from sos.wire import api
from sos.wire.envelope import now
from sos.wire.errors import NatsUnreachable, SosError, StorageExhausted
from sos.wire.nkeys import NkeyKind
from sos.wire.tokens import TokenKind, digest, id_of, make, tail


async def publish(agent: Attacker, to: str, text: str) -> int:
    """Straight to NATS, as any client may. The sequence."""
    ack = await agent.store(f"project.{agent.slug}.agent.{to}.{agent.name}", envelope(text))
    return int(ack["seq"])


# ── an agent's token ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_token_that_a_plain_client_publishes_is_erased_void_recorded_and_told_within_2_s(project: Project):
    bus, slug = project.bus, project.slug
    ann, boss = await project.mint("ann"), await project.mint("boss")
    await report_to(bus, slug, "boss")
    async with attacking(bus.url, ann) as client:
        began = time.monotonic()
        seq = await publish(client, "boss", f"my token is {ann}, use it")
        leak = await leak_in(bus, slug, seq)
        await erased(bus, slug, seq)
        own, report = await told(bus, slug, "agent:ann"), await told(bus, slug, "agent:boss")
        took_s = time.monotonic() - began
        await eventually(client.closed.is_set, "the session is still connected", PROMISED_S)
    assert took_s < PROMISED_S
    assert leak.secrets == (Leaked(kind="agent_token", tail=tail(ann), of="agent:ann", action="voided"),)
    assert (leak.sender, await refusal(bus, ann), await refusal(bus, boss)) == ("ann", "unknown_token", "")
    for letter in (own, report):
        assert tail(ann) in letter.text
        assert ann not in letter.text + str(letter.data)
    assert "sos agent rotate ann" in own.text


async def test_the_facts_of_a_leak_say_by_what_right_and_name_the_token_by_its_id(project: Project):
    ann = await project.mint("ann")
    async with attacking(project.bus.url, ann) as client:
        seq = await publish(client, "ann", ann)
    await leak_in(project.bus, project.slug, seq)
    bodies = [record.event async for record in project.bus.bus.registry.log.read(1)]
    (voided,) = [e for e in bodies if getattr(e, "token_hash", "") == digest(ann) and type(e).__name__ == "AgentVoided"]
    assert voided.actor == "gateway"
    assert voided.token_id == id_of(digest(ann))
    assert voided.decision == f"policy: leaked secret found in message {seq} of {project.slug}"


async def test_an_agent_whose_token_leaked_waits_for_a_rotation_and_finds_its_mail_and_the_letter(project: Project):
    bus, slug = project.bus, project.slug
    ann, bob = await project.mint("ann"), await project.agent("bob")
    async with attacking(bus.url, ann) as client:
        await publish(client, "bob", ann)
    await told(bus, slug, "agent:ann")
    await bob.start()
    await bob.send("ann", "are you there?")
    rotated = await bus.bus.cutting.rotate(OPERATOR, slug, "ann", api.RotateToken())
    back = await project.agent("ann", rotated.raw_token)
    await back.connect()
    mail = await back.inbox()
    assert [m.text for m in mail if m.sender == "bob"] == ["are you there?"]
    assert [m.sender for m in mail if m.sender != "bob"] == ["gateway"]
    assert [m.text for m in await bob.inbox()] == []


async def test_a_token_from_before_a_rotation_is_void_at_once_and_the_new_one_stays(project: Project):
    bus, slug = project.bus, project.slug
    old = await project.mint("ann")
    new = (await bus.bus.cutting.rotate(OPERATOR, slug, "ann", api.RotateToken(grace_s=600))).raw_token
    assert await refusal(bus, old) == ""
    async with attacking(bus.url, await project.mint("bob")) as client:
        seq = await publish(client, "ann", old)
    assert (await leak_in(bus, slug, seq)).secrets[0].action == "voided"
    assert (await refusal(bus, old), await refusal(bus, new)) == ("unknown_token", "")


async def test_a_token_that_opens_nothing_is_erased_and_recorded_and_nobody_is_cut(project: Project):
    bus, slug, made = project.bus, project.slug, make(TokenKind.AGENT)
    ann = await project.mint("ann")
    async with attacking(bus.url, ann) as client:
        seq = await publish(client, "ann", made)
        leak = await leak_in(bus, slug, seq)
        await erased(bus, slug, seq)
        assert leak.secrets == (Leaked(kind="agent_token", tail=tail(made), of="", action="none"),)
        assert "opens nothing here" in (await told(bus, slug, "agent:ann")).text
        await client.fence()


async def test_by_the_policy_rotate_the_new_token_lies_in_a_file_of_the_operators(home: Path):
    async with bus_with(home / "bus", "rotate") as bus:
        ann, _ = await mint(bus, "ann"), await mint(bus, "boss")
        await report_to(bus, "", "boss")
        async with attacking(bus.url, ann) as client:
            seq = await publish(client, "boss", ann)
        leak = await leak_in(bus, "acme", seq)
        report = await told(bus, "acme", "agent:boss")
        file = home / "bus" / "rotated" / "acme.ann.token"
        new = file.read_text().strip()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert (leak.secrets[0].action, await refusal(bus, ann), await refusal(bus, new)) == (
            "rotated",
            "unknown_token",
            "",
        )
        assert "rotated/acme.ann.token" in report.text
        assert new not in report.text


async def test_by_the_policy_revoke_the_agent_is_gone_for_good(home: Path):
    async with bus_with(home / "bus", "revoke") as bus:
        ann = await mint(bus, "ann")
        async with attacking(bus.url, ann) as client:
            seq = await publish(client, "ann", ann)
            await eventually(client.closed.is_set, "the session is still connected", PROMISED_S)
        assert (await leak_in(bus, "acme", seq)).secrets[0].action == "revoked"
        agent, _ = await bus.bus.registry.views.agent("acme", "ann")
        address, _ = await bus.bus.registry.views.address("acme", "agent", "ann")
        assert agent is not None
        assert address is not None
        assert (agent.state, address.state) == ("revoked", "closed")


async def test_what_could_not_be_made_void_is_erased_and_those_concerned_are_told_that_it_may_be_good(
    project: Project, monkeypatch: pytest.MonkeyPatch
):
    async def full(self: Cutting, command: object) -> int:
        raise StorageExhausted(what="REGISTRY")

    ann, _ = await project.mint("ann"), await project.mint("boss")
    await report_to(project.bus, project.slug, "boss")
    async with attacking(project.bus.url, ann) as client:
        monkeypatch.setattr(Cutting, "carry_out", full)
        seq = await publish(client, "boss", ann)
        leak = await leak_in(project.bus, project.slug, seq)
        await erased(project.bus, project.slug, seq)
    assert leak.secrets == (Leaked(kind="agent_token", tail=tail(ann), of="agent:ann", action="failed"),)
    for name in ("ann", "boss"):
        assert "could NOT be made void" in (await told(project.bus, project.slug, f"agent:{name}")).text


# ── an owner's and the operator's ────────────────────────────────────────────────────────────────────────────────


async def test_an_owners_token_opens_nothing_any_more_and_the_operator_can_give_out_another(project: Project):
    bus, slug = project.bus, project.slug
    async with attacking(bus.url, await project.mint("ann")) as client:
        seq = await publish(client, "ann", project.tenant_token)
    leak = await leak_in(bus, slug, seq)
    assert leak.secrets[0] == Leaked(
        kind="tenant_token", tail=tail(project.tenant_token), of=f"tenant:{slug}", action="voided"
    )
    assert await _listing(bus, project.tenant_token, slug) == "unknown_token"
    rotated = await bus.bus.projects.rotate(OPERATOR, slug)
    assert await _listing(bus, rotated.tenant_token, slug) == ""


async def test_the_running_gateway_takes_the_operators_new_token_at_once_and_the_old_one_never_again(home: Path):
    async with bus_with(home / "bus") as bus:
        old = bus.operator_token
        async with attacking(bus.url, await mint(bus, "ann")) as client:
            seq = await publish(client, "ann", old)
        assert (await leak_in(bus, "acme", seq)).secrets[0].of == "operator"
        new = (home / "bus" / OPERATOR_TOKEN_FILE).read_text().strip()
        assert new != old
        assert (await _listing(bus, old, "acme"), await _listing(bus, new, "acme")) == ("unknown_token", "")
    async with bus_with(home / "bus") as bus:
        assert (await _listing(bus, old, "acme"), await _listing(bus, new, "acme")) == ("unknown_token", "")


async def _listing(bus: Running, token: str, slug: str) -> str:
    """The code with which the token is refused the list of agents; empty if it is shown."""
    try:
        await Gateway(bus.url, token).call("GET", f"/api/tenants/{slug}/agents", tuple[api.Agent, ...])
    except SosError as e:
        return e.code
    return ""


# ── keys and credentials ─────────────────────────────────────────────────────────────────────────────────────────


async def test_the_seed_of_a_sessions_key_ends_the_session_and_the_token_opens_another(project: Project):
    bus, slug, token = project.bus, project.slug, await project.mint("ann")
    key, opened = await open_session(bus.url, token)
    async with connected(slug, "ann", key, opened.nats_urls, opened.jwt) as client:
        seed = KeyPair.from_raw(NkeyKind.USER, _raw(key)).seed
        seq = await publish(client, "ann", f"seed: {seed}")
        await eventually(client.closed.is_set, "the session is still connected", PROMISED_S)
    leak = await leak_in(bus, slug, seq)
    assert leak.secrets == (Leaked(kind="nats_seed", tail=seed[-4:], of="agent:ann", action="cut"),)
    assert await refusal(bus, token) == ""


async def test_a_leaked_credential_is_cut_once_and_erased_each_time(project: Project):
    bus, slug, token = project.bus, project.slug, await project.mint("ann")
    key, opened = await open_session(bus.url, token)
    async with connected(slug, "ann", key, opened.nats_urls, opened.jwt) as client:
        first = await publish(client, "ann", opened.jwt)
        await eventually(client.closed.is_set, "the session is still connected", PROMISED_S)
    assert (await leak_in(bus, slug, first)).secrets[0].action == "cut"
    async with attacking(bus.url, token) as client:
        again = await publish(client, "ann", opened.jwt)
        assert (await leak_in(bus, slug, again)).secrets[0].action == "none"
        await erased(bus, slug, again)
        await client.fence()


async def test_a_seed_that_is_nobodys_here_is_erased_and_nothing_else_happens(project: Project):
    seed = KeyPair.generate(NkeyKind.USER).seed
    async with attacking(project.bus.url, await project.mint("ann")) as client:
        seq = await publish(client, "ann", seed)
        assert (await leak_in(project.bus, project.slug, seq)).secrets[0].action == "none"
        await erased(project.bus, project.slug, seq)
        await client.fence()


def _raw(key: SessionKey) -> bytes:
    return key._private.private_bytes_raw()  # pyright: ignore[reportPrivateUsage] # what a memory dump would show


# ── gateways and servers that go away ────────────────────────────────────────────────────────────────────────────


async def test_what_was_published_while_no_gateway_was_there_is_found_when_one_is_back(home: Path):
    async with gateway_process(home) as gateway:
        owner = (home / OPERATOR_TOKEN_FILE).read_text().strip()
        call = Gateway(gateway.up.url, owner).call
        made = api.CreateProject(slug="acme", tier="starter")
        await call("POST", "/api/projects", api.ProjectCreated, made)
        ask = api.MintAgent(agent_name="ann")
        token = (await call("POST", "/api/tenants/acme/agents/mint", api.AgentMinted, ask)).raw_token
        async with attacking(gateway.up.url, token) as client:
            await gateway.kill()
            await publish(client, "ann", token)
            await gateway.start()
            await eventually(client.closed.is_set, "the session is still connected")
        with pytest.raises(SosError, match="not known here"):
            await open_session(gateway.up.url, token)


async def test_an_erasing_that_fails_because_nats_is_away_is_tried_until_it_is_done(
    project: Project, monkeypatch: pytest.MonkeyPatch
):
    erase, tried = Connection.erase, list[int]()

    async def fail_thrice(self: Connection, stream: str, seq: int) -> bool:
        tried.append(seq)
        if len(tried) <= 3:
            raise NatsUnreachable(servers=("nats://somewhere",), why="it is away")
        return await erase(self, stream, seq)

    monkeypatch.setattr(Connection, "erase", fail_thrice)
    async with attacking(project.bus.url, await project.mint("ann")) as client:
        seq = await publish(client, "ann", make(TokenKind.AGENT))
        await erased(project.bus, project.slug, seq)
    assert tried == [seq] * 4
    await looked_through(project.bus, project.slug)


async def test_a_server_that_does_not_answer_costs_no_subscriptions_and_the_tap_goes_on_when_it_does(home: Path):
    async with bus_with(home / "bus") as bus:
        token = await mint(bus, "ann")
        connection = (await bus.bus.projects.tenant("acme")).connection

        async def ignore(_: Received) -> None:
            return

        os.kill(bus.server.pid, signal.SIGSTOP)
        try:
            await _until_silent(connection)
            with pytest.raises(NatsUnreachable):
                await connection.subscribe("anything", ignore)
        finally:
            os.kill(bus.server.pid, signal.SIGCONT)
        async with attacking(bus.url, token) as client:
            seq = await publish(client, "ann", token)
            await erased(bus, "acme", seq, within_s=20.0)
        assert "anything" not in _subscriptions(connection)


async def _until_silent(connection: Connection) -> None:
    """A signal takes effect a moment after it was sent, and a busy server answers in between."""
    async with asyncio.timeout(5.0):
        with suppress(NatsUnreachable):
            while True:
                await connection.js("INFO", timeout_s=0.5)


def _subscriptions(connection: Connection) -> list[str]:
    """The subjects, as nats-py keeps them, which tells it in no other way."""
    of_nats: Any = connection
    return [sub.subject for sub in of_nats._client._subs.values()]


async def test_what_a_gateway_erased_and_had_no_time_to_tell_is_told_at_its_next_start_and_once(project: Project):
    bus, slug = project.bus, project.slug
    await project.mint("ann")
    tenant = await bus.bus.projects.tenant(slug)
    secret = Leaked(kind="agent_token", tail="abcd", of="agent:ann", action="voided")
    fact = ReportLeak(at=now(), actor="gateway", project=slug, message_seq=7, sender="ann", secrets=(secret,))
    (event,) = leaks.decide(None, fact)
    await tenant.journal.record(leaks.subject(slug, 7), event)
    for _ in range(3):
        await bus.bus.leaks.tell_again(tenant, after_seq=0)
    assert [t.to for t in await letters(bus, slug)] == ["agent:ann"]
    await bus.bus.leaks.tell_again(tenant, after_seq=7)
    assert len(await letters(bus, slug)) == 1


async def test_two_gateways_that_tap_one_project_do_everything_once(home: Path):
    async with bus_with(home / "bus", "rotate") as bus:
        ann, _ = await mint(bus, "ann"), await mint(bus, "boss")
        await report_to(bus, "acme", "boss")
        tenant, views = await bus.bus.projects.tenant("acme"), bus.bus.registry.views
        async with tapped(tenant, views, _another(bus.bus)), attacking(bus.url, ann) as client:
            seq = await publish(client, "boss", ann)
            await leak_in(bus, "acme", seq)
            await erased(bus, "acme", seq)
            for name in ("ann", "boss"):
                await told(bus, "acme", f"agent:{name}")
            await looked_through(bus, "acme")
        rotations = [r async for r in bus.bus.registry.log.read(1) if isinstance(r.event, AgentRotated)]
        assert len(rotations) == 1
        assert len(await views.leaks("acme")) == 1
        assert sorted(t.to for t in await letters(bus, "acme")) == ["agent:ann", "agent:boss"]
        assert await refusal(bus, (home / "bus" / "rotated" / "acme.ann.token").read_text().strip()) == ""


def _another(bus: Bus) -> Leaks:
    """What a second gateway with the same keys would answer leaks with."""
    first = bus.leaks
    voiding, key = first._voiding, first._key  # pyright: ignore[reportPrivateUsage] # made where the keys are
    return Leaks(bus.registry, bus.projects, bus.escalations, voiding, key)


async def test_a_tap_that_is_ahead_of_its_stream_looks_at_all_of_it_again(home: Path):
    async with bus_with(home / "bus") as bus:
        token = await mint(bus, "ann")
        async with attacking(bus.url, token) as client:
            await client.store()
        await looked_through(bus, "acme")
        await bus.bus.registry.views.save_tap("acme", 1_000)
    async with bus_with(home / "bus") as bus:
        async with attacking(bus.url, token) as client:
            seq = await publish(client, "ann", token)
            await erased(bus, "acme", seq)

        async def caught_up() -> bool | None:
            return 1 <= await bus.bus.registry.views.tap("acme") < 1_000 or None

        await until(caught_up, "the cursor is the stream's again")
        assert seq not in await stored(bus, "acme")
