"""How each noun's state is loaded from its tables and saved to them. The fold itself is the domain's own `apply`.

A state goes out as the difference to what was loaded, so that one more member costs one row, not the whole squad.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiosqlite
import msgspec

from sos.broker.domain import (
    AnyEvent,
    addresses,
    agents,
    catalogue,
    disks,
    escalations,
    leaks,
    projects,
    sessions,
    squads,
)
from sos.broker.domain.agent_facts import AgentEvent
from sos.broker.views import rows


class Noun(msgspec.Struct, frozen=True, kw_only=True):
    """One aggregate's way in and out. Its three functions agree on one state type, which the table below erases."""

    load: Callable[["Tables", Any], Awaitable[Any]]
    apply: Callable[[Any, Any], Any]
    save: Callable[["Tables", Any, Any, int], Awaitable[None]]


class Tables:
    """The tables, through one connection and the named queries."""

    def __init__(self, db: aiosqlite.Connection, queries: Mapping[str, str]) -> None:
        self._db = db
        self._queries = queries

    async def all(self, query: str, **values: Any) -> list[Any]:
        """Every row of a named query."""
        # In one step: a cursor left open by a cancellation would hold this connection to an old snapshot.
        return list(await self._db.execute_fetchall(self._queries[query], values))

    async def one(self, query: str, **values: Any) -> Any | None:
        """The first row of a named query, or None."""
        return next(iter(await self.all(query, **values)), None)

    async def write(self, query: str, values: list[dict[str, Any]]) -> None:
        """Run a named query once for each of `values`."""
        if values:
            await self._db.executemany(self._queries[query], values)


async def _load_project(tables: Tables, event: projects.ProjectEvent) -> projects.Project | None:
    row = await tables.one("project", slug=event.slug)
    return rows.project(row) if row else None


async def _load_agent(tables: Tables, event: AgentEvent) -> agents.Agent | None:
    row = await tables.one("agent", project=event.project, name=event.name)
    return rows.agent(row) if row else None


async def _load_squad(tables: Tables, event: squads.SquadEvent) -> squads.Squad | None:
    return next(rows.squads(await tables.all("squad", project=event.project, squad=event.squad)), None)


async def _save_squad(tables: Tables, before: squads.Squad | None, now: squads.Squad, seq: int) -> None:
    key = {"project": now.project, "squad": now.squad}
    known = before.members if before else {}
    values = {**key, "purpose": now.purpose, "created_at": rows.moment(now.created_at), "seq": seq}
    await tables.write("save_squad", [values])
    await tables.write("drop_membership", [{**key, "agent": name} for name in known.keys() - now.members.keys()])
    changed = [member for name, member in now.members.items() if known.get(name) != member]
    await tables.write("save_membership", [{**rows.columns(m), **key, "agent": m.name} for m in changed])


async def _load_sessions(tables: Tables, event: sessions.SessionEvent) -> sessions.Sessions | None:
    return rows.sessions(await tables.all("sessions_of", project=event.project, agent=event.agent))


async def _save_sessions(tables: Tables, _: sessions.Sessions | None, now: sessions.Sessions, __: int) -> None:
    key = {"project": now.project, "agent": now.agent}
    for news in now.news:  # in order: a key may be opened, ended and opened again in one batch
        if isinstance(news, sessions.Session):
            await tables.write("save_session", [rows.columns(news) | key])
            await tables.write("begin_run", [rows.columns(news) | key])
        else:
            await tables.write("end_key", [{**key, "nkey": nkey} for nkey in news.nkeys])
            await tables.write("end_run", [rows.columns(news) | key])


async def _load_address(tables: Tables, event: addresses.AddressChanged) -> addresses.Address | None:
    row = await tables.one("address", project=event.project, of=event.of, name=event.name)
    return rows.address(row) if row else None


async def _load_entry(tables: Tables, event: catalogue.CatalogueEvent) -> catalogue.Entry | None:
    row = await tables.one("catalogue_entry", name=event.name)
    return rows.entry(row) if row else None


async def _load_escalation(tables: Tables, event: escalations.EscalationSet) -> escalations.Escalation | None:
    row = await tables.one("escalation", of=event.of)
    return rows.escalation(row) if row else None


async def _load_disk(tables: Tables, event: disks.DiskCrossed) -> disks.Disk | None:
    row = await tables.one("disk", host=event.host)
    return rows.disk(row) if row else None


async def _load_leak(tables: Tables, event: leaks.LeakFound) -> leaks.Leak | None:
    row = await tables.one("leak", project=event.project, message_seq=event.message_seq)
    return rows.leak(row) if row else None


def _whole(query: str) -> Callable[[Tables, Any, Any, int], Awaitable[None]]:
    """Saves a flat state as one row, whatever it was before."""

    async def save(tables: Tables, _: Any, now: Any, seq: int) -> None:
        await tables.write(query, [rows.columns(now) | {"seq": seq}])

    return save


_PROJECT = Noun(load=_load_project, apply=projects.apply, save=_whole("save_project"))
_AGENT = Noun(load=_load_agent, apply=agents.apply, save=_whole("save_agent"))
_CATALOGUE = Noun(load=_load_entry, apply=catalogue.apply, save=_whole("save_catalogue_entry"))
_ESCALATION = Noun(load=_load_escalation, apply=escalations.apply, save=_whole("save_escalation"))
_DISK = Noun(load=_load_disk, apply=disks.apply, save=_whole("save_disk"))
_SQUAD = Noun(load=_load_squad, apply=squads.apply, save=_save_squad)
_SESSIONS = Noun(load=_load_sessions, apply=sessions.apply, save=_save_sessions)
_ADDRESS = Noun(load=_load_address, apply=addresses.apply, save=_whole("save_address"))
_LEAK = Noun(load=_load_leak, apply=leaks.apply, save=_whole("save_leak"))


def noun_of(event: AnyEvent) -> Noun:
    """The noun that a fact is about."""
    match event:
        case projects.ProjectCreated() | projects.TenantRotated() | projects.TenantVoided():
            return _PROJECT
        case catalogue.EntryAdded() | catalogue.EntryRemoved():
            return _CATALOGUE
        case escalations.EscalationSet():
            return _ESCALATION
        case disks.DiskCrossed():
            return _DISK
        case squads.SquadCreated() | squads.SquadJoined() | squads.SquadLeft():
            return _SQUAD
        case sessions.SessionOpened() | sessions.SessionEnded():
            return _SESSIONS
        case addresses.AddressChanged():
            return _ADDRESS
        case leaks.LeakFound():
            return _LEAK
        case _:
            return _AGENT
