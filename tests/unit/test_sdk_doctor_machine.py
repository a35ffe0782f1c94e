"""The doctor on the machine: Python, disk, who may enter the home; and what this machine knows of an agent."""

import subprocess
from pathlib import Path

import pytest

from sos.sdk import contexts, identity
from sos.sdk.doctor.local import Local, look
from sos.sdk.doctor.machine import disk, disk_says, permissions, python_says
from sos.sdk.doctor.patient import Patient
from sos.wire.errors import BadName, BadRequest, MissingToken, UnknownAgent
from sos.wire.home import DEFAULT_URL
from sos.wire.tokens import TokenKind, make

TOKEN = make(TokenKind.AGENT)


@pytest.fixture(autouse=True)
def clean(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home that is not there yet."""
    monkeypatch.delenv("SOS_CONTEXT", raising=False)
    return home


@pytest.mark.parametrize(
    ("version", "verdict"), [((3, 11, 9), "critical"), ((3, 12, 0), "ok"), ((3, 14, 2), "ok"), ((4, 0, 0), "ok")]
)
def test_python_before_3_12_is_critical(version: tuple[int, ...], verdict: str):
    says = python_says(version)
    assert says.verdict == verdict
    assert ".".join(map(str, version)) in says.found


@pytest.mark.parametrize(
    ("used", "verdict", "word"),
    [
        (0.0, "ok", ""),
        (84.9, "ok", ""),
        (85.0, "ok", "ends below 85%"),
        (89.9, "ok", "ends below 85%"),
        (90.0, "warning", ""),
        (94.9, "warning", ""),
        (95.0, "critical", ""),
        (100.0, "critical", ""),
    ],
)
def test_a_disk_is_judged_at_85_90_and_95_per_cent(used: float, verdict: str, word: str):
    says = disk_says(used, 3 * 2**30, Path("volume"))
    assert says.verdict == verdict
    assert word in says.found
    assert "3.0 GiB free" in says.found
    assert bool(says.cure) == (verdict != "ok")


def test_the_disk_is_measured_where_the_home_would_be(home: Path):
    says = disk(Patient(local=Local(home=home)))
    assert str(home.parent) in says.found
    assert says.verdict in {"ok", "warning", "critical"}
    assert not home.exists()


def test_a_home_that_is_not_there_yet_is_skipped(home: Path):
    assert permissions(Patient(local=look("", ""))).verdict == "skipped"
    assert not home.exists()


def test_a_saved_agents_home_is_well():
    identity.save("acme", "bob", TOKEN)
    assert permissions(Patient(local=look("", ""))).verdict == "ok"


@pytest.mark.parametrize(
    ("place", "mode", "verdict"),
    [
        (".", 0o755, "warning"),
        ("agents", 0o750, "warning"),
        ("agents/acme/bob", 0o711, "warning"),
        ("agents/acme/bob/token", 0o644, "critical"),
        ("agents/acme/bob/token", 0o620, "critical"),
    ],
)
def test_what_others_may_enter_is_told_with_the_chmod_that_ends_it(home: Path, place: str, mode: int, verdict: str):
    identity.save("acme", "bob", TOKEN)
    (home / place).chmod(mode)
    patient = Patient(local=look("", ""))
    says = permissions(patient)
    assert says.verdict == verdict
    assert f"{mode:04o}" in says.found
    assert TOKEN not in says.found
    subprocess.run(says.cure, shell=True, check=True, timeout=10)  # noqa: S602 - the cure is a shell command
    assert permissions(patient).verdict == "ok"


def test_a_cure_holds_in_a_home_whose_name_has_spaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SOS_HOME", str(tmp_path / "my 'own' home"))
    identity.save("acme", "bob", TOKEN).chmod(0o644)
    patient = Patient(local=look("", ""))
    says = permissions(patient)
    subprocess.run(says.cure, shell=True, check=True, timeout=10)  # noqa: S602 - the cure is a shell command
    assert permissions(patient).verdict == "ok"


# ── what is known locally ────────────────────────────────────────────────────────────────────────────────────────────


def test_with_nothing_at_all_it_is_said_that_there_is_no_token_and_nothing_is_written(home: Path):
    local = look("", "")
    assert (local.url, local.name, local.project, local.token) == (DEFAULT_URL, "", "", "")
    assert isinstance(local.problem, MissingToken)
    assert local.agent_home is None
    assert not home.exists()


def test_a_saved_agent_is_known_by_its_home(home: Path):
    path = identity.save("acme", "bob", TOKEN)
    local = look("", "")
    assert (local.project, local.name, local.token, local.token_path) == ("acme", "bob", TOKEN, path)
    assert local.agent_home == home / "agents" / "acme" / "bob"
    assert local.problem is None
    assert TOKEN not in repr(local)


def test_an_agent_that_lost_its_token_is_still_known_by_its_home():
    identity.save("acme", "bob", TOKEN).unlink()
    local = look("", "")
    assert (local.project, local.name, local.token) == ("acme", "bob", "")
    assert isinstance(local.problem, UnknownAgent)


def test_the_environments_token_comes_before_the_saved_one(monkeypatch: pytest.MonkeyPatch):
    identity.save("acme", "bob", TOKEN)
    other = make(TokenKind.AGENT)
    monkeypatch.setenv("SOS_TOKEN", other)
    local = look("", "")
    assert (local.token, local.token_path, local.name) == (other, None, "")
    assert local.token_source == "SOS_TOKEN"


def test_what_is_wrong_is_kept_and_not_raised(home: Path):
    assert isinstance(look("*", "").problem, BadName)
    identity.save("acme", "bob", TOKEN)
    identity.save("acme", "ann", TOKEN)
    assert isinstance(look("", "").problem, BadRequest)
    (home / "contexts.json").write_text("{")
    local = look("bob", "acme")
    assert isinstance(local.url_problem, BadRequest)
    assert local.token == TOKEN


def test_an_address_of_the_environment_stands_whatever_the_contexts_hold(home: Path, monkeypatch: pytest.MonkeyPatch):
    home.mkdir(mode=0o700)
    (home / "contexts.json").write_text("{")
    monkeypatch.setenv("SOS_URL", "http://environment:4")
    local = look("bob", "acme")
    assert (local.url, local.url_problem) == ("http://environment:4", None)


def test_a_token_that_is_no_text_is_told():
    identity.save("acme", "bob", TOKEN).write_bytes(b"\xff\xfe")
    local = look("", "")
    assert isinstance(local.problem, BadRequest)
    assert (local.name, local.token) == ("bob", "")


def test_the_context_in_effect_is_named():
    contexts.add("prod", contexts.Named(url="http://prod:1"), use_it=True)
    local = look("", "")
    assert (local.context, local.url) == ("prod", "http://prod:1")
