"""The machinery of the doctor: one finding a check, whatever happens to it, and all of it within its time."""

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path
from time import monotonic

import pytest

from sos.sdk.doctor import CHECKS, Finding
from sos.sdk.doctor.check import Check, Says, critical, ok, run, skipped, warning, worst
from sos.wire.errors import UnknownToken
from sos.wire.tokens import TokenKind, make

IDS = (
    "python.version",
    "disk.home",
    "home.permissions",
    "runtime.config.claude",
    "runtime.config.codex",
    "runtime.config.gemini",
    "runtime.config.cursor",
    "token.format",
    "token.service",
    "gateway.reachable",
    "token.valid",
    "token.scopes",
    "clock",
    "version.skew",
    "inbox.lag",
    "inbox.unread",
    "nats.reachable",
    "nats.version",
    "inbox.round_trip",
)
"""Programs match these: one may be added, none may change its name."""
PLENTY_S = 10.0


def check(id_: str, says: Says, *needs: str) -> Check[None]:
    """A check that finds this."""
    return Check(id=id_, look=lambda _: says, needs=needs)


async def examined(*checks: Check[None], total_s: float = PLENTY_S) -> dict[str, Finding]:
    """The findings by id, as they are told and as they are given."""
    told: list[Finding] = []
    given = await run(checks, None, total_s, told.append)
    assert tuple(told) == given
    assert [f.id for f in given] == [c.id for c in checks]
    return {f.id: f for f in given}


def test_the_ids_of_the_checks_are_these():
    assert tuple(c.id for c in CHECKS) == IDS


def test_what_a_check_needs_is_looked_at_before_it():
    before: set[str] = set()
    for c in CHECKS:
        assert set(c.needs) <= before, c.id
        before.add(c.id)


async def test_a_finding_is_what_the_check_said():
    said = Says(verdict="warning", found="it creaks", cure="oil it", timing_ms=1.5)
    found = await examined(check("hinge", said))
    assert found["hinge"] == Finding(id="hinge", verdict="warning", found="it creaks", cure="oil it", timing_ms=1.5)


async def test_a_check_that_fails_stops_no_other():
    def fails(_: None) -> Says:
        raise ZeroDivisionError("by nothing")

    async def refused(_: None) -> Says:
        raise UnknownToken(tail="abcd")

    found = await examined(Check(id="a", look=fails), Check(id="b", look=refused), check("c", ok("fine")))
    assert {id_: f.verdict for id_, f in found.items()} == {"a": "critical", "b": "critical", "c": "ok"}
    assert "ZeroDivisionError: by nothing" in found["a"].found
    assert (found["b"].found, found["b"].cure) == (
        UnknownToken(tail="abcd").detail,
        UnknownToken(tail="abcd").remedy,
    )


@pytest.mark.parametrize(
    ("says", "goes_on"),
    [(ok("x"), True), (warning("x", "y"), True), (critical("x", "y"), False), (skipped("x"), False)],
)
async def test_a_check_that_needs_what_failed_is_skipped_and_says_for_what(says: Says, goes_on: bool):
    found = await examined(check("a", says), check("b", ok("seen"), "a"), check("c", ok("seen"), "b"))
    assert found["b"].found == ("seen" if goes_on else "it needs a")
    assert found["c"].found == ("seen" if goes_on else "it needs b")
    assert found["c"].verdict == ("ok" if goes_on else "skipped")


async def test_a_check_that_hangs_is_given_up_in_the_loop_and_in_a_thread():
    release = threading.Event()

    async def waits(_: None) -> Says:
        await asyncio.Event().wait()
        return ok("never")

    def blocks(_: None) -> Says:
        release.wait(PLENTY_S)
        return ok("late")

    began = monotonic()
    try:
        found = await examined(
            Check(id="a", look=waits, bound_s=0.05), Check(id="b", look=blocks, bound_s=0.05), check("c", ok("fine"))
        )
    finally:
        release.set()
    assert monotonic() - began < PLENTY_S / 2
    assert {id_: f.verdict for id_, f in found.items()} == {"a": "critical", "b": "critical", "c": "ok"}
    assert "no answer in" in found["b"].found


async def test_when_the_time_is_up_the_rest_is_skipped():
    async def waits(_: None) -> Says:
        await asyncio.Event().wait()
        return ok("never")

    found = await examined(Check(id="a", look=waits, bound_s=PLENTY_S), check("b", ok("fine")), total_s=0.05)
    assert (found["a"].verdict, found["b"].verdict) == ("critical", "skipped")
    assert "the time is up" in found["b"].found


async def test_no_finding_repeats_a_secret():
    token = make(TokenKind.AGENT)

    def fails(_: None) -> Says:
        raise ValueError(f"bad: {token}")

    found = await examined(Check(id="a", look=fails), check("b", warning(token, f"drop {token}")))
    shown = "".join(f"{f.found}{f.cure}" for f in found.values())
    assert token not in shown
    assert shown.count(token[-4:]) == 3


def test_the_worst_of_several_is_what_counts():
    assert worst(["ok", "warning", "critical"]) == "critical"
    assert worst(["skipped", "ok", "warning"]) == "warning"
    assert worst(["skipped", "ok"]) == "ok"
    assert worst([]) == "skipped"


def test_with_the_gateway_away_nothing_of_nats_is_loaded(home: Path):
    code = (
        "import asyncio, sys; from sos.sdk.doctor import examine; from sos.sdk.doctor.local import look\n"
        "found = asyncio.run(examine(look('', '')))\n"
        "assert len(found) == len({f.id for f in found}) > 0\n"
        "print(*[m for m in ('nats', 'cryptography', 'sqlite3') if m in sys.modules])"
    )
    given = {**os.environ, "SOS_URL": "http://127.0.0.1:1", "SOS_TOKEN": make(TokenKind.AGENT), "HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=given, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == []
