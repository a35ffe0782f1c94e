"""What an agent reads and what it gets back for what it sent."""

from datetime import datetime
from typing import Any, Literal

import msgspec

from sos.wire.envelope import AckClass, Kind
from sos.wire.errors import ErrorBody


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message as its reader sees it.

    `sender`, `to` and `squad` come from the subject, so they are what the server let through. Everything else was
    written by the sender. `seq` is the message's place in the project's one order, `attempt` 1 on the first delivery.
    """

    id: str
    sender: str
    to: str
    """This agent's own name."""
    squad: str | None
    """The squad it was broadcast to; None if it was sent to this agent alone."""
    kind: Kind
    text: str
    data: dict[str, Any] | None
    thread: str | None
    reply_to: str | None
    ack: AckClass | None
    ack_for: str | None
    ok: bool | None
    hops: int
    session: str
    sent_at: datetime
    stored_at: datetime
    """When NATS stored it, by the server's clock (UTC)."""
    seq: int
    attempt: int


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """NATS stored the message: proof of storage, not that anybody read it.

    `seq` is its sequence in the project's stream. `to` is an agent or, with `members` set, a squad with that many
    other members when it was last looked up. `suspended` says that the recipient is disabled: the mail is kept for it.
    """

    id: str
    seq: int
    at: datetime
    to: str
    members: int | None = None
    suspended: bool = False
    notice: ErrorBody | None = None
    """What the sender should know although the message is stored: `agent_disabled`, with its cure."""
    renamed: bool = False
    """The id that was asked for had been used by another message, so this one was stored under a new id."""


State = Literal["new", "connected", "consuming", "stopped"]
