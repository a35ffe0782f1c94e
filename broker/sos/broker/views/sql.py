"""SQL from files: named queries, and numbered migrations."""

import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import aiosqlite

from sos.broker.views.errors import NewerDatabase

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_MIGRATION = re.compile(r"(\d{4})_\w+\.sql")


def load_queries() -> Mapping[str, str]:
    """Every query of queries.sql by name."""
    text = resources.files("sos.broker.views").joinpath("queries.sql").read_text("utf-8")
    _, *parts = _NAME.split(text)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def load_migrations() -> tuple[str, ...]:
    """The SQL of every migration, 0001 first; `ValueError` if a number is missing or given twice."""
    found = {e.name: e for e in resources.files("sos.migrations").iterdir() if _MIGRATION.fullmatch(e.name)}
    names = sorted(found)
    if [int(name[:4]) for name in names] != list(range(1, len(names) + 1)):
        raise ValueError(f"migrations are not numbered 0001, 0002, …: {names}")
    return tuple(found[name].read_text("utf-8") for name in names)


async def migrate(db: aiosqlite.Connection, path: Path, migrations: tuple[str, ...]) -> None:
    """Bring the schema up to date, each step in a transaction of its own; `NewerDatabase` if it is past ours."""
    version = await _version(db)
    if version > len(migrations):
        raise NewerDatabase(path=str(path), found=version, known=len(migrations))
    for number, step in enumerate(migrations[version:], start=version + 1):
        try:
            await db.executescript(f"BEGIN IMMEDIATE;\n{step}\nPRAGMA user_version = {number};\nCOMMIT;")
        except BaseException:
            await db.rollback()
            raise


async def _version(db: aiosqlite.Connection) -> int:
    async with db.execute("PRAGMA user_version") as rows:
        row = await rows.fetchone()
    return int(row[0]) if row else 0
