"""Contexts: which gateway, project and agent are meant, and a file that two processes may change at once."""

import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from sos.sdk import contexts, identity
from sos.sdk.contexts import Contexts, Named, add, load, remove, use, who
from sos.wire.errors import BadName, BadRequest, Contended, MissingToken, NameTaken, UnknownAgent, UnknownContext
from sos.wire.home import DEFAULT_URL
from sos.wire.tokens import TokenKind, make

PROD = Named(url="http://prod:1", project="acme", agent="bob")
DEV = Named(url="http://dev:2")


@pytest.fixture(autouse=True)
def clean(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without contexts, and none from outside."""
    monkeypatch.delenv("SOS_CONTEXT", raising=False)
    return home


def test_there_is_no_context_in_a_home_that_has_none_and_looking_makes_no_home(home: Path):
    assert load() == Contexts()
    assert contexts.chosen().name == ""
    assert identity.find_url() == DEFAULT_URL
    assert not home.exists()


def test_a_context_that_was_added_and_used_names_the_gateway():
    add("prod", PROD)
    assert identity.find_url() == DEFAULT_URL
    use("prod")
    assert identity.find_url() == PROD.url
    add("dev", DEV, use_it=True)
    assert identity.find_url() == DEV.url


def test_the_address_is_the_arguments_then_the_environments_then_the_contexts_then_the_homes(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    add("prod", PROD, use_it=True)
    add("dev", DEV)
    (home / "context.json").write_text('{"url": "http://home:3"}')
    monkeypatch.setenv("SOS_CONTEXT", "dev")
    monkeypatch.setenv("SOS_URL", "http://environment:4")
    assert identity.find_url("http://argument:5") == "http://argument:5"
    assert identity.find_url() == "http://environment:4"
    monkeypatch.delenv("SOS_URL")
    assert identity.find_url() == DEV.url
    monkeypatch.delenv("SOS_CONTEXT")
    assert identity.find_url() == PROD.url
    remove("prod")
    assert identity.find_url() == "http://home:3"
    (home / "context.json").unlink()
    assert identity.find_url() == DEFAULT_URL


def test_project_and_agent_of_the_context_stand_in_for_what_is_not_given(monkeypatch: pytest.MonkeyPatch):
    assert who("", "") == ("", "")
    add("prod", PROD, use_it=True)
    assert who("", "") == ("bob", "acme")
    assert who("agent:Ann", "") == ("ann", "acme")
    assert who("", "acme") == ("bob", "acme")
    assert who("ann", "globex") == ("ann", "globex")
    monkeypatch.setenv("SOS_PROJECT", "Globex")
    assert who("ann", "") == ("ann", "globex")
    assert who("ann", "initech") == ("ann", "initech")


def test_the_contexts_agent_is_nobody_in_another_project():
    add("prod", PROD, use_it=True)
    assert who("", "globex") == ("", "globex")


def test_the_saved_agent_of_the_context_acts():
    tokens = {name: make(TokenKind.AGENT) for name in ("ann", "bob")}
    for name, token in tokens.items():
        identity.save("acme", name, token)
    with pytest.raises(BadRequest, match="more than one"):
        identity.find(None, None, None, None)
    add("prod", PROD, use_it=True)
    found = identity.find(None, None, None, None)
    assert (found.name, found.url, found.holding.now()) == ("bob", PROD.url, tokens["bob"])
    assert identity.find(None, "ann", None, None).holding.now() == tokens["ann"]


def test_a_token_from_the_environment_is_not_held_to_the_contexts_agent(monkeypatch: pytest.MonkeyPatch):
    add("prod", PROD, use_it=True)
    with pytest.raises(UnknownAgent):
        identity.find(None, None, None, None)
    token = make(TokenKind.AGENT)
    monkeypatch.setenv("SOS_TOKEN", token)
    found = identity.find(None, None, None, None)
    assert (found.name, found.holding.now()) == ("", token)
    monkeypatch.delenv("SOS_TOKEN")
    remove("prod")
    with pytest.raises(MissingToken):
        identity.find(None, None, None, None)


@pytest.mark.parametrize("change", [use, remove])
def test_a_context_that_is_not_there_is_told_with_those_that_are(change: object):
    add("prod", PROD)
    with pytest.raises(UnknownContext) as refused:
        change("prdo")  # type: ignore[operator]  # pyright: ignore[reportCallIssue] - one of two functions
    assert refused.value.known == ("prod",)


def test_a_context_of_the_environment_that_is_not_there_is_an_error_and_not_passed_over(
    monkeypatch: pytest.MonkeyPatch,
):
    add("prod", PROD, use_it=True)
    monkeypatch.setenv("SOS_CONTEXT", "staging")
    with pytest.raises(UnknownContext):
        identity.find_url()
    assert identity.find_url("http://argument:5") == "http://argument:5"


def test_the_same_context_again_changes_nothing_and_another_under_its_name_is_refused():
    add("prod", PROD)
    before = load()
    assert add("Prod", PROD) == before
    with pytest.raises(NameTaken):
        add("prod", DEV)
    assert load() == before


def test_a_removed_context_is_current_no_more():
    add("prod", PROD, use_it=True)
    add("dev", DEV)
    assert remove("prod") == Contexts(contexts={"dev": DEV})
    assert contexts.chosen().name == ""


@pytest.mark.parametrize("url", ["", "prod:1", "ftp://prod", "http://", "http://u:p@prod", "http://prod?x=1"])
def test_what_is_no_gateways_address_is_not_kept(home: Path, url: str):
    with pytest.raises(BadRequest):
        add("prod", Named(url=url))
    assert load() == Contexts()


@pytest.mark.parametrize(("name", "project", "agent"), [("*", "", ""), ("a", "*", ""), ("a", "", ".."), ("", "", "")])
def test_what_is_no_name_is_not_kept(name: str, project: str, agent: str):
    with pytest.raises(BadName):
        add(name, Named(url="http://prod:1", project=project, agent=agent))
    assert load() == Contexts()


BROKEN = [
    (b"", "line 1, column 1"),
    (b'{"current": "a",\n "contexts": {,}}', "line 2, column 15"),
    (b'{"contexts": {"a": {"url": "http://x:1"}}', "line 1, column 42"),
    (b"[]", "line 1, column 1"),
    (b'{\n"current": "\xff"}', "line 2, column 13"),
    (b'{"contexts": {"a": {"project": "x"}}}', r"url.*contexts"),
    (b'{"contexts": []}', r"contexts"),
]


@pytest.mark.parametrize(("content", "where"), BROKEN)
def test_a_broken_file_is_told_with_its_place_and_is_not_written_over(home: Path, content: bytes, where: str):
    home.mkdir(mode=0o700)
    (home / "contexts.json").write_bytes(content)
    for act in (load, lambda: add("dev", DEV), lambda: use("dev"), lambda: remove("dev"), identity.find_url):
        with pytest.raises(BadRequest, match=r"contexts\.json.*" + where):
            act()
    assert (home / "contexts.json").read_bytes() == content
    assert identity.find_url("http://argument:5") == "http://argument:5"


def test_what_a_later_version_keeps_in_the_file_stays_there(home: Path):
    home.mkdir(mode=0o700)
    later = {"current": "a", "contexts": {"a": {"url": "http://a:1", "tls": True}}, "version": 2}
    (home / "contexts.json").write_bytes(msgspec.json.encode(later))
    add("dev", DEV)
    now = msgspec.json.decode((home / "contexts.json").read_bytes())
    assert now["contexts"].pop("dev") == {"url": DEV.url, "project": "", "agent": ""}
    assert now == later


def test_the_file_is_its_owners_alone(home: Path):
    add("prod", PROD)
    assert stat.S_IMODE((home / "contexts.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_eight_processes_that_add_at_once_lose_nothing(home: Path):
    code = (
        "import sys; from sos.sdk.contexts import Named, add; sys.stdin.readline()\n"
        "for i in range(10): add(f'{sys.argv[1]}-{i}', Named(url='http://prod:1'))"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, f"p{n}"], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        for n in range(8)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
    for process in processes:
        _, said = process.communicate(timeout=60)
        assert (process.returncode, said) == (0, b"")
    assert set(load().contexts) == {f"p{n}-{i}" for n in range(8) for i in range(10)}
    assert {p.name for p in home.iterdir()} == {"contexts.json", ".contexts.lock"}


def test_a_lock_that_nobody_lets_go_of_is_told_within_its_bound(home: Path, monkeypatch: pytest.MonkeyPatch):
    add("prod", PROD)
    monkeypatch.setattr(contexts, "LOCK_WAIT_S", 0.05)
    fd = os.open(home / ".contexts.lock", os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        with pytest.raises(Contended):
            add("dev", DEV)
    finally:
        os.close(fd)
    assert add("dev", DEV).contexts == {"prod": PROD, "dev": DEV}
