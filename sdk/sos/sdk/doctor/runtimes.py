"""Checks of the client runtimes' configuration. A runtime that cannot open reads no inbox: runtime first, bus second.

Files that are not there are not asked for. Nothing of a file's text is shown but a token's last four characters.
"""

import shlex
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from sos.sdk.doctor.check import Says, critical, ok, skipped, warning, worst
from sos.sdk.doctor.patient import Patient
from sos.sdk.syntax import Broken, Syntax, parse
from sos.wire import secrets

MAX_CONFIG_BYTES = 64 * 1024 * 1024
"""Claude Code keeps its history in its configuration; far below this all the same."""


class Runtime(NamedTuple):
    """A client and where it keeps its configuration: from the user's home (`~`) and from the working folder (`.`)."""

    key: str
    called: str
    files: tuple[str, ...]
    syntax: Syntax


RUNTIMES: tuple[Runtime, ...] = (
    Runtime(
        "claude",
        "Claude Code",
        ("~/.claude.json", "~/.claude/settings.json", "./.mcp.json", "./.claude/settings.json"),
        "json",
    ),
    Runtime("codex", "Codex", ("~/.codex/config.toml",), "toml"),
    # Gemini CLI strips comments before it parses (google-gemini/gemini-cli pull request 422).
    Runtime("gemini", "Gemini CLI", ("~/.gemini/settings.json",), "commented json"),
    Runtime("cursor", "Cursor", ("~/.cursor/mcp.json",), "json"),
)


def config_of(runtime: Runtime) -> Callable[[Patient], Says]:
    """`runtime.config.<key>`: every file of one runtime, in one finding."""

    def look(_: Patient) -> Says:
        return runtime_says(runtime)

    return look


def runtime_says(runtime: Runtime) -> Says:
    """What the runtime's files that are there mean together."""
    there = [(shown, path) for shown in runtime.files if (path := Path(shown).expanduser()).is_file()]
    if not there:
        return skipped(f"no configuration of {runtime.called} here")
    says = [s for shown, path in there for s in _file_says(shown, path, runtime)]
    grave = [s for s in says if s.verdict != "ok"]
    if not grave:
        return ok(f"{runtime.called}: {', '.join(shown for shown, _ in there)}")
    found, cure = "; ".join(s.found for s in grave), " ".join(dict.fromkeys(s.cure for s in grave))
    return Says(verdict=worst(s.verdict for s in grave), found=found, cure=cure)


def _file_says(shown: str, path: Path, runtime: Runtime) -> list[Says]:
    try:
        with path.open("rb") as f:
            content = f.read(MAX_CONFIG_BYTES + 1)
    except OSError as e:
        return [critical(f"{shown} cannot be read ({e.strerror})", f"Let {runtime.called} read it.")]
    if len(content) > MAX_CONFIG_BYTES:
        return [warning(f"{shown} is larger than {MAX_CONFIG_BYTES} bytes and was not read", "See what fills it.")]
    return [_parsed(shown, content, runtime), *_exposed(shown, path, content)]


def _parsed(shown: str, content: bytes, runtime: Runtime) -> Says:
    try:
        parse(content, runtime.syntax)
    except Broken as e:
        called = "TOML" if runtime.syntax == "toml" else "JSON"
        cure = f"Repair the file before anything of the bus: {runtime.called} cannot start with it."
        return critical(f"{shown}:{e.line}:{e.column} is not valid {called}: {e.why}", cure)
    return ok(shown)


def _exposed(shown: str, path: Path, content: bytes) -> list[Says]:
    """Tokens of ours in a file that others may read."""
    if not stat.S_IMODE(path.stat().st_mode) & 0o044:
        return []
    tails = [s.tail for s in secrets.find_in(content) if s.kind.endswith("_token")]
    if not tails:
        return []
    found = f"{shown} holds a token as plain text (ending in {', '.join(tails)}) and others may read it"
    return [warning(found, f"chmod 600 {_quoted(shown)}, and 'sos agent rotate NAME' if others use this machine.")]


def _quoted(shown: str) -> str:
    """For a shell, which expands the tilde only unquoted."""
    return f"~/{shlex.quote(shown[2:])}" if shown.startswith("~/") else shlex.quote(shown)
