"""What is stored of a fact, and the hash chain over it. Pure.

A record of a chained stream holds the hash of the one before it and its own: SHA-256 over its subject and its own
bytes without that hash. Reading demands that writing what was read gives the same bytes again, so that no byte of a
stored body, not even white space, is outside the chain. EVENTS streams are not chained and leave both out.
"""

import hashlib
from collections.abc import Iterable
from typing import Annotated, Literal, cast

import msgspec
from msgspec.structs import replace

from sos.broker.domain import AnyEvent, Event, UnknownFact
from sos.broker.errors import DataLoss
from sos.wire.envelope import Id

Hash = Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{64})?$")]
FIRST_PREV = ""
"""What the first record of a chain has for the hash of the one before it."""


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One stored body. `id` is a UUIDv7, also its `Nats-Msg-Id`; hashes are hex, empty where there is none."""

    v: Literal[1]
    id: Id
    event: AnyEvent
    prev: Hash = FIRST_PREV
    hash: Hash = ""


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """A fact as read: where it stands, and for a chained stream its hash and the one before it."""

    seq: int
    subject: str
    event: AnyEvent
    hash: str = ""
    prev: str = ""


class Head(msgspec.Struct, frozen=True):
    """A stream's last sequence, 0 if it is empty, and that record's hash, empty if it is not chained."""

    seq: int = 0
    hash: str = FIRST_PREV


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Record)


def seal(subject: str, event: Event, id_: str, prev: str | None) -> tuple[Record, bytes]:
    """The record for `event` and its bytes; chained behind the hash `prev` unless that is None."""
    plain = Record(v=1, id=id_, event=cast("AnyEvent", event), prev=prev or FIRST_PREV)
    record = plain if prev is None else replace(plain, hash=_hash(subject, plain))
    return record, _encoder.encode(record)


def unseal(body: bytes) -> Record:
    """The record in `body`, exactly as this version writes it; else `UnknownFact`."""
    try:
        record = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as e:
        raise UnknownFact(why=str(e) if isinstance(e, msgspec.ValidationError) else "not JSON") from e
    if _encoder.encode(record) != body:
        raise UnknownFact(why="its bytes are not those this version writes")
    return record


class Reader:
    """Turns stored bodies, in order, into facts. For a chained stream each must continue the one before it.

    `after` is the hash of the record before the first that will be given, or None if that is not known.
    """

    def __init__(self, stream: str, chained: bool, after: str | None) -> None:
        self._stream = stream
        self._chained = chained
        self._after = after

    def read(self, seq: int, subject: str, body: bytes) -> Recorded:
        """The fact; `DataLoss`, naming the sequence, if it is not what was written here."""
        try:
            record = unseal(body)
        except UnknownFact as e:
            raise DataLoss(stream=self._stream, why=f"sequence {seq} cannot be read ({e.detail} {e.remedy})") from e
        if self._chained:
            self._continue(seq, subject, record)
        return Recorded(seq=seq, subject=subject, event=record.event, hash=record.hash, prev=record.prev)

    def _continue(self, seq: int, subject: str, record: Record) -> None:
        if record.hash != _hash(subject, record):
            raise DataLoss(stream=self._stream, why=f"sequence {seq} does not match its hash")
        if self._after is not None and record.prev != self._after:
            raise DataLoss(stream=self._stream, why=f"sequence {seq} does not continue the record before it")
        self._after = record.hash


def verify(stream: str, stored: Iterable[tuple[int, str, bytes]]) -> str:
    """The hash of the last of a chain's records, given whole as (sequence, subject, body); `DataLoss` if it is broken.

    Records cut off at the end leave a shorter chain that is whole: only a remembered head tells that.
    """
    reader, head = Reader(stream, chained=True, after=FIRST_PREV), FIRST_PREV
    for seq, subject, body in stored:
        head = reader.read(seq, subject, body).hash
    return head


def _hash(subject: str, record: Record) -> str:
    unhashed = _encoder.encode(replace(record, hash=""))
    return hashlib.sha256(subject.encode() + b"\n" + unhashed).hexdigest()
