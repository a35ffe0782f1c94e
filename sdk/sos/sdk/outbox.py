"""Storing messages: wait for the server's PubAck, always; on a doubt try again with the same id, within a bound.

Fire-and-forget into a stream drops under load, and a publish that timed out may yet have been stored. The id is the
`Nats-Msg-Id`, so a second try of a stored message is answered with the first one's sequence.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic

import msgspec

from sos.sdk.link import Reply
from sos.sdk.message import Receipt
from sos.sdk.session import Session
from sos.wire.envelope import Envelope, encode
from sos.wire.errors import BadRequest, Internal, NatsUnreachable, NotStored, StorageExhausted
from sos.wire.ids import uuid7
from sos.wire.secrets import check_no_secret

log = logging.getLogger("sos.sdk")

WINDOW = 128
"""Publishes in flight at a time. More wait their turn here, where they can be cancelled, not in a socket buffer."""
TRY_TIMEOUT_S = 2.0
"""One PubAck. With every write synced to disk the slowest seen on a busy small machine stayed under a second."""
GIVE_UP_AFTER_S = 30.0
"""A whole send. Longer than any server restart or leader change that was measured (5.5 s)."""
PAUSE_S = 0.1
"""Between tries that failed at once, so that a server that is just coming up is not hammered."""

_TOO_BIG = {10054}
_FULL = {10002, 10023, 10028, 10047}
_STORE_FAILED = 10077
"""JetStream err_codes: insufficient resources; a store that failed, for a reason that stands in its description."""


class PubAck(msgspec.Struct, frozen=True):
    """JetStream's answer to a publish (NATS ADR-8 and ADR-22)."""

    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    error: "ApiError | None" = None


class ApiError(msgspec.Struct, frozen=True):
    """JetStream's refusal."""

    code: int
    err_code: int = 0
    description: str = ""


_puback = msgspec.json.Decoder(PubAck)


class Outbox:
    """One agent's way out. Any number of sends at a time; those of one caller that awaits each stay in order."""

    def __init__(self, session: Callable[[], Session]) -> None:
        self._session = session
        self._window = asyncio.Semaphore(WINDOW)

    async def store(self, subject: str, envelope: Envelope, to: str, *, retry: bool = False) -> Receipt:
        """Store one message. `retry` says that the caller may have tried this very id before.

        A `duplicate` on the first try of a new id means that somebody else used that id: the message is stored under
        a fresh one and the receipt says `renamed`. Raises `NotStored` when nothing was confirmed in `GIVE_UP_AFTER_S`,
        `StorageExhausted`, `MessageTooLarge`, `Forbidden`, and `SecretInMessage` before anything is sent.
        """
        body = encode(envelope)
        check_no_secret(body)
        async with self._window:
            ack, tries = await self._publish(subject, body, envelope.id)
            renamed = ack.duplicate and tries == 1 and not retry
            if renamed:
                log.error("message id %s had been used by another message; stored under a new id", envelope.id)
                envelope = msgspec.structs.replace(envelope, id=uuid7())
                ack, _ = await self._publish(subject, encode(envelope), envelope.id)
        return Receipt(id=envelope.id, seq=ack.seq, at=datetime.now(UTC), to=to, renamed=renamed)

    async def _publish(self, subject: str, body: bytes, msg_id: str) -> tuple[PubAck, int]:
        deadline, tries = monotonic() + GIVE_UP_AFTER_S, 0
        while (left_s := deadline - monotonic()) > 0:
            tries += 1
            try:
                line = await self._session().line(left_s)
                headers = {"Nats-Msg-Id": msg_id}
                reply = await line.request(subject, body, headers, min(TRY_TIMEOUT_S, max(left_s, 0.01)))
            except NatsUnreachable:
                await asyncio.sleep(PAUSE_S)
                continue
            ack = _read(reply)
            if ack is not None:
                return ack, tries
            await asyncio.sleep(PAUSE_S)
        raise NotStored(id=msg_id, tries=tries)


def _read(reply: Reply) -> PubAck | None:
    """The PubAck, None when it is worth another try (JetStream is not up yet), or the refusal as an error."""
    if reply.status:
        return None
    try:
        ack = _puback.decode(reply.body)
    except msgspec.MsgspecError as e:
        raise Internal(what=f"a publish: NATS answered {e}") from None
    if ack.error is None:
        return ack
    full = ack.error.err_code == _STORE_FAILED and ack.error.description.startswith(("maximum ", "no space"))
    if full or ack.error.err_code in _FULL:
        raise StorageExhausted(what="the project's message stream")
    if ack.error.err_code in _TOO_BIG:
        raise BadRequest(why="the message is larger than the project's stream takes")
    if ack.error.code == 503:
        return None
    raise BadRequest(why=f"JetStream refused the message: {ack.error.description}")
