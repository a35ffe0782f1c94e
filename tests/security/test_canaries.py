"""Every flow that has secrets, on a bus of its own; afterwards not one of them is anywhere but where it belongs."""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
from tests.canaries import Canaries, files, held_secrets
from tests.security.flows import Flows, play
from tests.security.watched_bus import PROC, watched_bus

from sos.wire.home import write_secret
from sos.wire.tokens import TokenKind, make

MADE_FOR_TOKENS = ("operator.token", "agents/*/*/token")
MADE_FOR_KEYS = ("keys/*",)


@pytest.fixture(scope="module")
async def played(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Flows]:
    """All flows played, the bus stopped."""
    async with watched_bus(tmp_path_factory.mktemp("canaries")) as bus:
        flows = Flows(bus)
        await play(flows)
        await bus.stop()
        yield flows


# ── where they are not ───────────────────────────────────────────────────────────────────────────────────────────


def test_the_flows_planted_canaries_of_every_kind_and_were_refused_in_every_way(played: Flows):
    assert len(played.canaries) >= 30
    assert played.codes >= {
        "secret_in_message",
        "malformed_token",
        "missing_token",
        "unknown_token",
    }
    assert len(played.heard) > 150


def test_no_answer_and_no_output_shows_a_canary_but_the_one_it_hands_out(played: Flows):
    shown = {h.of: found for h in played.heard if (found := played.canaries.found_in(h.content, h.shows))}
    assert shown == {}


def test_what_hands_a_token_out_does_show_it_so_that_the_search_can_fail(played: Flows):
    showing = [h for h in played.heard if h.shows]
    assert len(showing) >= 10
    assert [h.of for h in showing if not set(h.shows) <= set(played.canaries.found_in(h.content))] == []


def test_no_file_of_the_home_holds_a_canary_but_those_made_for_it(played: Flows):
    there = dict(files(played.bus.home, (*MADE_FOR_TOKENS, *MADE_FOR_KEYS)))
    assert {name.rpartition("/")[2] for name in there} >= {"views.db", "server.log", "1.blk"}
    assert {name: found for name, content in there.items() if (found := played.canaries.found_in(content))} == {}


def test_no_stream_holds_what_looks_like_a_secret(played: Flows):
    assert held_secrets(played.bus.home) == {}


def test_each_file_that_is_made_for_a_secret_holds_its_own_alone(played: Flows):
    found = {name: played.canaries.found_in(content) for name, content in files(played.bus.home)}
    assert found["operator.token"] == ["operator"]
    assert found["agents/acme/ann/token"] == ["ann rotated"]


def test_no_home_of_an_agent_holds_a_canary_but_in_its_token(played: Flows):
    for home in ("second", "vera"):
        there = dict(files(played.bus.kept.parent / home, MADE_FOR_TOKENS))
        assert any(name.endswith("state.db") for name in there)
        assert {name: found for name, content in there.items() if (found := played.canaries.found_in(content))} == {}


def test_no_log_holds_a_canary(played: Flows):
    there = dict(files(played.bus.kept))
    assert sum(len(content) for content in there.values()) > 1_000
    assert {name: found for name, content in there.items() if (found := played.canaries.found_in(content))} == {}


@pytest.mark.skipif(not PROC.exists(), reason="there is no /proc on this system")
def test_no_listing_of_processes_shows_a_canary(played: Flows):
    assert len(played.bus.listings) >= 8
    assert [
        content
        for what, content in played.bus.listings
        if what == f"environ of {played.bus.pid}" and b"SOS_HOME=" in content
    ]
    assert {what: found for what, content in played.bus.listings if (found := played.canaries.found_in(content))} == {}


# ── that the search finds ────────────────────────────────────────────────────────────────────────────────────────


def test_a_canary_is_found_in_every_form(tmp_path: Path):
    canaries, token = Canaries(), make(TokenKind.AGENT)
    canaries.plant("it", token)
    raw = token.encode()
    for content in (
        b"before " + raw + b" after",
        base64.b64encode(raw),
        base64.b64encode(b"x" + raw + b"y"),
        base64.b64encode(b"xy" + raw + b"z"),
        base64.urlsafe_b64encode(b"user:" + raw),
        raw.hex().encode(),
        quote(token).encode(),
        "".join(f"%{byte:02X}" for byte in raw).encode(),
        json.dumps({"t": token}).encode(),
        "".join(f"\\u{ord(char):04x}" for char in token).encode(),
        token.lower().encode(),
    ):
        assert canaries.found_in(b"\0\xff" * 50 + content) == ["it"], content
    assert canaries.found_in(make(TokenKind.AGENT).encode()) == []
    assert canaries.found_in(raw, but=["it"]) == []


def test_the_search_of_the_suites_own_bus_can_fail(tmp_path: Path):
    for name in ("views.db", "nats/server.log", "nats/jetstream/x/streams/MESSAGES/msgs/1.blk", "agents/a/b/state.db"):
        write_secret(tmp_path / name, f"\0\1 some bytes {make(TokenKind.AGENT)} and more")
    for name in ("operator.token", "agents/a/b/token", "keys/operator.nk", "rotated/a.b.token"):
        write_secret(tmp_path / name, make(TokenKind.OPERATOR))
    write_secret(tmp_path / "deeper" / "operator.token", make(TokenKind.OPERATOR))
    assert len(held_secrets(tmp_path)) == 5
    assert all(found[0].split(" ")[0].endswith("_token") for found in held_secrets(tmp_path).values())
