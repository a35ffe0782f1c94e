"""The fold: a batch of facts and the stream's cursor in one transaction, so that each fact counts exactly once."""

from collections.abc import Sequence
from typing import Any

import aiosqlite
import msgspec

from sos.broker.domain import subject_of
from sos.broker.errors import DataLoss
from sos.broker.log import Head, Recorded
from sos.broker.views.nouns import Noun, Tables, noun_of
from sos.wire.subjects import RegistryFact, parse

Cursor = Head
"""How far a stream is folded in: the last sequence, and that record's hash."""


class _Held(msgspec.Struct, kw_only=True):
    """An aggregate in a batch: as it was loaded, and as it is by now."""

    noun: Noun
    before: Any
    now: Any
    seq: int = 0


async def fold(
    db: aiosqlite.Connection, tables: Tables, stream_key: str, project: str | None, records: Sequence[Recorded]
) -> None:
    """Fold `records` in, all or none of them. Those at or below the cursor are known already and left out.

    `DataLoss` if they do not continue what was folded before, or do not belong to this stream; whatever interrupts
    it, cancellation too, leaves the database as it was.
    """
    try:
        await db.execute("BEGIN IMMEDIATE")
        await _fold(tables, stream_key, project, records)
        await db.commit()
    except BaseException:
        # What was cancelled may still run in the connection's thread; this is queued behind it.
        await db.rollback()
        raise


async def read_cursor(tables: Tables, stream_key: str) -> Cursor:
    """How far a stream is folded in."""
    row = await tables.one("cursor", stream=stream_key)
    return Cursor(row["seq"], row["hash"]) if row else Cursor()


async def _fold(tables: Tables, stream_key: str, project: str | None, records: Sequence[Recorded]) -> None:
    cursor, held = await read_cursor(tables, stream_key), dict[str, _Held]()
    began = cursor
    for recorded in records:
        if recorded.seq > cursor.seq:
            _check(stream_key, project, cursor, recorded)
            await _step(tables, held, recorded)
            cursor = Cursor(recorded.seq, recorded.hash)
    for state in held.values():
        await state.noun.save(tables, state.before, state.now, state.seq)
    if cursor != began:
        await tables.write("save_cursor", [{"stream": stream_key, "seq": cursor.seq, "hash": cursor.hash}])


async def _step(tables: Tables, held: dict[str, _Held], recorded: Recorded) -> None:
    state = held.get(recorded.subject)
    if state is None:
        noun = noun_of(recorded.event)
        loaded = await noun.load(tables, recorded.event)
        state = held[recorded.subject] = _Held(noun=noun, before=loaded, now=loaded)
    state.now, state.seq = state.noun.apply(state.now, recorded.event), recorded.seq


def _check(stream_key: str, project: str | None, cursor: Cursor, recorded: Recorded) -> None:
    if recorded.hash and recorded.prev != cursor.hash:
        why = f"sequence {recorded.seq} does not continue what was seen up to {cursor.seq}"
        raise DataLoss(stream=stream_key, why=why)
    place = parse(recorded.subject)
    ours = isinstance(place, RegistryFact) if project is None else place.project == project
    if not ours or subject_of(recorded.event) != recorded.subject:
        raise DataLoss(stream=stream_key, why=f"sequence {recorded.seq} holds a fact that belongs elsewhere")
