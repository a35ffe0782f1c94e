"""`sos context` as a person uses it, and that commands go where it points."""

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.conftest import MakeProject, Project

from sos.sdk import AsyncAgent, identity
from sos.wire.home import write_secret
from sos.wire.tokens import TokenKind, make

SOS = Path(sys.executable).with_name("sos")
BOUND_S = 30.0
DONE, _, USAGE, UNREACHABLE, REFUSED, NOT_FOUND = range(6)


class Ran(msgspec.Struct):
    """A command that ended."""

    code: int
    out: str
    err: str

    def shown(self) -> Any:
        """The JSON on standard output."""
        assert self.code == DONE, self.err
        return msgspec.json.decode(self.out)

    def error(self) -> str:
        """The code of the error on standard error."""
        assert self.out == ""
        return msgspec.json.decode(self.err, type=dict[str, dict[str, Any]])["error"]["code"]


async def sos(home: Path, *arguments: str, **environment: str) -> Ran:
    """Run the command with nothing of the tests' own environment."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SOS_")} | {"SOS_HOME": str(home)} | environment

    def run_it() -> Ran:
        done = subprocess.run(
            [str(SOS), *arguments], env=clean, capture_output=True, text=True, timeout=BOUND_S, check=False
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    ran = await asyncio.to_thread(run_it)
    assert "Traceback" not in ran.err
    return ran


async def test_contexts_are_added_listed_used_and_removed(home: Path):
    assert "No contexts" in (await sos(home, "context", "list")).out
    added = await sos(
        home, "context", "add", "My Prod", "--url", "http://prod:1/", "--project", "Acme", "--agent", "Bob"
    )
    assert (added.code, "sos context use my-prod" in added.out) == (DONE, True)
    entry = {"url": "http://prod:1", "project": "acme", "agent": "bob"}
    listed = (await sos(home, "context", "list", "--json")).shown()
    assert listed == {"current": "", "contexts": {"my-prod": entry}}
    used = (await sos(home, "context", "use", "my-prod", "--json")).shown()
    assert used["current"] == "my-prod"
    await sos(home, "context", "add", "dev", "--url", "http://dev:2", "--use")
    rows = [line.split() for line in (await sos(home, "context", "list")).out.splitlines()]
    assert rows[1:] == [["*", "dev", "http://dev:2", "-", "-"], ["my-prod", "http://prod:1", "acme", "bob"]]
    removed = await sos(home, "context", "remove", "dev")
    assert "No context is current now" in removed.out
    assert (await sos(home, "context", "list", "--json")).shown() == listed


async def test_what_cannot_be_is_refused_with_its_exit_code(home: Path):
    assert (await sos(home, "context", "use", "nope", "--json")).error() == "unknown_context"
    assert (await sos(home, "context", "remove", "nope")).code == NOT_FOUND
    assert (await sos(home, "context", "add", "x", "--url", "nowhere", "--json")).error() == "bad_request"
    assert (await sos(home, "context", "add", "x", "--url", "nowhere")).code == USAGE
    assert (await sos(home, "context", "add", "x")).code == USAGE
    assert (await sos(home, "context", "add", "x", "--url", "http://a:1")).code == DONE
    assert (await sos(home, "context", "add", "x", "--url", "http://b:1")).code == REFUSED
    assert (await sos(home, "agent", "inbox", "--json", SOS_CONTEXT="nope", SOS_TOKEN="")).code == NOT_FOUND


async def test_a_broken_file_stops_what_depends_on_it_and_nothing_else(project: Project, home: Path):
    identity.save(project.slug, "bob", await project.mint("bob"))
    (home / "contexts.json").write_text('{"current": \n}')
    ran = await sos(home, "agent", "inbox", "--as", "bob", "--json")
    assert (ran.code, ran.error()) == (USAGE, "bad_request")
    assert "line 2, column 1" in ran.err
    elsewhere = {"SOS_URL": project.bus.url, "SOS_PROJECT": project.slug}
    assert (await sos(home, "agent", "inbox", "--as", "bob", **elsewhere)).code == DONE


async def test_the_current_contexts_gateway_project_and_agent_act(make_project: MakeProject, home: Path):
    project, other = await make_project(), await make_project()
    for one in (project, other):
        for name in ("ann", "bob"):
            identity.save(one.slug, name, await one.mint(name))
    await sos(home, "context", "add", "here", "--url", project.bus.url, "-p", project.slug, "--agent", "ann", "--use")
    await sos(home, "context", "add", "there", "--url", other.bus.url, "-p", other.slug, "--agent", "bob")
    assert (await sos(home, "agent", "send", "bob", "from the current context")).code == DONE
    assert (await sos(home, "agent", "send", "ann", "from the other", SOS_CONTEXT="there")).code == DONE
    read = (await sos(home, "agent", "inbox", "--as", "bob", "--json")).shown()
    assert [(m["sender"], m["text"]) for m in read] == [("ann", "from the current context")]
    read = (await sos(home, "agent", "inbox", "--as", "ann", "--project", other.slug, "--json")).shown()
    assert [(m["sender"], m["text"]) for m in read] == [("bob", "from the other")]


async def test_an_owners_commands_take_the_contexts_project(project: Project, home: Path):
    given = {"SOS_ADMIN_TOKEN": project.tenant_token}
    refused = await sos(home, "agent", "mint", "ann", "--json", SOS_URL=project.bus.url, **given)
    assert refused.error() == "bad_request"
    await sos(home, "context", "add", "here", "--url", project.bus.url, "--project", project.slug, "--use")
    minted = (await sos(home, "agent", "mint", "ann", "--json", **given)).shown()
    assert minted["project"] == project.slug


async def test_the_flag_and_the_environment_come_before_the_context(project: Project, home: Path):
    identity.save(project.slug, "bob", await project.mint("bob"))
    await sos(home, "context", "add", "away", "--url", "http://127.0.0.1:1", "--project", "elsewhere", "--use")
    assert (await sos(home, "agent", "inbox", "--project", project.slug, "--json")).code == UNREACHABLE
    assert (await sos(home, "agent", "inbox", "--project", project.slug, SOS_URL=project.bus.url)).code == DONE
    assert (await sos(home, "agent", "inbox", SOS_PROJECT=project.slug, SOS_URL=project.bus.url)).code == DONE


async def test_an_agent_in_a_program_goes_to_the_current_context_too(project: Project, home: Path):
    identity.save(project.slug, "bob", await project.mint("bob"))
    await sos(home, "context", "add", "here", "--url", project.bus.url, "--use")
    async with AsyncAgent(name="bob") as agent:
        assert agent.project == project.slug


async def test_the_operators_token_of_a_home_goes_to_no_other_gateway(home: Path):
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        stranger.setblocking(False)
        write_secret(home / "operator.token", make(TokenKind.OPERATOR) + "\n")
        write_secret(home / "context.json", '{"url": "http://127.0.0.1:1"}')
        there = f"http://localhost:{stranger.getsockname()[1]}"
        for command in (("project", "list"), ("agent", "join", "--name", "bob", "--project", "acme")):
            refused = await sos(home, *command, "--json", SOS_URL=there)
            assert (refused.code, refused.error()) == (REFUSED, "missing_token")
        with pytest.raises(BlockingIOError):
            stranger.accept()
