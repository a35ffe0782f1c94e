"""Tokens: told from noise without a database, and never repeated in what is logged."""

import base64
import hashlib
import itertools
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sos.wire import nkeys, tokens
from sos.wire.errors import MalformedToken
from sos.wire.tokens import TokenKind

KINDS = list(TokenKind)
TOKEN = tokens.make(TokenKind.AGENT)
SEED = nkeys.encode_seed(nkeys.NkeyKind.USER, bytes(range(32)))
PART = base64.urlsafe_b64encode(b'{"typ":"JWT","alg":"ed25519-nkey"}').decode().rstrip("=")
JWT = f"{PART}.{PART}.{'s' * 86}"
SECRETS = [*(tokens.make(k) for k in KINDS), SEED, JWT]
CREDS = (
    f"-----BEGIN NATS USER JWT-----\n{JWT}\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n{SEED}\n"
)
WRAPPED = [
    *(
        "{}",
        "token={}",
        "Bearer {}",
        '"{}"',
        "'{}',",
        "({})",
        "<{}>",
        "a {} b",
        "{}\n",
        "\t{}\t",
        "https://h/?t={}&x=1",
    ),
    *("SOS_TOKEN={};", "{{'token': '{}'}}", "…{}…", "é{}é", "[{}]", "{}.", "{}:", "/{}/", "creds\\n{}\\nend", "\\t{}"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_of_each_kind_is_known_by_itself(kind: TokenKind):
    token = tokens.make(kind)
    assert token.startswith(kind)
    assert len(token) == len(kind) + 27 + 6
    assert tokens.check(token) is kind
    assert tokens.check(token, kind) is kind
    assert tokens.check(token, *KINDS) is kind
    assert tokens.make(kind) != token


@pytest.mark.parametrize(("kind", "other"), list(itertools.permutations(KINDS, 2)))
def test_a_token_of_another_kind_is_refused(kind: TokenKind, other: TokenKind):
    with pytest.raises(MalformedToken, match=other.value):
        tokens.check(tokens.make(kind), other)


@pytest.mark.parametrize("kind", KINDS)
def test_every_change_of_one_character_is_refused(kind: TokenKind):
    token = tokens.make(kind)
    for at, char in itertools.product(range(len(token)), string.ascii_letters + string.digits + "- \n"):
        if token[at] == char:
            continue
        with pytest.raises(MalformedToken):
            tokens.check(token[:at] + char + token[at + 1 :])


@pytest.mark.parametrize("kind", KINDS)
def test_every_swap_of_neighbours_and_every_cut_is_refused(kind: TokenKind):
    token = tokens.make(kind)
    swapped = {token[:i] + token[i + 1] + token[i] + token[i + 2 :] for i in range(len(token) - 1)}
    cut = {token[:i] for i in range(len(token))} | {token[i:] for i in range(1, len(token))}
    for bad in (swapped | cut) - {token}:
        with pytest.raises(MalformedToken):
            tokens.check(bad)


@given(text=st.text())
def test_any_other_text_is_refused_as_malformed(text: str):
    for bad in (text, f"sk-bus-{text}", TOKEN + text if text else "", f"{text}{TOKEN}" if text else ""):
        with pytest.raises(MalformedToken):
            tokens.check(bad)


@given(body=st.text(string.ascii_letters + string.digits, min_size=33, max_size=33))
def test_the_refusal_never_holds_the_token(body: str):
    bad = f"sk-bus-{body}"
    with pytest.raises(MalformedToken) as refused:
        tokens.check(bad, TokenKind.OPERATOR)
    told = f"{refused.value} {refused.value!r} {refused.value.to_wire()} {refused.value.args}"
    assert body not in told
    assert bad[-tokens.TAIL_CHARS - 1 :] not in told


def test_a_token_is_stored_as_its_sha_256_and_shown_as_its_last_four_characters():
    assert tokens.digest(TOKEN) == hashlib.sha256(TOKEN.encode()).hexdigest()
    assert tokens.tail(TOKEN) == TOKEN[-4:]


@pytest.mark.parametrize("wrapped", WRAPPED)
@pytest.mark.parametrize("secret", SECRETS, ids=["agent", "tenant", "operator", "seed", "jwt"])
def test_a_secret_is_found_and_removed_wherever_it_stands(secret: str, wrapped: str):
    text = wrapped.format(secret)
    assert tokens.holds_secret(text)
    redacted = tokens.redact(text)
    assert secret[8:-4] not in redacted
    assert "…" in redacted
    assert not tokens.holds_secret(redacted)


@pytest.mark.parametrize("secret", SECRETS, ids=["agent", "tenant", "operator", "seed", "jwt"])
@given(before=st.text(max_size=20), after=st.text(max_size=20))
def test_a_secret_between_any_white_space_and_quotes_is_removed(secret: str, before: str, after: str):
    for quote in ('"', " ", "\n"):
        assert secret[8:-4] not in tokens.redact(f"{before}{quote}{secret}{quote}{after}")


def test_a_credentials_file_is_a_secret_as_it_is_and_inside_json():
    for text in (CREDS, CREDS.replace("\n", "\\n")):
        assert tokens.holds_secret(text)
        redacted = tokens.redact(text)
        assert SEED[8:-4] not in redacted
        assert JWT[40:-4] not in redacted


def test_two_secrets_side_by_side_are_both_removed():
    for text in (f"{TOKEN} {TOKEN}", f"{TOKEN},{SEED},{JWT}", f"{SEED}\n{SEED}"):
        redacted = tokens.redact(text)
        for secret in (TOKEN, SEED, JWT):
            assert secret[8:-4] not in redacted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sk-bus- is how a token of an agent begins",
        "sk-bus-" + "a" * 33,
        "sk-live-" + "a" * 33,
        "The quick brown fox jumps over the lazy dog. " * 50,
        "SU" + "A" * 20,
        nkeys.encode_public(nkeys.NkeyKind.USER, bytes(32)),
        "eyJ is how a JWT begins, and a.b.c is not one",
        "0123456789abcdef" * 4,
        "c29tZSBiYXNlNjQgdGV4dCB0aGF0IGlzIG5vdCBhIHNlY3JldA==",
        "v1.2.3 www.example.com/path?x=1",
    ],
)
def test_ordinary_text_is_no_secret(text: str):
    assert not tokens.holds_secret(text)


@given(text=st.text())
def test_text_without_a_secret_is_left_as_it_is(text: str):
    if not tokens.holds_secret(text):
        assert tokens.redact(text) == text
