"""A session's stamp, its short form, and the document that shows the tables."""

import base64
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sos.wire import api, names, sessions
from sos.wire.envelope import Envelope, now
from sos.wire.ids import uuid7
from sos.wire.sessions import CLIENTS, MODELS

AT = datetime(2026, 5, 15, 9, 42, 59, tzinfo=UTC)
STAMP = re.compile(r"[a-z0-9][a-z0-9-]*-\d{8}-\d{4}-[0-9a-f]{8}")
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "sessions.md").read_text()
names_ = st.from_regex(names.NAME, fullmatch=True)
free = st.text(max_size=70) | st.sampled_from([*CLIENTS, "Claude Sonnet 4.6", "anthropic/claude-opus-4-1-20250805"])


def test_a_stamp_says_project_agent_client_model_and_minute():
    stamp = sessions.stamp("acme", "kasra", "Claude Code", "claude-sonnet-4.6", AT)
    assert stamp.startswith("acme-kasra-claude-code-claude-sonnet-4-6-20260515-0942-")
    assert STAMP.fullmatch(stamp)


def test_what_was_not_given_is_unknown():
    assert sessions.stamp("acme", "kasra", "", " ", AT).startswith("acme-kasra-unknown-unknown-")


def test_two_sessions_of_one_minute_differ():
    stamps = {sessions.stamp("acme", "kasra", "codex", "gpt-5.4", AT) for _ in range(200)}
    assert len(stamps) == 200


@given(names_, names_, free, free)
def test_every_stamp_can_be_asked_for_again_and_stand_in_a_message(project: str, agent: str, client: str, model: str):
    stamp = sessions.stamp(project, agent, client, model, AT)
    assert STAMP.fullmatch(stamp)
    envelope = Envelope(v=1, id=uuid7(), kind="message", text="", session=stamp, sent_at=now())
    assert msgspec.json.decode(msgspec.json.encode(envelope), type=Envelope).session == stamp
    assert api.decode(api.encode(api.EndSession(session=stamp)), api.EndSession).session == stamp


def test_the_longest_stamp_there_can_be_is_still_one():
    longest = sessions.stamp("p" * 63, "a" * 63, "c" * 63, "m" * 63, AT)
    assert len(longest) == 248
    assert api.decode(api.encode(api.EndSession(session=longest)), api.EndSession).session == longest


def test_a_label_that_is_cut_does_not_end_in_a_hyphen():
    assert sessions.label("a" * 47 + " b" * 4) == "a" * 47


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("claude-opus-4-6[1m]", "claude-opus-4-6-1m"),
        ("GPT 5.4 (preview)", "gpt-5-4-preview"),
        ("a*b.>", "a-b"),
        ("Ünïcode", "n-code"),
        ("!!!", "unknown"),
        ("a\x00", "a"),
    ],
)
def test_whatever_a_client_or_model_is_called_it_becomes_one_word_of_a_stamp(text: str, label: str):
    assert sessions.label(text) == label


@pytest.mark.parametrize(
    ("client", "short"),
    [
        *CLIENTS.items(),
        *(("Claude Code", "cldCd"), ("claude_code", "cldCd"), ("", "unk"), ("windsurf", "win"), ("my-tool", "myTo")),
        *(("my-own-tool", "myOwT"), ("x", "x"), ("a-b-c-d-e-f", "aBCDE")),
    ],
)
def test_a_client_has_a_short_form(client: str, short: str):
    assert sessions.short_client(client) == short


@pytest.mark.parametrize(
    ("model", "short"),
    [
        *MODELS.items(),
        *(("claude-sonnet-4-6", "Snt46"), ("Claude Sonnet 4.6", "Snt46"), ("claude-opus-4-1-20250805", "Ops41")),
        *(("claude-3-5-haiku-20241022", "35Hku"), ("claude", "Cld"), ("gpt-5.4", "Gpt54"), ("gpt-4o", "Gpt4o")),
        *(("gemini-2.5-pro", "Gmn25Pro"), ("o3-mini", "O3Min"), ("llama3:8b", "Lla8b"), ("20250514", "Unk")),
        *(("", "Unk"), ("grok", "Gro"), ("gpt-5-codex", "Gpt5Cdx")),
    ],
)
def test_a_model_has_a_short_form(model: str, short: str):
    assert sessions.short_model(model) == short


def test_the_short_form_of_a_stamp_keeps_all_but_the_names_of_client_and_model():
    stamp = sessions.stamp("acme", "kasra", "claude-code", "claude-sonnet-4-6", AT)
    short = sessions.short(stamp, "acme", "kasra", "claude-code", "claude-sonnet-4-6")
    assert short == f"acme-kasra-cldCdSnt46-20260515-0942-{stamp[-8:]}"


@pytest.mark.parametrize("other", ["", "s1", "of-an-earlier-version", "acme-kasra-20260515-0942", "é"])
def test_what_is_no_stamp_is_its_own_short_form(other: str):
    assert sessions.short(other, "acme", "kasra", "codex", "") == other


@given(names_, names_, free, free)
def test_short_forms_differ_where_stamps_do(project: str, agent: str, client: str, model: str):
    pair = [sessions.stamp(project, agent, client, model, AT) for _ in range(2)]
    one, other = (sessions.short(stamp, project, agent, client, model) for stamp in pair)
    assert one != other
    assert len(one) <= len(pair[0]) + 2  # `o3` stays `o3`, an unknown model of dates only is `Unk`


@pytest.mark.parametrize("table", [CLIENTS, MODELS], ids=["clients", "models"])
def test_no_two_of_a_table_share_a_short_form(table: Mapping[str, str]):
    assert len(set(table.values())) == len(table)
    assert [name for name in table if sessions.label(name) != name] == []


def test_a_proof_is_of_one_key_one_token_and_one_reply_prefix():
    given_ = ("d" * 64, "U" + "A" * 55, "_INBOX_" + "0" * 32)
    proof = sessions.proof_of(*given_)
    assert proof == sessions.proof_of(*given_)
    assert len(proof) == 32
    for at in range(3):
        other = [*given_]
        other[at] = other[at][:-1] + "B"
        assert sessions.proof_of(*other) != proof
    assert len(base64.urlsafe_b64encode(bytes(64)).rstrip(b"=")) == 86  # as the wire writes the signature of it


# ── the document ─────────────────────────────────────────────────────────────────────────────────────────────────


def table_after(heading: str) -> dict[str, str]:
    """The two columns of the table below a heading of docs/sessions.md."""
    section = PAGE.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    found = re.findall(r"^\| `([^`|]+)` \| `([^`|]+)` \|$", section, re.MULTILINE)
    assert len(found) == len(dict(found))
    return dict(found)


def test_the_document_shows_the_table_of_clients():
    assert table_after("Clients") == CLIENTS


def test_the_document_shows_the_table_of_models():
    assert table_after("Models") == MODELS


def test_the_short_forms_that_the_document_gives_as_examples_are_right():
    shown = table_after("Examples")
    assert shown
    for long, short in shown.items():
        client, slash, model = long.partition(" / ")
        assert slash
        assert sessions.short_client(client) + sessions.short_model(model) == short
