"""Names: what becomes one, always the same one, and what never does."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sos.wire import names
from sos.wire.errors import BadName, SecretInMessage
from sos.wire.tokens import TokenKind, make

DNS_LABEL = re.compile(r"^(?!-)[a-z0-9-]{1,63}(?<!-)\Z")

ascii_text = st.text(st.characters(max_codepoint=127), max_size=80)
joinable = st.text("aZ09 ._/:\\-\t", max_size=80)


@given(text=st.text() | ascii_text | joinable)
def test_whatever_text_becomes_is_a_name_and_stays_that_name(text: str):
    try:
        name = names.normalise(text)
    except BadName:
        return
    assert DNS_LABEL.match(name)
    assert names.is_name(name)
    assert names.normalise(name) == name
    assert names.check(name) == name


@given(text=st.text() | ascii_text)
def test_check_never_changes_what_it_lets_through(text: str):
    assert names.is_name(text) == (DNS_LABEL.match(text) is not None)
    if names.is_name(text):
        assert names.check(text) is text
    else:
        with pytest.raises(BadName):
            names.check(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Mumega.CodeCheck", "mumega-codecheck"),
        ("kasra", "kasra"),
        ("Acme Ltd", "acme-ltd"),
        ("  acme\tltd \n", "acme-ltd"),
        ("a_b.c/d:e\\f-g", "a-b-c-d-e-f-g"),
        ("..a....b..", "a-b"),
        ("claude-4.5/opus", "claude-4-5-opus"),
        ("7", "7"),
        ("a" * 63, "a" * 63),
        ("a" * 63 + "." * 100, "a" * 63),
    ],
)
def test_free_text_normalises_predictably(text: str, name: str):
    assert names.normalise(text) == name


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", ".", "-", "...", "*", ">", "a*", "a.>", "a@b", "a+b", "a,b", "a'b", "a\x00b", "a\x7fb", "$SYS"),
        *("é", "\u0430", "k\u0430sra", "\uff4basra", "\u0131", "\u0130", "\u212a", "ß", "🦊", "\u0663"),
        *("a\u200bb", "a\u00a0b", "\u202ea", "\ud800"),
        *("a" * 64, "a" * 257, "a " * 200, "." * 300 + "a"),
    ],
)
def test_what_cannot_become_a_name_is_refused_and_not_guessed(text: str):
    with pytest.raises(BadName) as refused:
        names.normalise(text, "squad id")
    assert refused.value.what == "squad id"
    assert len(refused.value.given) <= names.MAX_FREE_TEXT_CHARS


def test_a_trailing_line_feed_is_no_part_of_a_name():
    assert not names.is_name("kasra\n")
    with pytest.raises(BadName):
        names.check("kasra\n")


@pytest.mark.parametrize("text", ["kasra", "agent:kasra", " agent:kasra ", "agent:Kasra", "KASRA"])
def test_an_agent_is_named_with_or_without_the_word_agent(text: str):
    assert names.recipient(text) == "kasra"


@pytest.mark.parametrize("text", ["", "agent:", "agent:*", "agent:é", "agent: "])
def test_a_recipient_that_is_no_name_is_refused(text: str):
    with pytest.raises(BadName):
        names.recipient(text)


def test_the_closest_names_come_best_first_and_are_few():
    known = ["bob", "rob", "bobby", "alice", "bo"]
    assert names.closest("bobb", known)[0] in {"bob", "bobby"}
    assert len(names.closest("bob", known)) <= 3
    assert names.closest("zzz", known) == ()
    assert names.closest("zzz", iter([])) == ()


@pytest.mark.parametrize("kind", TokenKind)
def test_a_token_in_the_place_of_a_name_is_refused_and_not_shown(kind: TokenKind):
    token = make(kind)
    for text in (token, f"agent {token}", f"x.{token}"):
        with pytest.raises(SecretInMessage) as refused:
            names.normalise(text)
        assert token.lower() not in str(refused.value).lower()
        with pytest.raises(SecretInMessage):
            names.recipient(f"agent:{text}")
