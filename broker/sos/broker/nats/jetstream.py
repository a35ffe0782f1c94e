"""JetStream over plain requests: the JSON API, storing, reading back. No nats-py here; new fields pass as JSON.

Storing is what the bus stands on. A publish that got no answer may or may not be stored, so every one has a message id,
is tried again under the same id, and what a retry is told is read in that light (`store`).
"""

import asyncio
import base64
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from sos.broker.errors import WrongLastSequence
from sos.broker.nats.tiers import MAX_MESSAGE_BYTES
from sos.wire.errors import Kind, MessageTooLarge, NatsUnreachable, SosError, StorageExhausted
from sos.wire.subjects import MESSAGES

if TYPE_CHECKING:
    from sos.broker.nats.connection import Received

API_TIMEOUT_S = 5.0
"""Creating a stream on a cluster waits for a leader; single-server calls take milliseconds."""
STORE_TIMEOUT_S = 2.0
STORE_TRIES = 6
"""With the waits below about 13 s: the longest pause of a cluster that lost its leader was 5.5 s [measured]."""
STORE_FIRST_WAIT_S = 0.05
STORE_LONGEST_WAIT_S = 1.0
READ_BATCH = 256
READ_BATCH_MAX_BYTES = 8 * 1024 * 1024

_WRONG_LAST_SEQUENCE = frozenset({10071, 10164})
_EXHAUSTED = frozenset({10002, 10023, 10028, 10047})
_STORE_FAILED = 10077  # the description says why: "maximum bytes exceeded" and others
_TOO_LARGE = 10054
_NOT_NOW = frozenset({10008, 10009})  # no leader, or the cluster is not ready
_END_OF_BATCH = frozenset({"204", "404"})  # no more in this batch, or nothing at or after the sequence asked for
_NO_SUCH_MESSAGE = 10037
_NO_SUCH_SEQUENCE = frozenset({10043, 10057})
_NO_SUCH_CONSUMER = 10014
_STREAM_DIFFERS = 10058
_NO_SUCH_STREAM = 10059


@dataclass(eq=False)
class JetStreamRefused(
    SosError,
    kind=Kind.INTERNAL,
    says="JetStream refused {subject}: {description} (err_code {err_code}).",
    cure="Err codes are listed in nats-server's server/errors.json.",
):
    """An answer of the JetStream API that has no error of its own in this bus."""

    subject: str
    err_code: int
    description: str


class Stored(msgspec.Struct, frozen=True):
    """A PubAck. `duplicate` on the first try means that this id was used before; later, that try one arrived."""

    seq: int
    duplicate: bool
    tries: int = 1


class StoredMessage(msgspec.Struct, frozen=True):
    """A message of a stream. `time` is when the server stored it."""

    seq: int
    subject: str
    body: bytes
    headers: Mapping[str, str]
    time: datetime


class _Error(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _PubAck(msgspec.Struct):
    seq: int = 0
    duplicate: bool = False
    error: _Error | None = None


class _RawMessage(msgspec.Struct):
    subject: str
    seq: int
    time: str  # to be read as in a batch: msgspec rounds nanoseconds up, datetime cuts them off
    data: str = ""
    hdrs: str = ""


class JetStream(ABC):
    """The JetStream calls of a connection, on top of its `request` and `collect`."""

    @abstractmethod
    async def request(
        self, subject: str, body: bytes = b"", *, headers: Mapping[str, str] | None = None, timeout_s: float = ...
    ) -> "Received":
        """One answer."""

    @abstractmethod
    def collect(
        self, subject: str, body: bytes = b"", *, headers: Mapping[str, str] | None = None, timeout_s: float = ...
    ) -> AsyncGenerator["Received"]:
        """All answers."""

    @abstractmethod
    def unreachable(self, why: str) -> NatsUnreachable:
        """The error for this connection's servers."""

    # ── storing ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def store(
        self,
        stream: str,
        subject: str,
        body: bytes,
        *,
        msg_id: str,
        expected_subject_seq: int | None = None,
        expected_stream_seq: int | None = None,
        expected_within: str = "",
        timeout_s: float = STORE_TIMEOUT_S,
        tries: int = STORE_TRIES,
    ) -> Stored:
        """Store once, however many tries it takes. `expected_subject_seq=0`: the subject must be new. With
        `expected_within`, a pattern, it is the last sequence on any subject that matches it.

        Raises `WrongLastSequence` for a lost race, `StorageExhausted`, and `NatsUnreachable` after `tries` without an
        answer: then it may still have been stored, and storing again under the same `msg_id` is safe.
        """
        headers = _store_headers(stream, msg_id, expected_subject_seq, expected_stream_seq, expected_within)
        wait_s = STORE_FIRST_WAIT_S
        for tried in range(1, tries + 1):
            try:
                ack = await self._store_once(subject, body, headers, timeout_s)
                return Stored(ack.seq, ack.duplicate, tried)
            except WrongLastSequence as lost:
                expected = max(expected_subject_seq or 0, expected_stream_seq or 0)
                # 2.15 looks at the expected sequence before the id, so what is stored already says "wrong" [measured].
                mine = await self._find(stream, expected_within or subject, msg_id, after=expected)
                if mine is None:
                    raise WrongLastSequence(subject=subject, expected=expected) from lost
                return Stored(mine.seq, duplicate=True, tries=tried)
            except NatsUnreachable:
                if tried == tries:
                    raise
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, STORE_LONGEST_WAIT_S)
        raise ValueError("tries is at least 1")

    async def _store_once(self, subject: str, body: bytes, headers: Mapping[str, str], timeout_s: float) -> _PubAck:
        reply = await self.request(subject, body, headers=headers, timeout_s=timeout_s)
        ack = _decode(reply.body, _PubAck, subject)
        if ack.error is not None and ack.error.err_code == _TOO_LARGE:
            raise MessageTooLarge(size_bytes=len(body), limit_bytes=MAX_MESSAGE_BYTES)
        if ack.error is not None:
            raise self._error(subject, ack.error)
        return ack

    async def _find(self, stream: str, subject: str, msg_id: str, after: int) -> StoredMessage | None:
        """The message an earlier try stored, if it did: then it is the subject's first after the expected sequence."""
        found = await self._get(stream, {"seq": after + 1, "next_by_subj": subject})
        return found if found is not None and found.headers.get("Nats-Msg-Id") == msg_id else None

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def read_batch(
        self, stream: str, from_seq: int, max_messages: int = READ_BATCH, *, timeout_s: float = API_TIMEOUT_S
    ) -> list[StoredMessage]:
        """The messages at or after `from_seq`, oldest first; an empty list when there is none yet (NATS ADR-31).

        At most `max_messages` and about `READ_BATCH_MAX_BYTES`. Needs `allow_direct`. On a cluster the answer may come
        from a member that is a moment behind. A batch that breaks off raises `NatsUnreachable`; read it again.
        """
        ask = {"seq": max(from_seq, 1), "batch": max_messages, "max_bytes": READ_BATCH_MAX_BYTES}
        subject = f"$JS.API.DIRECT.GET.{stream}"
        batch: list[StoredMessage] = []
        async with aclosing(self.collect(subject, msgspec.json.encode(ask), timeout_s=timeout_s)) as replies:
            async for reply in replies:
                # A stored message may carry a header named Status itself; only the server's own has no sequence.
                control = reply.status if "Nats-Sequence" not in reply.headers else ""
                if control in _END_OF_BATCH:
                    break
                if control:
                    raise _status_error(subject, reply.status, reply.headers.get("Description", ""))
                batch.append(self._direct(reply, batch[-1].seq if batch else None))
        return batch

    def _direct(self, reply: "Received", previous: int | None) -> StoredMessage:
        """One message of a batch. Each names the one before it, so a lost one shows."""
        headers = dict(reply.headers)
        seq, subject = int(headers.pop("Nats-Sequence")), headers.pop("Nats-Subject")
        time = datetime.fromisoformat(headers.pop("Nats-Time-Stamp"))
        before = int(headers.pop("Nats-Last-Sequence", 0))
        headers.pop("Nats-Num-Pending", None)
        headers.pop("Nats-Stream", None)
        if previous is not None and before != previous:
            raise self.unreachable(f"a message between {previous} and {seq} was lost on the way")
        return StoredMessage(seq, subject, reply.body, headers, time)

    async def first_since(self, stream: str, at: datetime) -> int | None:
        """The sequence of the first message stored at or after `at`; None if there is none."""
        ask = {"start_time": at.isoformat().replace("+00:00", "Z"), "batch": 1}
        subject = f"$JS.API.DIRECT.GET.{stream}"
        async with aclosing(self.collect(subject, msgspec.json.encode(ask), timeout_s=API_TIMEOUT_S)) as replies:
            async for reply in replies:
                return int(reply.headers["Nats-Sequence"]) if "Nats-Sequence" in reply.headers else None
        raise self.unreachable("no answer")  # `collect` never ends by itself

    async def erase(self, stream: str, seq: int) -> bool:
        """Overwrite and delete one message. Whether it was there."""
        try:
            await self.js(f"STREAM.MSG.DELETE.{stream}", {"seq": seq, "no_erase": False})
        except JetStreamRefused as e:
            if e.err_code in _NO_SUCH_SEQUENCE:
                return False
            raise
        return True

    async def last_of(self, stream: str, subject: str) -> StoredMessage | None:
        """The subject's last message as the stream's leader knows it: a linearizable read."""
        return await self._get(stream, {"last_by_subj": subject})

    async def _get(self, stream: str, ask: Mapping[str, Any]) -> StoredMessage | None:
        try:
            answer = await self.js(f"STREAM.MSG.GET.{stream}", ask)
        except JetStreamRefused as e:
            if e.err_code == _NO_SUCH_MESSAGE:
                return None
            raise
        raw = msgspec.convert(answer["message"], _RawMessage)
        headers = _parse_headers(base64.b64decode(raw.hdrs))
        return StoredMessage(
            raw.seq, raw.subject, base64.b64decode(raw.data), headers, datetime.fromisoformat(raw.time)
        )

    # ── the API ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def js(self, call: str, ask: object = None, *, timeout_s: float = API_TIMEOUT_S) -> dict[str, Any]:
        """One call of the JSON API: `call` is what follows `$JS.API.`, such as `STREAM.INFO.EVENTS`.

        Raises `StorageExhausted`, `WrongLastSequence`, `NatsUnreachable` or `JetStreamRefused`.
        """
        subject = call if call.startswith("$JS.API.") else f"$JS.API.{call}"
        body = b"" if ask is None else msgspec.json.encode(ask)
        reply = await self.request(subject, body, timeout_s=timeout_s)
        answer = _decode(reply.body, dict[str, Any], subject)
        if "error" in answer:
            raise self._error(subject, msgspec.convert(answer["error"], _Error))
        return answer

    async def ensure_stream(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Create the stream, or make it as `config` says; again changes nothing. Returns STREAM.INFO's shape."""
        name = config["name"]
        try:
            found = await self.js(f"STREAM.INFO.{name}")
        except JetStreamRefused as e:
            if e.err_code != _NO_SUCH_STREAM:
                raise
            return await self._create_stream(config)
        # CREATE of a stream that is there sets its size aside a second time and fails on a full server [measured].
        return found if _holds(found["config"], config) else await self.js(f"STREAM.UPDATE.{name}", config)

    async def _create_stream(self, config: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return await self.js(f"STREAM.CREATE.{config['name']}", config)
        except JetStreamRefused as e:
            if e.err_code != _STREAM_DIFFERS:
                raise
        return await self.js(f"STREAM.UPDATE.{config['name']}", config)  # another gateway was first

    async def open_inbox(self, config: Mapping[str, Any], stream: str = MESSAGES) -> dict[str, Any]:
        """Create the durable consumer, or make it as `config` says. Its cursor stays where it is."""
        call = f"CONSUMER.CREATE.{stream}.{config['durable_name']}"
        return await self.js(call, {"stream_name": stream, "config": config})

    async def close_inbox(self, agent: str, stream: str = MESSAGES) -> None:
        """Delete the durable and its cursor. One that is not there is fine."""
        try:
            await self.js(f"CONSUMER.DELETE.{stream}.{agent}")
        except JetStreamRefused as e:
            if e.err_code != _NO_SUCH_CONSUMER:
                raise

    def _error(self, subject: str, error: _Error) -> SosError:
        """The one table from JetStream's err_code to our errors."""
        if error.err_code in _WRONG_LAST_SEQUENCE:
            return WrongLastSequence(subject=subject, expected=-1)
        full = error.description.startswith("maximum ") or "no space left" in error.description
        if error.err_code in _EXHAUSTED or (error.err_code == _STORE_FAILED and full):
            return StorageExhausted(what=f"JetStream for {subject} ({error.description})")
        if error.err_code in _NOT_NOW:
            return self.unreachable(f"{subject}: {error.description}")
        return JetStreamRefused(subject=subject, err_code=error.err_code or error.code, description=error.description)


def _store_headers(
    stream: str, msg_id: str, subject_seq: int | None, stream_seq: int | None, within: str
) -> dict[str, str]:
    headers = {"Nats-Msg-Id": msg_id, "Nats-Expected-Stream": stream}
    if subject_seq is not None:
        headers["Nats-Expected-Last-Subject-Sequence"] = str(subject_seq)
        if within:
            headers["Nats-Expected-Last-Subject-Sequence-Subject"] = within
    if stream_seq is not None:
        headers["Nats-Expected-Last-Sequence"] = str(stream_seq)
    return headers


def _status_error(subject: str, status: str, description: str) -> JetStreamRefused:
    return JetStreamRefused(subject=subject, err_code=int(status) if status.isdigit() else 0, description=description)


def _holds(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether a configuration says all that is wanted; the server leaves out what is false, zero or empty."""
    return all((found.get(key) or None) == (value or None) for key, value in wanted.items())


def _decode[T](body: bytes, as_type: type[T], subject: str) -> T:
    try:
        return msgspec.json.decode(body, type=as_type)
    except msgspec.MsgspecError as e:
        raise JetStreamRefused(subject=subject, err_code=0, description="the answer is not JetStream's") from e


def _parse_headers(raw: bytes) -> dict[str, str]:
    """The fields of a `NATS/1.0` header block; of a repeated one the last."""
    lines = raw.decode("utf-8", "replace").split("\r\n")[1:]
    return {key.strip(): value.strip() for key, colon, value in (line.partition(":") for line in lines) if colon}
