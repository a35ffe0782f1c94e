"""Bad input through the command line: exit codes, the cure on standard error, JSON where JSON was asked for."""

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
import pytest
from tests.conftest import Project

from sos.wire import tokens
from sos.wire.home import write_secret
from sos.wire.tokens import TokenKind

SOS = Path(sys.executable).with_name("sos")
BOUND_S = 15.0
"""A command: starting Python, three seconds of trying to connect, and a slow machine."""
COMMANDS = ("up", "project", "agent", "squad", "admin")
DONE, FAILED, USAGE, UNREACHABLE, REFUSED, NOT_FOUND = range(6)


class Ran(msgspec.Struct):
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> dict[str, Any]:
        """The one line of JSON on standard error."""
        assert self.out == ""
        lines = self.err.strip().splitlines()
        assert len(lines) == 1, self.err
        shown = msgspec.json.decode(lines[0], type=dict[str, dict[str, Any]])
        assert set(shown) == {"error"}
        assert set(shown["error"]) == {"code", "detail", "cure", "fields"}
        return shown["error"]


async def sos(home: Path, *arguments: str, **environment: str) -> Ran:
    """Run the command as a person would, with nothing of the tests' own environment."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SOS_")} | {"SOS_HOME": str(home)} | environment

    def run() -> Ran:
        done = subprocess.run(
            [str(SOS), *arguments], env=clean, capture_output=True, text=True, timeout=BOUND_S, check=False
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    began = monotonic()
    ran = await asyncio.to_thread(run)
    assert monotonic() - began < BOUND_S
    assert "Traceback" not in ran.err
    return ran


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


async def test_help_names_every_command(home: Path):
    ran = await sos(home, "--help")
    assert ran.code == DONE
    assert all(command in ran.out for command in COMMANDS)
    for command in ("project", "agent", "squad", "admin"):
        assert (await sos(home, command, "--help")).code == DONE


async def test_0_is_done(project: Project, home: Path):
    await project.mint("bob")
    given = {"SOS_URL": project.bus.url, "SOS_TOKEN": await project.mint("alice")}
    ran = await sos(home, "agent", "send", "bob", "hello", "--json", **given)
    assert (ran.code, ran.err) == (DONE, "")
    assert msgspec.json.decode(ran.out, type=dict[str, Any])["receipt"]["to"] == "bob"


async def test_1_is_failed_no_reply_came(project: Project, home: Path):
    await project.mint("bob")
    given = {"SOS_URL": project.bus.url, "SOS_TOKEN": await project.mint("alice")}
    ran = await sos(home, "agent", "send", "bob", "hello", "--wait", "0.2", **given)
    assert ran.code == FAILED
    assert "no reply" in ran.out


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("agent", "send", "a*b", "hi"), "bad_name"),
        (("agent", "send", "bob", "hi", "--data", "not json"), "bad_request"),
        (("agent", "send", "bob", "hi", "--data", "[]"), "bad_request"),
        (("agent", "send", "bob", "hi", "--ack", "soon"), "bad_request"),
        (("agent", "inbox", "--limit", "0"), "bad_request"),
        (("squad", "join", "Ünïcode"), "bad_name"),
        (("agent", "send", "bob", '"' * 120_000, "--data", f'{{"x":"{"y" * 60_000}"}}'), "message_too_large"),
    ],
)
async def test_2_is_usage(project: Project, home: Path, arguments: tuple[str, ...], code: str):
    await project.mint("bob")
    given = {"SOS_URL": project.bus.url, "SOS_TOKEN": await project.mint("alice")}
    ran = await sos(home, *arguments, "--json", **given)
    assert ran.code == USAGE
    assert ran.error["code"] == code


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("agent", "nonsense"),
        ("agent", "send"),
        ("agent", "inbox", "--limit", "many"),
        ("agent", "mint", "x", "--scope", "mcp:everything"),
        ("up", "--port", "x"),
        ("--nonsense",),
    ],
)
async def test_2_is_a_command_line_that_does_not_parse_too(home: Path, arguments: tuple[str, ...]):
    ran = await sos(home, *arguments)
    assert ran.code == USAGE
    assert ran.err


@pytest.mark.parametrize(
    "arguments", [("agent", "send", "bob", "hi"), ("agent", "inbox"), ("agent", "peers"), ("project", "list")]
)
async def test_3_is_unreachable_and_is_told_soon(home: Path, arguments: tuple[str, ...]):
    given = {
        "SOS_URL": f"http://127.0.0.1:{free_port()}",
        "SOS_TOKEN": tokens.make(TokenKind.AGENT),
        "SOS_ADMIN_TOKEN": tokens.make(TokenKind.OPERATOR),
    }
    ran = await sos(home, *arguments, "--json", **given)
    assert (ran.code, ran.error["code"]) == (UNREACHABLE, "gateway_unreachable")
    assert "sos up" in ran.error["cure"]
    shown = await sos(home, *arguments, **given)
    assert (shown.code, shown.out) == (UNREACHABLE, "")
    assert shown.err.startswith("gateway_unreachable: No gateway answers at ")


@pytest.mark.parametrize("token", ["", "x", tokens.make(TokenKind.OPERATOR), tokens.make(TokenKind.AGENT)])
async def test_4_is_a_token_that_is_missing_malformed_or_unknown_and_it_is_not_repeated(
    project: Project, home: Path, token: str
):
    ran = await sos(home, "agent", "inbox", "--json", SOS_URL=project.bus.url, SOS_TOKEN=token)
    assert ran.code == REFUSED
    assert ran.error["code"] in {"missing_token", "malformed_token", "unknown_token"}
    assert len(token) < 10 or token not in ran.err


async def test_4_is_a_name_that_is_taken_or_another_project(project: Project, home: Path):
    await project.mint("bob")
    given = {"SOS_URL": project.bus.url, "SOS_ADMIN_TOKEN": project.tenant_token}
    taken = await sos(home, "agent", "mint", "bob", "--project", project.slug, "--json", **given)
    assert (taken.code, taken.error["code"]) == (REFUSED, "name_taken")
    beyond = await sos(home, "agent", "mint", "bob", "--project", "elsewhere", "--json", **given)
    assert (beyond.code, beyond.error["code"]) == (REFUSED, "forbidden")
    assert project.tenant_token not in taken.err + beyond.err


async def test_5_is_a_recipient_squad_or_project_that_is_not_there(project: Project, home: Path):
    given = {"SOS_URL": project.bus.url, "SOS_TOKEN": await project.mint("alice")}
    for arguments, code in (
        (("agent", "send", "nobody", "hi"), "unknown_recipient"),
        (("squad", "broadcast", "nowhere", "hi"), "unknown_squad"),
        (("squad", "join", "nowhere"), "unknown_squad"),
    ):
        ran = await sos(home, *arguments, "--json", **given)
        assert (ran.code, ran.error["code"]) == (NOT_FOUND, code)
    given = {"SOS_URL": project.bus.url, "SOS_ADMIN_TOKEN": project.bus.operator_token}
    ran = await sos(home, "agent", "mint", "x", "--project", "no-such-project", "--json", **given)
    assert (ran.code, ran.error["code"]) == (NOT_FOUND, "unknown_project")


async def test_a_home_that_cannot_be_read_as_one_is_told_and_not_traced(home: Path):
    for content in ("{", '{"url": 7}'):
        write_secret(home / "context.json", content)
        ran = await sos(home, "agent", "inbox", "--json", SOS_TOKEN=tokens.make(TokenKind.AGENT))
        assert (ran.code, ran.error["code"]) == (USAGE, "bad_request")


async def test_an_address_that_is_none_is_usage_and_not_traced(home: Path):
    for url in ("nonsense", "http://host:port", "ftp://x"):
        ran = await sos(home, "agent", "inbox", "--json", SOS_URL=url, SOS_TOKEN=tokens.make(TokenKind.AGENT))
        assert (ran.code, ran.error["code"]) == (USAGE, "bad_request")
