"""nkeys and the JWTs signed with them, without a server."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from sos.broker.nats.nkeys import KeyPair, check_public
from sos.wire.errors import BadRequest
from sos.wire.nkeys import NkeyKind

# From the documentation of NATS (docs.nats.io, "NKeys"): a made-up key that is in no server.
KNOWN_SEED = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
KNOWN_PUBLIC = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"


def test_a_seed_from_the_documentation_of_nats_gives_its_public_key():
    pair = KeyPair.from_seed(KNOWN_SEED)
    assert (pair.public, pair.seed, pair.kind) == (KNOWN_PUBLIC, KNOWN_SEED, NkeyKind.USER)


@pytest.mark.parametrize("kind", list(NkeyKind))
@given(raw=st.binary(min_size=32, max_size=32))
def test_a_key_survives_the_way_through_its_seed(kind: NkeyKind, raw: bytes):
    pair = KeyPair.from_raw(kind, raw)
    again = KeyPair.from_seed(pair.seed)
    assert (again.public, again.kind, again.seed) == (pair.public, kind, pair.seed)
    assert pair.public.startswith(kind.name[0])
    assert pair.seed.startswith("S" + kind.name[0])
    assert check_public(pair.public, kind) == pair.public
    assert len(pair.public) == 56


def test_a_signature_is_ed25519_over_the_bytes_as_they_are():
    import base64

    pair = KeyPair.generate(NkeyKind.USER)
    raw_public = base64.b32decode(pair.public)[1:33]
    Ed25519PublicKey.from_public_bytes(raw_public).verify(pair.sign(b"nonce"), b"nonce")


@given(at=st.integers(0, 55), letter=st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"))
def test_a_public_key_with_one_wrong_letter_is_refused(at: int, letter: str):
    changed = KNOWN_PUBLIC[:at] + letter + KNOWN_PUBLIC[at + 1 :]
    if changed != KNOWN_PUBLIC:
        with pytest.raises(BadRequest):
            check_public(changed, NkeyKind.USER)


@pytest.mark.parametrize(
    "text", ["", "U", "S", "SU", KNOWN_PUBLIC, KNOWN_SEED.lower(), KNOWN_SEED + "A", "SU" + "é" * 56]
)
def test_what_is_no_seed_is_refused_without_being_quoted(text: str):
    with pytest.raises(BadRequest) as refused:
        KeyPair.from_seed(text)
    assert not text or len(text) < 3 or text not in str(refused.value)


def test_a_key_of_one_kind_is_none_of_another():
    with pytest.raises(BadRequest):
        check_public(KNOWN_PUBLIC, NkeyKind.ACCOUNT)


def test_nothing_that_is_printed_shows_the_seed():
    pair = KeyPair.from_seed(KNOWN_SEED)
    assert KNOWN_SEED not in f"{pair!r} {pair}"
    assert pair.public in repr(pair)
