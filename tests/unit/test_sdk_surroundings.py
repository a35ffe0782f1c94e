"""Which client and model act, from the environment; and that docs/joining.md shows the very table that decides."""

import re
from pathlib import Path

import pytest

from sos.sdk.surroundings import CLIENT_VARIABLE, MODEL_VARIABLE, TRACES, detect, named
from sos.wire.sessions import CLIENTS, label

DOCUMENT = Path(__file__).parents[2] / "docs" / "joining.md"
_ROW = re.compile(r"^\| `([a-z-]+)` \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)


@pytest.mark.parametrize(
    ("env", "found"),
    [
        ({}, ("", "")),
        ({"CLAUDECODE": "1"}, ("claude-code", "")),
        (
            {"CLAUDE_CODE_ENTRYPOINT": "cli", "ANTHROPIC_MODEL": "claude-sonnet-4-6"},
            ("claude-code", "claude-sonnet-4-6"),
        ),
        ({"CODEX_THREAD_ID": "019ddc81"}, ("codex", "")),
        ({"CODEX_CI": "1"}, ("codex", "")),
        ({"CODEX_SANDBOX": "seatbelt"}, ("codex", "")),
        ({"CODEX_SANDBOX_NETWORK_DISABLED": "1"}, ("codex", "")),
        ({"GEMINI_CLI": "1", "GEMINI_MODEL": "gemini-3-pro"}, ("gemini-cli", "gemini-3-pro")),
        ({"CURSOR_TRACE_ID": "abc"}, ("cursor", "")),
        ({"CURSOR_AGENT": "1"}, ("cursor", "")),
        ({"CLAUDECODE": " "}, ("", "")),
    ],
)
def test_a_client_is_told_by_what_it_leaves_in_the_environment(env: dict[str, str], found: tuple[str, str]):
    assert detect(env) == found


def test_what_a_person_set_comes_first():
    env = {"CLAUDECODE": "1", "ANTHROPIC_MODEL": "claude-opus-4-6"}
    assert detect(env | {CLIENT_VARIABLE: " my-bot ", MODEL_VARIABLE: "m1"}) == ("my-bot", "m1")
    assert detect(env | {MODEL_VARIABLE: "m1"}) == ("claude-code", "m1")
    assert named("given", "m2", env | {CLIENT_VARIABLE: "my-bot", MODEL_VARIABLE: "m1"}) == ("given", "m2")


def test_a_clients_model_variable_says_nothing_of_another_client():
    env = {"CLAUDECODE": "1", "ANTHROPIC_MODEL": "claude-opus-4-6", "GEMINI_MODEL": "gemini-3-pro"}
    assert detect(env) == ("claude-code", "claude-opus-4-6")
    assert detect(env | {CLIENT_VARIABLE: "my-bot"}) == ("my-bot", "")
    assert detect({"ANTHROPIC_MODEL": "claude-opus-4-6"}) == ("", "")
    assert detect({"CODEX_CI": "1", "ANTHROPIC_MODEL": "claude-opus-4-6"}) == ("codex", "")


def test_the_client_inside_another_ones_terminal_is_the_one_that_acts():
    assert detect({"CURSOR_TRACE_ID": "abc", "CLAUDECODE": "1"})[0] == "claude-code"
    assert detect({"CURSOR_TRACE_ID": "abc", "GEMINI_CLI": "1"})[0] == "gemini-cli"


@pytest.mark.parametrize(
    ("written", "model"),
    [("claude-opus-4-6[1m]", "claude-opus-4-6-1m"), ("ünïcode", "n-code"), ("x" * 300, ""), ("[]", "")],
)
def test_a_model_that_no_stamp_could_hold_is_made_to_fit_or_left_out(written: str, model: str):
    _, found = detect({"CLAUDECODE": "1", "ANTHROPIC_MODEL": written})
    assert found == model
    assert label(found)


def test_every_client_has_a_short_form():
    assert {t.client for t in TRACES} <= set(CLIENTS)


def test_the_document_shows_the_table_that_decides():
    _, _, section = DOCUMENT.read_text().partition("\n## What acts under the name\n")
    shown = [
        (client, tuple(re.findall(r"`(\w+)`", variables)), tuple(re.findall(r"`(\w+)`", models)))
        for client, variables, models in _ROW.findall(section)
    ]
    assert shown == [tuple(t) for t in TRACES]
