"""What this agent has handled, kept in its home beside its cursor, so that a handler never sees a message twice.

JetStream alone delivers again what it forgot was acknowledged (its consumer state reaches the disk later than the ack).
SQLite in WAL mode with `synchronous = NORMAL`: a record outlives the death of the process at once, and a power cut can
take the last moments of it, after which a message may be handled a second time but none is lost.
"""

import sqlite3
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from sos.sdk.order import Cursor
from sos.wire.home import private_dir
from sos.wire.secrets import without_secrets
from sos.wire.tokens import redact

BUSY_TIMEOUT_S = 5.0
"""A second process of the same agent (a command beside the running one) may hold the file this long."""
KEEP_DAYS = 45
"""Longer than a message stays in its stream (30 days), so nothing that can still be delivered is forgotten."""
MAX_ASIDE = 10_000
"""Set-aside bodies kept for a look; a flood of them drops the oldest."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS handled (
    sender TEXT NOT NULL, id TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (sender, id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS handled_at ON handled (at);
CREATE TABLE IF NOT EXISTS attempts (
    sender TEXT NOT NULL, id TEXT NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (sender, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS parked (
    sender TEXT NOT NULL, id TEXT NOT NULL, seq INTEGER NOT NULL, subject TEXT NOT NULL, body BLOB NOT NULL,
    error TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (sender, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS aside (
    seq INTEGER PRIMARY KEY, subject TEXT NOT NULL, why TEXT NOT NULL, body BLOB NOT NULL, at INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS cursor (
    one INTEGER PRIMARY KEY CHECK (one = 1), consumer_seq INTEGER NOT NULL, stream_seq INTEGER NOT NULL
);
"""


class Parked(NamedTuple):
    """A message whose handler failed `max_deliver` times."""

    sender: str
    id: str
    seq: int
    error: str


class Seen:
    """The record. Used from one thread; each call is one short transaction."""

    def __init__(self, home: Path) -> None:
        private_dir(home)
        path = home / "state.db"
        path.touch(mode=0o600, exist_ok=True)
        self._db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(_SCHEMA)
        self._forget_old()

    def close(self) -> None:
        """Close the file; a second time is fine."""
        self._db.close()

    def handled(self, sender: str, id_: str) -> bool:
        """Whether this message was handled, parked or skipped before."""
        row = self._db.execute("SELECT 1 FROM handled WHERE sender = ? AND id = ?", (sender, id_)).fetchone()
        return row is not None

    def record(self, sender: str, id_: str, cursor: Cursor) -> None:
        """The message was handled, and every delivery up to `cursor` is settled."""
        with self._transaction():
            self._record(sender, id_, cursor)

    def attempt(self, sender: str, id_: str) -> int:
        """Count one more attempt at a message, before it is made, and say which it is (from 1)."""
        row = self._db.execute(
            "INSERT INTO attempts VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET count = count + 1 RETURNING count",
            (sender, id_),
        ).fetchone()
        return int(row[0])

    def not_attempted(self, sender: str, id_: str) -> None:
        """Take back the last `attempt`: it was given up without a failure."""
        self._db.execute("UPDATE attempts SET count = count - 1 WHERE sender = ? AND id = ?", (sender, id_))

    def park(self, sender: str, id_: str, seq: int, subject: str, body: bytes, error: str, cursor: Cursor) -> None:
        """Keep a message that could not be handled, with the last error; it counts as handled from now on."""
        with self._transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO parked VALUES (?, ?, ?, ?, ?, ?, ?)",
                (sender, id_, seq, subject, without_secrets(body), redact(error), _now()),
            )
            self._record(sender, id_, cursor)

    def parked(self) -> list[Parked]:
        """What was parked, oldest first."""
        rows = self._db.execute("SELECT sender, id, seq, error FROM parked ORDER BY seq").fetchall()
        return [Parked(*row) for row in rows]

    def set_aside(self, seq: int, subject: str, why: str, body: bytes) -> None:
        """Keep what was stored for this agent and is not a message, for a person to look at."""
        self._db.execute(
            "INSERT OR REPLACE INTO aside VALUES (?, ?, ?, ?, ?)",
            (seq, subject, redact(why), without_secrets(body), _now()),
        )
        self._db.execute(
            "DELETE FROM aside WHERE seq <= (SELECT seq FROM aside ORDER BY seq DESC LIMIT 1 OFFSET ?)", (MAX_ASIDE,)
        )

    def aside(self) -> list[tuple[int, str, str]]:
        """What was set aside: (sequence, subject, why)."""
        return self._db.execute("SELECT seq, subject, why FROM aside ORDER BY seq").fetchall()

    @property
    def cursor(self) -> Cursor | None:
        """Up to where every delivery was settled; None in a home that never read anything."""
        row = self._db.execute("SELECT consumer_seq, stream_seq FROM cursor").fetchone()
        return Cursor(*row) if row else None

    def _record(self, sender: str, id_: str, cursor: Cursor) -> None:
        self._db.execute("INSERT OR IGNORE INTO handled VALUES (?, ?, ?)", (sender, id_, _now()))
        self._db.execute("INSERT OR REPLACE INTO cursor VALUES (1, ?, ?)", cursor)

    @contextmanager
    def _transaction(self) -> Generator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _forget_old(self) -> None:
        before = _now() - KEEP_DAYS * 86_400
        self._db.execute("DELETE FROM handled WHERE at < ?", (before,))
        self._db.execute("DELETE FROM attempts WHERE (sender, id) IN (SELECT sender, id FROM handled)")


def _now() -> int:
    return int(time.time())
