"""The log on JetStream. The server decides every race: an append names what it expects to be last.

A chained append must also name the record before it, so it expects a last sequence of the whole stream too. Losing
*that* race decides nothing about the subject: the head is read again and the append tried again, within a bound.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

from sos.broker.domain import Event
from sos.broker.errors import WrongLastSequence
from sos.broker.log.log import MAX_CONTENTION_TRIES, READ_BATCH_MESSAGES
from sos.broker.log.record import FIRST_PREV, Head, Reader, Recorded, seal
from sos.broker.nats.connection import Connection, Received
from sos.broker.nats.jetstream import StoredMessage
from sos.wire.errors import Contended
from sos.wire.ids import uuid7

LAG_TRIES = 20
LAG_WAIT_S = 0.1
"""A member of a cluster may be behind the leader: together 2 s to catch up before a read gives up."""

HINTED_POLL_S = 0.002
"""A hint comes when a record is published, a moment before it is stored: look soon, then ever later."""
IDLE_POLL_S = 1.0
"""Hints are at most once. Without any, this is how late a follower may notice."""


class JetStreamLog:
    """A `Log` on a stream that exists and has `allow_direct`. Holds nothing open between calls."""

    def __init__(self, connection: Connection, stream: str, chained: bool, new_id: Callable[[], str] = uuid7) -> None:
        self.stream = stream
        self._connection = connection
        self._chained = chained
        self._new_id = new_id
        self._appending = asyncio.Lock()
        self._head: Head | None = None
        self._subjects: tuple[str, ...] = ()

    async def append(self, subject: str, event: Event, expected_seq: int | None, within: str = "") -> int:
        """See `Log.append`. `Contended` if the head moved under every try; `NatsUnreachable`: it may be stored."""
        if self._chained:
            async with self._appending:  # in one process appends would only lose to each other
                return await self._append_chained(subject, event, expected_seq, within)
        for _ in range(MAX_CONTENTION_TRIES):
            id_ = self._new_id()
            _, body = seal(subject, event, id_, prev=None)
            seq = await self._store(subject, body, id_, expected_seq, None, within)
            if seq is not None:
                return seq
        raise Contended(subject=subject, tries=MAX_CONTENTION_TRIES)

    async def read(self, from_seq: int) -> AsyncIterator[Recorded]:
        """See `Log.read`."""
        head, seq = await self.head(), max(from_seq, 1)
        reader = Reader(self.stream, self._chained, FIRST_PREV if seq == 1 else None)
        while seq <= head:
            for message in await self._batch(seq):
                if message.seq > head:
                    return
                yield reader.read(message.seq, message.subject, message.body)
                seq = message.seq + 1

    async def stored(self, from_seq: int, limit: int) -> list[StoredMessage]:
        """Up to `limit` records as they are stored, not looked at."""
        return await self._connection.read_batch(self.stream, from_seq, limit)

    async def head(self) -> int:
        """See `Log.head`."""
        return int((await self._info())["state"]["last_seq"])

    async def wait_beyond(self, seq: int, timeout_s: float) -> None:
        """See `Log.wait_beyond`."""
        hint = asyncio.Event()

        async def hinted(_: Received) -> None:
            hint.set()

        try:
            async with asyncio.timeout(timeout_s), AsyncExitStack() as subscriptions:
                for subject in await self._stored_subjects():
                    await subscriptions.enter_async_context(await self._connection.subscribe(subject, hinted))
                await self._poll(seq, hint)
        except TimeoutError:
            return

    # ── appending ────────────────────────────────────────────────────────────────────────────────────────────────

    async def _append_chained(self, subject: str, event: Event, expected_seq: int | None, within: str) -> int:
        for _ in range(MAX_CONTENTION_TRIES):
            head = self._head or await self._read_head()
            self._head = None  # known again only when the server has confirmed what comes next
            id_ = self._new_id()
            record, body = seal(subject, event, id_, prev=head.hash)
            try:
                seq = await self._store(subject, body, id_, expected_seq, head.seq, within)
            except WrongLastSequence:
                await self._check_subject(within or subject, expected_seq)
                continue
            if seq is not None:
                self._head = Head(seq, record.hash)
                return seq
        raise Contended(subject=subject, tries=MAX_CONTENTION_TRIES)

    async def _store(
        self, subject: str, body: bytes, id_: str, subject_seq: int | None, stream_seq: int | None, within: str
    ) -> int | None:
        """The sequence, or None if the server dropped it because this id was used before: then another id is due."""
        stored = await self._connection.store(
            self.stream,
            subject,
            body,
            msg_id=id_,
            expected_subject_seq=subject_seq,
            expected_stream_seq=stream_seq,
            expected_within=within,
        )
        return None if stored.duplicate and stored.tries == 1 else stored.seq

    async def _check_subject(self, subject: str, expected_seq: int | None) -> None:
        """`WrongLastSequence` if the subject itself moved, not only the stream."""
        if expected_seq is None:
            return
        last = await self._connection.last_of(self.stream, subject)
        if (last.seq if last else 0) != expected_seq:
            raise WrongLastSequence(subject=subject, expected=expected_seq)

    async def _read_head(self) -> Head:
        last = await self._connection.last_of(self.stream, ">")
        if last is None:
            return Head()
        found = Reader(self.stream, self._chained, after=None).read(last.seq, last.subject, last.body)
        return Head(found.seq, found.hash)

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _batch(self, seq: int) -> list[StoredMessage]:
        for _ in range(LAG_TRIES):
            batch = await self._connection.read_batch(self.stream, seq, READ_BATCH_MESSAGES)
            if batch:
                return list(batch)
            await asyncio.sleep(LAG_WAIT_S)
        raise self._connection.unreachable(f"{self.stream} goes beyond sequence {seq}, but no server gives it")

    async def _poll(self, seq: int, hint: asyncio.Event) -> None:
        poll_s = IDLE_POLL_S
        while await self.head() <= seq:
            try:
                async with asyncio.timeout(poll_s):
                    await hint.wait()
                hint.clear()
                poll_s = HINTED_POLL_S
            except TimeoutError:
                poll_s = min(poll_s * 2, IDLE_POLL_S)

    async def _stored_subjects(self) -> tuple[str, ...]:
        if not self._subjects:
            self._subjects = tuple((await self._info())["config"]["subjects"])
        return self._subjects

    async def _info(self) -> dict[str, Any]:
        return await self._connection.js(f"STREAM.INFO.{self.stream}")
