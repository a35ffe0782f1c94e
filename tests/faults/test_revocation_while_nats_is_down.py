"""A revocation asked for while NATS is down: durable at once, and carried out before anything else is served."""

import asyncio
import os
import signal
import socket
from contextlib import suppress
from pathlib import Path

import nats.errors
import pytest
from msgspec.structs import replace
from tests.conftest import OPERATOR, ROOMY, Project, eventually
from tests.integration.raw_http import asking
from tests.security.attacker import LoginRefused, connected, open_session

from sos.broker.app import Running, run
from sos.broker.config import Config
from sos.sdk.credential import SessionKey
from sos.wire import api

DOWN_WITHIN_S = 10.0
BACK_WITHIN_S = 20.0
HEALTHY = b'"ok":true'


class Down:
    """Keeps the nats-server of a bus from coming back, by holding its port."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._held = socket.socket()

    def __enter__(self) -> "Down":
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()

    async def take(self) -> None:
        """Kill the server until the port is ours and not its successor's."""
        port = int(self._running.nats_urls[0].rpartition(":")[2])
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        async with asyncio.timeout(DOWN_WITHIN_S):
            while not self._ours(port):
                with suppress(ProcessLookupError):  # it is between two of its lives
                    if pid := self._running.server.pid:
                        os.kill(pid, signal.SIGKILL)
                await asyncio.sleep(0.005)
        await eventually(lambda: not self._running.bus.projects.pending.available, "NATS is still there")

    def _ours(self, port: int) -> bool:
        try:
            self._held.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True

    def let_go(self) -> None:
        """Let it come back."""
        self._held.close()

    async def end(self) -> None:
        """Let it come back, and wait until the bus is well."""
        self.let_go()
        async with asyncio.timeout(BACK_WITHIN_S):
            while HEALTHY not in (await asking(self._running.url, "GET", "/healthz")).body:
                await asyncio.sleep(0.05)


@pytest.fixture
def config(home: Path) -> Config:
    return Config(home=home.with_name("own"), http_port=0, nats_port=0, tiers=ROOMY)


async def made(running: Running) -> tuple[Project, str]:
    """A project, and the token of its agent bob."""
    project = Project(running, await running.bus.projects.create(OPERATOR, api.CreateProject(slug="acme")))
    return project, await project.mint("bob")


async def test_it_is_told_kept_and_carried_out_when_nats_is_back(config: Config):
    async with run(config) as running:
        down = Down(running)
        project, token = await made(running)
        key, opened = await open_session(running.url, token)
        await down.take()
        answer = await asking(running.url, "DELETE", "/api/tenants/acme/agents/bob", project.tenant_token)
        answer.problem(503, "revocation_pending")
        assert len(list((config.home / "pending").iterdir())) == 1
        (await asking(running.url, "GET", "/api/agent", token)).problem(503, "revocation_pending")
        trying = asyncio.create_task(let_in(key, opened))
        await down.end()
        await eventually(lambda: not running.bus.projects.pending, "it was not carried out")
        assert not trying.done(), "the void credential was let in before the gateway was back"
        trying.cancel()
        await asyncio.wait([trying])
        assert [a.state for a in await running.bus.agents.list(OPERATOR, "acme")] == ["revoked"]
        with pytest.raises(LoginRefused):
            async with connected("acme", "bob", key, running.nats_urls, opened.jwt):
                pass
        (await asking(running.url, "GET", "/api/agent", token)).problem(401, "unknown_token")
        assert list((config.home / "pending").iterdir()) == []


async def let_in(key: SessionKey, opened: api.SessionOpened) -> None:
    """Try with a credential, again and again, and return when it is let in."""
    while True:
        with suppress(LoginRefused, OSError, nats.errors.Error, TimeoutError):  # away, or refused
            async with connected("acme", "bob", key, opened.nats_urls, opened.jwt):
                return
        await asyncio.sleep(0.002)


async def test_it_survives_the_gateway_and_nothing_is_served_before_it_was_carried_out(config: Config):
    async with run(config) as running:
        down = Down(running)
        project, token = await made(running)
        key, opened = await open_session(running.url, token)
        await down.take()
        for _ in range(2):  # asking twice is asking once
            answer = await asking(running.url, "POST", "/api/tenants/acme/agents/bob/disable", project.tenant_token)
            answer.problem(503, "revocation_pending")
    down.let_go()
    async with run(replace(config)) as again:
        assert [a.state for a in await again.bus.agents.list(OPERATOR, "acme")] == ["disabled"]
        with pytest.raises(LoginRefused):
            async with connected("acme", "bob", key, again.nats_urls, opened.jwt):
                pass
        (await asking(again.url, "GET", "/api/agent", token)).problem(403, "agent_disabled")


async def test_a_file_that_is_no_intent_keeps_the_gateway_from_serving(config: Config):
    async with run(config):
        pass
    (config.home / "pending").mkdir(exist_ok=True)
    (config.home / "pending" / "acme.bob.json").write_text("{")
    with pytest.raises(Exception, match="not an intent"):
        async with run(config):
            pass
