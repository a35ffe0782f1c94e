"""The whole bus as the doors see it: a room for each noun."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from sos.broker.config import Config
from sos.broker.control.agents import Agents
from sos.broker.control.journal import Journal
from sos.broker.control.peers import Peers
from sos.broker.control.projects import Projects, Urls
from sos.broker.control.sessions import Sessions
from sos.broker.control.squads import Squads
from sos.broker.control.tenant import Tenant
from sos.broker.nats.accounts import Accounts

ServeBus = Callable[["Bus", Tenant], AbstractAsyncContextManager[None]]


class Bus:
    """Made by `open_bus`."""

    def __init__(self, config: Config, registry: Journal, accounts: Accounts, urls: Urls, serve: ServeBus) -> None:
        self.registry = registry
        self.projects = Projects(config, registry, accounts, urls, lambda tenant: serve(self, tenant))
        self.agents = Agents(registry, self.projects)
        self.squads = Squads(registry.views, self.projects, self.agents)
        self.peers = Peers(registry.views, self.projects, self.agents, self.squads, accounts)
        self.sessions = Sessions(config, registry, urls, self.projects, self.agents, self.squads)

    def why_not_well(self) -> str:
        """What is wrong just now, in a sentence; empty if nothing is."""
        failure = self.registry.failure
        return " ".join(filter(None, (failure.detail if failure else "", self.projects.why_not_open())))

    async def behind(self) -> int:
        """Facts of the registry that the views do not hold yet."""
        return await self.registry.log.head() - (await self.registry.views.cursor(self.registry.key)).seq


@asynccontextmanager
async def open_bus(
    config: Config, registry: Journal, accounts: Accounts, urls: Urls, serve: ServeBus
) -> AsyncGenerator[Bus]:
    """The registry caught up and every project open."""
    await registry.catch_up()
    bus = Bus(config, registry, accounts, urls, serve)
    try:
        await bus.projects.open_all()
        async with registry.followed(bus.projects.open_all):
            yield bus
    finally:
        await bus.projects.close()
