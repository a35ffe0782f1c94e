"""Other scopes, set while an agent is connected: they hold at once, and no session keeps what it had."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import monotonic

import pytest
from tests.conftest import Project, eventually
from tests.integration.raw_http import asking
from tests.security.attacker import LoginRefused, attacking, connected, envelope, open_session

from sos.broker.app import Running
from sos.sdk import AsyncAgent, Message
from sos.wire.errors import MissingScope, SosError
from sos.wire.scopes import Scope

WITHIN_S = 2.0


async def rescope(project: Project, name: str, *scopes: Scope) -> None:
    """POST …/scopes, as the project's owner."""
    path = f"/api/tenants/{project.slug}/agents/{name}/scopes"
    answer = await asking(project.bus.url, "POST", path, project.tenant_token, {"scopes": scopes})
    assert answer.status == 200, answer.body


async def comes_true(attempt: Callable[[], Awaitable[bool]]) -> float:
    """Seconds until `attempt` says yes; while the session is replaced it may fail."""
    began = monotonic()
    async with asyncio.timeout(WITHIN_S):
        while True:
            with suppress(SosError):
                if await attempt():
                    return monotonic() - began
            await asyncio.sleep(0.01)


async def may(agent: AsyncAgent, squad: str) -> bool:
    try:
        await agent.broadcast(squad, "hello")
    except MissingScope:
        return False
    return True


async def test_a_connected_agent_gains_a_right_without_a_restart(project: Project):
    await project.squad("ops")
    token = await project.mint("ann", scopes=(Scope.SEND,))
    ann = await project.agent("ann", token)
    await ann.connect()
    assert not await may(ann, "ops")
    await rescope(project, "ann", Scope.SEND, Scope.BROADCAST)
    assert await comes_true(lambda: may(ann, "ops")) < WITHIN_S


async def test_a_connected_agent_loses_a_right_and_keeps_the_others(project: Project):
    await project.squad("ops")
    ann, got = await project.agent("ann"), list[str]()

    @ann.on_message
    def take(message: Message) -> None:
        got.append(message.text)

    await ann.start()
    boss = await project.agent("boss")
    assert await may(ann, "ops")

    async def may_not() -> bool:
        return not await may(ann, "ops")

    await rescope(project, "ann", Scope.SEND, Scope.INBOX)
    assert await comes_true(may_not) < WITHIN_S
    await boss.send("ann", "still there?")
    await eventually(lambda: got == ["still there?"], "the inbox is not read any more", WITHIN_S)
    await ann.send("boss", "still here")


async def test_what_a_session_held_before_is_refused_by_the_server(bus: Running, project: Project):
    token = await project.mint("mallory")
    await project.mint("vera")
    key, opened = await open_session(bus.url, token)
    async with connected(project.slug, "mallory", key, opened.nats_urls, opened.jwt) as before:
        target = f"project.{project.slug}.agent.vera.mallory"
        assert not await before.refused(target, envelope())
        await rescope(project, "mallory", Scope.INBOX)
        await asyncio.wait_for(before.closed.wait(), WITHIN_S)
    with pytest.raises(LoginRefused):
        async with connected(project.slug, "mallory", key, opened.nats_urls, opened.jwt):
            pass
    async with attacking(bus.url, token) as after:
        assert await after.refused(target, envelope())


async def test_no_order_of_changes_gives_back_what_an_old_session_held(bus: Running, project: Project):
    token = await project.mint("mallory")
    key, opened = await open_session(bus.url, token)
    await rescope(project, "mallory")
    await rescope(project, "mallory", *Scope)
    with pytest.raises(LoginRefused):
        async with connected(project.slug, "mallory", key, opened.nats_urls, opened.jwt):
            pass
