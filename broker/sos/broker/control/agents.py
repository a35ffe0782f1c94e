"""Agents: minted, listed, and told by their tokens."""

from datetime import UTC, datetime

from sos.broker.control.journal import Journal
from sos.broker.control.projects import Projects
from sos.broker.control.tenant import Tenant
from sos.broker.control.tokens import Principal
from sos.broker.domain import agents
from sos.broker.domain.agents import Agent
from sos.broker.nats.tiers import TIERS
from sos.wire import api
from sos.wire.errors import Forbidden, LimitReached, MissingScope, UnknownToken
from sos.wire.names import normalise
from sos.wire.scopes import ALL, Scope
from sos.wire.tokens import TokenKind, check, digest, make, tail


class Agents:
    """The agents of all projects."""

    def __init__(self, registry: Journal, projects: Projects) -> None:
        self._registry = registry
        self._views = registry.views
        self._projects = projects

    async def mint(self, who: Principal, project: str, ask: api.MintAgent) -> api.AgentMinted:
        """A new agent with an inbox and an address. Its token is in the answer and nowhere else."""
        tenant = await self._projects.administered(who, project, "mint agents")
        slug = tenant.slug
        await self._check_room(tenant)
        name, token, at = normalise(ask.agent_name, "agent name"), make(TokenKind.AGENT), datetime.now(UTC)
        scopes = ALL if ask.scopes is None else tuple(s for s in Scope if s in ask.scopes)
        command = agents.MintAgent(
            at=at,
            actor=who.actor,
            project=slug,
            name=name,
            model=ask.model,
            charter=ask.charter,
            scopes=scopes,
            token_hash=digest(token),
            token_tail=tail(token),
        )
        await self._registry.execute(
            agents.subject(slug, name), lambda: self._views.agent(slug, name), agents.decide, command
        )
        await tenant.settle_minted(name)
        return api.AgentMinted(project=slug, name=name, scopes=scopes, minted_at=at, raw_token=token)

    async def _check_room(self, tenant: Tenant) -> None:
        """Before the name is on record: an agent without an inbox would be one that nobody can reach."""
        limit = TIERS[tenant.project.tier].consumers
        if (await self._views.counts(tenant.slug)).agents >= limit:
            raise LimitReached(what=f"agents of project {tenant.slug}", limit=limit)

    async def list(self, who: Principal, project: str) -> tuple[api.Agent, ...]:
        """The agents of a project, by name."""
        slug = (await self._projects.administered(who, project, "list agents")).slug
        return tuple([_agent(a) for a in await self._views.agents(slug)])

    async def of_token(self, token: str) -> Agent:
        """The active agent whose token this is. `MalformedToken`, `UnknownToken`, or `Forbidden` if it is disabled."""
        check(token, TokenKind.AGENT)
        agent = await self._views.agent_by_token(digest(token))
        if agent is None:  # minted a moment ago by another gateway, perhaps
            await self._registry.catch_up()
            agent = await self._views.agent_by_token(digest(token))
        if agent is None or agent.state == "revoked":
            raise UnknownToken(tail=tail(token))
        if agent.state == "disabled":
            raise Forbidden(what=f"open a session for {agent.name}", needs="that agent enabled again")
        return agent

    async def active(self, project: str, agent: str, scope: Scope | None = None) -> None:
        """The agent is active and holds the scope. NATS vouched for the name; this asks what the name may do."""
        state, _ = await self._views.agent(project, agent)
        if state is None or state.state != "active":
            raise Forbidden(what=f"act as {agent}", needs="an active agent of that name")
        if scope is not None and scope not in state.scopes:
            raise MissingScope(scope=scope)


def _agent(a: Agent) -> api.Agent:
    return api.Agent(
        project=a.project,
        name=a.name,
        model=a.model,
        charter=a.charter,
        scopes=a.scopes,
        state=a.state,
        token_tail=a.token_tail,
        minted_at=a.minted_at,
    )
