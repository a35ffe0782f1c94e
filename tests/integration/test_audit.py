"""The audit: each fact of the registry says who, when, with which token, by what right; the command verifies them."""

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from tests.conftest import ROOMY
from tests.every_fact import ELSEWHERE, KINDS, Filled, Stored, belongs, fill, kinds_of
from tests.integration.raw_http import asking

from sos.broker.app import Running, run
from sos.broker.config import Config
from sos.broker.log.record import verify
from sos.wire import api
from sos.wire.secrets import find_in
from sos.wire.subjects import REGISTRY

SLUG = "audited"
COMMAND_TIMEOUT_S = 30.0
BY_A_TOKEN = {"operator", f"tenant:{SLUG}", "agent:ann"}
RIGHTS = {
    "operator": "allowed: operator of the bus",
    f"tenant:{SLUG}": f"allowed: owner of {SLUG}",
    "agent:ann": "allowed: the agent itself",
}
BY_THE_GATEWAY = {"agent.voided", "agent.cut", "project.tenant_voided", "disk.crossed"}
"""What no token asks for. The void ones name the token that leaked."""


class Ran(msgspec.Struct):
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
async def small(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """A bus of this module's own: a registry of nothing but what is recorded here."""
    home = tmp_path_factory.mktemp("audited") / "home"
    async with run(Config(home=home, http_port=0, nats_port=0, tiers=ROOMY)) as running:
        yield running


@pytest.fixture(scope="module")
async def filled(small: Running) -> Filled:
    return await fill(small, SLUG)


async def audit(bus: Running, *options: str, token: str = "", url: str = "") -> Ran:
    """`sos admin audit`, as a process."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SOS_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sos.broker", "admin", "audit", *options),
        env=clean | {"SOS_HOME": bus.home, "SOS_ADMIN_TOKEN": token or bus.operator_token, "SOS_URL": url or bus.url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), COMMAND_TIMEOUT_S)
    return Ran(process.returncode or 0, out.decode(), err.decode())


def test_every_kind_of_fact_of_the_registry_is_made_here_and_there_is_no_other(filled: Filled):
    assert {record.fact.type for record in filled.stored} == KINDS
    assert kinds_of() == KINDS | ELSEWHERE


def test_every_fact_says_who_when_with_which_token_and_by_what_right(filled: Filled):
    for record in filled.stored:
        fact = record.fact
        assert fact.at.endswith("Z"), record
        assert fact.decision, record
        assert belongs(record), record
        if fact.type in BY_THE_GATEWAY:
            assert fact.actor == "gateway", record
            assert fact.decision.startswith("policy: "), record
        else:
            assert fact.actor in BY_A_TOKEN, record
            assert fact.decision == RIGHTS[fact.actor], record
            assert fact.token_id in filled.token_ids[fact.actor], record


def test_each_actor_of_the_registry_used_a_token_of_its_own(filled: Filled):
    used = {who: {r.fact.token_id for r in filled.stored if r.fact.actor == who} for who in BY_A_TOKEN}
    assert all(used.values())
    assert used["operator"] == filled.token_ids["operator"]


def test_no_record_holds_a_token_that_was_handed_out(filled: Filled):
    assert len(filled.secrets) > 5
    whole = b"\n".join(record.body + record.subject.encode() for record in filled.stored)
    assert [secret for secret in filled.secrets if secret.encode() in whole] == []
    assert find_in(whole) == ()


async def test_the_command_prints_one_line_a_fact_with_what_the_record_holds(small: Running, filled: Filled):
    ran = await audit(small)
    lines = ran.out.splitlines()
    assert (ran.code, len(lines)) == (0, len(filled.stored))
    for line, record in zip(lines, filled.stored, strict=True):
        fact = record.fact
        words = line.split()
        assert words[0] == str(record.seq)
        assert f"{words[1]}T{words[2]}" == fact.at[:19]
        assert words[3:6] == [fact.actor, fact.token_id or "-", fact.type]
        assert words[6] == record.subject.removeprefix("registry.")
        assert line.endswith(fact.decision)
    assert find_in(ran.out.encode()) == ()


async def test_the_json_of_the_command_holds_each_record_to_the_byte(small: Running, filled: Filled):
    ran = await audit(small, "--json")
    rows: list[dict[str, Any]] = [json.loads(line) for line in ran.out.splitlines()]
    assert [(r["seq"], r["subject"], r["record"].encode()) for r in rows] == [
        (s.seq, s.subject, s.body) for s in filled.stored
    ]
    assert [r["what"] for r in rows] == [s.fact.type for s in filled.stored]


async def test_the_command_verifies_the_chain_and_names_its_head(small: Running, filled: Filled):
    head = verify(REGISTRY, [(s.seq, s.subject, s.body) for s in filled.stored])
    ran = await audit(small, "--verify", "--json")
    assert ran.code == 0, ran.err
    *facts, verdict = ran.out.splitlines()
    assert len(facts) == len(filled.stored)
    assert json.loads(verdict) == {"records": len(filled.stored), "head": head, "noted_seq": None}
    quiet = await audit(small, "--verify", "--quiet")
    assert quiet.out.splitlines()[:2] == [f"The chain is whole: {len(filled.stored)} records.", f"  head: {head}"]


async def test_a_head_that_was_noted_is_found_again_and_another_one_is_not(small: Running, filled: Filled):
    earlier = verify(REGISTRY, [(s.seq, s.subject, s.body) for s in filled.stored[:5]])
    found = await audit(small, "--verify", "-q", "--json", "--expect-head", earlier)
    assert (found.code, json.loads(found.out)["noted_seq"]) == (0, 5)
    lost = await audit(small, "--verify", "-q", "--json", "--expect-head", "0" * 64)
    assert (lost.code, lost.out) == (1, "")
    error = json.loads(lost.err)["error"]
    assert error["code"] == "data_loss"
    assert "0" * 64 in error["detail"]
    assert "docs/recovery.md" in error["cure"]


async def test_what_is_printed_can_be_narrowed_and_what_is_verified_is_not(small: Running, filled: Filled):
    last = filled.stored[-1].seq
    ran = await audit(small, "--verify", "--after", str(last - 2), "--json")
    *facts, verdict = map(json.loads, ran.out.splitlines())
    assert [f["seq"] for f in facts] == [last - 1, last]
    assert verdict["records"] == last
    ran = await audit(small, "--project", SLUG, "--json")
    subjects = {json.loads(line)["subject"] for line in ran.out.splitlines()}
    assert subjects == {s.subject for s in filled.stored if s.subject.startswith(f"registry.{SLUG}.")}
    assert len(subjects) < len({s.subject for s in filled.stored})


@pytest.mark.parametrize(
    ("options", "code", "error"),
    [
        (("--quiet",), 2, "bad_request"),
        (("--expect-head", "0" * 64), 2, "bad_request"),
        (("--verify", "--expect-head", "no-hash"), 2, "bad_request"),
        (("--project", "*"), 2, "bad_name"),
    ],
)
async def test_options_that_do_not_fit_are_refused_and_nothing_is_printed(
    small: Running, options: tuple[str, ...], code: int, error: str
):
    ran = await audit(small, *options, "--json")
    assert (ran.code, ran.out) == (code, "")
    assert json.loads(ran.err)["error"]["code"] == error


async def test_an_owner_may_not_read_the_registry(small: Running, filled: Filled):
    owner = await asking(
        small.url, "POST", "/api/projects", small.operator_token, {"slug": "curious", "tier": "starter"}
    )
    ran = await audit(small, "--json", token=json.loads(owner.body)["tenant_token"])
    assert (ran.code, ran.out) == (4, "")
    assert json.loads(ran.err)["error"]["code"] == "forbidden"


async def test_without_a_bus_the_audit_says_that_one_is_needed(small: Running):
    ran = await audit(small, "--verify", "--json", url="http://127.0.0.1:9")
    assert (ran.code, ran.out) == (3, "")
    assert json.loads(ran.err)["error"]["code"] == "gateway_unreachable"


# ── a gateway that lies ──────────────────────────────────────────────────────────────────────────────────────────

PAGE = 7


@contextmanager
def lying(records: Sequence[Stored]) -> Generator[str]:
    """A real HTTP server that gives out these records as the registry's, a few at a time."""
    given = [
        api.AuditRecord(
            seq=r.seq,
            subject=r.subject,
            stored_at=datetime(2026, 1, 1, tzinfo=UTC),
            record=r.body.decode("utf-8", "replace"),
            sha256=hashlib.sha256(r.body).hexdigest(),
        )
        for r in records
    ]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            after = int(parse_qs(urlsplit(self.path).query)["after"][0])
            page = api.Audit(head=given[-1].seq, records=tuple([r for r in given if r.seq > after][:PAGE]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(msgspec.json.encode(page))

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
            """Says nothing: the test's output is not a server's log."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def changed(record: Stored, old: bytes, new: bytes) -> Stored:
    assert old in record.body
    return Stored(record.seq, record.subject, record.body.replace(old, new, 1))


async def test_records_that_are_what_was_stored_pass_whoever_gives_them(small: Running, filled: Filled):
    with lying(filled.stored) as url:
        assert (await audit(small, "--verify", "-q", url=url)).code == 0


def one_byte(chain: list[Stored]) -> list[Stored]:
    return [*chain[:9], changed(chain[9], b'"at":"20', b'"at":"21'), *chain[10:]]


def one_version(chain: list[Stored]) -> list[Stored]:
    return [*chain[:9], changed(chain[9], b'"v":1', b'"v":2'), *chain[10:]]


def left_out(chain: list[Stored]) -> list[Stored]:
    return [*chain[:4], *chain[5:]]


def cut_off_at_the_front(chain: list[Stored]) -> list[Stored]:
    return chain[1:]


LIES: dict[Callable[[list[Stored]], list[Stored]], str] = {
    one_byte: "sequence 10 does not match its hash",
    one_version: "sequence 10 cannot be read",
    left_out: "sequence 5 is missing",
    cut_off_at_the_front: "sequence 1 is missing",
}


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
async def test_a_broken_chain_ends_the_command_with_the_sequence_and_the_cure(
    small: Running, filled: Filled, lie: Callable[[list[Stored]], list[Stored]]
):
    with lying(lie(filled.stored)) as url:
        ran = await audit(small, "--verify", "-q", url=url)
    assert (ran.code, ran.out) == (1, "")
    assert LIES[lie] in ran.err
    assert "docs/recovery.md" in ran.err


async def test_a_chain_cut_off_at_its_end_is_whole_and_only_a_noted_head_tells(small: Running, filled: Filled):
    head = verify(REGISTRY, [(s.seq, s.subject, s.body) for s in filled.stored])
    with lying(filled.stored[:-1]) as url:
        assert (await audit(small, "--verify", "-q", url=url)).code == 0
        ran = await audit(small, "--verify", "-q", "--expect-head", head, url=url)
    assert (ran.code, ran.out) == (1, "")
    assert head in ran.err


async def test_a_record_that_cannot_be_read_is_still_shown_with_its_place(small: Running, filled: Filled):
    with lying([Stored(1, "registry.a.agent.b", b"\x1b[2J no record")]) as url:
        ran = await audit(small, url=url)
    assert ran.code == 0
    assert ran.out.split()[0] == "1"
    assert "unreadable" in ran.out
    assert "\x1b" not in ran.out
