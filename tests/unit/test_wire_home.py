"""Where things are on this machine: nobody else may read them, and a file is there whole or not at all."""

import contextlib
import os
import stat
import threading
from pathlib import Path

import pytest

from sos.wire.errors import BadName
from sos.wire.home import agent_home, private_dir, sos_home, write_secret


def mode(path: Path) -> int:
    """Permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


def test_the_home_is_what_the_environment_says_or_dot_sos(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SOS_HOME", raising=False)
    assert sos_home() == tmp_path / ".sos"
    monkeypatch.setenv("SOS_HOME", "  ")
    assert sos_home() == tmp_path / ".sos"
    monkeypatch.setenv("SOS_HOME", "~/elsewhere")
    assert sos_home() == tmp_path / "elsewhere"
    monkeypatch.setenv("SOS_HOME", "here")
    assert sos_home() == Path.cwd() / "here"


def test_an_agents_home_is_below_its_project(tmp_path: Path):
    assert agent_home("acme", "bob", tmp_path) == tmp_path / "agents" / "acme" / "bob"


@pytest.mark.parametrize("bad", ["..", ".", "", "/etc", "a/b", "a\x00", "A", "*"])
def test_an_agents_home_cannot_leave_the_home(bad: str, tmp_path: Path):
    with pytest.raises(BadName):
        agent_home(bad, "bob", tmp_path)
    with pytest.raises(BadName):
        agent_home("acme", bad, tmp_path)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_folders_are_0700_and_secrets_0600_whatever_the_umask(umask: int, tmp_path: Path):
    before = os.umask(umask)
    try:
        write_secret(tmp_path / "a" / "b" / "token", "secret")
    finally:
        os.umask(before)
    assert mode(tmp_path / "a") == 0o700
    assert mode(tmp_path / "a" / "b") == 0o700
    assert mode(tmp_path / "a" / "b" / "token") == 0o600


def test_a_folder_that_was_open_to_others_is_closed(tmp_path: Path):
    folder = tmp_path / "open"
    folder.mkdir(mode=0o755)
    assert private_dir(folder) == folder
    assert mode(folder) == 0o700
    assert private_dir(folder) == folder


def test_a_secret_that_others_could_read_is_replaced_by_one_they_cannot(tmp_path: Path):
    path = tmp_path / "token"
    path.write_text("old")
    path.chmod(0o644)
    write_secret(path, "new")
    assert path.read_text() == "new"
    assert mode(path) == 0o600


def test_who_opened_the_old_file_still_reads_it_whole(tmp_path: Path):
    path = tmp_path / "token"
    write_secret(path, "old")
    with path.open() as opened:
        write_secret(path, "new")
        assert opened.read() == "old"
    assert path.read_text() == "new"


def test_nothing_is_left_beside_a_written_secret(tmp_path: Path):
    write_secret(tmp_path / "token", "one")
    write_secret(tmp_path / "token", "two")
    assert [p.name for p in tmp_path.iterdir()] == ["token"]


def test_a_link_at_the_temporary_name_is_not_followed(tmp_path: Path):
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / f".token.{os.getpid()}").symlink_to(victim)
    with contextlib.suppress(OSError):  # refused, or written under another temporary name
        write_secret(tmp_path / "home" / "token", "secret")
    assert victim.read_text() == "untouched"
    assert not (tmp_path / "home" / "token").is_symlink()


def test_a_link_at_the_name_itself_is_replaced_and_not_followed(tmp_path: Path):
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / "token").symlink_to(victim)
    write_secret(tmp_path / "token", "secret")
    assert victim.read_text() == "untouched"
    assert not (tmp_path / "token").is_symlink()
    assert (tmp_path / "token").read_text() == "secret"


def test_a_write_that_failed_leaves_no_copy_of_the_secret(tmp_path: Path):
    (tmp_path / "token").mkdir()
    with pytest.raises(OSError, match="token"):
        write_secret(tmp_path / "token", "secret")
    assert [p.name for p in tmp_path.iterdir()] == ["token"]


def test_eight_threads_that_write_one_secret_leave_one_of_them_whole(tmp_path: Path):
    path, failures = tmp_path / "token", list[BaseException]()
    together = threading.Barrier(8)

    def write(text: str) -> None:
        together.wait()
        try:
            for _ in range(20):
                write_secret(path, text)
        except OSError as e:
            failures.append(e)

    threads = [threading.Thread(target=write, args=(str(i) * 1_000,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert path.read_text() in {str(i) * 1_000 for i in range(8)}
    assert [p.name for p in tmp_path.iterdir()] == ["token"]
