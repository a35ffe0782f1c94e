"""nkeys as text: the letters people read them by, the checksum, and refusals that never repeat a seed."""

import base64
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sos.wire import nkeys
from sos.wire.errors import BadRequest
from sos.wire.nkeys import NkeyKind

LETTER = {NkeyKind.USER: "U", NkeyKind.ACCOUNT: "A", NkeyKind.OPERATOR: "O"}
BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
kinds = st.sampled_from(list(NkeyKind))
raws = st.binary(min_size=32, max_size=32)

# From the documentation of NATS (docs.nats.io, "NKeys"): a made-up key that is in no server.
KNOWN_SEED = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
KNOWN_PUBLIC = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"


def crc16_xmodem(data: bytes) -> int:
    """CRC-16/XMODEM, bit by bit: polynomial 0x1021, starting at 0."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


@given(kind=kinds, raw=raws)
def test_a_public_key_survives_its_text(kind: NkeyKind, raw: bytes):
    text = nkeys.encode_public(kind, raw)
    assert len(text) == 56
    assert text[0] == LETTER[kind]
    assert nkeys.decode_public(text, kind) == raw


@given(kind=kinds, raw=raws)
def test_a_seed_survives_its_text(kind: NkeyKind, raw: bytes):
    text = nkeys.encode_seed(kind, raw)
    assert len(text) == 58
    assert text[:2] == "S" + LETTER[kind]
    assert nkeys.decode_seed(text) == (kind, raw)


@given(kind=kinds, raw=raws)
def test_the_checksum_is_crc_16_xmodem_in_little_endian(kind: NkeyKind, raw: bytes):
    decoded = base64.b32decode(nkeys.encode_public(kind, raw))
    assert decoded == bytes([kind]) + raw + crc16_xmodem(bytes([kind]) + raw).to_bytes(2, "little")


def test_a_key_from_the_documentation_of_nats_is_read_and_written():
    kind, raw = nkeys.decode_seed(KNOWN_SEED)
    assert nkeys.encode_seed(kind, raw) == KNOWN_SEED
    assert nkeys.encode_public(kind, nkeys.decode_public(KNOWN_PUBLIC, kind)) == KNOWN_PUBLIC


@given(kind=kinds, raw=raws)
def test_a_key_of_another_kind_is_refused(kind: NkeyKind, raw: bytes):
    text = nkeys.encode_public(kind, raw)
    for other in set(NkeyKind) - {kind}:
        with pytest.raises(BadRequest, match=other.name.lower()):
            nkeys.decode_public(text, other)


def test_every_change_of_one_character_of_a_public_key_is_refused():
    for at in range(len(KNOWN_PUBLIC)):
        for char in set(BASE32) - {KNOWN_PUBLIC[at]}:
            with pytest.raises(BadRequest):
                nkeys.decode_public(KNOWN_PUBLIC[:at] + char + KNOWN_PUBLIC[at + 1 :], NkeyKind.USER)


def test_every_change_of_one_character_of_a_seed_is_refused():
    for at in range(len(KNOWN_SEED)):
        for char in set(BASE32) - {KNOWN_SEED[at]}:
            with pytest.raises(BadRequest):
                nkeys.decode_seed(KNOWN_SEED[:at] + char + KNOWN_SEED[at + 1 :])


@given(text=st.text() | st.text(BASE32 + "=", max_size=70) | st.text(BASE32, min_size=56, max_size=58))
def test_any_other_text_is_bad_request(text: str):
    with pytest.raises(BadRequest):
        nkeys.decode_seed(text)
    with pytest.raises(BadRequest):
        nkeys.decode_public(text, NkeyKind.USER)


@pytest.mark.parametrize(
    "text", ["", "====", KNOWN_SEED, KNOWN_PUBLIC.lower(), f" {KNOWN_PUBLIC}", KNOWN_PUBLIC + "\n"]
)
def test_what_is_nearly_a_public_key_is_refused(text: str):
    with pytest.raises(BadRequest):
        nkeys.decode_public(text, NkeyKind.USER)


@pytest.mark.parametrize("letter", ["N", "C", "X"])
def test_a_seed_of_a_kind_that_is_not_used_here_is_refused(letter: str):
    data = bytearray(base64.b32decode("S" + letter + "A" * 54 + "=" * 0))[:34]
    text = base64.b32encode(bytes(data) + crc16_xmodem(bytes(data)).to_bytes(2, "little")).decode().rstrip("=")
    assert text.startswith("S" + letter)
    with pytest.raises(BadRequest):
        nkeys.decode_seed(text)


@pytest.mark.parametrize(
    "spoiled",
    [
        KNOWN_SEED[:-1],
        KNOWN_SEED[:-1] + "A",
        KNOWN_SEED + "A",
        KNOWN_SEED.lower(),
        "SN" + KNOWN_SEED[2:],
        KNOWN_SEED + "é",
    ],
)
def test_a_refusal_never_repeats_the_seed(spoiled: str):
    with pytest.raises(BadRequest) as refused:
        nkeys.decode_seed(spoiled)
    told = "".join(traceback.format_exception(refused.value)) + repr(refused.value) + str(refused.value.to_wire())
    assert spoiled[8:20] not in told
    with pytest.raises(BadRequest) as refused:
        nkeys.decode_public(spoiled, NkeyKind.USER)
    assert spoiled[8:20] not in "".join(traceback.format_exception(refused.value))
