"""One real bus for the whole run, a new project for each test. Nothing here is a stand-in."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest
from msgspec.structs import replace
from tests.canaries import held_secrets

from sos.broker.app import Running, run
from sos.broker.config import Config
from sos.broker.control.tokens import Principal
from sos.broker.nats.tiers import TIERS, Limits
from sos.sdk import AsyncAgent
from sos.wire import api


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long the fault runs are: 3 kills of each kind in `make test`, 20 in `make faults`."""
    parser.addoption("--kills", type=int, default=3, help="kill -9 of the server and of the gateway, each so often")


OPERATOR = Principal(None)
ROOMY: dict[api.Tier, Limits] = {
    **TIERS,
    "starter": replace(TIERS["starter"], custom_agents=None, calls_per_s=1_000.0, calls_burst=10_000),
}
"""The smallest streams, and as many agents as a test wants."""
WITHIN_S = 10.0
_serial = itertools.count(1)


@pytest.fixture(scope="session")
def kills(request: pytest.FixtureRequest) -> int:
    """How often each kind of kill happens."""
    return cast("int", request.config.getoption("--kills"))


async def eventually(condition: Callable[[], bool], what: str, within_s: float = WITHIN_S) -> None:
    """Wait for a condition, with a bound."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.01)
    assert condition(), what


class Project:
    """A project of its own for one test: mints agents in it and stops them when the test is over."""

    def __init__(self, bus: Running, made: api.ProjectCreated) -> None:
        self.bus = bus
        self.slug = made.slug
        self.tenant_token = made.tenant_token
        self._agents: list[AsyncAgent] = []

    async def mint(self, name: str, **fields: object) -> str:
        """An agent's token."""
        ask = api.MintAgent(agent_name=name, **fields)  # pyright: ignore[reportArgumentType]
        return (await self.bus.bus.agents.mint(OPERATOR, self.slug, ask)).raw_token

    async def agent(self, name: str, token: str | None = None, **options: object) -> AsyncAgent:
        """An agent that is not started yet, minted if no token is given."""
        token = token or await self.mint(name)
        agent = AsyncAgent(token, name, url=self.bus.url, **options)  # pyright: ignore[reportArgumentType]
        self._agents.append(agent)
        return agent

    async def squad(self, squad: str) -> None:
        """A squad."""
        await self.bus.bus.squads.create(OPERATOR, self.slug, api.CreateSquad(squad=squad))

    async def close(self) -> None:
        """Stop every agent of the test."""
        for agent in self._agents:
            await agent.stop(drain_s=1.0)


@pytest.fixture(scope="session")
async def bus(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """The bus. Whatever was done to it by the whole suite, its home holds no secret but where secrets belong."""
    home = tmp_path_factory.mktemp("bus")
    async with run(Config(home=home, http_port=0, nats_port=0, tiers=ROOMY)) as running:
        yield running
    assert held_secrets(home) == {}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the test's own, and no token or address from outside."""
    for name in ("SOS_TOKEN", "SOS_URL", "SOS_ADMIN_TOKEN", "SOS_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SOS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


MakeProject = Callable[[], Awaitable[Project]]


@pytest.fixture
async def make_project(bus: Running, home: Path) -> AsyncIterator[MakeProject]:
    """Makes projects."""
    made: list[Project] = []

    async def make() -> Project:
        ask = api.CreateProject(slug=f"p{next(_serial)}", tier="starter")
        project = Project(bus, await bus.bus.projects.create(OPERATOR, ask))
        made.append(project)
        return project

    yield make
    for project in made:
        await project.close()


@pytest.fixture
async def project(make_project: MakeProject) -> Project:
    """A project of the test's own."""
    return await make_project()
