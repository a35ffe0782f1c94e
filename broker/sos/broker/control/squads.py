"""Squads: made, listed, joined and left."""

from datetime import UTC, datetime

from sos.broker.control.agents import Agents
from sos.broker.control.projects import Projects
from sos.broker.control.tenant import Tenant
from sos.broker.control.tokens import Principal
from sos.broker.domain import squads
from sos.broker.domain.squads import JoinSquad, LeaveSquad, SquadCommand
from sos.broker.views import Views
from sos.wire import api
from sos.wire.errors import UnknownSquad
from sos.wire.names import closest, normalise
from sos.wire.scopes import Scope


class Squads:
    """The squads of all projects."""

    def __init__(self, views: Views, projects: Projects, agents: Agents) -> None:
        self._views = views
        self._projects = projects
        self._agents = agents

    async def create(self, who: Principal, project: str, ask: api.CreateSquad) -> api.Squad:
        """A new squad, empty."""
        tenant = await self._projects.administered(who, project, "create squads")
        squad, at = normalise(ask.squad, "squad id"), datetime.now(UTC)
        command = squads.CreateSquad(at=at, actor=who.actor, project=tenant.slug, squad=squad, purpose=ask.purpose)
        await self._on_squad(tenant, squad, command)
        await tenant.settle_squad(squad)
        return api.Squad(project=tenant.slug, squad=squad, purpose=ask.purpose, members=0, created_at=at)

    async def list(self, who: Principal, project: str) -> tuple[api.Squad, ...]:
        """The squads of a project, by id."""
        slug = (await self._projects.administered(who, project, "list squads")).slug
        return tuple(
            api.Squad(project=slug, squad=s.squad, purpose=s.purpose, members=len(s.members), created_at=s.created_at)
            for s in await self._views.squads(slug)
        )

    async def join(self, project: str, agent: str, ask: api.JoinSquad) -> api.Joined:
        """An agent joins; what is broadcast from now on reaches its inbox."""
        await self._agents.active(project, agent, Scope.WORKSPACE_JOIN)
        tenant, squad = await self._projects.tenant(project), normalise(ask.squad, "squad id")
        command = JoinSquad(
            at=datetime.now(UTC),
            actor=f"agent:{agent}",
            project=project,
            squad=squad,
            agent=agent,
            from_seq=await tenant.messages_head() + 1,
            summary=ask.summary,
        )
        return await self._change_membership(tenant, squad, agent, command)

    async def leave(self, project: str, agent: str, ask: api.LeaveSquad) -> api.Joined:
        """An agent leaves."""
        await self._agents.active(project, agent)
        tenant, squad = await self._projects.tenant(project), normalise(ask.squad, "squad id")
        command = LeaveSquad(at=datetime.now(UTC), actor=f"agent:{agent}", project=project, squad=squad, agent=agent)
        return await self._change_membership(tenant, squad, agent, command)

    async def members(self, project: str, agent: str, ask: api.ListMembers) -> api.Members:
        """Who is in a squad."""
        await self._agents.active(project, agent)
        name = normalise(ask.squad, "squad id")
        squad, _ = await self._views.squad(project, name)
        if squad is None:
            raise await self._unknown_squad(project, name)
        members = [api.Member(name=m.name, summary=m.summary, joined_at=m.joined_at) for m in squad.members.values()]
        return api.Members(squad=name, members=tuple(members))

    async def _change_membership(
        self, tenant: Tenant, squad: str, agent: str, command: JoinSquad | LeaveSquad
    ) -> api.Joined:
        await self._on_squad(tenant, squad, command)
        await tenant.settle_squad(squad, agent)
        return api.Joined(memberships=await self.memberships(tenant.slug, agent))

    async def _on_squad(self, tenant: Tenant, squad: str, command: SquadCommand) -> None:
        slug = tenant.slug
        try:
            await tenant.journal.execute(
                squads.subject(slug, squad), lambda: self._views.squad(slug, squad), squads.decide, command
            )
        except UnknownSquad:
            raise await self._unknown_squad(slug, squad) from None

    async def _unknown_squad(self, project: str, squad: str) -> UnknownSquad:
        known = [s.squad for s in await self._views.squads(project)]
        return UnknownSquad(project=project, squad=squad, close=closest(squad, known))

    async def memberships(self, project: str, agent: str) -> tuple[api.Membership, ...]:
        """The squads an agent is in."""
        found = await self._views.memberships_of(project, agent)
        return tuple(api.Membership(squad=squad, from_seq=from_seq) for squad, from_seq in found)
