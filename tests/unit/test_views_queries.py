"""What the views answer, how they wait, and how their schema grows."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from importlib import resources
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from tests.unit.test_domain_history import T0

from sos.broker.domain import (
    AnyEvent,
    addresses,
    agent_facts,
    catalogue,
    disks,
    escalations,
    leaks,
    projects,
    sessions,
    squads,
    subject_of,
)
from sos.broker.errors import DataLoss
from sos.broker.log import Recorded
from sos.broker.views import (
    REGISTRY_KEY,
    Counts,
    Cursor,
    NewerDatabase,
    Views,
    check_not_behind,
    events_key,
    open_views,
)
from sos.broker.views.sql import load_migrations, load_queries, migrate
from sos.wire.scopes import ALL
from sos.wire.skills import Skill

ACME = events_key("acme")
WHO: dict[str, Any] = {"at": T0, "actor": "operator"}
BOB: dict[str, Any] = {**WHO, "project": "acme", "name": "bob"}
CY: dict[str, Any] = {**BOB, "name": "cy"}
RED: dict[str, Any] = {**WHO, "project": "acme", "squad": "red"}
ITS_ADDRESS: dict[str, Any] = {**BOB, "name": "red"}
BLUE: dict[str, Any] = {**RED, "squad": "blue"}
RUN: dict[str, Any] = {**WHO, "project": "acme", "agent": "bob"}
OFFERED: dict[str, Any] = {"model": "m", "charter": "c", "role": "oracle", "scopes": ALL, "skills": (Skill(id="a"),)}
HOUR = timedelta(hours=1)
FOUND = leaks.Leaked(kind="agent_token", tail="abcd", of="agent:bob", action="voided")

REGISTRY_FACTS: Sequence[AnyEvent] = [
    projects.ProjectCreated(
        **WHO, slug="acme", project_id="p1", tier="scale", tenant_token_hash="th", tenant_token_tail="tail"
    ),
    agent_facts.AgentMinted(**BOB, model="m", charter="c", scopes=(), token_hash="bh", token_tail="ail"),
    agent_facts.AgentMinted(**CY, model="", charter="", scopes=(), token_hash="ch", token_tail=""),
    agent_facts.AgentRevoked(**CY),
    catalogue.EntryAdded(**WHO, name="kasra", **OFFERED),
    catalogue.EntryAdded(**WHO, name="athena", **OFFERED),
    catalogue.EntryRemoved(**WHO, name="athena"),
    escalations.EscalationSet(**WHO, of="", to="acme/agent:bob"),
    escalations.EscalationSet(**WHO, of="acme", to="acme/squad:red"),
    disks.DiskCrossed(**WHO, host="m1", level="warning", used_percent=90.5),
]
PROJECT_FACTS: Sequence[AnyEvent] = [
    squads.SquadCreated(**RED, purpose="paint"),
    squads.SquadJoined(**RED, agent="bob", from_seq=5, summary="here"),
    squads.SquadCreated(**BLUE),
    addresses.AddressChanged(**BOB, of="agent", state="open"),
    addresses.AddressChanged(**ITS_ADDRESS, of="squad", state="open", members=1),
    *(
        sessions.SessionOpened(
            **WHO, project="acme", agent="bob", session=f"s{h}", nkey=f"U{h}", expires_at=T0 + timedelta(hours=h)
        )
        for h in (1, 2)
    ),
    leaks.LeakFound(**WHO, project="acme", message_seq=7, sender="bob", secrets=(FOUND,)),
]


def recorded(events: Sequence[AnyEvent]) -> list[Recorded]:
    """`events` as an unchained stream gives them, from sequence 1."""
    return [Recorded(seq=n, subject=subject_of(e), event=e) for n, e in enumerate(events, start=1)]


@pytest.fixture
async def views(tmp_path: Path) -> AsyncIterator[Views]:
    """Views of one project with two agents, two squads and two sessions."""
    async with open_views(tmp_path / "views.db") as opened:
        await opened.apply(REGISTRY_KEY, None, recorded(REGISTRY_FACTS))
        await opened.apply(ACME, "acme", recorded(PROJECT_FACTS))
        yield opened


async def test_a_project_is_found_by_slug_and_by_its_owners_token(views: Views):
    project, seq = await views.project("acme")
    assert seq == 1
    assert project is not None
    assert project.created_at == T0
    assert await views.projects() == [project] == [await views.project_by_tenant_token("th")]


async def test_an_agent_is_found_by_name_and_by_token(views: Views):
    agent, seq = await views.agent("acme", "bob")
    assert seq == 2
    assert agent is not None
    assert await views.agents_by_token("bh") == [agent]
    assert [a.name for a in await views.agents("acme")] == ["bob", "cy"]


async def test_a_revoked_agent_is_still_found_and_says_so(views: Views):
    agent, seq = await views.agent("acme", "cy")
    assert seq == 4
    assert agent is not None
    assert agent.state == "revoked"


async def test_a_squad_comes_with_its_members(views: Views):
    squad, seq = await views.squad("acme", "red")
    assert seq == 2
    assert squad is not None
    assert squad.members == {"bob": squads.Member(name="bob", summary="here", joined_at=T0, from_seq=5)}
    assert [(s.squad, len(s.members)) for s in await views.squads("acme")] == [("blue", 0), ("red", 1)]
    assert await views.memberships_of("acme", "bob") == [("red", 5)]


async def test_only_sessions_that_have_not_expired_are_shown(views: Views):
    assert [s.session for s in await views.sessions("acme", T0)] == ["s1", "s2"]
    assert [s.session for s in await views.sessions("acme", T0 + timedelta(hours=1))] == ["s2"]
    assert [s.session for s in await views.sessions("acme", T0 + timedelta(minutes=59, microseconds=1))] == ["s1", "s2"]


async def test_an_address_is_found_with_its_state(views: Views):
    address, seq = await views.address("acme", "squad", "red")
    assert seq == 5
    assert address is not None
    assert (address.state, address.members) == ("open", 1)
    assert [(a.of, a.name) for a in await views.addresses("acme")] == [("agent", "bob"), ("squad", "red")]


async def test_revoked_agents_do_not_count(views: Views):
    assert await views.counts("acme") == Counts(agents=1, squads=2)
    assert await views.counts("nobody") == Counts(agents=0, squads=0)


async def test_what_is_not_there_is_none_at_sequence_zero(views: Views):
    assert await views.project("x") == await views.agent("acme", "x") == await views.squad("acme", "x") == (None, 0)
    assert await views.address("acme", "agent", "x") == (None, 0)
    assert await views.catalogue_entry("x") == await views.escalation("x") == await views.disk("x") == (None, 0)
    assert await views.leak("acme", 1) == await views.session_keys("acme", "x") == (None, 0)
    assert await views.agents_by_token("x") == await views.leaks("x") == await views.runs("acme", "x", 9) == []
    assert await views.run("acme", "x") is None
    assert await views.key_holder("x") is None
    assert not await views.has_sessions("x")
    assert await views.tap("x") == 0
    assert await views.project_by_tenant_token("x") is None
    assert await views.cursor("EVENTS/x") == Cursor(0, "")


async def test_a_reader_does_not_wait_for_a_writer(views: Views):
    with sqlite3.connect(views.path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM sessions")
        async with asyncio.timeout(1):
            assert len(await views.sessions("acme", T0)) == 2
        other.execute("ROLLBACK")
    other.close()


NO_PROJECTIONS = {"taps"}
"""How far this gateway has looked is its own affair: no stream says it, so a refold cannot give it again."""


async def test_every_table_is_in_the_dump(views: Views):
    async with aiosqlite.connect(views.path) as db:
        tables = {row[0] for row in await db.execute_fetchall("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    tables -= NO_PROJECTIONS
    assert {f"dump_{table}" for table in tables} == {name for name in load_queries() if name.startswith("dump_")}
    assert {line.split(b'"')[1].decode() for line in (await views.dump()).splitlines()} == tables


async def test_how_far_the_tap_has_looked_is_kept_and_is_no_part_of_the_projections(views: Views):
    before = await views.dump()
    for seq in (5, 9):
        await views.save_tap("acme", seq)
        assert await views.tap("acme") == seq
    assert await views.tap("beta") == 0
    assert await views.dump() == before


def test_every_query_is_described():
    for name, query in load_queries().items():
        assert query.startswith("-- "), name
        assert query.count(";") == 1, name


async def test_opening_again_changes_nothing(tmp_path: Path):
    for _ in range(2):
        async with open_views(tmp_path / "views.db") as views:
            await views.apply(REGISTRY_KEY, None, recorded(REGISTRY_FACTS))
            assert (await views.cursor(REGISTRY_KEY)).seq == len(REGISTRY_FACTS)


async def test_a_database_of_a_later_version_is_refused_and_left_alone(tmp_path: Path):
    path = tmp_path / "views.db"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(NewerDatabase, match="99"):
        async with open_views(path):
            pass


async def test_migrations_step_by_step_add_up_to_all_at_once(tmp_path: Path):
    steps = (*load_migrations(), "CREATE TABLE extra (x INTEGER) STRICT;", "ALTER TABLE extra ADD COLUMN y TEXT;")
    schemas: list[list[Any]] = []
    for name, cuts in {"once": [len(steps)], "stepwise": range(1, len(steps) + 1)}.items():
        async with aiosqlite.connect(tmp_path / name, isolation_level=None) as db:
            for cut in cuts:
                await migrate(db, tmp_path / name, steps[:cut])
            schemas.append([tuple(row) for row in await db.execute_fetchall("SELECT name, sql FROM sqlite_schema")])
            assert [tuple(row) for row in await db.execute_fetchall("PRAGMA user_version")] == [(len(steps),)]
    assert schemas[0] == schemas[1]


async def test_a_migration_that_fails_leaves_the_schema_before_it(tmp_path: Path):
    path = tmp_path / "views.db"
    async with aiosqlite.connect(path, isolation_level=None) as db:
        with pytest.raises(sqlite3.OperationalError):
            await migrate(db, path, (*load_migrations(), "CREATE TABLE half (x) ; CREATE TABLE ;"))
        assert [tuple(row) for row in await db.execute_fetchall("PRAGMA user_version")] == [(len(load_migrations()),)]
        assert not list(await db.execute_fetchall("SELECT 1 FROM sqlite_schema WHERE name = 'half'"))


def test_the_migrations_are_packaged_and_numbered():
    names = sorted(e.name for e in resources.files("sos.migrations").iterdir() if e.name.endswith(".sql"))
    assert len(names) == len(load_migrations()) > 0


def test_a_stream_behind_its_projection_is_data_loss():
    check_not_behind(ACME, Cursor(5, ""), 5, "")
    check_not_behind(REGISTRY_KEY, Cursor(5, "a"), 6, "b")
    with pytest.raises(DataLoss, match="ends at sequence 4, but 5"):
        check_not_behind(ACME, Cursor(5, ""), 4, "")
    with pytest.raises(DataLoss, match="is not the record"):
        check_not_behind(REGISTRY_KEY, Cursor(5, "a"), 5, "b")
