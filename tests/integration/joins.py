"""What the tests of joining share: one wish, and looks at what came of it at both ends."""

import json
from pathlib import Path

import pytest
from tests.conftest import OPERATOR, Project

from sos.sdk import joining
from sos.sdk.gateway import Gateway
from sos.sdk.joining import Joined, Wish
from sos.wire import api
from sos.wire.subjects import RegistryFact

WISH = Wish(name="Mumega.CodeCheck", role="code-reviewer", skills=("code review",))
NAME = "mumega-codecheck"
SURROUNDINGS = (
    *("CLAUDECODE", "CLAUDE_CODE_ENTRYPOINT", "CODEX_CI", "CODEX_THREAD_ID", "CODEX_SANDBOX"),
    *("CODEX_SANDBOX_NETWORK_DISABLED", "GEMINI_CLI", "CURSOR_AGENT", "CURSOR_TRACE_ID"),
    *("SOS_CLIENT", "SOS_MODEL", "SOS_CONTEXT"),
)


def without_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No client of the surroundings acts."""
    for name in SURROUNDINGS:
        monkeypatch.delenv(name, raising=False)


async def join(project: Project, wish: Wish = WISH, root: Path | None = None) -> Joined:
    return await joining.join(wish, project.bus.url, root=root)


def token_in(home: Path, project: Project, name: str = NAME) -> str:
    return (home / "agents" / project.slug / name / "token").read_text().strip()


def codes(joined: Joined) -> list[str]:
    return [w.code for w in joined.warnings]


async def agents_of(project: Project) -> dict[str, api.Agent]:
    return {a.name: a for a in await project.bus.bus.agents.list(OPERATOR, project.slug)}


async def facts_of(project: Project, name: str = NAME) -> list[str]:
    """The kinds of the registry's facts about one agent, in order, its sessions' left out."""
    found: list[str] = []
    after = 0
    while (page := await project.bus.bus.auditing.read(OPERATOR, after, 256)).records:
        after = page.records[-1].seq
        here = [r for r in page.records if r.subject == str(RegistryFact(project.slug, "agent", name))]
        found += [json.loads(r.record)["event"]["type"] for r in here]
    return [kind for kind in found if kind.startswith("agent.")]


def files_of(home: Path, project: Project) -> dict[str, bytes]:
    """What a join leaves in the home, the record of handled messages left out."""
    folder = home / "agents" / project.slug / NAME
    return {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.startswith("state.db")}


def owner(project: Project) -> Gateway:
    return Gateway(project.bus.url, project.tenant_token)


def files_named(folder: Path, name: str) -> list[Path]:
    """Every file of that name below a folder."""
    return [p for p in folder.rglob(name) if p.is_file()]


def files_with(folder: Path, text: str) -> set[str]:
    """The names of the files below a folder that hold a text."""
    return {p.name for p in folder.rglob("*") if p.is_file() and text.encode() in p.read_bytes()}
