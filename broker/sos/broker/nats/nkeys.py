"""NATS nkeys: Ed25519 keys with a kind, written in base32 (NATS ADR-14).

A public key is `base32(prefix ‖ 32 bytes ‖ crc16)`, a seed `base32(2 prefix bytes ‖ 32 bytes ‖ crc16)`, without
padding; the CRC is CCITT (XMODEM), little-endian. The seed is the secret: nothing here prints it.
"""

import base64
import binascii
from enum import StrEnum

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

RAW_BYTES = 32
_SEED_PREFIX = 18 << 3  # the letter S


class KeyKind(StrEnum):
    """Whose key it is: the first letter of its public form."""

    OPERATOR = "O"
    ACCOUNT = "A"
    USER = "U"


_PREFIX = {KeyKind.OPERATOR: 14 << 3, KeyKind.ACCOUNT: 0, KeyKind.USER: 20 << 3}


class BadKey(ValueError):
    """Text or bytes that are no nkey of the kind asked for. Its text never quotes what was given."""


class KeyPair:
    """A private key and its kind. `public` may be shown; `seed` is the secret."""

    __slots__ = ("_key", "_raw", "kind", "public")

    def __init__(self, kind: KeyKind, raw: bytes) -> None:
        if len(raw) != RAW_BYTES:
            raise BadKey(f"a key is {RAW_BYTES} bytes")
        self.kind = kind
        self._raw = raw
        self._key = Ed25519PrivateKey.from_private_bytes(raw)
        public = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.public = _encode(bytes([_PREFIX[kind]]) + public)

    @classmethod
    def generate(cls, kind: KeyKind) -> "KeyPair":
        """A new random key."""
        return cls(kind, Ed25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def from_raw(cls, kind: KeyKind, raw: bytes) -> "KeyPair":
        """The key with these 32 private bytes."""
        return cls(kind, raw)

    @classmethod
    def from_seed(cls, seed: str) -> "KeyPair":
        """The key that `seed` was written from; `BadKey` if it is none."""
        decoded = _decode(seed)
        if len(decoded) != RAW_BYTES + 2 or decoded[0] & 0xF8 != _SEED_PREFIX:
            raise BadKey("not an nkey seed")
        prefix = (decoded[0] & 7) << 5 | decoded[1] >> 3
        kind = next((k for k, p in _PREFIX.items() if p == prefix), None)
        if kind is None:
            raise BadKey("a seed of a kind that is not used here")
        return cls(kind, decoded[2:])

    @property
    def seed(self) -> str:
        """The secret, `S…`: into files of mode 0600 and nowhere else."""
        prefix = _PREFIX[self.kind]
        return _encode(bytes([_SEED_PREFIX | prefix >> 5, (prefix & 31) << 3]) + self._raw)

    def sign(self, data: bytes) -> bytes:
        """The 64-byte Ed25519 signature."""
        return self._key.sign(data)

    def __repr__(self) -> str:
        return f"KeyPair({self.public})"


def check_public(text: str, kind: KeyKind) -> str:
    """`text` if it is a public nkey of this kind with a right checksum, else `BadKey`."""
    decoded = _decode(text)
    if len(decoded) != RAW_BYTES + 1 or decoded[0] != _PREFIX[kind]:
        raise BadKey(f"not a public nkey of the kind {kind}")
    return text


def _encode(payload: bytes) -> str:
    crc = binascii.crc_hqx(payload, 0).to_bytes(2, "little")
    return base64.b32encode(payload + crc).decode().rstrip("=")


def _decode(text: str) -> bytes:
    try:
        decoded = base64.b32decode(text + "=" * (-len(text) % 8))
    except (binascii.Error, ValueError):
        raise BadKey("not base32") from None
    payload, crc = decoded[:-2], decoded[-2:]
    # Unused low bits of the last character would let two texts mean one key; only the canonical text is accepted.
    if binascii.crc_hqx(payload, 0).to_bytes(2, "little") != crc or _encode(payload) != text:
        raise BadKey("the checksum is wrong")
    return payload
