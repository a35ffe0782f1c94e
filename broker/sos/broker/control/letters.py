"""Stored messages, as the gateway reads and writes them: found by their id, and sent in the bus' own name."""

import hmac
from datetime import UTC, datetime, timedelta
from typing import Any

from sos.broker.nats.connection import Connection
from sos.broker.nats.jetstream import StoredMessage
from sos.wire import subjects
from sos.wire.envelope import Envelope, decode, encode, now
from sos.wire.errors import BadEnvelope, BadSubject
from sos.wire.ids import uuid7
from sos.wire.subjects import GATEWAY, MESSAGES

SESSION = "gateway"
"""What stands for a session in the bus' own messages: they belong to no run of an agent."""
CLOCK_SLACK = timedelta(minutes=5)
"""An id holds its sender's time. A clock that is further off makes the search long, not wrong."""
LATEST_S = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp())
"""An id has room for later years than a datetime."""


async def find_message(connection: Connection, id_: str) -> tuple[StoredMessage, str, Envelope] | None:
    """The stored message with this id, its sender and its envelope; None if there is none. Raw bytes that merely claim
    an id are no message."""
    made = datetime.fromtimestamp(min(int(id_.replace("-", "")[:12], 16) // 1_000, LATEST_S), UTC)
    first = await connection.first_since(MESSAGES, made - CLOCK_SLACK)
    for start, end in ((first, None), (1, first)):
        found = await _search(connection, id_, start, end) if start is not None else None
        if found is not None:
            return found
    return None


async def _search(
    connection: Connection, id_: str, start: int, end: int | None
) -> tuple[StoredMessage, str, Envelope] | None:
    """Look at messages from the sequence `start` up to before `end`, None for all there are."""
    seq = start
    while end is None or seq < end:
        batch = await connection.read_batch(MESSAGES, seq)
        for stored in batch:
            if stored.headers.get("Nats-Msg-Id") in {id_, None}:
                found = _opened(stored)
                if found is not None and found[1].id == id_:
                    return stored, *found
        if not batch:
            return None
        seq = batch[-1].seq + 1
    return None


def _opened(stored: StoredMessage) -> tuple[str, Envelope] | None:
    try:
        return subjects.parse_message(stored.subject).sender, decode(stored.body)
    except (BadEnvelope, BadSubject):
        return None


async def tell(connection: Connection, to: subjects.Message, text: str, data: dict[str, Any], id_: str = "") -> None:
    """Send what the bus has to say. The same `id_` again is stored once."""
    envelope = Envelope(
        v=1, id=id_ or uuid7(), kind="status", text=text, session=SESSION, sent_at=now(), data=data or None
    )
    await connection.store(MESSAGES, str(to), encode(envelope), msg_id=envelope.id)


def derived_id(key: bytes, at: datetime, *context: object) -> str:
    """The id of something the bus says once, whichever gateway says it and however often: a UUIDv7 of `at` whose random
    part is made from `context`. `key` is the bus' secret: an id that an agent could work out beforehand, it could use
    up, and the letter would be dropped as a duplicate."""
    made = hmac.digest(key, repr(context).encode(), "sha256")
    return uuid7(int(at.timestamp() * 1_000), int.from_bytes(made[:10]))


def to_agent(project: str, name: str) -> subjects.ToAgent:
    """An agent, addressed by the bus."""
    return subjects.ToAgent(project, name, GATEWAY)
