"""Agents: minted, activated, joined, listed, and told by their tokens."""

from datetime import UTC, datetime

from sos.broker.config import Config
from sos.broker.control.journal import Journal
from sos.broker.control.projects import Projects
from sos.broker.control.tenant import Tenant
from sos.broker.control.tokens import Bearer, Minting, Principal, Stamp
from sos.broker.domain import agent_facts, agents
from sos.broker.domain.agents import Agent
from sos.wire import api
from sos.wire.errors import (
    AgentDisabled,
    BadRequest,
    Forbidden,
    LimitReached,
    MissingScope,
    NotInCatalogue,
    UnknownToken,
)
from sos.wire.names import closest, normalise
from sos.wire.roles import mesh_role
from sos.wire.scopes import ALL, Scope
from sos.wire.skills import checked
from sos.wire.subjects import agents_of
from sos.wire.tokens import TokenKind, check, digest, id_of, tail


class Agents:
    """The agents of all projects."""

    def __init__(self, config: Config, registry: Journal, projects: Projects, minting: Minting) -> None:
        self._tiers = config.tiers
        self._registry = registry
        self._views = registry.views
        self._projects = projects
        self._minting = minting

    # ── making them ──────────────────────────────────────────────────────────────────────────────────────────────

    async def mint(self, who: Principal, project: str, ask: api.MintAgent) -> api.AgentMinted:
        """A new agent with an inbox and an address. Its token is in the answer and nowhere else."""
        tenant = await self._projects.administered(who, project, "mint agents")
        token = self._minting.token(TokenKind.AGENT, who.repeat)
        role, _ = mesh_role(ask.role)
        command = agent_facts.MintAgent(
            **who.stamp(datetime.now(UTC)),
            project=tenant.slug,
            name=normalise(ask.agent_name, "agent name"),
            model=ask.model,
            charter=ask.charter,
            scopes=ordered(ask.scopes),
            token_hash=digest(token),
            token_tail=tail(token),
            role=role,
            skills=checked(ask.skills),
            install=ask.install,
            limit=self._tiers[tenant.project.tier].custom_agents,
        )
        agent = await self._mint(tenant, command)
        return api.AgentMinted(
            project=agent.project,
            name=agent.name,
            role=agent.role,
            scopes=agent.scopes,
            minted_at=agent.minted_at,
            raw_token=token,
        )

    async def activate(self, who: Principal, project: str, ask: api.ActivateAgent) -> api.AgentActivated:
        """An agent of the catalogue, for this project. The platform runs it, so its owner is not shown the token."""
        tenant = await self._projects.administered(who, project, "activate agents")
        name = normalise(ask.agent_name, "agent name")
        entry, _ = await self._views.catalogue_entry(name)
        if entry is None or not entry.listed:
            known = [e.name for e in await self._views.catalogue()]
            raise NotInCatalogue(name=name, close=closest(name, known))
        token = self._minting.token(TokenKind.AGENT, who.repeat)
        command = agent_facts.MintAgent(
            **who.stamp(datetime.now(UTC)),
            project=tenant.slug,
            name=name,
            model=entry.model,
            charter=entry.charter,
            scopes=entry.scopes,
            token_hash=digest(token),
            token_tail=tail(token),
            role=entry.role,
            origin="platform",
            skills=entry.skills,
        )
        agent = await self._mint(tenant, command)
        return api.AgentActivated(
            project=agent.project,
            name=agent.name,
            role=agent.role,
            scopes=agent.scopes,
            minted_at=agent.minted_at,
            raw_token=token if who.project is None else None,
        )

    async def _mint(self, tenant: Tenant, command: agent_facts.MintAgent) -> Agent:
        """Decided on the whole roster, so that of many mints at once no more succeed than the tier allows."""
        slug, name = tenant.slug, command.name
        await self._check_room(tenant)
        await self._registry.execute(
            agents.subject(slug, name),
            lambda: self._views.roster(slug, name),
            agents.decide_mint,
            command,
            within=agents_of(slug),
        )
        await tenant.settle_minted(name)
        agent, _ = await self._views.agent(slug, name)
        if agent is None:
            raise BadRequest(why=f"agent {name} is not on record")
        return agent

    async def _check_room(self, tenant: Tenant) -> None:
        """Before the name is on record: an agent without an inbox would be one that nobody can reach."""
        limit = self._tiers[tenant.project.tier].consumers
        if (await self._views.counts(tenant.slug)).agents >= limit:
            raise LimitReached(what=f"agents of project {tenant.slug}", limit=limit)

    # ── what an agent does itself ────────────────────────────────────────────────────────────────────────────────

    async def join(self, bearer: Bearer, ask: api.JoinAgent) -> Agent:
        """An install takes the name and says what the agent is and can do. `NameClaimed` if another one has it."""
        agent = await self.of_token(bearer.token)
        command = agent_facts.JoinAgent(
            **own_stamp(agent, bearer.token),
            project=agent.project,
            name=agent.name,
            install=ask.install,
            role=mesh_role(ask.role)[0] if ask.role.strip() else agent.role,
            skills=checked(ask.skills),
        )
        await self._registry.execute(
            agents.subject(agent.project, agent.name),
            lambda: self._views.agent(agent.project, agent.name),
            agents.decide,
            command,
        )
        return await self.of_token(bearer.token)

    # ── telling them ─────────────────────────────────────────────────────────────────────────────────────────────

    async def list(self, who: Principal, project: str) -> tuple[api.Agent, ...]:
        """The agents of a project, by name."""
        slug = (await self._projects.administered(who, project, "list agents")).slug
        return tuple([shown(a) for a in await self._views.agents(slug)])

    async def of_token(self, token: str) -> Agent:
        """The active agent whose token this is. `MalformedToken`, `UnknownToken`, `AgentDisabled`."""
        check(token, TokenKind.AGENT)
        agent = await self._held(digest(token))
        if agent is None:  # minted a moment ago by another gateway, perhaps
            await self._registry.catch_up()
            agent = await self._held(digest(token))
        if agent is None or self._projects.pending.ends(agent.project, agent.name) == "revoke":
            raise UnknownToken(tail=tail(token))
        if agent.state == "disabled" or self._projects.pending.ends(agent.project, agent.name):
            raise AgentDisabled(project=agent.project, name=agent.name)
        return agent

    async def _held(self, token_hash: str) -> Agent | None:
        at = datetime.now(UTC)
        for agent in await self._views.agents_by_token(token_hash):
            if agent.state != "revoked" and agent.epoch_of(token_hash, at) is not None:
                return agent
        return None

    async def active(self, project: str, agent: str, scope: Scope | None = None) -> None:
        """The agent is active and holds the scope. NATS vouched for the name; this asks what the name may do."""
        state, _ = await self._views.agent(project, agent)
        if state is not None and (state.state == "disabled" or self._projects.pending.ends(project, agent)):
            raise AgentDisabled(project=project, name=agent)
        if state is None or state.state != "active":
            raise Forbidden(what=f"act as {agent}", needs="an active agent of that name")
        if scope is not None and scope not in state.scopes:
            raise MissingScope(scope=scope)


def ordered(scopes: tuple[Scope, ...] | None) -> tuple[Scope, ...]:
    """Scopes each once and in their own order; None means all."""
    return ALL if scopes is None else tuple(s for s in Scope if s in scopes)


def own_stamp(agent: Agent, token: str) -> Stamp:
    """For a command that an agent gives with its own token."""
    return Stamp(
        at=datetime.now(UTC),
        actor=f"agent:{agent.name}",
        token_id=id_of(digest(token)),
        decision="allowed: the agent itself",
    )


def shown(a: Agent) -> api.Agent:
    """An agent as the doors show it."""
    return api.Agent(
        project=a.project,
        name=a.name,
        model=a.model,
        charter=a.charter,
        role=a.role,
        origin=a.origin,
        scopes=a.scopes,
        skills=a.skills,
        state=a.state,
        token_tail=a.token_tail,
        minted_at=a.minted_at,
        joined_at=a.joined_at,
        old_token_until=a.old_token_until,
    )
