"""What the views answer about tokens, keys, runs, and what the operator is told of."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import aiosqlite
from tests.unit.test_domain_history import T0
from tests.unit.test_views_queries import ACME, BOB, CY, FOUND, HOUR, RUN, views

from sos.broker.domain import AnyEvent, agent_facts, sessions, subject_of
from sos.broker.log import Recorded
from sos.broker.views import REGISTRY_KEY, Views, open_views, rows
from sos.broker.views.sql import load_migrations, migrate

__all__ = ["views"]  # the fixture


async def add(views: Views, *events: AnyEvent) -> None:
    """Fold further facts, all of one stream, in."""
    key = ACME if isinstance(events[0], sessions.SessionEvent) else REGISTRY_KEY
    begin = (await views.cursor(key)).seq + 1
    records = [Recorded(seq=n, subject=subject_of(e), event=e) for n, e in enumerate(events, start=begin)]
    await views.apply(key, "acme" if key == ACME else None, records)


def rotated(token_hash: str, grace: timedelta | None = None) -> agent_facts.AgentRotated:
    """Bob's token is another one."""
    until = T0 + grace if grace else None
    return agent_facts.AgentRotated(**BOB, token_hash=token_hash, token_tail="", old_token_until=until)


def opened(session: str, nkey: str, **fields: Any) -> sessions.SessionOpened:
    """A credential, of an hour unless said otherwise."""
    given: dict[str, Any] = {**RUN, "expires_at": T0 + HOUR, **fields}
    return sessions.SessionOpened(**given, session=session, nkey=nkey)


def ended(session: str, **fields: Any) -> sessions.SessionEnded:
    """The end of a run."""
    given: dict[str, Any] = {**RUN, "reason": "stopped", **fields}
    return sessions.SessionEnded(**given, session=session)


async def void(views: Views, at: timedelta = timedelta()) -> list[str]:
    """The keys that are to be refused."""
    return [key.nkey for key in await views.void_keys("acme", T0 + at)]


async def test_an_agent_is_found_by_the_token_it_had_before_for_as_long_as_that_is_on_record(views: Views):
    await add(views, rotated("b2", HOUR))
    assert [a.name for a in await views.agents_by_token("bh")] == ["bob"]
    assert [a.name for a in await views.agents_by_token("b2")] == ["bob"]
    await add(views, rotated("b3"))
    assert await views.agents_by_token("bh") == await views.agents_by_token("b2") == []


async def test_the_roster_counts_custom_agents_that_are_not_revoked_and_knows_the_last_fact_of_any(views: Views):
    roster, seq = await views.roster("acme", "bob")
    assert (roster.custom, seq) == (1, 4)
    assert roster.agent is not None
    fields: dict[str, Any] = {"model": "", "charter": "", "scopes": (), "token_hash": "k", "token_tail": ""}
    platform = agent_facts.AgentMinted(**BOB | {"name": "kasra"}, **fields, origin="platform")
    await add(views, platform, agent_facts.AgentDisabled(**BOB))
    roster, seq = await views.roster("acme", "new")
    assert (roster.agent, roster.custom, seq) == (None, 1, 12)
    elsewhere, seq = await views.roster("beta", "bob")
    assert (elsewhere.agent, elsewhere.custom, seq) == (None, 0, 0)


async def test_only_what_is_listed_is_offered(views: Views):
    assert [e.name for e in await views.catalogue()] == ["kasra"]
    gone, seq = await views.catalogue_entry("athena")
    assert (gone is not None and not gone.listed, seq) == (True, 7)
    kept, _ = await views.catalogue_entry("kasra")
    assert kept is not None
    assert [s.id for s in kept.skills] == ["a"]


async def test_where_it_is_reported_and_how_full_a_disk_was_is_known(views: Views):
    operator, project, disk = await views.escalation(""), await views.escalation("acme"), await views.disk("m1")
    assert (operator[0] and operator[0].to, operator[1]) == ("acme/agent:bob", 8)
    assert (project[0] and project[0].to, project[1]) == ("acme/squad:red", 9)
    assert (disk[0] and (disk[0].level, disk[0].used_percent), disk[1]) == (("warning", 90.5), 10)


async def test_a_leak_is_kept_without_its_secret(views: Views):
    leak, seq = await views.leak("acme", 7)
    assert leak is not None
    assert (leak.secrets, leak.sender, seq) == ((FOUND,), "bob", 8)
    assert await views.leaks("acme") == [leak]


async def test_whose_a_key_is_is_known_even_after_its_session_ended(views: Views):
    await add(views, ended("s1"))
    holder = await views.key_holder("U1")
    assert holder is not None
    assert (holder.project, holder.agent, holder.epoch) == ("acme", "bob", 0)
    assert await views.keys_of("acme", "bob", T0) == [("U1", T0 + HOUR), ("U2", T0 + 2 * HOUR)]
    assert await views.keys_of("acme", "bob", T0 + HOUR) == [("U2", T0 + 2 * HOUR)]
    assert await views.has_sessions("acme")
    assert not await views.has_sessions("beta")


async def test_keys_of_an_earlier_epoch_are_to_be_refused_until_they_expire(views: Views):
    assert await void(views) == []
    await add(views, rotated("b2"))
    await add(views, opened("s3", "U3", epoch=1))
    assert await void(views) == ["U1", "U2"]
    assert await void(views, HOUR) == ["U2"]
    assert await void(views, 2 * HOUR) == []


async def test_keys_of_the_old_token_are_to_be_refused_when_its_grace_is_over(views: Views):
    await add(views, rotated("b2", HOUR))
    assert await void(views, HOUR - timedelta(microseconds=1)) == []
    assert await void(views, HOUR) == ["U2"]


async def test_every_key_of_an_agent_that_is_not_active_is_to_be_refused_also_of_sessions_that_ended(views: Views):
    await add(views, ended("s1"))
    await add(views, agent_facts.AgentDisabled(**BOB))
    await add(views, opened("s3", "U3", epoch=9))
    keys = await views.void_keys("acme", T0)
    assert await views.all_void_keys(T0) == [("acme", key.nkey) for key in keys]
    assert [(key.nkey, key.ended) for key in keys] == [("U1", True), ("U2", False), ("U3", False)]
    await add(views, agent_facts.AgentEnabled(**BOB))
    assert await void(views) == ["U1", "U2"]


async def test_a_key_that_was_cut_is_not_revived_by_opening_a_session_with_it_again(views: Views):
    await add(views, rotated("b2"))
    for facts in ([opened("s1", "U1", epoch=1)], [ended("s1"), opened("s9", "U1", epoch=1)]):
        await add(views, *facts)
        assert "U1" in await void(views)
    await add(views, opened("s9", "U2", epoch=1, expires_at=T0 + HOUR / 2))
    assert "U2" in await void(views, HOUR * 3 / 2)


async def test_a_session_is_over_when_the_last_of_its_keys_has_expired_and_nobody_ended_it(views: Views):
    await add(views, opened("s1", "U9", expires_at=T0 + 3 * HOUR))
    assert await views.sessions_over(T0 + HOUR) == []
    assert await views.sessions_over(T0 + 2 * HOUR) == [("acme", "bob", "s2")]
    await add(views, ended("s2", reason="expired"))
    assert await views.sessions_over(T0 + 3 * HOUR) == [("acme", "bob", "s1")]


async def test_a_session_that_ended_is_shown_to_nobody_and_its_run_stays_on_record(views: Views):
    await add(views, ended("s2", at=T0 + HOUR, reason="cut"), ended("s1"), ended("s1", at=T0 + HOUR))
    assert await views.sessions("acme", T0) == []
    assert (await views.session_keys("acme", "bob"))[0] is None
    runs = await views.runs("acme", "bob", 9)
    assert [(r.session, r.ended_at, r.reason) for r in runs] == [("s1", T0, "stopped"), ("s2", T0 + HOUR, "cut")]


async def test_runs_come_latest_first_and_no_more_than_asked_for(views: Views):
    await add(views, opened("s3", "U3", at=T0 + HOUR), opened("s1", "U4", at=T0 + 2 * HOUR, client="codex"))
    assert [r.session for r in await views.runs("acme", "bob", 9)] == ["s3", "s1", "s2"]
    assert [r.session for r in await views.runs("acme", "bob", 1)] == ["s3"]
    first = await views.run("acme", "s1")
    assert first is not None
    assert (first.agent, first.opened_at, first.client, first.ended_at) == ("bob", T0, "", None)


async def test_a_revoked_agents_token_is_found_so_that_the_refusal_can_be_told_apart(views: Views):
    assert [(a.name, a.state) for a in await views.agents_by_token("ch")] == [(CY["name"], "revoked")]


async def test_what_was_on_record_before_there_were_runs_and_epochs_is_carried_over(tmp_path: Path):
    path, steps = tmp_path / "views.db", load_migrations()
    async with aiosqlite.connect(path, isolation_level=None) as db:
        await migrate(db, path, steps[:1])
        for nkey, session, began, until in (("U1", "s1", T0, HOUR), ("U2", "s1", T0, 2 * HOUR), ("U3", "s2", T0, HOUR)):
            row = (nkey, session, rows.moment(began), rows.moment(T0 + until))
            await db.execute("INSERT INTO sessions VALUES ('acme', 'bob', ?, ?, 'codex', 'm', 'i', ?, ?)", row)
        await db.execute(
            "INSERT INTO agents VALUES ('acme', 'bob', 'm', 'c', '[]', 'bh', 'ail', 'active', ?, 1)", (rows.moment(T0),)
        )
    async with open_views(path) as views:
        runs = await views.runs("acme", "bob", 9)
        assert [(r.session, r.client, r.opened_at, r.ended_at) for r in runs] == [
            ("s1", "codex", T0, None),
            ("s2", "codex", T0, None),
        ]
        assert await void(views) == []
        assert await views.sessions_over(T0 + HOUR) == [("acme", "bob", "s2")]
        bob, _ = await views.agent("acme", "bob")
        assert bob is not None
        assert (bob.role, bob.origin, bob.skills, bob.epoch, bob.epoch_of("bh", T0)) == (
            "specialist",
            "custom",
            (),
            0,
            0,
        )
