"""`agent.json`: whole, private, the same bytes for the same join."""

import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sos.sdk import profile
from sos.sdk.profile import Profile
from sos.wire.errors import BadRequest

BOB = Profile(
    project="acme",
    name="bob",
    role="specialist",
    skills=("code-review",),
    url="http://127.0.0.1:6070",
    client="codex",
    model="gpt-5",
    joined_at=datetime(2026, 5, 15, 9, 42, tzinfo=UTC),
)


def test_a_profile_is_read_as_it_was_written(home: Path):
    assert profile.load("acme", "bob") is None
    path = profile.save(BOB)
    assert path == home / "agents" / "acme" / "bob" / "agent.json"
    assert profile.load("acme", "bob") == BOB


def test_a_profile_is_for_its_owner_alone(home: Path):
    assert stat.S_IMODE(profile.save(BOB).stat().st_mode) == 0o600


def test_the_same_profile_is_not_written_again(home: Path):
    before = profile.save(BOB).stat()
    after = profile.save(BOB).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_profile_of_which_little_is_known_leaves_that_out(home: Path):
    path = profile.save(Profile(project="acme", name="bob", role="human", skills=(), url="http://x"))
    assert b"joined_at" not in path.read_bytes()
    found = profile.load("acme", "bob")
    assert found is not None
    assert (found.joined_at, found.model) == (None, "")


def test_another_home_may_be_named(home: Path, tmp_path: Path):
    path = profile.save(BOB, tmp_path / "other")
    assert path == tmp_path / "other" / "agents" / "acme" / "bob" / "agent.json"
    assert profile.load("acme", "bob") is None
    assert profile.load("acme", "bob", tmp_path / "other") == BOB


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff", b'{"project": 7}'])
def test_a_broken_profile_is_named_and_written_over_by_the_next_join(home: Path, content: bytes):
    path = profile.save(BOB)
    path.write_bytes(content)
    with pytest.raises(BadRequest, match=r"agent\.json"):
        profile.load("acme", "bob")
    profile.save(BOB)
    assert profile.load("acme", "bob") == BOB
