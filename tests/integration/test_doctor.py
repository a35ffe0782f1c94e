"""`sos agent doctor`, `whoami` and `recover` as a person runs them, on a bus that is well, ill, and away."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
import pytest
from tests.conftest import OPERATOR, Project

from sos.broker.app import run
from sos.broker.config import Config
from sos.sdk import AsyncAgent, Message, guide, identity, profile
from sos.sdk.doctor import CHECKS, Finding
from sos.wire import api
from sos.wire.scopes import Scope
from sos.wire.tokens import TokenKind, make

SOS = Path(sys.executable).with_name("sos")
WELL_S = 3.0
"""A doctor's visit on a healthy bus."""
AWAY_S = 20.0
"""With gateway and NATS away."""
BOUND_S = 60.0


class Ran(msgspec.Struct):
    """A command that ended."""

    code: int
    out: str
    err: str
    took_s: float

    def findings(self) -> dict[str, Finding]:
        """What the doctor found, by id."""
        found = msgspec.json.decode(self.out, type=list[Finding])
        assert [f.id for f in found] == [c.id for c in CHECKS]
        return {f.id: f for f in found}

    def shown(self) -> dict[str, Any]:
        """The one object on standard output."""
        return msgspec.json.decode(self.out, type=dict[str, Any])


async def sos(home: Path, *arguments: str, **environment: str) -> Ran:
    """Run the command with nothing of the tests' own environment, in a user's home of its own."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SOS_")}
    clean |= {"SOS_HOME": str(home), "HOME": str(home.parent)} | environment
    command = [str(SOS), *arguments]

    def run_it() -> Ran:
        began = monotonic()
        done = subprocess.run(
            command, env=clean, cwd=home.parent, capture_output=True, text=True, timeout=BOUND_S, check=False
        )
        return Ran(done.returncode, done.stdout, done.stderr, monotonic() - began)

    ran = await asyncio.to_thread(run_it)
    assert "Traceback" not in ran.err
    return ran


def verdicts(findings: dict[str, Finding], *but: str) -> dict[str, str]:
    """The verdicts of all checks that are neither ok nor of a runtime that is not here."""
    return {
        id_: f.verdict
        for id_, f in findings.items()
        if f.verdict != "ok" and not id_.startswith("runtime.") and id_ not in {"disk.home", *but}
    }


def nothing_at(home: Path) -> bool:
    """Whether the home was left alone: not there."""
    return not home.exists()


def free_port() -> int:
    """A port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture
async def bob(project: Project) -> str:
    """Bob's token; it is saved in the home."""
    token = await project.mint("bob")
    identity.save(project.slug, "bob", token)
    return token


# ── a bus that is well ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_on_a_bus_that_is_well_everything_is_ok_within_three_seconds(project: Project, home: Path, bob: str):
    ran = await sos(home, "agent", "doctor", "--json", SOS_URL=project.bus.url)
    findings = ran.findings()
    assert (verdicts(findings), ran.code, ran.err) == ({}, 0, "")
    assert ran.took_s < WELL_S
    assert bob not in ran.out
    for timed in ("gateway.reachable", "token.valid", "nats.reachable", "inbox.round_trip"):
        assert findings[timed].timing_ms is not None, timed
    assert project.bus.nats_version in findings["nats.version"].found


async def test_the_text_has_one_line_a_check(project: Project, home: Path, bob: str):
    ran = await sos(home, "agent", "doctor", SOS_URL=project.bus.url)
    assert ran.code == 0
    lines = [line for line in ran.out.splitlines() if not line.startswith(" ")]
    assert [line.split()[1] for line in lines] == [c.id for c in CHECKS]
    assert "inbox.round_trip" in lines[-1]
    assert lines[-1].startswith("ok ")


async def test_a_visit_leaves_other_mail_unread_and_its_own_message_read(project: Project, home: Path, bob: str):
    ann = await (await project.agent("ann")).start()
    sent = [(await ann.send("bob", f"mail {n}")).id for n in range(20)]
    for _ in range(2):
        findings = (await sos(home, "agent", "doctor", "--json", SOS_URL=project.bus.url)).findings()
        assert findings["inbox.round_trip"].verdict == "ok"
        assert findings["inbox.unread"].found == "20 unread"
    async with AsyncAgent(bob, "bob", url=project.bus.url) as agent:
        read: list[Message] = []
        async with asyncio.timeout(15):
            while len(read) < 20:
                read += await agent.inbox(100)
                await asyncio.sleep(0.05)
        assert await agent.inbox(100) == []
    assert sorted(m.id for m in read) == sorted(sent)


async def test_a_run_of_the_agent_that_takes_the_message_first_is_no_fault(project: Project, home: Path, bob: str):
    agent = AsyncAgent(bob, "bob", url=project.bus.url)
    got: list[Message] = []

    @agent.on_message
    async def _(message: Message) -> None:
        got.append(message)

    async with agent:
        for _round in range(3):
            ran = await sos(home, "agent", "doctor", "--json", SOS_URL=project.bus.url)
            assert ran.findings()["inbox.round_trip"].verdict == "ok"
    assert {m.sender for m in got} <= {"bob"}


async def test_the_doctors_runs_are_over_when_it_is(project: Project, home: Path, bob: str):
    assert (await sos(home, "agent", "doctor", SOS_URL=project.bus.url)).code == 0
    async with AsyncAgent(bob, "bob", url=project.bus.url) as agent:
        (own,) = [p for p in await agent.peers() if p.name == "bob"]
        assert [s.session for s in own.sessions if s.connected] == [agent.session]


# ── what is wrong is named ───────────────────────────────────────────────────────────────────────────────────────────


async def test_a_token_that_was_never_minted_is_told_and_everything_that_needs_it_is_skipped(
    project: Project, home: Path
):
    token = make(TokenKind.AGENT)
    ran = await sos(home, "agent", "doctor", "--json", SOS_URL=project.bus.url, SOS_TOKEN=token)
    findings = ran.findings()
    assert ran.code == 1
    assert findings["token.valid"].verdict == "critical"
    assert findings["gateway.reachable"].verdict == "ok"
    assert findings["version.skew"].verdict == "ok"
    for id_ in ("token.scopes", "clock", "nats.reachable", "inbox.lag", "inbox.unread"):
        assert (findings[id_].verdict, findings[id_].found) == ("skipped", "it needs token.valid")
    assert findings["inbox.round_trip"].found == "it needs nats.reachable"
    assert token not in ran.out


async def test_a_token_of_another_bus_is_told_with_the_one_it_joined(project: Project, home: Path):
    identity.save("acme", "bob", make(TokenKind.AGENT))
    joined = profile.Profile(project="acme", name="bob", role="medic", skills=(), url="http://elsewhere:6070")
    profile.save(joined, home)
    found = (await sos(home, "agent", "doctor", "--json", SOS_URL=project.bus.url)).findings()["token.valid"]
    assert found.verdict == "critical"
    assert "joined at http://elsewhere:6070" in found.found
    assert "SOS_URL=http://elsewhere:6070" in found.cure


async def test_an_owners_token_where_the_agents_belongs_is_named_as_such(project: Project, home: Path):
    ran = await sos(home, "agent", "doctor", "--json", SOS_URL=project.bus.url, SOS_TOKEN=project.tenant_token)
    found = ran.findings()["token.service"]
    assert (ran.code, found.verdict) == (1, "critical")
    assert "project owner's token" in found.found
    assert project.tenant_token not in ran.out


async def test_a_token_of_another_agent_than_the_home_says_is_told(project: Project, home: Path):
    identity.save(project.slug, "ann", await project.mint("bob"))
    ran = await sos(home, "agent", "doctor", "--json", "--as", "ann", SOS_URL=project.bus.url)
    found = ran.findings()["token.valid"]
    assert (ran.code, found.verdict) == (1, "critical")
    assert f"{project.slug}/bob" in found.found
    shown = (await sos(home, "agent", "whoami", "--json", "--as", "ann", SOS_URL=project.bus.url)).shown()
    assert (shown["name"], "holds the token of bob" in shown["notes"][0]) == ("bob", True)


async def test_a_project_of_the_environment_that_the_token_is_not_of_is_a_warning_and_the_rest_goes_on(
    project: Project, home: Path
):
    given = {"SOS_URL": project.bus.url, "SOS_TOKEN": await project.mint("bob"), "SOS_PROJECT": "elsewhere"}
    ran = await sos(home, "agent", "doctor", "--json", **given)
    assert (ran.code, verdicts(ran.findings(), "home.permissions")) == (0, {"token.valid": "warning"})


@pytest.mark.parametrize(
    ("scopes", "round_trip"),
    [((Scope.SEND,), "skipped"), ((Scope.INBOX,), "skipped"), ((Scope.SEND, Scope.INBOX), "ok"), ((), "skipped")],
)
async def test_what_lacks_because_of_missing_scopes_is_told(
    project: Project, home: Path, scopes: tuple[Scope, ...], round_trip: str
):
    token = await project.mint("bob", scopes=scopes)
    ran = await sos(home, "agent", "doctor", "--json", SOS_URL=project.bus.url, SOS_TOKEN=token)
    findings = ran.findings()
    assert (ran.code, findings["inbox.round_trip"].verdict) == (0, round_trip)
    assert findings["token.scopes"].verdict == ("ok" if round_trip == "ok" else "warning")
    assert "mcp:broadcast no broadcasting to squads" in findings["token.scopes"].found
    assert findings["nats.reachable"].verdict == "ok"


async def test_a_token_that_others_may_read_is_critical_and_a_broken_runtime_is_named(
    project: Project, home: Path, bob: str
):
    (home / "agents" / project.slug / "bob" / "token").chmod(0o644)
    (home.parent / ".claude.json").write_text('{\n "a": }')
    ran = await sos(home, "agent", "doctor", "--json", SOS_URL=project.bus.url)
    findings = ran.findings()
    assert (ran.code, verdicts(findings)) == (1, {"home.permissions": "critical"})
    assert findings["runtime.config.claude"].verdict == "critical"
    assert "~/.claude.json:2:7" in findings["runtime.config.claude"].found


# ── away ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_with_no_token_no_home_and_no_network_it_says_what_is_wrong(home: Path):
    ran = await sos(home, "agent", "doctor", "--json", SOS_URL=f"http://127.0.0.1:{free_port()}")
    findings = ran.findings()
    assert ran.code == 1
    assert {i for i, f in findings.items() if f.verdict == "critical"} == {"token.format", "gateway.reachable"}
    assert "sos up" in findings["gateway.reachable"].cure
    assert nothing_at(home)


async def test_a_gateway_that_takes_the_connection_and_never_answers_is_given_up_in_time(home: Path):
    identity.save("acme", "bob", make(TokenKind.AGENT))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        ran = await sos(home, "agent", "doctor", "--json", SOS_URL=url)
    assert ran.took_s < AWAY_S
    assert ran.findings()["gateway.reachable"].verdict == "critical"
    assert ran.code == 1


async def test_a_server_that_hangs_is_told_in_time_and_the_gateway_still_says_who_this_is(home: Path):
    async with run(Config(home=home.parent / "bus", http_port=0, nats_port=0)) as bus:
        made = await bus.bus.projects.create(OPERATOR, api.CreateProject(slug="acme", tier="starter"))
        project = Project(bus, made)
        identity.save("acme", "bob", await project.mint("bob"))
        os.kill(bus.nats_pid, signal.SIGSTOP)
        try:
            ran = await sos(home, "agent", "doctor", "--json", SOS_URL=bus.url)
        finally:
            os.kill(bus.nats_pid, signal.SIGCONT)
    findings = ran.findings()
    assert ran.took_s < AWAY_S
    assert (ran.code, findings["token.format"].verdict) == (1, "ok")
    assert findings["nats.reachable"].verdict != "ok"
    assert "critical" in {findings["nats.reachable"].verdict, findings["token.valid"].verdict}
    assert findings["inbox.round_trip"].verdict == "skipped"


# ── whoami ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_whoami_tells_what_the_machine_and_the_gateway_know(project: Project, home: Path, bob: str):
    profile.save(
        profile.Profile(project=project.slug, name="bob", role="medic", skills=("heal",), url=project.bus.url), home
    )
    ran = await sos(home, "agent", "whoami", "--json", SOS_URL=project.bus.url)
    shown = ran.shown()
    assert (ran.code, shown["online"], shown["problem"]) == (0, True, None)
    assert (shown["project"], shown["name"], shown["token_tail"]) == (project.slug, "bob", bob[-4:])
    assert shown["me"]["agent"]["name"] == "bob"
    assert shown["profile"]["role"] == "medic"
    told = await sos(home, "agent", "whoami", SOS_URL=project.bus.url)
    assert f"bob of project {project.slug}" in told.out
    assert "medic, skills heal" in told.out
    assert bob not in ran.out + told.out


async def test_whoami_works_offline_and_says_so(home: Path):
    identity.save("acme", "bob", make(TokenKind.AGENT))
    given = {"SOS_URL": f"http://127.0.0.1:{free_port()}"}
    ran = await sos(home, "agent", "whoami", "--json", **given)
    shown = ran.shown()
    assert (ran.code, shown["online"], shown["me"], shown["name"]) == (0, False, None, "bob")
    assert shown["problem"]["code"] == "gateway_unreachable"
    told = await sos(home, "agent", "whoami", **given)
    assert (told.code, "\nOffline: " in told.out) == (0, True)


async def test_whoami_tells_a_profile_that_is_broken_and_goes_on(home: Path):
    folder = identity.save("acme", "bob", make(TokenKind.AGENT)).parent
    (folder / "agent.json").write_text("{")
    ran = await sos(home, "agent", "whoami", "--json", SOS_URL=f"http://127.0.0.1:{free_port()}")
    assert (ran.code, ran.shown()["name"], ran.shown()["profile"]) == (0, "bob", None)
    assert "agent.json" in ran.shown()["notes"][0]


async def test_whoami_tells_a_refusal_and_fails_with_its_code(project: Project, home: Path):
    identity.save("acme", "bob", make(TokenKind.AGENT))
    ran = await sos(home, "agent", "whoami", "--json", SOS_URL=project.bus.url)
    shown = ran.shown()
    assert (ran.code, shown["online"], shown["problem"]["code"]) == (4, True, "unknown_token")
    told = await sos(home, "agent", "whoami", SOS_URL=project.bus.url)
    assert "\nRefused: " in told.out


async def test_whoami_without_a_token_says_what_there_is(home: Path):
    ran = await sos(home, "agent", "whoami", "--json")
    shown = ran.shown()
    assert (ran.code, shown["home"], shown["problem"]["code"]) == (4, str(home), "missing_token")


# ── recover ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_recover_prints_the_guide_and_leaves_it_with_no_network(home: Path):
    identity.save("acme", "bob", make(TokenKind.AGENT))
    path = guide.path_in(home / "agents" / "acme" / "bob")
    given = {"SOS_URL": f"http://127.0.0.1:{free_port()}"}
    ran = await sos(home, "agent", "recover", **given)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == path.read_text()
    assert "--as bob --project acme" in ran.out
    where = await sos(home, "agent", "recover", "--path", **given)
    assert where.out == f"{path}\n"
    path.write_text("my own words\n")
    again = await sos(home, "agent", "recover", "--json", **given)
    assert again.shown() == {"path": str(path), "written": True, "trouble": "", "guide": "my own words\n"}


async def test_recover_prints_a_guide_for_who_has_nothing(home: Path):
    ran = await sos(home, "agent", "recover")
    assert (ran.code, "When NAME is stuck" in ran.out) == (0, True)
    assert nothing_at(home)
    assert (await sos(home, "agent", "recover", "--path")).code == 4


async def test_recover_still_prints_where_nothing_can_be_written(home: Path):
    folder = identity.save("acme", "bob", make(TokenKind.AGENT)).parent
    (folder / "RECOVERY.md").mkdir()
    ran = await sos(home, "agent", "recover")
    assert (ran.code, "When bob is stuck" in ran.out) == (0, True)
    assert "could not be left" in ran.err


async def test_recover_makes_no_home_for_a_name_that_was_mistyped(home: Path):
    identity.save("acme", "bob", make(TokenKind.AGENT))
    ran = await sos(home, "agent", "recover", "--as", "bbo", "--project", "acme")
    assert (ran.code, "When bbo is stuck" in ran.out) == (0, True)
    assert "no agent of that name" in ran.err
    assert not (home / "agents" / "acme" / "bbo").exists()
