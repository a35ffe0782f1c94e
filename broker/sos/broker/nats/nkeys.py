"""The gateway's key pairs: Ed25519 with a kind. Their text is `sos.wire.nkeys`. The seed is the secret."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sos.wire import nkeys
from sos.wire.errors import BadRequest
from sos.wire.nkeys import NkeyKind

RAW_BYTES = 32


class KeyPair:
    """A private key and its kind. `public` may be shown; `seed` is the secret."""

    __slots__ = ("_key", "_raw", "kind", "public")

    def __init__(self, kind: NkeyKind, raw: bytes) -> None:
        if len(raw) != RAW_BYTES:
            raise BadRequest(why=f"a key is {RAW_BYTES} bytes")
        self.kind = kind
        self._raw = raw
        self._key = Ed25519PrivateKey.from_private_bytes(raw)
        self.public = nkeys.encode_public(kind, self._key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls, kind: NkeyKind) -> "KeyPair":
        """A new random key."""
        return cls(kind, Ed25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def from_raw(cls, kind: NkeyKind, raw: bytes) -> "KeyPair":
        """The key with these 32 private bytes."""
        return cls(kind, raw)

    @classmethod
    def from_seed(cls, seed: str) -> "KeyPair":
        """The key that `seed` was written from; `BadRequest`, which never quotes it, if it is none."""
        return cls(*nkeys.decode_seed(seed))

    @property
    def seed(self) -> str:
        """The secret, `S…`: into files of mode 0600 and nowhere else."""
        return nkeys.encode_seed(self.kind, self._raw)

    def sign(self, data: bytes) -> bytes:
        """The 64-byte Ed25519 signature."""
        return self._key.sign(data)

    def __repr__(self) -> str:
        return f"KeyPair({self.public})"


def check_public(text: str, kind: NkeyKind) -> str:
    """`text` if it is a public nkey of this kind with a right checksum, else `BadRequest`."""
    nkeys.decode_public(text, kind)
    return text
