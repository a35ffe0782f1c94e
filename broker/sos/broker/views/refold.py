"""From the logs to the views: catch up, begin again from nothing, and notice a log that has lost something."""

from collections.abc import Mapping
from pathlib import Path

from sos.broker.errors import DataLoss
from sos.broker.log import Log, Recorded
from sos.broker.views.projector import Cursor
from sos.broker.views.views import Views, open_views
from sos.wire.subjects import EVENTS, REGISTRY

REGISTRY_KEY = REGISTRY
"""The stream key of the registry."""

FOLD_BATCH_FACTS = 500
"""Facts in one transaction: 26,000 a second at this size against 1,000 singly (design, section 13)."""


def events_key(project: str) -> str:
    """The stream key of a project's facts."""
    return f"{EVENTS}/{project}"


def project_of(stream_key: str) -> str | None:
    """The slug in an EVENTS stream's key, None for the registry's."""
    return stream_key.removeprefix(f"{EVENTS}/") if stream_key != REGISTRY_KEY else None


async def catch_up(views: Views, stream_key: str, log: Log) -> int:
    """Fold what the log holds beyond the cursor, and return the sequence reached."""
    reached, batch = (await views.cursor(stream_key)).seq, list[Recorded]()
    async for recorded in log.read(reached + 1):
        batch.append(recorded)
        if len(batch) == FOLD_BATCH_FACTS:
            await views.apply(stream_key, project_of(stream_key), batch)
            reached, batch = recorded.seq, []
    if batch:
        await views.apply(stream_key, project_of(stream_key), batch)
        reached = batch[-1].seq
    return reached


async def refold(views_path: Path, logs: Mapping[str, Log]) -> None:
    """Delete the database and fold every log again, by stream key. Nobody else may have it open.

    Interrupted anywhere, it is repaired by running it again: what is left is no database, or one that is behind.
    """
    # The database before its WAL: SQLite throws away a WAL without a database, but would read a database without
    # its WAL as if the last commits had never been.
    for suffix in ("", "-wal", "-shm"):
        views_path.with_name(views_path.name + suffix).unlink(missing_ok=True)
    async with open_views(views_path) as views:
        for stream_key, log in logs.items():
            await catch_up(views, stream_key, log)


def check_not_behind(stream_key: str, cursor: Cursor, head_seq: int, head_hash: str) -> None:
    """`DataLoss` if a stream's head is behind what was folded from it, or is not the same record any more.

    A head *beyond* the cursor is compared when it is folded: each chained record names the one before it.
    """
    if cursor.seq > head_seq:
        why = f"it ends at sequence {head_seq}, but {cursor.seq} was seen"
        raise DataLoss(stream=stream_key, why=why)
    if cursor.seq == head_seq and cursor.hash != head_hash:
        raise DataLoss(stream=stream_key, why=f"sequence {head_seq} is not the record that was seen there")
