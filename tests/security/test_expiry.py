"""Credentials of four seconds, on a bus of their own: what is not renewed ends, and what the SDK renews goes on."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

import pytest
from tests.conftest import OPERATOR, ROOMY, Project, eventually
from tests.security.attacker import LoginRefused, connected, open_session

from sos.broker.app import Running, run
from sos.broker.config import Config
from sos.sdk import Message
from sos.wire import api

SESSION_S = 4.0
LIVES = 3.2
EVERY_S = 0.1
_serial = itertools.count(1)
GRACE_S = 3.0
"""The server's timer goes by whole seconds; a cut was seen 0.7 s after the expiry."""


@pytest.fixture(scope="module")
async def short_lived(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    home = tmp_path_factory.mktemp("short")
    async with run(Config(home=home, http_port=0, nats_port=0, tiers=ROOMY, session_s=SESSION_S)) as running:
        yield running


@pytest.fixture
async def there(short_lived: Running, home: Path) -> AsyncIterator[Project]:
    slug = f"e{next(_serial)}"
    made = await short_lived.bus.projects.create(OPERATOR, api.CreateProject(slug=slug, tier="starter"))
    project = Project(short_lived, made)
    yield project
    await project.close()


async def test_an_expired_credential_is_cut_and_not_let_in_again(there: Project):
    key, opened = await open_session(there.bus.url, await there.mint("mallory"))
    assert (opened.expires_at - opened.issued_at).total_seconds() == SESSION_S
    async with connected(there.slug, "mallory", key, opened.nats_urls, opened.jwt) as mallory:
        assert (await mallory.store())["seq"]
        async with asyncio.timeout(SESSION_S + GRACE_S):
            await mallory.closed.wait()
    over = opened.expires_at + timedelta(seconds=1)  # a JWT holds to the end of the second that it names
    await eventually(lambda: datetime.now(UTC) > over, "time stood still")
    with pytest.raises(LoginRefused):
        async with connected(there.slug, "mallory", key, opened.nats_urls, opened.jwt):
            raise AssertionError("let in")


async def test_an_agent_sends_and_receives_across_its_renewals_with_nothing_lost_and_nothing_twice(there: Project):
    bob, alice, got = await there.agent("bob"), await there.agent("alice"), list[int]()

    @bob.on_message
    def take(message: Message) -> None:
        got.append(int(message.text))

    await bob.start()
    await alice.start()
    sent, until, slowest_s = 0, monotonic() + LIVES * SESSION_S, 0.0
    while monotonic() < until:
        began = monotonic()
        await alice.send("bob", str(sent))
        slowest_s, sent = max(slowest_s, monotonic() - began), sent + 1
        await asyncio.sleep(EVERY_S)  # the passing of time is what is tested
    await eventually(lambda: len(got) == sent, f"{len(got)} of {sent} came")
    assert got == list(range(sent))
    assert bob.counts.duplicates == 0
    assert slowest_s < 2.0
    assert {p.name: p.connected for p in await alice.peers()} == {"alice": True, "bob": True}
