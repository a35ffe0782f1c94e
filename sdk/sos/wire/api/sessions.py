"""Sessions, over HTTP: a token and a key in, a credential out."""

from typing import Annotated

import msgspec

from sos.wire.api.shared import FreeText, Request
from sos.wire.envelope import Moment
from sos.wire.scopes import Scope
from sos.wire.subjects import INBOX_ROOT


class OpenSession(Request, frozen=True, kw_only=True):
    """POST /api/session, by an agent: its own token as bearer, the public half of a key it has just made."""

    public_nkey: Annotated[str, msgspec.Meta(pattern="^U[A-Z2-7]{55}$")]
    inbox_prefix: Annotated[str, msgspec.Meta(pattern=f"^{INBOX_ROOT}[a-z0-9]{{32}}$")]
    name: FreeText = ""
    client: FreeText = ""
    model: FreeText = ""
    install: FreeText = ""
    proof: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_-]{86}$")]
    """The key's Ed25519 signature, base64url, of `sos.wire.sessions.proof_of`: that the asker holds its other half."""
    session: Annotated[str, msgspec.Meta(max_length=256)] = ""
    """The session to go on with, when a credential is renewed; empty for a new one."""


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """One squad the agent is in. What is older than `from_seq` (a sequence of MESSAGES) was before its time."""

    squad: str
    from_seq: int


class SessionOpened(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `OpenSession`: a credential, and where everything is."""

    project: str
    name: str
    session: str
    jwt: str
    expires_at: Moment
    issued_at: Moment
    nats_urls: tuple[str, ...]
    scopes: tuple[Scope, ...]
    memberships: tuple[Membership, ...]
    max_message_bytes: int
    ack_wait_s: float
    """How long a delivered message may stay unacknowledged before the server gives it out again."""


class EndSession(Request, frozen=True, kw_only=True):
    """`session.end`: this run stops. Nothing of it may be renewed afterwards."""

    session: Annotated[str, msgspec.Meta(max_length=256)]


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `session.end`."""

    session: str
