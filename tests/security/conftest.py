"""Two projects on the real bus: the attacker's own, with other agents in it, and a foreign one."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from tests.conftest import OPERATOR
from tests.security.attacker import Attacker, attacking

from sos.broker.app import Running
from sos.broker.control.tenant import Tenant
from sos.broker.nats.connection import Connection
from sos.wire import api

_serial = itertools.count(1)


class Side(msgspec.Struct, frozen=True):
    """A project, and the tokens of those in it. `seen` is the gateway's own connection: it sees everything."""

    bus: Running
    tenant: Tenant
    tokens: dict[str, str]

    @property
    def slug(self) -> str:
        return self.tenant.slug

    @property
    def seen(self) -> Connection:
        return self.tenant.connection


async def make_side(bus: Running, *names: str) -> Side:
    """A project with a squad `ops`, and a message from `boss` to `vera` if both are there."""
    slug = f"s{next(_serial)}"
    await bus.bus.projects.create(OPERATOR, api.CreateProject(slug=slug, tier="starter"))
    await bus.bus.squads.create(OPERATOR, slug, api.CreateSquad(squad="ops"))
    minted = [await bus.bus.agents.mint(OPERATOR, slug, api.MintAgent(agent_name=name)) for name in names]
    if "vera" in names:
        await bus.bus.squads.join(slug, "vera", api.JoinSquad(squad="ops"))
    side = Side(bus, await bus.bus.projects.tenant(slug), {m.name: m.raw_token for m in minted})
    if "boss" in names:
        async with attacking(bus.url, side.tokens["boss"]) as boss:
            await boss.store(f"project.{slug}.agent.vera.boss")
    return side


async def snapshot(seen: Connection) -> dict[str, Any]:
    """All that an attacker could have changed: both streams, what each subject holds, every consumer's cursor."""
    found: dict[str, Any] = {}
    for stream in ("MESSAGES", "EVENTS"):
        info = await seen.js(f"STREAM.INFO.{stream}", {"subjects_filter": ">"})
        found[stream] = (info["config"], info["state"])
    listed = await seen.js("CONSUMER.LIST.MESSAGES")
    found["consumers"] = {c["name"]: _cursor(c) for c in listed["consumers"]}
    found["streams"] = (await seen.js("STREAM.NAMES"))["streams"]
    return found


def _cursor(info: dict[str, Any]) -> dict[str, Any]:
    counts = {k: info[k] for k in ("config", "num_ack_pending", "num_redelivered", "num_pending", "num_waiting")}
    return counts | {k: (info[k]["consumer_seq"], info[k]["stream_seq"]) for k in ("delivered", "ack_floor")}


async def held(seen: Connection, subject: str) -> int:
    """How many messages the project's MESSAGES holds under `subject`."""
    info = await seen.js("STREAM.INFO.MESSAGES", {"subjects_filter": subject})
    by_subject: dict[str, int] = info["state"].get("subjects") or {}
    return sum(by_subject.values())


@pytest.fixture(scope="module")
async def own(bus: Running) -> Side:
    """The attacker's project."""
    return await make_side(bus, "mallory", "vera", "boss")


@pytest.fixture(scope="module")
async def foreign(bus: Running) -> Side:
    """The project of somebody else, with the same names in it."""
    return await make_side(bus, "mallory", "vera", "boss")


@pytest.fixture
async def mallory(own: Side) -> AsyncIterator[Attacker]:
    """The attacker, connected."""
    async with attacking(own.bus.url, own.tokens["mallory"]) as attacker:
        yield attacker


async def settled(seen: Connection) -> dict[str, Any]:
    """A snapshot once the gateway has written what it writes by itself after a session was opened."""
    before = await snapshot(seen)
    async with asyncio.timeout(5.0):
        while (again := await snapshot(seen)) != before:
            before = again
    return before
