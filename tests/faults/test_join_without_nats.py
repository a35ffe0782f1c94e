"""NATS does not answer: an agent that has its token joins as far as it can and is told the rest; a new one cannot."""

import os
import signal
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.conftest import OPERATOR, ROOMY
from tests.integration.joins import NAME, WISH, without_surroundings

from sos.broker.app import Running, run
from sos.broker.config import Config
from sos.sdk import joining
from sos.sdk.joining import Wish
from sos.wire import api
from sos.wire.errors import Kind, SosError


@pytest.fixture
async def own_bus(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    """A bus whose server may be stopped, and its project's owner's token in the environment."""
    without_surroundings(monkeypatch)
    async with run(Config(home=tmp_path / "bus", http_port=0, nats_port=0, tiers=ROOMY)) as running:
        made = await running.bus.projects.create(OPERATOR, api.CreateProject(slug="acme"))
        monkeypatch.setenv("SOS_ADMIN_TOKEN", made.tenant_token)
        yield running


@contextmanager
def silent(bus: Running) -> Generator[None]:
    """Inside, nats-server is there and does not answer."""
    pid = bus.server.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_an_agent_that_has_its_token_is_told_what_is_missing_and_a_repetition_makes_up_for_it(
    own_bus: Running, home: Path
):
    await joining.join(WISH, own_bus.url)
    with silent(own_bus):
        joined = await joining.join(Wish(name=NAME, project="acme", role="medic"), own_bus.url)
    assert (joined.name, joined.token, joined.in_peers) == (NAME, "saved", False)
    assert {w.step for w in joined.warnings} >= {"joined", "session"}
    assert all(w.cure for w in joined.warnings)
    again = await joining.join(Wish(name=NAME, project="acme", role="medic"), own_bus.url)
    assert (again.role, again.warnings) == ("medic", ())


async def test_an_agent_without_a_token_is_told_so_and_gets_it_when_nats_is_back(own_bus: Running, home: Path):
    with silent(own_bus), pytest.raises(SosError) as refused:
        await joining.join(WISH, own_bus.url)
    assert refused.value.kind is Kind.UNREACHABLE
    joined = await joining.join(WISH, own_bus.url)
    assert (joined.token, joined.warnings) == ("minted", ())
