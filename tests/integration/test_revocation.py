"""Cutting agents off: at once, for good or until they are enabled, and told to everybody whom it concerns."""

import asyncio
from pathlib import Path
from time import monotonic

import pytest
from msgspec.structs import replace
from tests.conftest import OPERATOR, ROOMY, Project, eventually
from tests.integration.raw_http import asking
from tests.security.attacker import LoginRefused, attacking, connected, open_session

from sos.broker.app import Running, run
from sos.broker.config import Config
from sos.sdk import AsyncAgent
from sos.wire import api
from sos.wire.envelope import Envelope, encode, now
from sos.wire.errors import AgentDisabled, UnknownAgent, UnknownRecipient, UnknownToken
from sos.wire.ids import uuid7
from sos.wire.scopes import Scope

REVOCATIONS = 20
"""`make bench-revoke` does 200 and prints the times."""


async def test_twenty_connected_agents_are_cut_one_by_one_and_none_comes_back(bus: Running, project: Project):
    for n in range(REVOCATIONS):
        name = f"a{n}"
        token = await project.mint(name)
        key, opened = await open_session(bus.url, token)
        async with connected(project.slug, name, key, opened.nats_urls, opened.jwt) as agent:
            path = f"/api/tenants/{project.slug}/agents/{name}"
            answer = await asking(bus.url, "DELETE", path, project.tenant_token)
            assert answer.status == 200, answer.body
            await asyncio.wait_for(agent.closed.wait(), 5.0)
        with pytest.raises(LoginRefused):
            async with connected(project.slug, name, key, opened.nats_urls, opened.jwt):
                pass
        with pytest.raises(UnknownToken):
            await open_session(bus.url, token)


async def test_the_answer_comes_after_the_cut_and_says_how_long_it_took(bus: Running, project: Project):
    bob = await project.agent("bob")
    await bob.connect()
    began = monotonic()
    cut = await bus.bus.cutting.disable(OPERATOR, project.slug, "bob")
    assert 0 < cut.took_ms < (monotonic() - began) * 1_000
    assert (cut.name, cut.state, cut.credentials) == ("bob", "disabled", 1)
    tenant = await bus.bus.projects.tenant(project.slug)
    assert await tenant.live_sessions() == set()


async def test_a_running_agent_that_is_disabled_is_told_why_it_ended(bus: Running, project: Project):
    bob = await project.agent("bob")
    await bob.connect()
    await bus.bus.cutting.disable(OPERATOR, project.slug, "bob")
    with pytest.raises(AgentDisabled) as refused:
        await asyncio.wait_for(bob.wait(), 10.0)
    assert (refused.value.name, refused.value.project) == ("bob", project.slug)


async def test_mail_to_a_disabled_agent_is_kept_and_its_sender_told(bus: Running, project: Project):
    token, alice = await project.mint("bob"), await project.agent("alice")
    await bus.bus.cutting.disable(OPERATOR, project.slug, "bob")
    receipt = await alice.send("bob", "read this when you are back")
    assert receipt.suspended
    assert receipt.notice is not None
    assert receipt.notice.code == "agent_disabled"
    assert "kept" in receipt.notice.cure
    await bus.bus.cutting.enable(OPERATOR, project.slug, "bob")
    bob = await project.agent("bob", token)
    assert [m.text for m in await bob.inbox()] == ["read this when you are back"]


async def test_a_credential_from_before_a_suspension_stays_void_when_it_is_taken_back(bus: Running, project: Project):
    token = await project.mint("bob")
    key, opened = await open_session(bus.url, token)
    await bus.bus.cutting.disable(OPERATOR, project.slug, "bob")
    await bus.bus.cutting.enable(OPERATOR, project.slug, "bob")
    with pytest.raises(LoginRefused):
        async with connected(project.slug, "bob", key, opened.nats_urls, opened.jwt):
            pass
    async with attacking(bus.url, token):
        pass


async def test_nobody_finds_a_revoked_agent_any_more_and_its_name_stays_taken(bus: Running, project: Project):
    await project.mint("bob")
    await bus.bus.cutting.revoke(OPERATOR, project.slug, "bob")
    alice = await project.agent("alice")
    with pytest.raises(UnknownRecipient):
        await alice.send("bob", "hello?")
    assert "bob" not in [p.name for p in await alice.peers()]
    with pytest.raises(UnknownAgent):
        await bus.bus.cutting.enable(OPERATOR, project.slug, "bob")
    minted = await asking(
        bus.url, "POST", f"/api/tenants/{project.slug}/agents/mint", project.tenant_token, {"agent_name": "bob"}
    )
    minted.problem(409, "name_taken")


async def test_revoking_twice_is_revoking_once(bus: Running, project: Project):
    await project.mint("bob")
    first = await bus.bus.cutting.revoke(OPERATOR, project.slug, "bob")
    again = await bus.bus.cutting.revoke(OPERATOR, project.slug, "bob")
    assert (first.state, again.state) == ("revoked", "revoked")


async def test_cutting_one_agent_off_leaves_the_others_connected(bus: Running, project: Project):
    ann, bob = await project.agent("ann"), await project.agent("bob")
    await ann.connect()
    await bob.connect()
    await bus.bus.cutting.revoke(OPERATOR, project.slug, "bob")
    await ann.send("ann", "still here")
    (run,) = await bus.bus.sessions.of_agent(OPERATOR, project.slug, "ann")
    assert (run.session, run.connected, run.ended_at) == (ann.session, True, None)


async def test_other_scopes_hold_for_a_live_session_at_once(bus: Running, project: Project):
    await project.mint("ann")
    bob = await project.agent("bob")
    await bob.send("ann", "while I may")
    cut = await bus.bus.cutting.rescope(OPERATOR, project.slug, "bob", api.SetScopes(scopes=(Scope.INBOX,)))
    assert cut.scopes == (Scope.INBOX,)
    await eventually(lambda: bob.scopes == (Scope.INBOX,), "the session was not opened again")
    with pytest.raises(Exception, match="mcp:send"):
        await bob.send("ann", "and now?")
    assert await bob.inbox() == []


async def test_what_was_void_is_void_after_a_restart_of_everything(home: Path):
    config = Config(home=home.with_name("own"), http_port=0, nats_port=0, tiers=ROOMY)
    async with run(config) as first:
        project = Project(first, await first.bus.projects.create(OPERATOR, api.CreateProject(slug="acme")))
        token = await project.mint("bob")
        key, opened = await open_session(first.url, token)
        await first.bus.cutting.disable(OPERATOR, "acme", "bob")
        await first.bus.cutting.enable(OPERATOR, "acme", "bob")
    async with run(replace(config)) as again:
        with pytest.raises(LoginRefused):
            async with connected("acme", "bob", key, again.nats_urls, opened.jwt):
                pass
        bob = AsyncAgent(token, url=again.url)
        await bob.connect()
        await bob.stop()


async def test_the_end_of_a_run_is_on_record_with_its_reason(bus: Running, project: Project):
    ann = await project.agent("ann", client="claude-code", model="claude-sonnet-4-6")
    await ann.connect()
    first = ann.session
    await ann.stop()
    bob = await project.agent("ann", await rotated(bus, project, "ann"))
    await bob.connect()
    await bus.bus.cutting.disable(OPERATOR, project.slug, "ann")
    cut, stopped = await bus.bus.sessions.of_agent(OPERATOR, project.slug, "ann")
    assert (stopped.session, stopped.reason, stopped.connected) == (first, "stopped", False)
    assert (cut.session, cut.reason, cut.connected) == (bob.session, "cut", False)
    assert stopped.ended_at is not None
    assert stopped.opened_at < stopped.ended_at
    assert "cldCdSnt46" in stopped.short


async def rotated(bus: Running, project: Project, name: str) -> str:
    """Another token of the agent."""
    return (await bus.bus.cutting.rotate(OPERATOR, project.slug, name, api.RotateToken())).raw_token


async def test_which_session_sent_a_message_is_answered_and_confirmed(bus: Running, project: Project):
    ann, ben = await project.agent("ann"), await project.agent("ben")
    await ben.connect()
    sent = await ann.send("ben", "hello")
    origin = await bus.bus.sessions.of_message(OPERATOR, project.slug, sent.id)
    assert (origin.sender, origin.session, origin.confirmed, origin.seq) == ("ann", ann.session, True, sent.seq)
    assert origin.run is not None
    assert origin.run.connected


async def test_a_session_that_a_message_only_claims_is_not_confirmed(bus: Running, project: Project):
    ben = await project.agent("ben")
    await ben.connect()
    async with attacking(bus.url, await project.mint("mallory")) as mallory:
        claimed = Envelope(v=1, id=uuid7(), kind="message", text="I am ben", session=ben.session, sent_at=now())
        await mallory.store(f"project.{project.slug}.agent.ben.mallory", encode(claimed))
    origin = await bus.bus.sessions.of_message(OPERATOR, project.slug, claimed.id)
    assert (origin.sender, origin.session, origin.confirmed) == ("mallory", ben.session, False)
