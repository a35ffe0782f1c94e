"""What a message's body holds: `Envelope`, JSON on the wire.

Who sent it and to whom are *not* in here. They are in the subject, which the server checked; a field would be a claim.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec

from sos.wire.errors import BadEnvelope, MessageTooLarge
from sos.wire.ids import UUID7

MAX_ENCODED_BYTES = 256 * 1024
"""An envelope's limit, encoded: well under NATS' own 1 MiB, and more text than any agent's context wants at once."""

MAX_HOPS = 16
"""Replies to replies: two agents that answer each other stop here."""

Id = Annotated[str, msgspec.Meta(pattern=f"^{UUID7.pattern}$", max_length=36)]
Kind = Literal["message", "reply", "ack", "status"]
AckClass = Literal["critical", "routine"]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class Envelope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message's body.

    `id` is also its `Nats-Msg-Id`. `thread` is the id that started the conversation, `reply_to` the one it answers.
    `ack` asks for an answer by class (`critical` 30 s, `routine` 60 s), `ack_for` with `ok` is such an answer, and no
    envelope holds both. `hops` counts replies to replies. `session` says which run of the sender wrote it. `data` is
    any JSON object. Fields that a later version adds are ignored.
    """

    v: Annotated[int, msgspec.Meta(ge=1, le=1)]
    id: Id
    kind: Kind
    text: str
    session: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    sent_at: Moment
    data: dict[str, Any] | None = None
    thread: Id | None = None
    reply_to: Id | None = None
    ack: AckClass | None = None
    ack_for: Id | None = None
    ok: bool | None = None
    hops: Annotated[int, msgspec.Meta(ge=0, le=MAX_HOPS)] = 0

    def __post_init__(self) -> None:
        if self.ack is not None and self.ack_for is not None:
            raise ValueError("an answer cannot ask for an answer")
        if (self.ok is None) != (self.ack_for is None):
            raise ValueError("`ok` and `ack_for` come together")


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Envelope)


def encode(envelope: Envelope) -> bytes:
    """The JSON of an envelope; `MessageTooLarge` past the limit, `BadEnvelope` if a reader would refuse it or would not
    read it as it is here (NaN becomes null, bytes become text)."""
    try:
        body = _encoder.encode(envelope)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as e:
        raise BadEnvelope(why=f"it cannot be written as JSON ({type(e).__name__})") from e
    if len(body) > MAX_ENCODED_BYTES:
        raise MessageTooLarge(size_bytes=len(body), limit_bytes=MAX_ENCODED_BYTES)
    if decode(body) != envelope:
        raise BadEnvelope(why="its data would not be read as it was written; use JSON's own types")
    return body


def decode(body: bytes) -> Envelope:
    """The envelope in `body`, validated; `BadEnvelope` for anything else, whatever bytes they are."""
    if len(body) > MAX_ENCODED_BYTES:
        raise BadEnvelope(why=f"{len(body)} bytes")
    try:
        return _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as e:
        raise BadEnvelope(why=str(e) if isinstance(e, msgspec.ValidationError) else "not JSON") from e


def now() -> datetime:
    """The time for `sent_at`."""
    return datetime.now(UTC)
