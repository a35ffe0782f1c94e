"""The doctor on client runtimes: a broken configuration is named with file, line and column, a token in it is told."""

from pathlib import Path

import pytest

from sos.sdk.doctor.local import Local
from sos.sdk.doctor.patient import Patient
from sos.sdk.doctor.runtimes import RUNTIMES, Runtime, config_of, runtime_says
from sos.sdk.syntax import Broken, Syntax, parse
from sos.wire.tokens import TokenKind, make

BY_KEY = {r.key: r for r in RUNTIMES}
TOKEN = make(TokenKind.AGENT)
GOOD = {"claude": "{}", "codex": 'model = "x"\n', "gemini": '{"a": 1}', "cursor": '{"mcpServers": {}}'}
BAD = {
    "claude": ('{\n  "a": 1,\n}', 3, 1),
    "codex": ('model = "x"\n[mcp\n', 2, 5),
    "gemini": ('{"a": /* b */ 1 2}', 1, 17),
    "cursor": ('{"a": "b}', 1, 7),
}
FILES = [(r, shown) for r in RUNTIMES for shown in r.files]


@pytest.fixture(autouse=True)
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's home and a working folder, both empty."""
    for folder in ("user", "project"):
        (tmp_path / folder).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "user"


def write(shown: str, content: str, mode: int = 0o600) -> None:
    """Write a configuration file as it is called."""
    path = Path(shown).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(mode)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_runtime_that_is_not_there_is_skipped(runtime: Runtime, tmp_path: Path):
    says = config_of(runtime)(Patient(local=Local(home=tmp_path)))
    assert (says.verdict, runtime.called in says.found) == ("skipped", True)


@pytest.mark.parametrize(("runtime", "shown"), FILES)
def test_a_good_file_is_ok(runtime: Runtime, shown: str):
    write(shown, GOOD[runtime.key])
    says = runtime_says(runtime)
    assert (says.verdict, shown in says.found) == ("ok", True)


@pytest.mark.parametrize(("runtime", "shown"), FILES)
def test_a_broken_file_is_named_with_its_line_and_column(runtime: Runtime, shown: str):
    content, line, column = BAD[runtime.key]
    write(shown, content)
    says = runtime_says(runtime)
    assert says.verdict == "critical"
    assert f"{shown}:{line}:{column} is not valid" in says.found
    assert runtime.called in says.cure


def test_every_broken_file_of_a_runtime_is_named():
    write("~/.claude.json", "")
    write("~/.claude/settings.json", "{}")
    write("./.mcp.json", "[]")
    says = runtime_says(BY_KEY["claude"])
    assert "~/.claude.json:1:1" in says.found
    assert "./.mcp.json:1:1" in says.found
    assert "settings.json" not in says.found


def test_gemini_may_have_comments_and_claude_may_not():
    content = '// mine\n{"url": "http://x", /* two\nlines */ "a": 1}'
    write("~/.gemini/settings.json", content)
    write("~/.claude.json", content)
    assert runtime_says(BY_KEY["gemini"]).verdict == "ok"
    assert runtime_says(BY_KEY["claude"]).verdict == "critical"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_token_in_a_file_that_others_may_read_is_a_warning_that_shows_four_characters(mode: int):
    write("~/.cursor/mcp.json", f'{{"env": {{"SOS_TOKEN": "{TOKEN}"}}}}', mode)
    says = runtime_says(BY_KEY["cursor"])
    assert says.verdict == "warning"
    assert "chmod 600 ~/.cursor/mcp.json" in says.cure
    assert TOKEN[-4:] in says.found
    assert TOKEN[-5:] not in says.found + says.cure


def test_a_token_in_a_file_that_nobody_else_may_read_is_no_warning():
    write("~/.cursor/mcp.json", f'{{"env": {{"SOS_TOKEN": "{TOKEN}"}}}}', 0o600)
    assert runtime_says(BY_KEY["cursor"]).verdict == "ok"


def test_what_looks_like_a_token_and_is_none_is_no_warning():
    write("~/.cursor/mcp.json", f'{{"env": {{"SOS_TOKEN": "{TOKEN[:-1]}!"}}}}', 0o644)
    assert runtime_says(BY_KEY["cursor"]).verdict == "ok"


def test_a_broken_file_with_a_token_is_critical_and_tells_both():
    write("~/.codex/config.toml", f'token = "{TOKEN}" "{TOKEN}"\n', 0o644)
    says = runtime_says(BY_KEY["codex"])
    assert says.verdict == "critical"
    assert ":1:" in says.found
    assert f"ending in {TOKEN[-4:]}" in says.found
    assert TOKEN not in says.found + says.cure


def test_a_working_folder_that_is_gone_is_no_trouble(tmp_path: Path):
    (tmp_path / "project").rmdir()
    assert runtime_says(BY_KEY["claude"]).verdict == "skipped"


@pytest.mark.parametrize(
    ("content", "syntax", "line", "column"),
    [
        (b"", "json", 1, 1),
        (b"{", "json", 1, 2),
        (b'{"a":\n\n}', "json", 3, 1),
        (b'{"a": 1} x', "json", 1, 10),
        (b"\xef\xbb\xbf{}", "json", 1, 1),
        (b'{"a":\n"\xff"}', "json", 2, 2),
        (b"null", "json", 1, 1),
        (b"[" * 100_000, "json", 1, 1),
        (b'{"a": /* "', "commented json", 1, 7),
        (b'{"a": "// no comment" 1}', "commented json", 1, 23),
        (b"a = ", "toml", 1, 5),
        (b"a = 1\na = 2\n", "toml", 2, 6),
        (b"a = 1\n\n[", "toml", 3, 2),
        (b"\xff", "toml", 1, 1),
    ],
)
def test_what_does_not_parse_is_told_with_its_place(content: bytes, syntax: Syntax, line: int, column: int):
    with pytest.raises(Broken) as broken:
        parse(content, syntax)
    assert (broken.value.line, broken.value.column) == (line, column)


@pytest.mark.parametrize("content", [b'a = "s3cret"\na = "s3cret"', b'"s3cret" = 1\n"s3cret" = 2', b"a = s3cret"])
def test_a_complaint_repeats_nothing_of_the_text(content: bytes):
    with pytest.raises(Broken) as broken:
        parse(content, "toml")
    assert "s3cret" not in str(broken.value)
