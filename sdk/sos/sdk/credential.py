"""A session's key and the JWT that the gateway signed for it. The private half never leaves this object."""

import base64
import secrets
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sos.wire import nkeys
from sos.wire.api import OpenSession, SessionOpened
from sos.wire.sessions import proof_of
from sos.wire.subjects import inbox_prefix
from sos.wire.tokens import digest


class SessionKey:
    """A new Ed25519 key and a new random place for replies: made for one credential, never stored, never reused.

    Revocation is by key and in whole seconds, so a key that served twice could be refused for what its first use did.
    """

    def __init__(self) -> None:
        self._private = Ed25519PrivateKey.generate()
        self.public = nkeys.encode_public(nkeys.NkeyKind.USER, self._private.public_key().public_bytes_raw())
        self.inbox_prefix = inbox_prefix(secrets.token_hex(16))

    def sign(self, nonce: bytes) -> bytes:
        """The Ed25519 signature of the server's nonce."""
        return self._private.sign(nonce)

    def request(
        self, token: str, *, name: str = "", client: str = "", model: str = "", install: str = "", session: str = ""
    ) -> OpenSession:
        """What opens a session with this key under `token`, proof included."""
        signed = self._private.sign(proof_of(digest(token), self.public, self.inbox_prefix))
        return OpenSession(
            public_nkey=self.public,
            inbox_prefix=self.inbox_prefix,
            proof=base64.urlsafe_b64encode(signed).decode().rstrip("="),
            name=name,
            client=client,
            model=model,
            install=install,
            session=session,
        )


class Credential:
    """What a connection needs: servers, key, JWT, and until when it holds."""

    def __init__(self, key: SessionKey, opened: SessionOpened) -> None:
        self._key = key
        self.jwt = opened.jwt
        self.servers = opened.nats_urls
        self.issued_at: datetime = opened.issued_at
        self.expires_at: datetime = opened.expires_at

    @property
    def inbox_prefix(self) -> str:
        """Where replies to this credential's connection go."""
        return self._key.inbox_prefix

    @property
    def lifetime_s(self) -> float:
        """Seconds from its issue to its end, by the gateway's clock, so that this machine's may be wrong."""
        return (self.expires_at - self.issued_at).total_seconds()

    def sign(self, nonce: bytes) -> bytes:
        """The signature that proves the key."""
        return self._key.sign(nonce)
