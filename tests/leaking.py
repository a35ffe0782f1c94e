"""What the tests of leaks look at: the fact, the stored message, the letters."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from tests.conftest import OPERATOR, ROOMY
from tests.security.attacker import open_session

from sos.broker.app import Running, run
from sos.broker.config import Config, LeakPolicy
from sos.broker.domain.leaks import Leak
from sos.broker.nats.jetstream import StoredMessage
from sos.wire import api
from sos.wire.envelope import Envelope, decode
from sos.wire.errors import SosError

PROMISED_S = 2.0
"""From the publish to the last of what follows."""


class Told(msgspec.Struct):
    """A letter of the bus, and to which subject."""

    to: str
    envelope: Envelope


async def until[T](look: Callable[[], Awaitable[T | None]], what: str, within_s: float = PROMISED_S) -> T:
    """What `look` finds, waited for with a bound."""
    try:
        async with asyncio.timeout(within_s):
            while (found := await look()) is None:
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"not within {within_s} s: {what}") from None
    return found


async def leak_in(bus: Running, slug: str, seq: int, within_s: float = PROMISED_S) -> Leak:
    """The fact about a message, waited for."""

    async def look() -> Leak | None:
        return (await bus.bus.registry.views.leak(slug, seq))[0]

    return await until(look, f"message {seq} of {slug} is on record as a leak", within_s)


async def stored(bus: Running, slug: str) -> dict[int, StoredMessage]:
    """Every message of a project, by sequence."""
    connection = (await bus.bus.projects.tenant(slug)).connection
    found: dict[int, StoredMessage] = {}
    while batch := await connection.read_batch("MESSAGES", max(found, default=0) + 1):
        found |= {m.seq: m for m in batch}
    return found


async def erased(bus: Running, slug: str, seq: int, within_s: float = PROMISED_S) -> None:
    """Return when the message is gone."""

    async def look() -> bool | None:
        return seq not in await stored(bus, slug) or None

    await until(look, f"message {seq} of {slug} is erased", within_s)


async def letters(bus: Running, slug: str) -> list[Told]:
    """What the bus itself has sent in a project."""
    found: list[Told] = []
    for message in (await stored(bus, slug)).values():
        kind, to, sender = message.subject.split(".")[2:]
        if sender == "gateway":
            found.append(Told(f"{kind}:{to}", decode(message.body)))
    return found


async def told(bus: Running, slug: str, to: str, within_s: float = PROMISED_S) -> Envelope:
    """The first letter to `agent:<name>` or `squad:<id>`, waited for."""

    async def look() -> Envelope | None:
        return next((t.envelope for t in await letters(bus, slug) if t.to == to), None)

    return await until(look, f"{to} of {slug} is told", within_s)


async def refusal(bus: Running, token: str) -> str:
    """The code with which a token is refused a session; empty if it opens one."""
    try:
        await open_session(bus.url, token)
    except SosError as e:
        return e.code
    return ""


async def looked_through(bus: Running, slug: str, within_s: float = PROMISED_S) -> None:
    """Return when the tap has passed every message that is stored now."""
    head = max(await stored(bus, slug), default=0)

    async def look() -> bool | None:
        return await bus.bus.registry.views.tap(slug) >= head or None

    await until(look, f"the tap of {slug} is at {head}", within_s)


@asynccontextmanager
async def bus_with(home: Path, policy: LeakPolicy = "void") -> AsyncGenerator[Running]:
    """A bus of the test's own with the project `acme`."""
    async with run(Config(home=home, http_port=0, nats_port=0, leak_policy=policy, tiers=ROOMY)) as running:
        known = {p.slug for p in await running.bus.projects.list(OPERATOR)}
        if "acme" not in known:
            await running.bus.projects.create(OPERATOR, api.CreateProject(slug="acme", tier="starter"))
        yield running


async def mint(bus: Running, name: str, slug: str = "acme") -> str:
    """An agent's token."""
    return (await bus.bus.agents.mint(OPERATOR, slug, api.MintAgent(agent_name=name))).raw_token


async def report_to(bus: Running, slug: str, name: str) -> None:
    """An agent gets the reports of a project, or with an empty slug the operator's (then it is one of `acme`)."""
    if slug:
        await bus.bus.escalations.set_projects(OPERATOR, slug, api.SetEscalation(to=f"agent:{name}"))
    else:
        await bus.bus.escalations.set_operators(OPERATOR, api.SetEscalation(to=f"acme/agent:{name}"))


def holding(secret: str, home: Path, but: Mapping[str, object] | None = None) -> list[str]:
    """The files of a home in which a secret stands, as it is."""
    found = [p for p in sorted(home.rglob("*")) if p.is_file() and secret.encode() in p.read_bytes()]
    return [name for p in found if (name := str(p.relative_to(home))) not in (but or {})]
