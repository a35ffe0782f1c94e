"""The recovery guide: one agent's, with commands that exist, built from nothing but names and places."""

import re
import shlex
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sos.sdk import guide
from sos.sdk.cli import app

BOB = guide.Subject(project="acme", name="bob", home=Path("/srv/my home"), url="http://bus.example:6070")
_FENCED = re.compile(r"```sh\n(.*?)```", re.DOTALL)


def fenced(text: str) -> list[list[str]]:
    """Every `sos` command that the guide says to run, as a shell would split it."""
    lines = [line for block in _FENCED.findall(text) for line in block.splitlines()]
    return [words for line in lines if (words := shlex.split(line)) and words[0] == "sos"]


def commands(text: str) -> list[list[str]]:
    """Those, and every one that the guide's sentences name."""
    return [*fenced(text), *(shlex.split(c) for c in re.findall(r"`(sos [^`]+)`", text))]


def test_the_guide_has_the_five_steps_in_their_order_and_the_four_questions():
    text = guide.text(BOB)
    steps = re.findall(r"^## (\d)\. (.*)$", text, re.MULTILINE)
    assert [n for n, _ in steps] == ["1", "2", "3", "4", "5"]
    for (_, title), word in zip(steps, ("machine", "runtime", "inbox", "who you think", "another agent"), strict=True):
        assert word in title
    for question in ("Who am I?", "Where is my inbox?", "What can I do?", "What do I do when stuck?"):
        assert question in text


def test_the_guide_is_of_this_agent_and_no_placeholder_is_left_of_it():
    text = guide.text(BOB)
    assert "export SOS_HOME='/srv/my home'" in text
    assert "export SOS_URL=http://bus.example:6070" in text
    assert "/srv/my home/agents/acme/bob" in text
    assert not re.search(r"\b(NAME|PROJECT|HOST)\b", text)
    acting = [words for words in fenced(text) if words[2] in {"inbox", "doctor", "peers", "send", "whoami"}]
    assert len(acting) == 6
    for words in acting:
        assert words[words.index("--as") + 1] == "bob", words
        assert words[words.index("--project") + 1] == "acme", words


def test_of_an_agent_that_is_not_known_the_guide_says_what_to_put_there():
    text = guide.text(guide.Subject(project="", name="", home=Path("/srv/home"), url=""))
    assert "--as NAME --project PROJECT" in text
    assert "http://HOST:6070" in text


@pytest.mark.parametrize("words", commands(guide.text(BOB)), ids=" ".join)
def test_every_command_of_the_guide_exists_with_its_options(words: list[str]):
    if words[:2] == ["sos", "up"]:
        return  # the broker's own, which the SDK's command line does not hold
    options = [w for w in words if w.startswith("--")]
    shown = CliRunner().invoke(app, [*words[1:3], "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert shown.exit_code == 0, shown.output
    assert [o for o in options if o not in shown.output] == []


def test_the_guide_is_left_whole_and_for_its_owner_alone(tmp_path: Path):
    path = guide.leave(tmp_path / "bob", BOB)
    assert path == guide.path_in(tmp_path / "bob")
    assert path.read_text() == guide.text(BOB)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    guide.leave(tmp_path / "bob", BOB)
    assert [p.name for p in path.parent.iterdir()] == ["RECOVERY.md"]
