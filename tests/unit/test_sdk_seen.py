"""The record of what was handled: it outlives the process, and two processes of one agent may hold it."""

import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sos.sdk import seen
from sos.sdk.order import Cursor
from sos.sdk.seen import KEEP_DAYS, Parked, Seen

DAY_S = 86_400


def at(n: int) -> Cursor:
    """The `n`-th delivery."""
    return Cursor(n, 10 * n)


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Seen]:
    """A record in a home of its own."""
    opened = Seen(tmp_path / "home")
    yield opened
    opened.close()


def reopened(record: Seen, home: Path) -> Seen:
    """The record as the next process finds it."""
    record.close()
    return Seen(home)


def test_what_was_recorded_was_handled_and_nothing_else_was(record: Seen):
    assert not record.handled("alice", "1")
    record.record("alice", "1", cursor=at(1))
    record.record("alice", "1", cursor=at(2))
    assert record.handled("alice", "1")
    assert not record.handled("bob", "1"), "an id is its sender's"
    assert not record.handled("alice", "2")


def test_the_record_survives_the_end_of_the_process(record: Seen, tmp_path: Path):
    record.record("alice", "1", cursor=at(7))
    record.attempt("alice", "2")
    record.park("alice", "3", 30, "project.p.agent.b.a", b"body", "ValueError: no", cursor=at(9))
    record.set_aside(40, "project.p.agent.b.a", "not JSON", b"\x00")
    again = reopened(record, tmp_path / "home")
    assert again.handled("alice", "1")
    assert again.attempt("alice", "2") == 2
    assert again.parked() == [Parked("alice", "3", 30, "ValueError: no")]
    assert again.aside() == [(40, "project.p.agent.b.a", "not JSON")]
    assert again.cursor == at(9)
    again.close()


def test_the_record_survives_a_kill(tmp_path: Path):
    code = (
        "import os, sys, pathlib; from sos.sdk.order import Cursor; from sos.sdk.seen import Seen\n"
        "Seen(pathlib.Path(sys.argv[1])).record('alice', '1', Cursor(5, 50)); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "home")], check=False, timeout=30)
    again = Seen(tmp_path / "home")
    assert again.handled("alice", "1")
    assert again.cursor == at(5)
    again.close()


def test_a_home_that_never_read_anything_has_no_cursor(record: Seen):
    assert record.cursor is None


def test_the_cursor_follows_the_server_back_too(record: Seen):
    record.record("alice", "1", cursor=at(100))
    record.record("alice", "2", cursor=at(91))
    assert record.cursor == at(91)


def test_attempts_are_counted_for_each_message_and_can_be_taken_back(record: Seen):
    assert [record.attempt("alice", "1") for _ in range(3)] == [1, 2, 3]
    record.not_attempted("alice", "1")
    assert record.attempt("alice", "1") == 3
    assert record.attempt("bob", "1") == 1
    record.not_attempted("carol", "never attempted")
    assert record.attempt("carol", "never attempted") == 1


def test_a_parked_message_counts_as_handled_and_is_kept_once(record: Seen):
    record.park("alice", "2", 20, "s", b"", "first", cursor=at(1))
    record.park("alice", "1", 10, "s", b"", "other", cursor=at(2))
    record.park("alice", "2", 20, "s", b"", "last", cursor=at(2))
    assert record.handled("alice", "2")
    assert record.parked() == [Parked("alice", "1", 10, "other"), Parked("alice", "2", 20, "last")]


def test_what_was_set_aside_is_kept_by_its_sequence_and_a_flood_drops_the_oldest(
    record: Seen, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(seen, "MAX_ASIDE", 3)
    for seq in (1, 2, 2, 3, 4, 5):
        record.set_aside(seq, f"subject.{seq}", "why", b"")
    assert [seq for seq, _, _ in record.aside()] == [3, 4, 5]


def test_only_what_can_no_longer_be_delivered_is_forgotten(
    record: Seen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    start = 1_800_000_000
    monkeypatch.setattr(seen, "_now", lambda: start)
    record.record("alice", "old", cursor=at(1))
    monkeypatch.setattr(seen, "_now", lambda: start + 2 * DAY_S)
    record.record("alice", "young", cursor=at(2))
    monkeypatch.setattr(seen, "_now", lambda: start + (KEEP_DAYS + 1) * DAY_S)
    again = reopened(record, tmp_path / "home")
    assert not again.handled("alice", "old")
    assert again.handled("alice", "young")
    assert again.cursor == at(2)
    again.close()


def test_attempts_of_what_was_handled_are_forgotten_and_others_are_not(record: Seen, tmp_path: Path):
    record.attempt("alice", "handled")
    record.record("alice", "handled", cursor=at(1))
    record.attempt("alice", "waiting")
    again = reopened(record, tmp_path / "home")
    assert again.attempt("alice", "waiting") == 2
    assert again.attempt("alice", "handled") == 1
    again.close()


def test_two_open_records_of_one_home_see_each_other(record: Seen, tmp_path: Path):
    beside = Seen(tmp_path / "home")
    record.record("alice", "1", cursor=at(1))
    assert beside.handled("alice", "1")
    beside.record("alice", "2", cursor=at(2))
    assert record.handled("alice", "2")
    assert record.cursor == at(2)
    assert (record.attempt("bob", "1"), beside.attempt("bob", "1")) == (1, 2)
    beside.close()
    assert record.handled("alice", "2")


def test_six_processes_that_start_and_write_at_once_lose_nothing(tmp_path: Path):
    code = (
        "import sys, pathlib; from sos.sdk.order import Cursor; from sos.sdk.seen import Seen; who = sys.argv[2]\n"
        "sys.stdin.readline()\n"
        "record = Seen(pathlib.Path(sys.argv[1]))\n"
        "for i in range(50): record.attempt('all', 'one'); record.record(who, str(i), Cursor(i, i))"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "home"), f"p{i}"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(6)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert errors == [""] * 6
    record = Seen(tmp_path / "home")
    assert all(record.handled(f"p{i}", str(n)) for i in range(6) for n in range(50))
    assert record.attempt("all", "one") == 301
    record.close()


def test_nobody_else_may_read_the_record(record: Seen, tmp_path: Path):
    record.record("alice", "1", cursor=at(1))
    home = tmp_path / "home"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    names = {p.name for p in home.iterdir()}
    assert {"state.db", "state.db-wal", "state.db-shm"} <= names
    for path in home.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name


def test_text_of_any_kind_is_kept_as_it_is(record: Seen):
    odd = "'; DROP TABLE handled; -- \x00 é 🦊"
    record.record(odd, odd, cursor=at(1))
    record.park("s", "i", 1, odd, b"\x00\xff", odd, cursor=at(1))
    assert record.handled(odd, odd)
    assert record.parked()[0].error == odd


def test_closing_twice_is_fine(record: Seen):
    record.close()
    record.close()
