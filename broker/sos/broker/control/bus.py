"""The whole bus as the doors see it: a room for each noun."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import msgspec

from sos.broker.config import Config
from sos.broker.control.agents import Agents
from sos.broker.control.audit import Auditing
from sos.broker.control.catalogue import Catalogue
from sos.broker.control.cutting import Cutting
from sos.broker.control.disks import DiskWatch, watched
from sos.broker.control.escalations import Escalations
from sos.broker.control.idempotency import Idempotency
from sos.broker.control.journal import Journal
from sos.broker.control.leaks import Leaks
from sos.broker.control.me import Mirror, Versions
from sos.broker.control.peers import Peers
from sos.broker.control.projects import Projects, Urls
from sos.broker.control.rates import Rates
from sos.broker.control.sessions import Sessions
from sos.broker.control.squads import Squads
from sos.broker.control.tap import tapped
from sos.broker.control.tenant import Tenant
from sos.broker.control.tokens import Doorkeeper, Minting
from sos.broker.control.voiding import Voiding
from sos.broker.log.jetstream import JetStreamLog
from sos.broker.nats.accounts import Accounts
from sos.broker.nats.keys import Keyring
from sos.wire.errors import SosError

log = logging.getLogger(__name__)

ServeBus = Callable[["Bus", Tenant], AbstractAsyncContextManager[None]]


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What the rooms stand on."""

    config: Config
    registry: Journal
    log: JetStreamLog
    accounts: Accounts
    keyring: Keyring
    doorkeeper: Doorkeeper
    idempotency: Idempotency
    urls: Urls
    available: Callable[[], bool]
    """Whether NATS answers just now."""
    versions: Versions


class Bus:
    """Made by `open_bus`."""

    def __init__(self, parts: Parts, serve: ServeBus) -> None:
        config, registry = parts.config, parts.registry
        minting = Minting(lambda kind, repeat: parts.keyring.secret("token of a repeated request", kind, repeat))
        self.registry = registry
        self.idempotency = parts.idempotency
        self.rates = Rates(config.tiers, registry.views)
        self.projects = Projects(
            config, registry, parts.accounts, parts.urls, minting, lambda tenant: self._serving(tenant, serve)
        )
        self.agents = Agents(config, registry, self.projects, minting)
        self.cutting = Cutting(registry, self.projects, self.agents, minting, parts.available)
        self.catalogue = Catalogue(registry)
        self.escalations = Escalations(registry, self.projects)
        self.squads = Squads(registry.views, self.projects, self.agents)
        self.peers = Peers(registry.views, self.projects, self.agents, self.squads, parts.accounts)
        self.sessions = Sessions(config, registry, parts.urls, self.projects, self.agents, self.squads)
        self.mirror = Mirror(registry.views, self.projects, self.agents, parts.urls, parts.versions)
        self.auditing = Auditing(parts.log)
        voiding = Voiding(config, registry.views, self.projects, self.cutting, minting, parts.keyring, parts.doorkeeper)
        notices = parts.keyring.secret("ids of notices")
        self.leaks = Leaks(registry, self.projects, self.escalations, voiding, notices)
        self.disk = DiskWatch(registry, self.escalations, config.home, notices)

    @asynccontextmanager
    async def _serving(self, tenant: Tenant, serve: ServeBus) -> AsyncGenerator[None]:
        """What runs for an open project: its door, and the tap on what its agents publish."""
        async with serve(self, tenant), tapped(tenant, self.registry.views, self.leaks):
            yield

    async def settle(self) -> None:
        """Everything that is owed: agents to be cut off first, then projects that are not open."""
        await self.projects.open_all()
        await self.projects.pending.settle_if_possible()
        await self.projects.settle_cuts()

    def why_not_well(self) -> str:
        """What is wrong just now, in a sentence; empty if nothing is."""
        failure = self.registry.failure
        return " ".join(filter(None, (failure.detail if failure else "", self.projects.why_not_open())))

    async def behind(self) -> int:
        """Facts of the registry that the views do not hold yet."""
        return await self.registry.log.head() - (await self.registry.views.cursor(self.registry.key)).seq


@asynccontextmanager
async def open_bus(parts: Parts, serve: ServeBus) -> AsyncGenerator[Bus]:
    """The registry caught up and every project open."""
    await parts.registry.catch_up()
    bus = Bus(parts, serve)
    try:
        await bus.settle()
        async with (
            parts.registry.followed(bus.settle),
            swept(bus, parts.config.sweep_s),
            watched(bus.disk, parts.config.disk_watch_s),
        ):
            yield bus
    finally:
        await bus.projects.close()


@asynccontextmanager
async def swept(bus: Bus, every_s: float) -> AsyncGenerator[None]:
    """While inside, what time alone changes is looked for: graces that ended, sessions that ran out, debts."""
    task = asyncio.create_task(_sweep(bus, every_s), name="sweep")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _sweep(bus: Bus, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        try:
            await bus.projects.pending.settle()
            await bus.projects.settle_cuts()
            await bus.projects.end_run_out()
        except SosError as e:
            log.warning("the sweep is put off: %s", e)
        except Exception:
            log.exception("the sweep failed")
