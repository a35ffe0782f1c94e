"""The views are a fold: however it is cut, interrupted or begun again, the same history gives the same rows."""

import asyncio
import random
import sqlite3
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, overload

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.test_domain_history import SLUGS, T0, agent_commands, histories, play, session_commands

from sos.broker.domain import (
    AnyEvent,
    BrokenHistory,
    addresses,
    agent_facts,
    agents,
    catalogue,
    disks,
    escalations,
    leaks,
    projects,
    sessions,
    squads,
    subject_of,
)
from sos.broker.domain.event import Command
from sos.broker.errors import DataLoss
from sos.broker.log import MemoryLog, Recorded
from sos.broker.views import REGISTRY_KEY, Views, catch_up, events_key, open_views, project_of, refold

ACME = events_key("acme")


async def logs_of(history: Sequence[Command]) -> dict[str, MemoryLog]:
    """The streams that a history leaves."""
    logs = {REGISTRY_KEY: MemoryLog("REGISTRY", chained=True)}
    logs |= {events_key(slug): MemoryLog("EVENTS", chained=False) for slug in SLUGS}
    for event in play(history)[0]:
        subject = subject_of(event)
        root, slug, *_ = subject.split(".")
        await logs[REGISTRY_KEY if root == "registry" else events_key(slug)].append(subject, event, None)
    return logs


async def read(log: MemoryLog) -> list[Recorded]:
    """All of a log."""
    return [recorded async for recorded in log.read(1)]


async def fold_in_pieces(views: Views, logs: dict[str, MemoryLog], chance: random.Random) -> None:
    """Every log in batches of any size, the streams in any order, some batches given twice."""
    left = {key: await read(log) for key, log in logs.items()}
    while any(left.values()):
        key = chance.choice([key for key, records in left.items() if records])
        size = chance.randint(1, 7)
        batch, left[key] = left[key][:size], left[key][size:]
        for _ in range(chance.choice([1, 1, 2])):
            await views.apply(key, project_of(key), batch)


@settings(deadline=None, max_examples=60)
@given(histories, st.randoms(use_true_random=False))
def test_any_cutting_and_interleaving_gives_what_a_refold_gives(history: list[Command], chance: random.Random):
    async def run() -> None:
        logs = await logs_of(history)
        with TemporaryDirectory() as folder:
            path = Path(folder) / "views.db"
            async with open_views(path) as views:
                await fold_in_pieces(views, logs, chance)
                dumped = await views.dump()
            await refold(path, logs)
            async with open_views(path) as views:
                assert await views.dump() == dumped

    asyncio.run(run())


@settings(deadline=None, max_examples=30)
@given(histories, st.randoms(use_true_random=False))
def test_a_fold_that_goes_on_from_any_cursor_gives_what_a_refold_gives(history: list[Command], chance: random.Random):
    async def run() -> None:
        logs = await logs_of(history)
        left = {key: await read(log) for key, log in logs.items()}
        with TemporaryDirectory() as folder:
            path = Path(folder) / "views.db"
            async with open_views(path) as views:  # a gateway that stops anywhere
                for key, records in left.items():
                    await views.apply(key, project_of(key), records[: chance.randint(0, len(records))])
            async with open_views(path) as views:  # and starts again
                for key, log in logs.items():
                    await catch_up(views, key, log)
                dumped = await views.dump()
            await refold(path, logs)
            async with open_views(path) as views:
                assert await views.dump() == dumped

    asyncio.run(run())


async def held(views: Views, state: Any) -> Any:
    """What the views have of a state of the domain."""
    match state:
        case projects.Project():
            return (await views.project(state.slug))[0]
        case agents.Agent():
            return (await views.agent(state.project, state.name))[0]
        case squads.Squad():
            return (await views.squad(state.project, state.squad))[0]
        case addresses.Address():
            return (await views.address(state.project, state.of, state.name))[0]
        case catalogue.Entry():
            return (await views.catalogue_entry(state.name))[0]
        case escalations.Escalation():
            return (await views.escalation(state.of))[0]
        case disks.Disk():
            return (await views.disk(state.host))[0]
        case leaks.Leak():
            return (await views.leak(state.project, state.message_seq))[0]
        case _:
            assert isinstance(state, sessions.Sessions)
            found = (await views.session_keys(state.project, state.agent))[0]
            return {nkey: k.session for nkey, k in found.by_nkey.items()} if found else {}


@settings(deadline=None, max_examples=30)
@given(histories)
def test_the_views_hold_the_states_that_the_domain_folded(history: list[Command]):
    async def run() -> None:
        logs, states = await logs_of(history), play(history)[1]
        with TemporaryDirectory() as folder:
            await refold(Path(folder) / "views.db", logs)
            async with open_views(Path(folder) / "views.db") as views:
                for state in states.values():
                    known = state
                    if isinstance(state, sessions.Sessions):
                        known = {nkey: k.session for nkey, k in state.by_nkey.items()}
                    assert await held(views, state) == known

    asyncio.run(run())


def runs_of(events: Sequence[AnyEvent]) -> dict[tuple[str, str, str], list[Any]]:
    """Every run there was, told from the facts alone: when it began, when and why it ended first."""
    runs: dict[tuple[str, str, str], list[Any]] = {}
    for event in events:
        if isinstance(event, sessions.SessionOpened):
            runs.setdefault((event.project, event.agent, event.session), [event.at, event.client, None, ""])
        elif isinstance(event, sessions.SessionEnded):
            run = runs[event.project, event.agent, event.session]
            run[2:] = run[2:] if run[2] else [event.at, event.reason]
    return runs


@settings(deadline=None, max_examples=40)
@given(st.lists(session_commands, max_size=40))
def test_every_run_stays_on_record_with_its_first_opening_and_its_first_end(history: list[Command]):
    async def run() -> None:
        events = play(history)[0]
        with TemporaryDirectory() as folder:
            await refold(Path(folder) / "views.db", await logs_of(history))
            async with open_views(Path(folder) / "views.db") as views:
                kept = [r for slug in SLUGS for name in ("ann", "bob") for r in await views.runs(slug, name, 99)]
        found = {(r.project, r.agent, r.session): [r.opened_at, r.client, r.ended_at, r.reason] for r in kept}
        assert found == runs_of(events)

    asyncio.run(run())


@settings(deadline=None, max_examples=60)
@given(
    st.lists(agent_commands | session_commands, min_size=10, max_size=50),
    st.integers(0, 60 * 24).map(lambda m: T0 + timedelta(minutes=m)),
)
def test_the_keys_to_refuse_are_those_that_their_agent_does_not_honour(history: list[Command], at: datetime):
    async def run() -> None:
        events, states = play(history)
        # A revocation is of the key, so a key counts from the first epoch that anything was signed for it in.
        keys: dict[tuple[str, str, str], tuple[int, datetime]] = {}
        for e in events:
            if isinstance(e, sessions.SessionOpened):
                epoch, until = keys.get((e.project, e.agent, e.nkey), (e.epoch, e.expires_at))
                keys[e.project, e.agent, e.nkey] = min(epoch, e.epoch), max(until, e.expires_at)
        void: set[tuple[str, str, str]] = set()
        for (project, name, nkey), (epoch, until) in keys.items():
            agent = states.get(agents.subject(project, name))
            if agent is not None and until > at and not agent.honours(epoch, at):
                void.add((project, name, nkey))
        with TemporaryDirectory() as folder:
            await refold(Path(folder) / "views.db", await logs_of(history))
            async with open_views(Path(folder) / "views.db") as views:
                for slug in SLUGS:
                    found = {(slug, key.agent, key.nkey) for key in await views.void_keys(slug, at)}
                    assert found == {key for key in void if key[0] == slug}

    asyncio.run(run())


def joins(count: int) -> list[Any]:
    """A squad's history of `count` + 1 facts."""
    who: dict[str, Any] = {"at": T0, "actor": "operator", "project": "acme", "squad": "red"}
    return [squads.SquadCreated(**who), *(squads.SquadJoined(**who, agent=f"a{n}", from_seq=n) for n in range(count))]


def recorded(*events: Any) -> list[Recorded]:
    """`events` as an unchained stream gives them, from sequence 1."""
    return [Recorded(seq=n, subject=subject_of(e), event=e) for n, e in enumerate(events, start=1)]


class Breaking(Sequence[Recorded]):
    """A batch whose reading fails half way, as a disk or a network might."""

    def __init__(self, records: list[Recorded]) -> None:
        self._records = records

    @overload
    def __getitem__(self, index: int) -> Recorded: ...
    @overload
    def __getitem__(self, index: slice) -> list[Recorded]: ...
    def __getitem__(self, index: int | slice) -> Recorded | list[Recorded]:
        if isinstance(index, int) and index >= len(self._records) // 2:
            raise OSError("the disk is gone")
        return self._records[index]

    def __len__(self) -> int:
        return len(self._records)


async def test_a_failure_in_the_middle_of_a_batch_leaves_nothing_of_it(tmp_path: Path):
    records = recorded(*joins(20))
    async with open_views(tmp_path / "views.db") as views:
        await views.apply(ACME, "acme", records[:5])
        before = await views.dump()
        with pytest.raises(OSError, match="gone"):
            await views.apply(ACME, "acme", Breaking(records[5:]))
        assert await views.dump() == before
        await views.apply(ACME, "acme", records)
        assert (await views.cursor(ACME)).seq == len(records)
        assert (await views.squad("acme", "red"))[1] == len(records)


async def test_a_cancellation_anywhere_leaves_rows_and_cursor_together(tmp_path: Path):
    records = recorded(*joins(40))
    async with open_views(tmp_path / "views.db") as views:
        for steps in range(60):
            applying = asyncio.create_task(views.apply(ACME, "acme", records[: steps % 41]))
            for _ in range(steps):
                await asyncio.sleep(0)
            applying.cancel()
            await asyncio.gather(applying, return_exceptions=True)
            squad, seq = await views.squad("acme", "red")
            assert (await views.cursor(ACME)).seq == seq == (len(squad.members) + 1 if squad else 0)
        await views.apply(ACME, "acme", records)
        assert (await views.cursor(ACME)).seq == len(records)


async def test_a_refold_that_was_interrupted_is_repaired_by_another(tmp_path: Path):
    path = tmp_path / "views.db"
    log = MemoryLog("EVENTS", chained=False)
    for event in joins(30):
        await log.append(subject_of(event), event, None)
    await refold(path, {ACME: log})
    async with open_views(path) as views:
        whole = await views.dump()
    for steps in range(0, 300, 7):
        folding = asyncio.create_task(refold(path, {ACME: log}))
        for _ in range(steps):
            await asyncio.sleep(0)
        folding.cancel()
        await asyncio.gather(folding, return_exceptions=True)
    await refold(path, {ACME: log})
    async with open_views(path) as views:
        assert await views.dump() == whole


async def test_catching_up_goes_on_where_it_stopped(tmp_path: Path):
    log = MemoryLog("EVENTS", chained=False)
    async with open_views(tmp_path / "views.db") as views:
        for event in joins(3):
            await log.append(subject_of(event), event, None)
            assert await catch_up(views, ACME, log) == await log.head()
        assert await catch_up(views, ACME, log) == await log.head()


async def test_a_fact_of_another_project_or_stream_is_data_loss(tmp_path: Path):
    async with open_views(tmp_path / "views.db") as views:
        for key, project in ((REGISTRY_KEY, None), (events_key("beta"), "beta")):
            with pytest.raises(DataLoss, match="belongs elsewhere"):
                await views.apply(key, project, recorded(*joins(1)))


async def test_a_fact_on_a_subject_that_is_not_its_own_is_data_loss(tmp_path: Path):
    (first, *_) = recorded(*joins(0))
    moved = Recorded(seq=1, subject=squads.subject("acme", "blue"), event=first.event)
    async with open_views(tmp_path / "views.db") as views:
        with pytest.raises(DataLoss, match="sequence 1"):
            await views.apply(ACME, "acme", [moved])


async def test_a_fact_that_cannot_be_there_is_refused_and_nothing_is_folded(tmp_path: Path):
    orphan = agent_facts.AgentRevoked(at=T0, actor="operator", project="acme", name="bob")
    async with open_views(tmp_path / "views.db") as views:
        with pytest.raises(BrokenHistory, match=r"agent\.revoked"):
            await views.apply(REGISTRY_KEY, None, recorded(orphan))
        assert await views.dump() == b""


async def test_a_chain_that_does_not_continue_the_cursor_is_data_loss(tmp_path: Path):
    one, other = MemoryLog("REGISTRY", chained=True), MemoryLog("REGISTRY", chained=True)
    for log in (one, other):
        for name in ("ann", "bob"):
            event = agent_facts.AgentMinted(
                at=T0,
                actor="x",
                project="acme",
                name=name,
                model="",
                charter="",
                scopes=(),
                token_hash=name,
                token_tail="",
            )
            await log.append(subject_of(event), event, 0)
    async with open_views(tmp_path / "views.db") as views:
        await views.apply(REGISTRY_KEY, None, (await read(one))[:1])
        with pytest.raises(DataLoss, match="does not continue"):
            await views.apply(REGISTRY_KEY, None, await read(other))


async def test_the_database_itself_is_whole_after_random_histories(tmp_path: Path):
    path = tmp_path / "views.db"
    log = MemoryLog("EVENTS", chained=False)
    for event in joins(9):
        await log.append(subject_of(event), event, None)
    await refold(path, {ACME: log})
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
    db.close()
