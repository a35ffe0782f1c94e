"""The one place that knows everyone: a gateway put together from its rooms, and taken apart in the opposite order."""

import asyncio
import hashlib
import logging
import platform
import sqlite3
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from socket import socket

import msgspec

from sos.broker.config import RANDOM, Config
from sos.broker.control.bus import Bus, Parts, open_bus
from sos.broker.control.idempotency import Idempotency
from sos.broker.control.journal import Journal
from sos.broker.control.me import Versions
from sos.broker.control.tokens import Doorkeeper, operator_token
from sos.broker.domain.projects import ProjectCreated
from sos.broker.doors.http import bind, make_app, serve_http
from sos.broker.doors.nats_api import serve_project
from sos.broker.errors import DataLoss, ServerFailed
from sos.broker.log import Head, Log, verify_log
from sos.broker.log.jetstream import JetStreamLog
from sos.broker.nats import safety
from sos.broker.nats.accounts import Accounts, AccountSpec, gateway_user
from sos.broker.nats.config import ACCOUNTS_FOLDER
from sos.broker.nats.connection import Connection, connect
from sos.broker.nats.keys import Keyring, open_keyring
from sos.broker.nats.lock import hold
from sos.broker.nats.server import Server, serve
from sos.broker.nats.streams import idempotency_stream, registry_stream
from sos.broker.views import REGISTRY_KEY, check_not_behind, events_key, open_views, refold
from sos.wire import api
from sos.wire.errors import BadRequest, SosError
from sos.wire.home import private_dir, write_secret
from sos.wire.subjects import EVENTS, REGISTRY

log = logging.getLogger(__name__)

VIEWS_FILE = "views.db"
ALWAYS = "always"
HEALTH_TIMEOUT_S = 1.5
"""Whoever asks for the health, a load balancer for one, waits a few seconds at most."""
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - looked up, not bound
"""Listening on all addresses: what this machine itself dials then."""


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway that serves, and where. `operator_token` is in `<home>/operator.token` too."""

    url: str
    nats_urls: tuple[str, ...]
    nats_pid: int
    nats_version: str
    home: str
    durability: str
    server: Server
    bus: Bus
    operator_token: str
    lost: tuple[asyncio.Event, ...]
    """Any of these set: NATS ended one of the gateway's own connections for good, and it must be started again."""

    async def until_lost(self) -> None:
        """Return when the gateway cannot go on."""
        waits = [asyncio.create_task(event.wait()) for event in self.lost]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def __repr__(self) -> str:
        return f"Running({self.url})"


class _Base(msgspec.Struct, frozen=True):
    """What every use of a home stands on: the server, its keys, and the registry, found whole."""

    server: Server
    keyring: Keyring
    system: Connection
    sos: Connection
    accounts: Accounts
    registry: JetStreamLog
    head: Head
    facts: safety.ServerFacts


@asynccontextmanager
async def run(config: Config) -> AsyncGenerator[Running]:
    """A gateway, serving while inside; when it is left, nothing of it runs.

    Raises `HomeInUse`, `UnsafeServer`, `DataLoss`, `ServerFailed`, `NoServerBinary`, `ServerTooOld`: then it has not
    served anything.
    """
    if config.host in WILDCARDS and not config.advertise:
        raise BadRequest(why=f"with --host {config.host} say with --advertise HOST where agents reach NATS")
    home = private_dir(config.home)
    async with AsyncExitStack() as stack:
        held = stack.enter_context(hold(home))
        listener = stack.enter_context(_listen(config))
        url = f"http://{_host(config.host)}:{listener.getsockname()[1]}"
        held.announce(url)
        base = await stack.enter_async_context(_base(config))
        (home / VIEWS_FILE).touch(mode=0o600, exist_ok=True)
        views = await stack.enter_async_context(open_views(home / VIEWS_FILE))
        check_not_behind(REGISTRY_KEY, await views.cursor(REGISTRY_KEY), base.head.seq, base.head.hash)
        registry = Journal(REGISTRY_KEY, base.registry, views)
        await base.sos.ensure_stream(idempotency_stream(config.replicas))
        doorkeeper = Doorkeeper(views, home)
        parts = Parts(
            config=config,
            registry=registry,
            log=base.registry,
            accounts=base.accounts,
            keyring=base.keyring,
            doorkeeper=doorkeeper,
            idempotency=Idempotency(base.sos, base.keyring.secret, _gateway_id(home)),
            urls=lambda: _advertised(base.server, config),
            available=lambda: base.sos.connected and base.system.connected,
            versions=Versions(version("sos-bus"), lambda: base.facts.version),
        )
        bus = await stack.enter_async_context(open_bus(parts, serve_project))
        app = make_app(bus, doorkeeper, lambda: _health(bus, base), version("sos-bus"))
        await stack.enter_async_context(serve_http(app, listener))
        _remember(home, url)
        yield Running(
            url=url,
            nats_urls=_advertised(base.server, config),
            nats_pid=base.server.pid,
            nats_version=base.facts.version,
            home=str(home),
            durability=config.durability,
            server=base.server,
            bus=bus,
            operator_token=operator_token(home),
            lost=(base.system.lost, base.sos.lost),
        )


async def rebuild(config: Config) -> int:
    """Fold every stream into new views, then put them in the place of the old; returns how many streams.

    The bus of this home must be down. Raises `DataLoss`, and changes nothing, if a stream ends before what the old
    views had seen of it: what was lost could then be noticed nowhere else.
    """
    home = private_dir(config.home)
    async with AsyncExitStack() as stack:
        stack.enter_context(hold(home))
        base = await stack.enter_async_context(_base(config))
        logs: dict[str, Log] = {REGISTRY_KEY: base.registry}
        async for recorded in base.registry.read(1):
            if isinstance(recorded.event, ProjectCreated):
                connection = await _enter_project(stack, base, recorded.event, config)
                logs[events_key(recorded.event.slug)] = JetStreamLog(connection, EVENTS, chained=False)
        if (home / VIEWS_FILE).exists():
            await _check_nothing_lost(home / VIEWS_FILE, logs)
        fresh = home / f"{VIEWS_FILE}.new"
        await refold(fresh, logs)
        for suffix in ("-wal", "-shm"):
            (home / f"{VIEWS_FILE}{suffix}").unlink(missing_ok=True)
        fresh.replace(home / VIEWS_FILE)
        return len(logs)


async def _check_nothing_lost(path: Path, logs: Mapping[str, Log]) -> None:
    try:
        async with open_views(path) as views:
            cursors = await views.cursors()
    except sqlite3.DatabaseError:
        log.warning("%s cannot be read, so it cannot tell whether a stream has lost something", path)
        return
    for key, cursor in cursors.items():
        if key not in logs or cursor.seq > await logs[key].head():
            raise DataLoss(stream=key, why=f"it ends before sequence {cursor.seq}, which was seen")


@asynccontextmanager
async def _base(config: Config) -> AsyncGenerator[_Base]:
    keyring = open_keyring(config.home)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            serve(
                config.home,
                keyring=keyring,
                host=config.host,
                port=config.nats_port,
                durability=config.durability,
                max_file_bytes=config.max_file_bytes,
            )
        )
        user, jwt = gateway_user(keyring.system)
        system = await stack.enter_async_context(connect(server.urls, user, jwt, "gateway SYS"))
        facts = await safety.check(system, allow_interval=config.durability != ALWAYS)
        user, jwt = gateway_user(keyring.sos)
        sos = await stack.enter_async_context(connect(server.urls, user, jwt, "gateway SOS"))
        await sos.ensure_stream(registry_stream(config.replicas))
        registry = JetStreamLog(sos, REGISTRY, chained=True)
        head = await verify_log(registry)
        accounts = Accounts(system, keyring, folder=config.home / ACCOUNTS_FOLDER)
        yield _Base(server, keyring, system, sos, accounts, registry, head, facts)


async def _enter_project(stack: AsyncExitStack, base: _Base, project: ProjectCreated, config: Config) -> Connection:
    if not await base.accounts.recall_void(project.slug, project.project_id):
        log.warning("the server has no account of %s; it is made again", project.slug)
    spec = AccountSpec(
        project=project.slug,
        project_id=project.project_id,
        limits=config.tiers[project.tier],
        replicas=config.replicas,
    )
    user, jwt = gateway_user(await base.accounts.push(spec))
    return await stack.enter_async_context(connect(base.server.urls, user, jwt, f"rebuild {project.slug}"))


async def _health(bus: Bus, base: _Base) -> api.Health:
    behind, why = 0, bus.why_not_well()
    try:
        async with asyncio.timeout(HEALTH_TIMEOUT_S):
            behind = await bus.behind()
    except SosError as e:
        why = e.detail
    except TimeoutError:
        why = f"NATS did not answer within {HEALTH_TIMEOUT_S:g} s."
    return api.Health(
        ok=not why,
        version=version("sos-bus"),
        nats="connected" if base.system.connected else "disconnected",
        nats_version=base.facts.version,
        projects=bus.projects.count,
        behind=behind,
        why=why,
    )


def _gateway_id(home: Path) -> str:
    """The same at every start on this home, and another for a copy of it elsewhere: one process at a time holds it."""
    return hashlib.sha256(f"{platform.node()}\n{home.absolute()}".encode()).hexdigest()[:16]


def _advertised(server: Server, config: Config) -> tuple[str, ...]:
    """The NATS addresses that agents are given."""
    if not config.advertise:
        return server.urls
    host = f"[{config.advertise}]" if ":" in config.advertise else config.advertise
    return tuple(f"nats://{host}:{url.rpartition(':')[2]}" for url in server.urls)


@contextmanager
def _listen(config: Config) -> Generator[socket]:
    """The HTTP socket. Port 0 takes the port of the last time if it is free, so that clients find the bus again."""
    remembered = config.home / "http_port"
    listener: socket | None = None
    if config.http_port == RANDOM and remembered.exists():
        with suppress(ServerFailed):  # somebody else has it now: then any free one
            listener = bind(config.host, int(remembered.read_text()))
    listener = listener or bind(config.host, config.http_port)
    with closing(listener):
        write_secret(remembered, str(listener.getsockname()[1]))
        yield listener


def _remember(home: Path, url: str) -> None:
    """Where this home's bus is, for every command and agent that uses the same home."""
    write_secret(home / "context.json", msgspec.json.encode({"url": url}).decode())


def _host(host: str) -> str:
    shown = WILDCARDS.get(host, host)
    return f"[{shown}]" if ":" in shown else shown
