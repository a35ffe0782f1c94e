"""Secrets in text: each is found wherever it stands, nothing else is taken for one, and looking is quick."""

import base64
import hashlib
import random
import string
import time
import uuid

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.test_wire_tokens import WRAPPED

from sos.wire import nkeys, secrets, tokens
from sos.wire.errors import SecretInMessage
from sos.wire.nkeys import NkeyKind
from sos.wire.secrets import Secret
from sos.wire.tokens import TokenKind

MOST_BYTES = 256 * 1024
"""The largest message there is."""
QUICK_S = 2.0
"""A leak is erased within 2 s, so looking for one takes a small part of it. On a slow machine it takes some 0.3 s."""


def b64(data: bytes) -> str:
    """As a JWT writes it."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def jwt(header: bytes = b'{"typ":"JWT","alg":"ed25519-nkey"}') -> str:
    """A JWT with this header."""
    return f"{b64(header)}.{b64(b'{' + b' ' * 40 + b'}')}.{'s' * 86}"


KINDS = {TokenKind.AGENT: "agent_token", TokenKind.TENANT: "tenant_token", TokenKind.OPERATOR: "operator_token"}
seeds = st.builds(nkeys.encode_seed, st.sampled_from(NkeyKind), st.binary(min_size=32, max_size=32))
planted = (
    st.tuples(st.sampled_from(TokenKind), st.binary(min_size=32, max_size=32)).map(
        lambda pair: Secret(KINDS[pair[0]], tokens.from_bytes(*pair))
    )
    | seeds.map(lambda seed: Secret("nats_seed", seed))
    | st.just(Secret("jwt", jwt()))
)
# What might hide a secret: any text, what begins like one, and what a secret may run into without a gap. A JWT's last
# word has no end of its own, so nothing that could belong to it is put right behind it.
near = st.text(max_size=30) | st.text(string.ascii_letters + string.digits + "-_.", max_size=60)
before = near | st.sampled_from(
    [
        *("sk-bus-" + "a" * 31, "sk-bus-" + "a" * 32, "sk-op-", "sk", "s", "eyJ", "eyJ" * 20, "SU", "SUAA" * 20, "S"),
        *("SUA" + "A" * 50, b64(b'{"alg":"x"}'), "a.b.", "aaaaaaaaaa.aaaaaaaaaa.", "2", "Z", "\\n", "\\\\", "é"),
    ]
)
after = st.text(max_size=30).map(lambda text: f"\n{text}") | st.sampled_from(["", " ", '"', "'", "é", ")", "=", "\\n"])

EXAMPLES = [
    *(Secret(name, tokens.make(kind)) for kind, name in KINDS.items()),
    Secret("nats_seed", nkeys.encode_seed(NkeyKind.ACCOUNT, bytes(range(32)))),
    Secret("jwt", jwt()),
]
each = pytest.mark.parametrize("secret", EXAMPLES, ids=lambda s: s.kind)


@given(planted, before, after)
def test_a_secret_is_found_in_any_text_around_it(secret: Secret, left: str, right: str):
    assert secret in secrets.find(f"{left}{secret.text}{right}")
    assert secret in secrets.find_in(f"{left}{secret.text}{right}".encode())


@given(planted, near, near)
def test_a_secret_is_found_in_a_message_that_is_json(secret: Secret, left: str, right: str):
    text = f"{left} {secret.text} {right}"
    for body in (
        msgspec.json.encode({"text": text}),
        msgspec.json.encode({"text": msgspec.json.encode(text).decode()}),
    ):
        assert secret in secrets.find_in(body)


@each
@pytest.mark.parametrize("escape", ["\\u%04x", "\\u%04X"])
def test_escapes_of_json_hide_no_secret(secret: Secret, escape: str):
    for chars in ("-", ".", "S", "e", string.ascii_letters + string.digits + "-_."):
        hidden = "".join(escape % ord(c) if c in chars else c for c in secret.text)
        body = f'{{"text":"{hidden}"}}'.encode()
        assert secrets.find_in(body) == (secret,)
        left = secrets.without_secrets(body)
        assert secrets.find_in(left) == ()
        assert f"…{secret.tail}".encode() in left


@each
@pytest.mark.parametrize("wrapped", WRAPPED)
def test_a_secret_is_found_and_removed_wherever_it_stands(secret: Secret, wrapped: str):
    body = wrapped.format(secret.text).encode()
    assert [s.kind for s in secrets.find_in(body)] == [secret.kind]
    left = secrets.without_secrets(body)
    assert secret.text[8:-4].encode() not in left
    assert secrets.find_in(left) == ()


@given(st.lists(planted, max_size=6), near)
def test_nothing_is_left_of_any_secret_and_text_without_one_is_left_as_it_is(held: list[Secret], text: str):
    body = "\n".join([text, *(s.text for s in held), text]).encode()
    left = secrets.without_secrets(body)
    assert secrets.find_in(left) == ()
    assert all(s.text[8:-4].encode() not in left for s in held)
    assert held or left == body


def test_secrets_are_told_each_once_in_the_order_in_which_they_stand():
    turned = [*reversed(EXAMPLES), *EXAMPLES]
    assert secrets.find("\n".join(s.text for s in turned)) == tuple(reversed(EXAMPLES))


@pytest.mark.parametrize("cut", [31, 32])
def test_what_looks_like_a_token_hides_no_token_that_begins_in_its_last_letters(cut: int):
    real = EXAMPLES[0]
    text = "sk-bus-" + "a" * cut + real.text
    assert secrets.find(text) == (real,)
    assert real.text[10:-4] not in tokens.redact(text)


def test_a_jwt_is_found_between_other_words_with_dots():
    text = f"module.name.of.something.very-long-here.{jwt()}.and.more.behind.it"
    assert [s.kind for s in secrets.find(text)] == ["jwt"]
    assert secrets.find(jwt(b'{"typ":"JWT"}')) == ()


@pytest.mark.parametrize("letter", ["N", "C", "X"])
def test_a_seed_of_a_kind_that_this_bus_does_not_use_is_a_seed_all_the_same(letter: str):
    kind = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".index(letter)
    data = bytes([18 << 3 | kind >> 2, (kind & 3) << 6]) + bytes(range(32))
    checksum = _crc16(data).to_bytes(2, "little")
    seed = base64.b32encode(data + checksum).decode().rstrip("=")
    assert seed[:2] == "S" + letter
    assert nkeys.is_seed(seed)
    assert secrets.find(seed) == (Secret("nats_seed", seed),)


@given(st.text())
def test_text_of_any_kind_is_looked_at_without_a_failure(text: str):
    for body in (text.encode(), f"sk-bus-{text}eyJ{text}.{text}\\u{text}".encode(), text.encode("utf-16")):
        assert secrets.find_in(body) == ()
        assert secrets.without_secrets(body) == body


@given(st.binary())
def test_bytes_that_are_no_text_are_looked_at_too(body: bytes):
    assert secrets.find_in(body) == ()
    assert secrets.find_in(body + EXAMPLES[0].text.encode()) == (EXAMPLES[0],)
    assert secrets.find_in(secrets.without_secrets(body + b"\\ud800" + EXAMPLES[0].text.encode())) == ()


@given(st.integers(0, 2**64))
def test_ids_hashes_public_keys_and_base64_are_no_secrets(seed: int):
    chance = random.Random(seed)  # noqa: S311 - so that a failure can be repeated
    raw = chance.randbytes(3_000)
    ordinary = [
        *(str(uuid.UUID(bytes=raw[:16], version=4)), raw.hex(), hashlib.sha256(raw).hexdigest()),
        *(base64.b64encode(raw).decode(), b64(raw), ".".join(b64(raw[i : i + 40]) for i in range(0, 3_000, 40))),
        *(nkeys.encode_public(kind, raw[:32]) for kind in NkeyKind),
        "".join(chance.choices(string.printable, k=3_000)),
        tokens.digest(tokens.from_bytes(TokenKind.AGENT, raw[:32])),
    ]
    for text in ordinary:
        assert secrets.find(text) == ()
    assert secrets.find(" ".join(ordinary)) == ()


@each
def test_a_secret_that_was_changed_in_one_place_is_none(secret: Secret):
    if secret.kind == "jwt":
        return  # it holds no checksum: what has its form is taken for one
    for at, was in enumerate(secret.text):
        other = "B" if was != "B" else "C"
        assert secrets.find(secret.text[:at] + other + secret.text[at + 1 :]) == ()


@each
def test_the_refusal_tells_the_kind_and_four_characters_and_never_the_secret(secret: Secret):
    with pytest.raises(SecretInMessage) as refused:
        secrets.check_no_secret(f"take this: {secret.text}".encode())
    told = f"{refused.value} {refused.value!r} {refused.value.to_wire()} {secret!r}"
    assert secret.kind.replace("_", " ") in told
    assert secret.tail in told
    assert secret.text[-5:] not in told
    secrets.check_no_secret(b"nothing in here")


def test_the_refusal_of_many_secrets_shows_only_some():
    many = [tokens.make(TokenKind.AGENT) for _ in range(50)]
    with pytest.raises(SecretInMessage) as refused:
        secrets.check_no_secret(" ".join(many).encode())
    assert sum(tokens.tail(t) in refused.value.what for t in many) == secrets.MAX_SHOWN


@pytest.mark.parametrize(
    "unit",
    [
        *("eyJ", "eyJ.", "eyJaaaaaaaaaa.", "sk-bus-", "sk-op-" + "a" * 33, "SUA", "SUAA", "S", "s", "\\u0073", "\\"),
        *("eyJ" * 170 + ".", "eyJ" * 170 + ".aaaaaaaaaaaaaaaaaaaaa.", "aaaaaaaaaaa.", "eyJ" * 4 + "." + "a" * 20 + "."),
        "A" * 58 + " ",
    ],
    ids=lambda unit: unit[:16],
)
def test_no_message_however_it_is_made_takes_long_to_look_through(unit: str):
    body = (unit * (MOST_BYTES // len(unit) + 1))[:MOST_BYTES].encode()
    began = time.perf_counter()
    secrets.find_in(body)
    tokens.redact(body.decode())
    assert time.perf_counter() - began < QUICK_S


def _crc16(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc
