"""Who is there: an agent's view of its own project."""

from datetime import UTC, datetime

from sos.broker.control.agents import Agents
from sos.broker.control.projects import Projects
from sos.broker.control.squads import Squads
from sos.broker.domain.sessions import Session
from sos.broker.nats.accounts import Accounts
from sos.broker.views import Views
from sos.wire import api
from sos.wire.errors import UnknownRecipient
from sos.wire.names import closest, normalise
from sos.wire.sessions import short


class Peers:
    """Peers and addresses."""

    def __init__(self, views: Views, projects: Projects, agents: Agents, squads: Squads, accounts: Accounts) -> None:
        self._views = views
        self._projects = projects
        self._agents = agents
        self._squads = squads
        self._accounts = accounts

    async def peers(self, project: str, agent: str, _: api.ListPeers) -> api.Peers:
        """The project's agents. Which are connected is asked of NATS now; nobody's own claim enters."""
        await self._agents.active(project, agent)
        tenant = await self._projects.tenant(project)
        connected = await self._accounts.connected_users(tenant.keys.identity.public)
        runs = _runs(project, await self._views.sessions(project, datetime.now(UTC)), connected)
        member_of = await self._member_of(project)
        return api.Peers(
            peers=tuple(
                api.Peer(
                    name=a.name,
                    role=a.role,
                    skills=tuple(s.id for s in a.skills),
                    state=a.state,
                    connected=any(s.connected for s in runs.get(a.name, ())),
                    squads=tuple(member_of.get(a.name, ())),
                    sessions=tuple(runs.get(a.name, ())),
                )
                for a in await self._views.agents(project)
                if a.state != "revoked"
            )
        )

    async def _member_of(self, project: str) -> dict[str, list[str]]:
        """Each agent's squads."""
        found: dict[str, list[str]] = {}
        for squad in await self._views.squads(project):
            for name in squad.members:
                found.setdefault(name, []).append(squad.squad)
        return found

    async def card(self, project: str, agent: str, ask: api.ShowCard) -> api.Card:
        """What an agent of the project is and can do."""
        await self._agents.active(project, agent)
        name = normalise(ask.name, "agent name")
        found, _ = await self._views.agent(project, name)
        if found is None or found.state == "revoked":
            there = [a.name for a in await self._views.agents(project) if a.state != "revoked"]
            raise UnknownRecipient(project=project, name=name, close=closest(name, there))
        return api.Card(
            name=found.name,
            role=found.role,
            model=found.model,
            charter=found.charter,
            state=found.state,
            skills=found.skills,
        )

    async def directory(self, project: str, agent: str, _: api.ListDirectory) -> api.Directory:
        """Every open address, and the asker's squads."""
        await self._agents.active(project, agent)
        there = [a for a in await self._views.addresses(project) if a.state != "closed"]
        return api.Directory(
            agents=tuple(a.name for a in there if a.of == "agent"),
            squads=tuple(a.name for a in there if a.of == "squad"),
            memberships=await self._squads.memberships(project, agent),
        )


def _runs(project: str, sessions: list[Session], connected: set[str]) -> dict[str, list[api.PeerSession]]:
    """Each agent's runs. One that was renewed holds several keys and is connected if any of them is."""
    runs: dict[str, dict[str, list[Session]]] = {}
    for s in sessions:
        runs.setdefault(s.agent, {}).setdefault(s.session, []).append(s)
    return {
        agent: [
            api.PeerSession(
                session=stamp,
                short=short(stamp, project, agent, keys[-1].client, keys[-1].model),
                client=keys[-1].client,
                model=keys[-1].model,
                opened_at=min(k.opened_at for k in keys),
                connected=any(k.nkey in connected for k in keys),
            )
            for stamp, keys in by_stamp.items()
        ]
        for agent, by_stamp in runs.items()
    }
