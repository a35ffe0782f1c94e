"""What the repository promises about itself: its rooms, its sizes, and what a command may load."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOTS = ("broker", "sdk", "migrations")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 70
MACHINE_PATH = re.compile(r"(?<![\w.$~-])/(?:work|root|home)/[\w.-]")
SLOW = ("nats", "starlette", "uvicorn", "cryptography", "aiosqlite", "mcp")


def files() -> list[Path]:
    """Every file of ours: what git tracks or would track."""
    listed = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    found = subprocess.run(listed, capture_output=True, check=True, timeout=30, text=True).stdout
    return sorted({path for name in found.split("\0") if name and (path := ROOT / name).is_file()})


OURS = files()
SOURCES = [path for path in OURS if path.suffix == ".py"]


def name_of(path: Path) -> str:
    """A file's name in the repository."""
    return path.relative_to(ROOT).as_posix()


def in_process(code: str) -> str:
    """What a fresh interpreter prints."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("SOS_", "COV"))}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=env, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_namespace_has_no_init_in_any_root():
    assert [root for root in ROOTS if (ROOT / root / "sos" / "__init__.py").exists()] == []
    assert [root for root in ROOTS if not (ROOT / root / "sos").is_dir()] == []


def test_the_wheel_is_made_of_the_three_roots():
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert set(build["targets"]["wheel"]["packages"]) == {f"{root}/sos" for root in ROOTS}
    assert set(build["dev-mode-dirs"]) == set(ROOTS)
    assert set(ROOTS) <= set(build["targets"]["sdist"]["include"])


def test_no_file_of_ours_is_over_four_hundred_lines():
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_FILE_LINES} == {}


def test_no_function_is_over_seventy_lines():
    long: dict[str, int] = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                lines = node.end_lineno - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    long[f"{name_of(path)}:{node.name}"] = lines
    assert long == {}


def test_every_module_says_what_it_is_for():
    ours = [path for path in SOURCES if name_of(path).startswith(("broker/", "sdk/"))]
    assert ours
    assert [name_of(path) for path in ours if not ast.get_docstring(ast.parse(path.read_text()))] == []


def test_nothing_names_a_path_of_one_machine():
    found: list[str] = []
    for path in OURS:
        if path == Path(__file__).resolve():
            continue
        try:
            lines = path.read_text().splitlines()
        except UnicodeDecodeError:
            continue
        found += [f"{name_of(path)}:{n}" for n, line in enumerate(lines, start=1) if MACHINE_PATH.search(line)]
    assert found == []


def imports_of(path: Path) -> set[str]:
    """The modules that a file imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)} has a relative import"
            found.add(node.module or "")
    return found


def test_the_wire_imports_nothing_but_itself_msgspec_and_the_standard_library():
    wire = [path for path in SOURCES if name_of(path).startswith("sdk/sos/wire/")]
    assert wire
    for path in wire:
        foreign = {
            name
            for name in imports_of(path)
            if not (name + ".").startswith(("sos.wire.", "msgspec."))
            and name.split(".")[0] not in sys.stdlib_module_names
        }
        foreign -= {"sos.wire"}
        assert foreign == set(), name_of(path)


@pytest.mark.parametrize(("side", "other"), [("broker/sos/broker", "sos.sdk"), ("sdk/sos/sdk", "sos.broker")])
def test_broker_and_sdk_do_not_import_each_other(side: str, other: str):
    allowed = {"broker/sos/broker/cli.py", "broker/sos/broker/cli_admin.py"}
    ours = [path for path in SOURCES if name_of(path).startswith(side) and name_of(path) not in allowed]
    assert ours
    assert [name_of(p) for p in ours if any((m + ".").startswith(other + ".") for m in imports_of(p))] == []


@pytest.mark.parametrize(
    "statement",
    ["import sos.sdk.cli", "import sos.broker.cli", "import sos.wire.api, sos.wire.subjects, sos.wire.tokens"],
)
def test_importing_the_command_line_or_the_wire_loads_nothing_slow(statement: str):
    code = f"import sys; {statement}\nprint(*[m for m in {SLOW!r} if m in sys.modules])"
    assert in_process(code).split() == []


@pytest.mark.parametrize("arguments", [["--help"], ["agent", "--help"], ["agent", "send", "--help"]])
def test_help_is_shown_without_loading_what_only_commands_need(arguments: list[str]):
    code = (
        "import sys; from sos.broker.cli import main\n"
        f"sys.argv = ['sos', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit as e:\n    assert not e.code, e.code\n"
        f"print('LOADED', *[m for m in {SLOW!r} if m in sys.modules])"
    )
    shown, _, loaded = in_process(code).partition("LOADED")
    assert "Usage" in shown
    assert loaded.split() == []


def test_the_command_is_installed_under_its_name():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"sos": "sos.broker.cli:main"}
