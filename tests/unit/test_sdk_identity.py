"""Which token and which gateway an agent uses, and that a wrong one is told before anything is sent anywhere."""

import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sos.sdk import AsyncAgent
from sos.sdk.identity import find, find_url, install_id, save
from sos.wire.errors import BadName, BadRequest, MalformedToken, MissingToken, UnknownAgent
from sos.wire.home import DEFAULT_URL
from sos.wire.tokens import TokenKind, make

pytestmark = pytest.mark.usefixtures("home")

ARGUMENT, ENVIRONMENT, SAVED, OTHER = (make(TokenKind.AGENT) for _ in range(4))


def write_context(home: Path, content: bytes) -> None:
    """The home's context file, as it is."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "context.json").write_bytes(content)


def test_a_token_given_as_argument_comes_before_the_environment_and_the_home(monkeypatch: pytest.MonkeyPatch):
    save("acme", "bob", SAVED)
    assert find(None, "bob", None, None).holding.now() == SAVED
    monkeypatch.setenv("SOS_TOKEN", f"  {ENVIRONMENT}\n")
    assert find(None, "bob", None, None).holding.now() == ENVIRONMENT
    assert find(ARGUMENT, "bob", None, None).holding.now() == ARGUMENT
    monkeypatch.setenv("SOS_TOKEN", "  ")
    assert find("", "bob", None, None).holding.now() == SAVED


def test_an_address_given_as_argument_comes_before_the_environment_and_the_home(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    assert find_url() == DEFAULT_URL
    write_context(home, b'{"url": "http://context:1", "later": 1}')
    assert find_url() == "http://context:1"
    monkeypatch.setenv("SOS_URL", " http://environment:2 ")
    assert find_url() == "http://environment:2"
    assert find_url("http://argument:3") == "http://argument:3"
    assert find(ARGUMENT, None, None, "http://argument:3").url == "http://argument:3"
    monkeypatch.setenv("SOS_URL", "  ")
    assert find_url() == "http://context:1"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"url": 1}', b'{"url": null}', b"\xff", b"null"])
def test_a_broken_context_file_is_named_and_not_guessed_around(home: Path, content: bytes):
    write_context(home, content)
    with pytest.raises(BadRequest, match=r"context\.json"):
        find_url()
    assert find_url("http://argument:3") == "http://argument:3"


def test_a_context_that_cannot_be_read_is_told_as_an_error_of_the_bus(home: Path):
    (home / "context.json").mkdir(parents=True)
    with pytest.raises(BadRequest, match=r"context\.json"):
        find_url()


def test_the_only_saved_agent_is_found_without_a_name():
    save("acme", "bob", SAVED)
    found = find(None, None, None, None)
    assert (found.holding.now(), found.name, found.url) == (SAVED, "", DEFAULT_URL)


def test_a_saved_agent_is_found_by_name_and_project():
    save("acme", "bob", SAVED)
    save("other", "bob", OTHER)
    assert find(None, "agent:Bob", "Acme", None).holding.now() == SAVED
    assert find(None, "bob", "other", None).holding.now() == OTHER
    assert find(None, None, "other", None).holding.now() == OTHER


def test_more_than_one_saved_agent_is_not_guessed_between():
    save("acme", "bob", SAVED)
    save("other", "bob", OTHER)
    for name in ("bob", None):
        with pytest.raises(BadRequest) as refused:
            find(None, name, None, None)
        assert "acme/bob, other/bob" in refused.value.why
        assert SAVED not in str(refused.value)


def test_a_name_that_was_not_saved_is_told_with_the_closest_ones():
    save("acme", "codecheck", SAVED)
    with pytest.raises(UnknownAgent) as refused:
        find(None, "codechek", None, None)
    assert refused.value.close == ("codecheck",)
    with pytest.raises(UnknownAgent):
        find(None, "codecheck", "elsewhere", None)


def test_no_token_at_all_is_told():
    with pytest.raises(MissingToken):
        find(None, None, None, None)


@pytest.mark.parametrize("bad", ["*", "..", "a/../b", "[a-z]", "?"])
def test_a_name_is_no_pattern_and_no_path(bad: str):
    save("acme", "bob", SAVED)
    with pytest.raises((BadName, UnknownAgent)):
        find(None, bad, None, None)
    with pytest.raises((BadName, UnknownAgent)):
        find(None, "bob", bad, None)


@pytest.mark.parametrize(
    "token",
    ["x", "sk-bus-", ARGUMENT[:-1], ARGUMENT + "x", f" {ARGUMENT}", make(TokenKind.OPERATOR), make(TokenKind.TENANT)],
)
def test_a_malformed_token_is_refused_before_any_network(token: str, monkeypatch: pytest.MonkeyPatch):
    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("something was sent")

    monkeypatch.setattr(socket, "socket", no_network)
    monkeypatch.setattr(socket, "create_connection", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    for give in (lambda: find(token, None, None, None), lambda: AsyncAgent(token, "bob")):
        with pytest.raises(MalformedToken) as refused:
            give()
        assert token not in str(refused.value) or token in {"x", "sk-bus-"}


def test_a_saved_token_that_was_damaged_is_refused():
    save("acme", "bob", SAVED).write_text(SAVED[:-1])
    with pytest.raises(MalformedToken):
        find(None, "bob", None, None)


def test_a_saved_token_is_for_its_owner_alone(home: Path):
    path = save("acme", "bob", SAVED)
    assert path == home / "agents" / "acme" / "bob" / "token"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for folder in (path.parent, *path.parent.parents[:3]):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_an_identity_does_not_show_its_token():
    found = find(ARGUMENT, "bob", None, None)
    assert ARGUMENT not in f"{found!r} {found}"


def test_an_installation_keeps_its_id_and_only_its_owner_reads_it(home: Path):
    first = install_id()
    assert len(first) == 32
    assert install_id() == first
    assert stat.S_IMODE((home / "install").stat().st_mode) == 0o600


def test_eight_threads_get_one_installation_id(home: Path):
    together, found, failures = threading.Barrier(8), list[str](), list[BaseException]()

    def ask() -> None:
        together.wait()
        try:
            found.append(install_id())
        except OSError as e:
            failures.append(e)

    for _ in range(20):
        (home / "install").unlink(missing_ok=True)
        found.clear()
        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert len(found) == 8
        assert len(set(found)) == 1
        assert [p.name for p in home.iterdir()] == ["install"]


def test_eight_processes_get_one_installation_id(home: Path):
    code = "import sys; from sos.sdk.identity import install_id; sys.stdin.readline(); print(install_id())"
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    found = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert len(found) == 1
    assert found == {install_id()}
    assert [p.name for p in home.iterdir()] == ["install"]
