"""The README's own lines, run as a newcomer would."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TOKEN = re.compile(r"sk-bus-[0-9A-Za-z]{33}")
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 20
COMMAND_TIMEOUT_S = 60


def blocks() -> list[tuple[str, str]]:
    """The fenced blocks of the README, in order: (language, text)."""
    return BLOCK.findall((ROOT / "README.md").read_text())


def block(language: str, holding: str) -> str:
    """The one block of that language that holds a text."""
    found = [text for lang, text in blocks() if lang == language and holding in text]
    assert len(found) == 1, f"{len(found)} {language} blocks hold {holding!r}"
    return found[0]


@pytest.fixture
def surroundings(tmp_path: Path) -> dict[str, str]:
    """A newcomer's environment: an empty home, and ports that are free on this machine."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SOS_")}
    return clean | {
        "SOS_HOME": str(tmp_path / "home"),
        "SOS_PORT": "0",
        "SOS_NATS_PORT": "0",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }


def shell(text: str, environment: dict[str, str], folder: Path) -> str:
    """What a shell prints for these lines."""
    done = subprocess.run(
        ["sh", "-ec", text],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def up(surroundings: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """The first shell."""
    running = subprocess.Popen(
        ["sh", "-ec", block("sh", "make up")],
        env=surroundings,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert running.stdout is not None
        for line in running.stdout:
            if "sos project create" in line:
                break
        assert running.poll() is None
        yield running
    finally:
        os.killpg(running.pid, signal.SIGINT)
        running.communicate(timeout=STOP_TIMEOUT_S)


@pytest.mark.usefixtures("up")
def test_the_example_of_the_readme_answers(surroundings: dict[str, str], tmp_path: Path):
    minting = block("sh", "sos project create acme").replace(". .venv/bin/activate\n", f". {ROOT}/.venv/bin/activate\n")
    printed = shell(minting, surroundings, tmp_path)
    token = TOKEN.findall(printed)[0]
    program = block("python", "from sos.sdk import Agent")
    assert 'token="sk-bus-..."' in program
    (tmp_path / "codecheck.py").write_text(program.replace("sk-bus-...", token))
    sending = (
        block("sh", "python codecheck.py") + "status=$?\nkill -TERM %1 2>/dev/null || kill $!\nwait\nexit $status\n"
    )
    answer = shell(sending, surroundings, tmp_path)
    assert block("text", "I can take this.").strip() in answer


def test_the_readme_leads_with_the_two_commands():
    language, first = blocks()[0]
    assert language == "sh"
    assert [line.split("#")[0].strip() for line in first.splitlines()] == ["make demo", "make test"]


def test_the_demo_shows_all_it_promises(surroundings: dict[str, str], tmp_path: Path):
    """Short of the set-up, this is `make demo ARGS=--json`."""
    printed = shell("sos demo --json", surroundings, tmp_path)
    out = msgspec.json.decode(printed.splitlines()[-1], type=dict[str, object])
    elapsed_s = out.pop("elapsed_s")
    assert isinstance(elapsed_s, float)
    assert elapsed_s > 0
    acked = out.pop("acked")
    assert isinstance(acked, int)
    assert acked >= 1000
    assert out == {
        "direct": True,
        "reply": True,
        "broadcast_received": 3,
        "offline_caught_up": True,
        "unknown_recipient_refused": True,
        "forged_sender_refused": True,
        "cross_project_refused": True,
        "revoked_is_cut": True,
        "leaked_token_is_void": True,
        "acked_lost_after_kill9": 0,
        "handler_duplicates": 0,
        "order_breaks": 0,
    }
