"""The 30-minute bar, unattended and in under a minute: from nothing but an owner's token to a first broadcast.

The newcomer's lines are the README's own, run in a shell with an empty home, in an environment of its own into which
the base package is really installed: no server, no test tools, nothing of the operator's.
"""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import msgspec
import pytest
from tests.acceptance.test_readme import ROOT, block

BAR_S = 60.0
STEP_TIMEOUT_S = 60
STOP_TIMEOUT_S = 20
SOS = Path(sys.executable).with_name("sos")


class Operator:
    """A running bus and the shell of who runs it."""

    def __init__(self, home: Path, url: str) -> None:
        self.home, self.url = home, url

    def sos(self, *arguments: str) -> bytes:
        """What a command of the operator's prints."""
        environment = clean() | {"SOS_HOME": str(self.home)}
        return subprocess.run(
            [SOS, *arguments], env=environment, capture_output=True, check=True, timeout=STEP_TIMEOUT_S
        ).stdout


def clean() -> dict[str, str]:
    """This environment without anything of a bus in it."""
    return {k: v for k, v in os.environ.items() if not k.startswith("SOS_")}


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    """Somebody who runs `sos up`."""
    home = tmp_path / "operator"
    process = subprocess.Popen(
        [SOS, "up", "--port", "0", "--nats-port", "0", "--json"],
        env=clean() | {"SOS_HOME": str(home)},
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        yield Operator(home, msgspec.json.decode(process.stdout.readline())["url"])
    finally:
        process.terminate()
        process.communicate(timeout=STOP_TIMEOUT_S)


class Newcomer:
    """A shell in an empty folder, with an empty home, the gateway's address and a file with the owner's token."""

    def __init__(self, folder: Path, url: str, owner_token: str) -> None:
        self.folder = folder
        folder.mkdir()
        token = folder / "owner.token"
        token.touch(mode=0o600)
        token.write_text(owner_token + "\n")
        path = os.pathsep.join(p for p in os.environ["PATH"].split(os.pathsep) if not p.startswith(str(ROOT)))
        self._environment = clean() | {"HOME": str(folder), "SOS_URL": url, "PATH": path}
        self._environment.pop("VIRTUAL_ENV", None)

    def shell(self, lines: str) -> str:
        """What the lines print. The package comes from this repository, and the interpreter is this one."""
        lines = lines.replace("pip install sos-bus", f"pip install --quiet --disable-pip-version-check {ROOT}")
        lines = lines.replace("python3 -m venv", f"{Path(sys.executable).resolve()} -m venv")
        done = subprocess.run(
            ["sh", "-ec", lines],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=STEP_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def test_from_an_owners_token_to_a_first_broadcast_in_under_a_minute(operator: Operator, tmp_path: Path):
    began = monotonic()
    created = msgspec.json.decode(operator.sos("project", "create", "acme", "--json"))
    operator.sos("squad", "create", "welcome", "--project", "acme")
    operator.sos("agent", "mint", "kasra", "--project", "acme", "--save")

    newcomer = Newcomer(tmp_path / "newcomer", operator.url, created["tenant_token"])
    told = newcomer.shell(block("sh", "pip install sos-bus"))
    for question in ("Who am I?", "Where is my inbox?", "What can I do?", "What do I do when stuck?"):
        assert question in told
    assert "first-agent" in told.partition("AGENT")[2], "peers does not show it"
    operator.sos("squad", "broadcast", "welcome", "hello, newcomer", "--as", "kasra")
    reading = ". sos/bin/activate\n" + block("sh", "sos agent inbox\n")
    assert "hello, newcomer" in newcomer.shell(reading)
    took_s = monotonic() - began
    assert took_s < BAR_S

    home = newcomer.folder / ".sos"
    assert "code-review" in operator.sos("agent", "list", "--project", "acme", "--json").decode()
    (token,) = home.glob("agents/acme/first-agent/token")
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert created["tenant_token"] not in "".join(p.read_text("latin-1") for p in home.rglob("*") if p.is_file())
    assert (token.parent / "RECOVERY.md").exists()
    shutil.rmtree(newcomer.folder / "sos")
