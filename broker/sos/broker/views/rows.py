"""Domain states as rows and back. Moments become text in UTC with microseconds always, so that they sort as text."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import groupby
from sqlite3 import Row
from typing import Any

import msgspec

from sos.broker.domain.addresses import Address
from sos.broker.domain.agents import Agent
from sos.broker.domain.catalogue import Entry
from sos.broker.domain.disks import Disk
from sos.broker.domain.escalations import Escalation
from sos.broker.domain.leaks import Leak
from sos.broker.domain.projects import Project
from sos.broker.domain.sessions import Session, Sessions
from sos.broker.domain.squads import Member, Squad


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run of an agent, as the table of runs has it."""

    project: str
    agent: str
    session: str
    client: str
    model: str
    install: str
    opened_at: datetime
    ended_at: datetime | None
    reason: str


def moment(at: datetime) -> str:
    """The text of a moment: `2026-01-31T12:00:00.000000+00:00`."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def columns(state: msgspec.Struct) -> dict[str, Any]:
    """The columns of a flat state. A tuple becomes a JSON array."""
    plain = msgspec.to_builtins(state, builtin_types=(datetime,))
    return {name: _column(value) for name, value in plain.items()}


def project(row: Row) -> Project:
    """A row of projects."""
    return msgspec.convert(dict(row), Project)


def agent(row: Row) -> Agent:
    """A row of agents."""
    return msgspec.convert(_unfolded(row, "scopes", "skills"), Agent)


def entry(row: Row) -> Entry:
    """A row of catalogue."""
    return msgspec.convert({**_unfolded(row, "scopes", "skills"), "listed": bool(row["listed"])}, Entry)


def escalation(row: Row) -> Escalation:
    """A row of escalations."""
    return msgspec.convert(dict(row), Escalation)


def disk(row: Row) -> Disk:
    """A row of disks."""
    return msgspec.convert(dict(row), Disk)


def leak(row: Row) -> Leak:
    """A row of leaks."""
    return msgspec.convert(_unfolded(row, "secrets"), Leak)


def run(row: Row) -> Run:
    """A row of runs."""
    return msgspec.convert(dict(row), Run)


def address(row: Row) -> Address:
    """A row of addresses."""
    return msgspec.convert(dict(row), Address)


def session(row: Row) -> Session:
    """A row of sessions."""
    return msgspec.convert(dict(row), Session)


def sessions(rows: list[Row]) -> Sessions | None:
    """All the rows of one agent."""
    if not rows:
        return None
    held = {row["nkey"]: session(row) for row in rows}
    return Sessions(project=rows[0]["project"], agent=rows[0]["agent"], by_nkey=held)


def squads(rows: Iterable[Row]) -> Iterator[Squad]:
    """Squads from rows of the join with memberships, which are sorted by squad."""
    for _, group in groupby(rows, key=lambda row: (row["project"], row["squad"])):
        joined = list(group)
        members = {row["agent"]: _member(row) for row in joined if row["agent"] is not None}
        yield msgspec.convert({**dict(joined[0]), "members": members}, Squad)


def _unfolded(row: Row, *columns_: str) -> dict[str, Any]:
    """The row with these columns, JSON arrays, read."""
    return dict(row) | {name: msgspec.json.decode(row[name]) for name in columns_}


def _member(row: Row) -> Member:
    return msgspec.convert({**dict(row), "name": row["agent"]}, Member)


def _column(value: Any) -> Any:
    if isinstance(value, datetime):
        return moment(value)
    return msgspec.json.encode(value).decode() if isinstance(value, list | tuple) else value
