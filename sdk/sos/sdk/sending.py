"""Sending: what an agent says, each in one envelope, stored before it returns."""

from abc import ABC, abstractmethod
from typing import Any, Self

import msgspec

from sos.sdk.addresses import Addresses
from sos.sdk.calls import Memberships
from sos.sdk.message import Message, Receipt
from sos.sdk.outbox import Outbox
from sos.wire import subjects
from sos.wire.envelope import MAX_HOPS, AckClass, Envelope, Kind, now
from sos.wire.errors import AgentDisabled, BadRequest, TooManyHops
from sos.wire.ids import is_uuid7, uuid7
from sos.wire.names import normalise, recipient
from sos.wire.scopes import Scope


class Sending(ABC):
    """The half of an agent that sends. The other half connects it."""

    _outbox: Outbox
    _addresses: Addresses
    _memberships: Memberships

    @property
    @abstractmethod
    def name(self) -> str:
        """The sender."""

    @property
    @abstractmethod
    def project(self) -> str:
        """Its project."""

    @property
    @abstractmethod
    def session(self) -> str:
        """The stamp of its run."""

    @abstractmethod
    async def connect(self) -> Self:
        """Open the session."""

    @abstractmethod
    def _need(self, scope: Scope) -> None:
        """`MissingScope` unless it is held."""

    async def send(
        self,
        to: str,
        text: str,
        *,
        data: dict[str, Any] | None = None,
        ack: AckClass | None = None,
        thread: str | None = None,
        id: str | None = None,  # noqa: A002 - the envelope's own word
    ) -> Receipt:
        """Send to one agent, `kasra` or `agent:kasra`. Returns when NATS has stored it.

        `ack` asks for an answer by class. To retry a send that raised `NotStored`, pass its `id` again. Raises
        `UnknownRecipient` (nothing is sent), `MessageTooLarge`, `MissingScope`, `NotStored`, `StorageExhausted`.
        """
        envelope = await self._envelope("message", text, data=data, ack=ack, thread=thread, id=id)
        return await self._send(recipient(to), envelope, retry=id is not None)

    async def broadcast(
        self,
        squad: str,
        text: str,
        *,
        data: dict[str, Any] | None = None,
        thread: str | None = None,
        id: str | None = None,  # noqa: A002 - the envelope's own word
    ) -> Receipt:
        """Send to every other member of a squad; the receipt's `members` says how many. Raises `UnknownSquad`."""
        await self.connect()
        self._need(Scope.BROADCAST)
        name = normalise(squad, "squad id")
        fact = await self._addresses.squad(self.project, name)
        envelope = await self._envelope("message", text, data=data, thread=thread, id=id)
        subject = str(subjects.ToSquad(self.project, name, self.name))
        receipt = await self._outbox.store(subject, envelope, name, retry=id is not None)
        own = 1 if name in self._memberships else 0
        return msgspec.structs.replace(receipt, members=max((fact.members or 0) - own, 0))

    async def reply(
        self,
        message: Message,
        text: str,
        *,
        data: dict[str, Any] | None = None,
        id: str | None = None,  # noqa: A002 - the envelope's own word
    ) -> Receipt:
        """Answer a message's sender, in its thread. If it asked for an ACK, this is one."""
        if message.hops >= MAX_HOPS:
            raise TooManyHops(limit=MAX_HOPS)
        answers = message.ack is not None
        envelope = await self._envelope(
            "reply",
            text,
            data=data,
            thread=message.thread or message.id,
            reply_to=message.id,
            ack_for=message.id if answers else None,
            ok=True if answers else None,
            hops=message.hops + 1,
            id=id,
        )
        return await self._send(recipient(message.sender), envelope, retry=id is not None)

    async def ack(self, message: Message, ok: bool = True, summary: str = "") -> Receipt:
        """Acknowledge a message to its sender: done (`ok`), or not. `ok=False` is an answer too."""
        envelope = await self._envelope(
            "status", summary, thread=message.thread or message.id, reply_to=message.id, ack_for=message.id, ok=ok
        )
        return await self._send(recipient(message.sender), envelope)

    async def _send(self, to: str, envelope: Envelope, *, retry: bool = False) -> Receipt:
        self._need(Scope.SEND)
        fact = await self._addresses.agent(self.project, to)
        subject = str(subjects.ToAgent(self.project, to, self.name))
        receipt = await self._outbox.store(subject, envelope, to, retry=retry)
        if fact.state != "suspended":
            return receipt
        notice = AgentDisabled(project=self.project, name=to).to_wire()
        return msgspec.structs.replace(receipt, suspended=True, notice=notice)

    async def _envelope(self, kind: Kind, text: str, *, id: str | None = None, **fields: Any) -> Envelope:  # noqa: A002
        if id is not None and not is_uuid7(id):
            raise BadRequest(why="an id is a UUIDv7, as a receipt shows it")
        await self.connect()
        return Envelope(v=1, id=id or uuid7(), kind=kind, text=text, session=self.session, sent_at=now(), **fields)
