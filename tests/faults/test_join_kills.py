"""The joining is killed after each step, and inside the call that mints: a repetition completes it, with one agent."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path

import pytest
from tests.conftest import Project
from tests.faults.killing_proxy import killing_proxy
from tests.integration.joins import NAME, SURROUNDINGS, agents_of, facts_of, token_in

from sos.sdk import AsyncAgent
from sos.sdk.joining import STEPS, Step
from sos.wire.tokens import tail

JOINER = Path(__file__).with_name("joiner.py")
SOS = Path(sys.executable).with_name("sos")
COMMAND_WITHIN_S = 60.0
KILLED = -signal.SIGKILL


def environment(project: Project, home: Path, url: str = "") -> dict[str, str]:
    """As on a machine that has nothing but the owner's token."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SOS_") and k not in SURROUNDINGS}
    told = {"SOS_HOME": str(home), "SOS_URL": url or project.bus.url, "SOS_ADMIN_TOKEN": project.tenant_token}
    return clean | told


async def begin(project: Project, home: Path, url: str, *arguments: str) -> Process:
    return await asyncio.create_subprocess_exec(
        SOS, *arguments, env=environment(project, home, url), stdout=DEVNULL, stderr=PIPE
    )


async def complete(project: Project, home: Path, *arguments: str) -> dict[str, object]:
    """The command as a person repeats it; what it says as JSON."""
    process = await asyncio.create_subprocess_exec(
        SOS, *arguments, "--json", env=environment(project, home), stdout=PIPE, stderr=PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), COMMAND_WITHIN_S)
    assert (process.returncode, err) == (0, b"")
    return json.loads(out)


JOIN = ("agent", "join", "--name", NAME, "--role", "builder", "--skill", "code review")


@pytest.mark.parametrize("step", STEPS)
async def test_a_join_killed_after_any_step_is_completed_by_a_repetition(project: Project, home: Path, step: Step):
    killed = await asyncio.create_subprocess_exec(
        sys.executable, JOINER, project.bus.url, NAME, step, env=environment(project, home), stderr=DEVNULL
    )
    assert await asyncio.wait_for(killed.wait(), COMMAND_WITHIN_S) == KILLED
    before = (await agents_of(project)).get(NAME)
    joined = await complete(project, home, *JOIN)
    assert joined["warnings"] == []
    assert (joined["role"], joined["skills"], joined["in_peers"]) == ("executor", ["code-review"], True)
    after = await agents_of(project)
    assert list(after) == [NAME]
    assert await facts_of(project) == ["agent.minted", "agent.joined"]
    assert tail(token_in(home, project)) == after[NAME].token_tail
    if STEPS.index("token") <= STEPS.index(step):
        assert before is not None
        assert before.token_tail == after[NAME].token_tail
    async with AsyncAgent(name=NAME, url=project.bus.url) as me:
        assert await me.inbox() == []


async def test_a_join_killed_between_the_mint_and_its_answer_gets_the_same_token(project: Project, home: Path):
    async with killing_proxy(project.bus.url, "/agents/mint") as proxy:
        process = await begin(project, home, proxy.url, *JOIN)
        proxy.kill = process.kill
        assert await asyncio.wait_for(process.wait(), COMMAND_WITHIN_S) == KILLED
    assert proxy.answers == [b"HTTP/1.1 201 Created"]
    minted = (await agents_of(project))[NAME]
    assert not (home / "agents" / project.slug / NAME / "token").exists()
    joined = await complete(project, home, *JOIN)
    assert (joined["token"], joined["warnings"]) == ("minted", [])
    assert tail(token_in(home, project)) == minted.token_tail
    assert await facts_of(project) == ["agent.minted", "agent.joined"]


@pytest.mark.parametrize("repetition", [("agent", "rotate", NAME), JOIN])
async def test_a_rotation_killed_before_its_answer_loses_no_token(
    project: Project, home: Path, repetition: tuple[str, ...]
):
    await complete(project, home, *JOIN)
    first = token_in(home, project)
    async with killing_proxy(project.bus.url, "/api/agent/rotate") as proxy:
        process = await begin(project, home, proxy.url, "agent", "rotate", NAME)
        proxy.kill = process.kill
        assert await asyncio.wait_for(process.wait(), COMMAND_WITHIN_S) == KILLED
    assert proxy.answers == [b"HTTP/1.1 200 OK"]
    assert token_in(home, project) == first
    rotated = (await agents_of(project))[NAME].token_tail
    assert rotated != tail(first)
    await complete(project, home, *repetition)
    assert tail(token_in(home, project)) == rotated
    assert (await facts_of(project)).count("agent.rotated") == 1
    async with AsyncAgent(name=NAME, url=project.bus.url) as me:
        assert (await me.send(NAME, "still here")).seq > 0
