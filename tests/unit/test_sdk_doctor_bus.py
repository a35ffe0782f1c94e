"""The doctor on the token, the gateway, NATS and the inbox: what each answer means. Real sockets, no bus."""

import http.server
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from sos.sdk.doctor import Local, bus, gateway, inbox, tokens
from sos.sdk.doctor.check import Says
from sos.sdk.doctor.local import look
from sos.sdk.doctor.patient import Patient
from sos.wire import api
from sos.wire.errors import GatewayUnreachable, NatsUnreachable
from sos.wire.scopes import ALL, Scope
from sos.wire.tokens import TokenKind, make


def patient(token: str = "", url: str = "http://127.0.0.1:1") -> Patient:
    """One with this token."""
    return Patient(local=Local(home=Path("home"), url=url, token=token))


# ── token ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", list(TokenKind))
def test_a_whole_token_of_any_kind_has_the_form_and_shows_four_characters(kind: TokenKind):
    token = make(kind)
    says = tokens.form(patient(token))
    assert says.verdict == "ok"
    assert token[-4:] in says.found
    assert token[-5:] not in says.found


WHOLE = make(TokenKind.AGENT)


@pytest.mark.parametrize("token", [WHOLE[:-1], WHOLE + "x", WHOLE[:-1] + "_", "x", f" {WHOLE}"])
def test_a_spoilt_token_is_critical_and_is_not_repeated(token: str):
    says = tokens.form(patient(token))
    assert says.verdict == "critical"
    assert token == "x" or token[-4:] not in says.found + says.cure


def test_no_token_is_critical_and_the_cure_is_to_join(home: Path):
    says = tokens.form(Patient(local=look("", "")))
    assert says.verdict == "critical"
    assert "sos agent join" in says.cure
    assert str(home) in says.found


@pytest.mark.parametrize(
    ("kind", "verdict", "word"),
    [
        (TokenKind.AGENT, "ok", "an agent's token"),
        (TokenKind.TENANT, "critical", "a project owner's token"),
        (TokenKind.OPERATOR, "critical", "the operator's token"),
    ],
)
def test_a_token_for_another_service_is_named_as_such(kind: TokenKind, verdict: str, word: str):
    says = tokens.service(patient(make(kind)))
    assert says.verdict == verdict
    assert word in says.found
    assert ("sk-bus-" in says.cure) == (verdict == "critical")


def test_all_scopes_are_ok():
    says = tokens.scopes_say(ALL, "bob", "acme")
    assert (says.verdict, "without" in says.found) == ("ok", False)


@pytest.mark.parametrize("scope", ALL)
def test_a_scope_that_is_missing_is_told_with_what_it_opens(scope: Scope):
    says = tokens.scopes_say(tuple(s for s in ALL if s is not scope), "bob", "acme")
    assert f"without {scope} no {tokens.OPENS[scope]}" in says.found
    assert says.verdict == ("warning" if scope in {Scope.SEND, Scope.INBOX} else "ok")
    if says.verdict == "warning":
        assert f"sos agent scopes bob --project acme --add {scope}" in says.cure


# ── gateway ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def answering(status: int, body: bytes) -> Generator[str]:
    """An HTTP server that always says this; its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            """Nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def health(**changed: object) -> bytes:
    """A gateway's word on itself."""
    well = api.Health(ok=True, version="1.2.3", nats="connected", nats_version="2.15.0", projects=1, behind=0)
    return msgspec.json.encode(msgspec.structs.replace(well, **changed))


async def test_a_gateway_that_is_well_is_ok_with_its_time():
    with answering(200, health()) as url:
        one = patient(url=url)
        says = await gateway.reachable(one)
    assert says.verdict == "ok"
    assert says.timing_ms is not None
    assert one.health is not None
    assert "1.2.3" in says.found


async def test_a_gateway_that_is_not_well_is_told_in_its_own_words():
    with answering(503, health(ok=False, nats="disconnected", why="NATS is away since noon")) as url:
        says = await gateway.reachable(patient(url=url))
    assert (says.verdict, "NATS is away since noon" in says.found) == ("warning", True)


@pytest.mark.parametrize(("status", "body"), [(200, b"<html>"), (200, b"{}"), (404, b"nothing"), (502, b"")])
async def test_what_answers_there_and_is_no_gateway_is_told(status: int, body: bytes):
    with answering(status, body) as url, pytest.raises(GatewayUnreachable, match="not an SOS gateway"):
        await gateway.reachable(patient(url=url))


async def test_a_gateway_that_never_answers_is_given_up_in_its_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gateway, "HEALTH_TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(GatewayUnreachable, match="did not answer in time"):
            await gateway.reachable(patient(url=url))


@pytest.mark.parametrize(
    ("ahead_s", "margin_s", "verdict"),
    [
        (0.0, 0.0, "ok"),
        (2.0, 0.0, "ok"),
        (2.1, 0.0, "warning"),
        (-2.1, 0.0, "warning"),
        (30.0, 0.0, "warning"),
        (30.1, 0.0, "critical"),
        (-3600.0, 0.0, "critical"),
        (2.5, 1.0, "ok"),
        (30.5, 1.0, "warning"),
    ],
)
def test_a_clock_is_judged_at_2_and_30_seconds_either_way_past_what_the_network_took(
    ahead_s: float, margin_s: float, verdict: str
):
    says = gateway.clock_says(ahead_s, margin_s)
    assert says.verdict == verdict
    assert ("behind" in says.found) == (ahead_s > 0)


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict", "cure"),
    [
        ("0.1.0", "0.1.0", "ok", ""),
        ("0.1.0", "0.1.9", "ok", ""),
        ("0.1.0", "0.2.0", "warning", "pip install 'sos-bus==0.2.0'"),
        ("0.10.0", "0.9.0", "warning", "operator"),
        ("1.0.0", "0.9.0", "warning", "operator"),
        ("0.1.0", "", "warning", "operator"),
    ],
)
def test_a_skew_of_versions_is_told_with_who_is_older(ours: str, theirs: str, verdict: str, cure: str):
    says = gateway.skew_says(ours, theirs)
    assert (says.verdict, cure in says.cure) == (verdict, True)


# ── NATS ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("version", "verdict", "words"),
    [
        ("2.15.0", "ok", ()),
        ("2.14.3", "ok", ()),
        ("v2.14.3-RC.1", "ok", ()),
        ("2.14.2", "warning", ("crash", "2.14.3")),
        ("2.14.0", "warning", ("crash", "2.14.3")),
        ("2.13.9", "critical", ("bypassed", "crash", "2.14.3")),
        ("2.9.25", "critical", ("bypassed", "crash", "2.14.3")),
        ("dev", "warning", ("dev",)),
    ],
)
def test_a_server_with_known_advisories_is_told_with_the_version_that_ends_them(
    version: str, verdict: str, words: tuple[str, ...]
):
    says = bus.version_says(version)
    assert says.verdict == verdict
    assert all(word in says.found + says.cure for word in words)


@contextmanager
def greeting(line: bytes) -> Generator[str]:
    """A server that writes this to whoever connects and closes; its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(line)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"nats://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def me(**changed: object) -> api.Me:
    """What a gateway says of bob."""
    at = datetime.now(UTC)
    agent = api.Agent(
        project="acme",
        name="bob",
        model="",
        charter="",
        role="specialist",
        origin="custom",
        scopes=ALL,
        skills=(),
        state="active",
        token_tail="abcd",
        minted_at=at,
    )
    known = api.Me(
        agent=agent,
        install="",
        inbox=api.InboxState(unread=0, in_flight=0, redelivered=0, stream_messages=0),
        squads=(),
        gateway_version="0.1.0",
        nats_version="2.15.0",
        nats_urls=(),
        now=at,
    )
    return msgspec.structs.replace(known, **changed)


@pytest.mark.parametrize("line", [b"", b"HTTP/1.1 400 No\r\n\r\n", b"INFO {}\r\n", b"INFO {\r\n", b"INFO\xff\r\n"])
async def test_what_answers_where_nats_should_and_is_none_is_told(line: bytes):
    one = patient(make(TokenKind.AGENT))
    with greeting(line) as url:
        one.me = me(nats_urls=(url,))
        with pytest.raises(NatsUnreachable):
            await bus.reachable(one)


async def test_a_server_that_is_away_or_silent_is_told_before_anything_of_nats_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(bus, "HELLO_TIMEOUT_S", 0.1)
    monkeypatch.setattr(bus.Probe, "open", None)  # would be called only after a server has answered
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        one = patient(make(TokenKind.AGENT))
        one.me = me(nats_urls=(f"nats://127.0.0.1:{port}",))
        with pytest.raises(NatsUnreachable, match="did not answer in time"):
            await bus.reachable(one)
    with pytest.raises(NatsUnreachable, match="refused"):
        await bus.reachable(one)
    one.me = me(nats_urls=("nats://127.0.0.1:99999",))
    with pytest.raises(NatsUnreachable):
        await bus.reachable(one)


async def test_a_version_is_known_from_the_gateway_where_nats_did_not_say_it():
    one = patient()
    one.me = me(nats_version="2.13.0")
    assert bus.server_version(one).verdict == "critical"
    one.nats_version = "2.15.0"
    assert bus.server_version(one).verdict == "ok"


# ── inbox ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def counts(unread: int, in_flight: int = 0) -> api.InboxState:
    """An inbox."""
    return api.InboxState(unread=unread, in_flight=in_flight, redelivered=0, stream_messages=unread)


@pytest.mark.parametrize(
    ("unread", "in_flight", "verdict"),
    [
        (0, 0, "ok"),
        (5_000, 0, "ok"),
        (499, 499, "ok"),
        (500, 500, "warning"),
        (5_000, 999, "warning"),
        (1_000, 1_000, "critical"),
    ],
)
def test_what_is_handed_out_and_not_settled_is_lag(unread: int, in_flight: int, verdict: str):
    says = inbox.lag_says(counts(unread, in_flight), "bob")
    assert says.verdict == verdict
    assert says.found.startswith(f"{unread - in_flight} behind, {in_flight} handed out")


@pytest.mark.parametrize(
    ("unread", "in_flight", "verdict"), [(0, 0, "ok"), (100, 40, "ok"), (101, 0, "warning"), (101, 101, "warning")]
)
def test_mail_that_nobody_reads_is_a_warning(unread: int, in_flight: int, verdict: str):
    says = inbox.unread_says(counts(unread, in_flight), "bob")
    assert says.verdict == verdict
    assert says.found == f"{unread} unread"
    assert ("sos agent inbox --as bob" in says.cure) == (verdict == "warning")


def test_an_inbox_that_nats_does_not_tell_of_is_skipped():
    one = patient()
    one.me = me(inbox=None)
    assert (inbox.lag(one).verdict, inbox.unread(one).verdict) == ("skipped", "skipped")


@pytest.mark.parametrize(
    ("known", "word"),
    [
        (me(inbox=counts(501)), "501 unread messages stand before it"),
        (me(inbox=counts(501, 500)), "501 unread messages stand before it"),
        (me(agent=msgspec.structs.replace(me().agent, scopes=(Scope.SEND,))), "the token lacks mcp:inbox"),
        (me(agent=msgspec.structs.replace(me().agent, scopes=())), "the token lacks mcp:send and mcp:inbox"),
    ],
)
async def test_no_round_trip_is_made_past_much_mail_or_without_the_scopes(known: api.Me, word: str):
    one = patient()
    one.me = known
    says: Says = await bus.round_trip(one)
    assert (says.verdict, word in says.found) == ("skipped", True)
