"""NATS nkeys as text: a prefix byte, 32 raw bytes of Ed25519, a CRC16, in base32. The keys themselves live elsewhere.

Source: the nkeys specification of nats-io. The checksum is CRC-16/XMODEM, which the standard library calls `crc_hqx`.
"""

import base64
import binascii
import re
from enum import IntEnum

from sos.wire.errors import BadRequest


class NkeyKind(IntEnum):
    """The prefix byte: what the key stands for, and the first letter of its text."""

    ACCOUNT = 0
    OPERATOR = 14 << 3
    USER = 20 << 3


_SEED = 18 << 3
_SEED_TEXT = re.compile(r"S[A-Z2-7]{57}")
_CRC_BYTES = 2


def encode_public(kind: NkeyKind, raw: bytes) -> str:
    """The public key's text, 56 characters, from its 32 raw bytes."""
    return _encode(bytes([kind]) + raw)


def encode_seed(kind: NkeyKind, raw: bytes) -> str:
    """The seed's text, 58 characters, from its 32 raw bytes. A secret."""
    return _encode(bytes([_SEED | kind >> 5, (kind & 31) << 3]) + raw)


def decode_public(text: str, kind: NkeyKind) -> bytes:
    """The 32 raw bytes of a public key; `BadRequest` if it is not one of that kind."""
    data = _decode(text)
    if len(data) != 33 or data[0] != kind:
        raise BadRequest(why=f"not a public nkey of kind {kind.name.lower()}")
    return data[1:]


def decode_seed(text: str) -> tuple[NkeyKind, bytes]:
    """The kind and 32 raw bytes of a seed; `BadRequest`, which never repeats the text, if it is not one."""
    data = _decode(text)
    if len(data) != 34 or data[0] & 0b1111_1000 != _SEED:
        raise BadRequest(why="not an nkey seed")
    try:
        return NkeyKind((data[0] & 0b111) << 5 | data[1] >> 3), data[2:]
    except ValueError:
        raise BadRequest(why="not an nkey seed of a known kind") from None


def is_seed(text: str) -> bool:
    """Whether `text` is a seed of any kind of key, this bus' or not, by its prefix and checksum. A whole message may
    be made of what looks like one, so no exception is raised and caught for each."""
    if _SEED_TEXT.fullmatch(text) is None:
        return False
    raw = base64.b32decode(text + "=" * (-len(text) % 8))
    data, checksum = raw[:-_CRC_BYTES], raw[-_CRC_BYTES:]
    return binascii.crc_hqx(data, 0) == int.from_bytes(checksum, "little") and _encode(data) == text


def _encode(data: bytes) -> str:
    checksum = binascii.crc_hqx(data, 0).to_bytes(_CRC_BYTES, "little")
    return base64.b32encode(data + checksum).decode().rstrip("=")


def _decode(text: str) -> bytes:
    try:
        raw = base64.b32decode(text + "=" * (-len(text) % 8))
    except (binascii.Error, ValueError):
        raise BadRequest(why="not an nkey") from None
    data = raw[:-_CRC_BYTES]
    # Unused low bits of the last character would let two texts mean one key: only the one that is written is read.
    if _encode(data) != text:
        raise BadRequest(why="not an nkey: its checksum is wrong")
    return data
