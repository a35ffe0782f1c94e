"""What every log does: in memory and on JetStream, chained and not."""

import asyncio
import time
from collections import Counter
from datetime import UTC, datetime

import pytest
from tests.conformance.conftest import Held

from sos.broker.domain.agents import AgentMinted
from sos.broker.errors import WrongLastSequence
from sos.broker.log import Log, Recorded, verify_log
from sos.wire.scopes import Scope

LONG_S = 20.0
"""A bound that is only reached when something is broken."""
RACERS = 20


def fact(text: str = "") -> AgentMinted:
    """A fact told apart by its charter."""
    return AgentMinted(
        at=datetime(2026, 1, 1, 12, 30, 1, 250, tzinfo=UTC),
        actor="tenant:acme",
        project="acme",
        name="bob",
        model="m",
        charter=text,
        scopes=(Scope.SEND, Scope.INBOX),
        token_hash="h",
        token_tail="tail",
    )


async def read(log: Log, from_seq: int = 1) -> list[Recorded]:
    """All that a read gives."""
    return [recorded async for recorded in log.read(from_seq)]


async def charters(log: Log, from_seq: int = 1) -> list[str]:
    """The texts of the facts."""
    return [r.event.charter for r in await read(log, from_seq) if isinstance(r.event, AgentMinted)]


async def test_what_is_appended_is_read_back_in_order(held: Held):
    log = held.log()
    texts = ["one", "zwei ✓", "", 'quote " and \\ and \n', "x" * 4000]
    seqs = [await log.append(held.subject(f"a{n}"), fact(text), 0) for n, text in enumerate(texts)]
    assert seqs == [1, 2, 3, 4, 5]
    found = await read(log)
    assert [r.seq for r in found] == seqs
    assert [r.event for r in found] == [fact(text) for text in texts]
    assert [r.subject for r in found] == [held.subject(f"a{n}") for n in range(len(texts))]


async def test_an_empty_log_has_head_zero_and_nothing_to_read(held: Held):
    log = held.log()
    assert await log.head() == 0
    assert await read(log) == []
    assert (await verify_log(log)).seq == 0


async def test_the_head_is_the_last_sequence(held: Held):
    log = held.log()
    for n in range(3):
        assert await log.append(held.subject("bob"), fact(), n) == await log.head() == n + 1


async def test_reading_begins_where_it_is_told(held: Held):
    log = held.log()
    for n in range(5):
        await log.append(held.subject("bob"), fact(str(n)), None)
    assert await charters(log, 3) == ["2", "3", "4"]
    assert await charters(log, 6) == []
    assert await charters(log, 99) == []
    assert await charters(log, 0) == ["0", "1", "2", "3", "4"]


async def test_more_than_one_batch_is_read_without_a_gap(held: Held):
    log = held.log()
    for n in range(600):
        await log.append(held.subject(f"a{n % 7}"), fact(str(n)), None)
    assert await charters(log) == [str(n) for n in range(600)]


async def test_a_read_ends_at_the_head_of_its_beginning(held: Held):
    log = held.log()
    for _ in range(3):
        await log.append(held.subject("bob"), fact(), None)
    seen: list[int] = []
    async for recorded in log.read(1):
        seen.append(recorded.seq)
        await log.append(held.subject("bob"), fact(), None)
    assert seen == [1, 2, 3]
    assert await log.head() == 6


async def test_a_name_is_given_once(held: Held):
    log = held.log()
    await log.append(held.subject("bob"), fact("first"), 0)
    with pytest.raises(WrongLastSequence) as lost:
        await held.log().append(held.subject("bob"), fact("second"), 0)
    assert (lost.value.subject, lost.value.expected) == (held.subject("bob"), 0)
    assert await charters(log) == ["first"]


@pytest.mark.parametrize("expected", [1, 3, 99])
async def test_an_append_that_expects_something_else_changes_nothing(held: Held, expected: int):
    log = held.log()
    for n in range(2):
        await log.append(held.subject("bob"), fact(), n)
    with pytest.raises(WrongLastSequence):
        await log.append(held.subject("bob"), fact(), expected)
    assert await log.head() == 2


async def test_another_subjects_facts_do_not_disturb_an_expectation(held: Held):
    log = held.log()
    first = await log.append(held.subject("bob"), fact(), 0)
    await held.log().append(held.subject("cy"), fact(), 0)
    assert await log.append(held.subject("bob"), fact(), first) == 3


async def test_of_twenty_that_expect_the_same_exactly_one_wins(held: Held):
    logs = [held.log() for _ in range(RACERS)]
    appends = (log.append(held.subject("bob"), fact(str(n)), 0) for n, log in enumerate(logs))
    results = await asyncio.gather(*appends, return_exceptions=True)
    assert Counter(type(r) for r in results) == {int: 1, WrongLastSequence: RACERS - 1}
    assert await logs[0].head() == 1


async def test_each_loser_gets_in_by_trying_again(held: Held):
    subject = held.subject("bob")

    async def insist(log: Log, text: str) -> int:
        for expected in range(RACERS):
            try:
                return await log.append(subject, fact(text), expected)
            except WrongLastSequence:
                continue
        raise AssertionError("never won")

    logs = [held.log() for _ in range(3)]
    seqs = await asyncio.gather(*(insist(logs[n % 3], str(n)) for n in range(RACERS)))
    assert sorted(seqs) == list(range(1, RACERS + 1))
    assert sorted(await charters(logs[0])) == sorted(map(str, range(RACERS)))


async def test_two_logs_that_append_at_once_leave_one_whole_stream(held: Held):
    logs = [held.log(), held.log()]
    appends = (logs[n % 2].append(held.subject(f"a{n}"), fact(str(n)), 0) for n in range(60))
    seqs = await asyncio.gather(*appends)
    assert sorted(seqs) == list(range(1, 61))
    for log in logs:
        found = await read(log)
        assert [r.seq for r in found] == list(range(1, 61))
        assert {r.seq: r.subject for r in found} == {seq: held.subject(f"a{n}") for n, seq in enumerate(seqs)}
        assert await verify_log(log) == await verify_log(held.log())


async def test_appends_without_expectation_never_lose(held: Held):
    logs = [held.log(), held.log()]
    seqs = await asyncio.gather(*(logs[n % 2].append(held.subject("bob"), fact(), None) for n in range(40)))
    assert sorted(seqs) == list(range(1, 41))


async def test_a_chained_stream_names_each_predecessor_and_the_other_kind_none(held: Held):
    log = held.log()
    for n in range(4):
        await log.append(held.subject(f"a{n}"), fact(), 0)
    found = await read(log)
    if held.stream == "REGISTRY":
        assert [r.prev for r in found] == ["", *(r.hash for r in found[:-1])]
        assert len({r.hash for r in found}) == 4
    else:
        assert {(r.prev, r.hash) for r in found} == {("", "")}


async def test_a_follower_sees_what_another_appended(held: Held):
    follower, writer = held.log(), held.log()
    seen: list[str] = []

    async def follow() -> None:
        while len(seen) < 10:
            await follower.wait_beyond(len(seen), LONG_S)
            seen.extend(await charters(follower, len(seen) + 1))

    async with asyncio.timeout(LONG_S), asyncio.TaskGroup() as both:
        both.create_task(follow())
        for n in range(10):
            await writer.append(held.subject("bob"), fact(str(n)), None)
    assert seen == [str(n) for n in range(10)]


async def test_waiting_for_what_is_there_already_does_not_wait(held: Held):
    log = held.log()
    await log.append(held.subject("bob"), fact(), 0)
    began = time.monotonic()
    await log.wait_beyond(0, LONG_S)
    assert time.monotonic() - began < LONG_S / 4


async def test_waiting_ends_with_its_time(held: Held):
    log = held.log()
    began = time.monotonic()
    await log.wait_beyond(0, 0.05)
    assert 0.04 < time.monotonic() - began < LONG_S / 4


async def test_a_cancelled_append_leaves_a_log_that_goes_on(held: Held):
    log = held.log()
    for steps in range(12):
        appending = asyncio.create_task(log.append(held.subject(f"a{steps}"), fact(), 0))
        for _ in range(steps):
            await asyncio.sleep(0)
        appending.cancel()
        await asyncio.gather(appending, return_exceptions=True)
        await log.append(held.subject(f"b{steps}"), fact(), 0)
    found = await read(log)
    assert {held.subject(f"b{n}") for n in range(12)} <= {r.subject for r in found}
    assert (await verify_log(log)).seq == await log.head()


async def test_a_decision_on_many_subjects_is_lost_to_a_fact_on_any_of_them(held: Held):
    log, pattern = held.log(), held.subject("*")
    await log.append(held.subject("a1"), fact(), 0, pattern)
    await log.append(held.subject("a2"), fact(), 1, pattern)
    with pytest.raises(WrongLastSequence):
        await held.log().append(held.subject("a3"), fact(), 1, pattern)
    assert await log.append(held.subject("a3"), fact(), 2, pattern) == 3


async def test_of_many_that_decide_on_all_subjects_at_once_one_wins_each_round(held: Held):
    pattern = held.subject("*")
    logs = [held.log() for _ in range(RACERS)]
    tries = [log.append(held.subject(f"a{n}"), fact(str(n)), 0, pattern) for n, log in enumerate(logs)]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    assert Counter(type(o).__name__ for o in outcomes) == {"int": 1, "WrongLastSequence": RACERS - 1}
