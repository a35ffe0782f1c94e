"""SQLite projections of the streams, and everything that may be asked of them.

One connection writes, behind a lock; another reads, and never waits for the writer (WAL). A method that is the basis
of a decision returns (state, seq): `seq` is the last sequence of that subject, what the append must expect, and 0
with the state None for what is not there.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from sqlite3 import Row

import aiosqlite
import msgspec

from sos.broker.domain.addresses import Address, AddressOf
from sos.broker.domain.agents import Agent, Roster
from sos.broker.domain.catalogue import Entry
from sos.broker.domain.disks import Disk
from sos.broker.domain.escalations import Escalation
from sos.broker.domain.leaks import Leak
from sos.broker.domain.projects import Project
from sos.broker.domain.sessions import Session, Sessions
from sos.broker.domain.squads import Squad
from sos.broker.log import Recorded
from sos.broker.views import rows
from sos.broker.views.nouns import Tables
from sos.broker.views.projector import Cursor, fold, read_cursor
from sos.broker.views.rows import Run
from sos.broker.views.sql import load_migrations, load_queries, migrate

BUSY_TIMEOUT_MS = 5_000
"""How long a connection waits for another process on the file (a backup, a curious sqlite3) before it fails."""


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How many a project has: agents that are not revoked, and squads."""

    agents: int
    squads: int


class VoidKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that is to be refused until its credential expires."""

    nkey: str
    agent: str
    session: str
    expires_at: datetime
    ended: bool


class KeyHolder(msgspec.Struct, frozen=True, kw_only=True):
    """Whose a session's key is, for which epoch of the agent it was signed, and until when."""

    project: str
    agent: str
    epoch: int
    expires_at: datetime


class Views:
    """The open database. Made by `open_views`."""

    def __init__(self, path: Path, writer: aiosqlite.Connection, reader: aiosqlite.Connection) -> None:
        queries = load_queries()
        self.path = path
        self._db = writer
        self._dumps = sorted(name for name in queries if name.startswith("dump_"))
        self._queries = queries
        self._written = Tables(writer, queries)
        self._read = Tables(reader, queries)
        self._writing = asyncio.Lock()

    # ── the fold ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def apply(self, stream_key: str, project: str | None, records: Sequence[Recorded]) -> None:
        """Fold facts of one stream in, all or none. `project` is the slug for an EVENTS stream, None for REGISTRY."""
        async with self._writing:
            await fold(self._db, self._written, stream_key, project, records)

    async def cursor(self, stream_key: str) -> Cursor:
        """How far a stream is folded in; sequence 0 if nothing of it is."""
        return await read_cursor(self._read, stream_key)

    async def cursors(self) -> dict[str, Cursor]:
        """How far every stream is folded in."""
        return {row["stream"]: Cursor(row["seq"], row["hash"]) for row in await self._read.all("cursors")}

    # ── queries ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def project(self, slug: str) -> tuple[Project | None, int]:
        """One project."""
        row = await self._read.one("project", slug=slug)
        return (rows.project(row), row["seq"]) if row else (None, 0)

    async def projects(self) -> list[Project]:
        """All projects, by slug."""
        return [rows.project(row) for row in await self._read.all("projects")]

    async def project_by_tenant_token(self, token_hash: str) -> Project | None:
        """The project whose owner's token has this SHA-256."""
        row = await self._read.one("project_by_tenant_token", hash=token_hash)
        return rows.project(row) if row else None

    async def agent(self, project: str, name: str) -> tuple[Agent | None, int]:
        """One agent, in whatever state."""
        row = await self._read.one("agent", project=project, name=name)
        return (rows.agent(row), row["seq"]) if row else (None, 0)

    async def agents(self, project: str) -> list[Agent]:
        """All agents of a project, the revoked ones too, by name."""
        return [rows.agent(row) for row in await self._read.all("agents", project=project)]

    async def agents_by_token(self, token_hash: str) -> list[Agent]:
        """The agents that hold the token with this SHA-256, or held it before their last rotation, in whatever state:
        the caller looks at them. At most one of each, where nobody has made a token by hand."""
        return [rows.agent(row) for row in await self._read.all("agents_by_token", hash=token_hash)]

    async def roster(self, project: str, name: str) -> tuple[Roster, int]:
        """What a mint is decided on. The sequence is the last of *any* agent's facts of the project."""
        row = await self._read.one("roster", project=project)
        agent, _ = await self.agent(project, name)
        return Roster(agent=agent, custom=row["custom"] if row else 0), row["seq"] if row else 0

    async def catalogue_entry(self, name: str) -> tuple[Entry | None, int]:
        """One platform-managed agent, listed or not."""
        row = await self._read.one("catalogue_entry", name=name)
        return (rows.entry(row), row["seq"]) if row else (None, 0)

    async def catalogue(self) -> list[Entry]:
        """The platform-managed agents that are listed, by name."""
        return [rows.entry(row) for row in await self._read.all("catalogue")]

    async def escalation(self, of: str) -> tuple[Escalation | None, int]:
        """Where it is reported what concerns a project, or the operator (empty)."""
        row = await self._read.one("escalation", of=of)
        return (rows.escalation(row), row["seq"]) if row else (None, 0)

    async def disk(self, host: str) -> tuple[Disk | None, int]:
        """A machine's disk as of its last crossing."""
        row = await self._read.one("disk", host=host)
        return (rows.disk(row), row["seq"]) if row else (None, 0)

    async def leak(self, project: str, message_seq: int) -> tuple[Leak | None, int]:
        """What was found in one message."""
        row = await self._read.one("leak", project=project, message_seq=message_seq)
        return (rows.leak(row), row["seq"]) if row else (None, 0)

    async def leaks(self, project: str) -> list[Leak]:
        """All that was found in a project's messages, oldest first."""
        return [rows.leak(row) for row in await self._read.all("leaks", project=project)]

    async def tap(self, project: str) -> int:
        """Up to which message this gateway has looked for secrets."""
        row = await self._read.one("tap", project=project)
        return int(row["seq"]) if row else 0

    async def save_tap(self, project: str, seq: int) -> None:
        """It has looked up to here."""
        async with self._writing:
            await self._written.write("save_tap", [{"project": project, "seq": seq}])

    async def squad(self, project: str, squad: str) -> tuple[Squad | None, int]:
        """One squad with its members."""
        found = await self._read.all("squad", project=project, squad=squad)
        return (next(rows.squads(found)), found[0]["seq"]) if found else (None, 0)

    async def squads(self, project: str) -> list[Squad]:
        """All squads of a project, by id."""
        return list(rows.squads(await self._read.all("squads", project=project)))

    async def memberships_of(self, project: str, agent: str) -> list[tuple[str, int]]:
        """The squads an agent is in, each with the sequence of MESSAGES from which on."""
        found = await self._read.all("memberships_of", project=project, agent=agent)
        return [(row["squad"], row["from_seq"]) for row in found]

    async def sessions(self, project: str, at: datetime) -> list[Session]:
        """The keys of a project's agents whose credential is good at `at`, by agent."""
        found = await self._read.all("sessions", project=project, at=rows.moment(at))
        return [rows.session(row) for row in found]

    async def session_keys(self, project: str, agent: str) -> tuple[Sessions | None, int]:
        """Every key the fold still holds of an agent. Its facts depend on nothing before them: the sequence is 0."""
        return rows.sessions(await self._read.all("sessions_of", project=project, agent=agent)), 0

    async def keys_of(self, project: str, agent: str, at: datetime) -> list[tuple[str, datetime]]:
        """(nkey, end of its credential) of every key of an agent that has not expired at `at`."""
        found = await self._read.all("keys_of", project=project, agent=agent, at=rows.moment(at))
        return [(row["nkey"], datetime.fromisoformat(row["expires_at"])) for row in found]

    async def sessions_over(self, at: datetime) -> list[tuple[str, str, str]]:
        """(project, agent, session) of every session that ran out by `at` without anybody's ending it."""
        found = await self._read.all("sessions_over", at=rows.moment(at))
        return [(row["project"], row["agent"], row["session"]) for row in found]

    async def all_void_keys(self, at: datetime) -> list[tuple[str, str]]:
        """(project, nkey) of every key that is to be refused at `at` although it has not expired."""
        found = await self._read.all("void_keys", project=None, at=rows.moment(at))
        return [(row["project"], row["nkey"]) for row in found]

    async def void_keys(self, project: str, at: datetime) -> list[VoidKey]:
        """The keys that are to be refused at `at` although they have not expired."""
        found = await self._read.all("void_keys", project=project, at=rows.moment(at))
        return [msgspec.convert(dict(row), VoidKey, strict=False) for row in found]

    async def has_sessions(self, project: str) -> bool:
        """Whether a session was ever opened in the project."""
        return await self._read.one("any_session", project=project) is not None

    async def key_holder(self, nkey: str) -> KeyHolder | None:
        """Whose session's key this is, also if the session ended; None if nobody's."""
        row = await self._read.one("key_holder", nkey=nkey)
        return msgspec.convert(dict(row), KeyHolder) if row else None

    async def runs(self, project: str, agent: str, limit: int) -> list[Run]:
        """The runs of an agent, the latest first."""
        return [rows.run(row) for row in await self._read.all("runs", project=project, agent=agent, limit=limit)]

    async def run(self, project: str, session: str) -> Run | None:
        """One run."""
        row = await self._read.one("run", project=project, session=session)
        return rows.run(row) if row else None

    async def address(self, project: str, of: AddressOf, name: str) -> tuple[Address | None, int]:
        """One address."""
        row = await self._read.one("address", project=project, of=of, name=name)
        return (rows.address(row), row["seq"]) if row else (None, 0)

    async def addresses(self, project: str) -> list[Address]:
        """All addresses of a project, the closed ones too, agents first."""
        return [rows.address(row) for row in await self._read.all("addresses", project=project)]

    async def counts(self, project: str) -> Counts:
        """How many agents and squads a project has."""
        row = await self._read.one("counts", project=project)
        return msgspec.convert(dict(row or {}), Counts)

    async def dump(self) -> bytes:
        """Every row of every table, one JSON array a line: equal bytes mean equal databases."""
        lines: list[bytes] = []
        async with _connect(self.path) as db:  # its own, for one snapshot over all the tables
            await db.execute("BEGIN")
            for name in self._dumps:
                found = await Tables(db, self._queries).all(name)
                lines += [msgspec.json.encode([name.removeprefix("dump_"), *row]) for row in found]
        return b"\n".join(lines)


@asynccontextmanager
async def open_views(path: Path) -> AsyncGenerator[Views]:
    """The views' database at `path`, made or migrated if need be; `NewerDatabase` if a later version wrote it."""
    async with _connect(path) as writer:
        await migrate(writer, path, load_migrations())
        async with _connect(path) as reader:
            yield Views(path, writer, reader)


@asynccontextmanager
async def _connect(path: Path) -> AsyncGenerator[aiosqlite.Connection]:
    # isolation_level=None: transactions begin where this code says so, not where the driver guesses.
    async with aiosqlite.connect(path, isolation_level=None) as db:
        db.row_factory = Row
        await db.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        await db.execute("PRAGMA journal_mode = WAL")
        # A power cut may take the last commits but leaves the file whole; what is missing is folded again.
        await db.execute("PRAGMA synchronous = NORMAL")
        await db.execute("PRAGMA foreign_keys = ON")
        yield db
