"""What an agent may know of itself: over HTTP, with its own token, so that it works without a NATS connection."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime

from sos.broker.control.agents import Agents, shown
from sos.broker.control.projects import Projects, Urls
from sos.broker.control.tokens import Bearer
from sos.broker.domain.agents import Agent
from sos.broker.views import Views
from sos.wire import api
from sos.wire.errors import SosError
from sos.wire.tokens import digest

log = logging.getLogger(__name__)

INSTALL_CHARS = 16
"""Of the digest that stands for an install: enough to compare with one's own, and it claims no name."""


class Versions:
    """What runs here."""

    def __init__(self, gateway: str, nats: Callable[[], str]) -> None:
        self.gateway = gateway
        self.nats = nats


class Mirror:
    """Shows an agent itself."""

    def __init__(self, views: Views, projects: Projects, agents: Agents, urls: Urls, versions: Versions) -> None:
        self._views = views
        self._projects = projects
        self._agents = agents
        self._urls = urls
        self._versions = versions

    async def show(self, bearer: Bearer) -> api.Me:
        """The agent whose token this is."""
        return await self._of(await self._agents.of_token(bearer.token))

    async def join(self, bearer: Bearer, ask: api.JoinAgent) -> api.Me:
        """The same, after an install took the name."""
        return await self._of(await self._agents.join(bearer, ask))

    async def _of(self, agent: Agent) -> api.Me:
        return api.Me(
            agent=shown(agent),
            install=digest(agent.install)[:INSTALL_CHARS] if agent.install else "",
            inbox=await self._inbox(agent),
            squads=tuple(squad for squad, _ in await self._views.memberships_of(agent.project, agent.name)),
            gateway_version=self._versions.gateway,
            nats_version=self._versions.nats(),
            nats_urls=self._urls(),
            now=datetime.now(UTC),
        )

    async def _inbox(self, agent: Agent) -> api.InboxState | None:
        try:
            return await (await self._projects.tenant(agent.project)).inbox_state(agent.name)
        except SosError as e:
            log.warning("the inbox of %s in %s cannot be looked at: %s", agent.name, agent.project, e)
            return None
