"""A real nats-server for the suite, an account of its own for each test, and both kinds of log."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from sos.broker.log import Log, MemoryLog, MemoryStream
from sos.broker.log.jetstream import JetStreamLog
from sos.broker.nats.claims import account_jwt, user_jwt
from sos.broker.nats.connection import Connection, connect
from sos.broker.nats.grants import GATEWAY
from sos.broker.nats.keys import AccountKeys, Keyring, open_keyring
from sos.broker.nats.nkeys import KeyPair
from sos.broker.nats.server import Server, serve
from sos.broker.nats.tiers import MIB, TIERS
from sos.wire.nkeys import NkeyKind
from sos.wire.subjects import EVENTS, REGISTRY, REGISTRY_FACTS, facts_of

# The server reserves what an account may use; this suite makes one for each test.
SMALL = msgspec.structs.replace(TIERS["starter"], mem_storage=0, messages_max_bytes=MIB, events_max_bytes=MIB)
SUBJECTS = {REGISTRY: (REGISTRY_FACTS,), EVENTS: facts_of("acme")}


class Bus(msgspec.Struct, frozen=True):
    """A server and a way to make accounts on it."""

    server: Server
    keyring: Keyring
    system: Connection


@asynccontextmanager
async def enter(server: Server, keys: AccountKeys, name: str) -> AsyncGenerator[Connection]:
    """A connection that may do everything in an account."""
    user = KeyPair.generate(NkeyKind.USER)
    jwt = user_jwt(
        name, user.public, keys.identity.public, keys.signing, GATEWAY, None, max_payload=MIB, max_subs=1_000
    )
    async with connect(server.urls, user, jwt, name) as connection:
        yield connection


@pytest.fixture(scope="session")
async def bus(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bus]:
    """One server for the session."""
    home: Path = tmp_path_factory.mktemp("home")
    keyring = open_keyring(home)
    async with serve(home, keyring=keyring) as server, enter(server, keyring.system, "system") as system:
        yield Bus(server, keyring, system)


@asynccontextmanager
async def open_account(bus: Bus) -> AsyncGenerator[Connection]:
    """A new account with empty streams REGISTRY and EVENTS."""
    key = KeyPair.generate(NkeyKind.ACCOUNT)
    jwt = account_jwt("t", key.public, key.public, SMALL, {}, bus.keyring.operator_signing)
    await bus.system.request("$SYS.REQ.CLAIMS.UPDATE", jwt.encode())
    async with enter(bus.server, AccountKeys(key, key), "gateway") as connection:
        for stream, subjects in SUBJECTS.items():
            config = {"name": stream, "subjects": subjects, "allow_direct": True, "max_bytes": MIB, "storage": "file"}
            await connection.ensure_stream({**config, "max_consumers": 10, "discard": "new"})
        yield connection


@pytest.fixture
async def account(bus: Bus) -> AsyncIterator[Connection]:
    """A connection to an account of this test alone."""
    async with open_account(bus) as connection:
        yield connection


class Held:
    """The stream under test, and any number of logs on it."""

    def __init__(self, stream: str, connection: Connection | None) -> None:
        self.stream = stream
        self._connection = connection
        self._memory = MemoryStream()

    def log(self) -> Log:
        """Another log on the same stream, as another gateway would have."""
        chained = self.stream == REGISTRY
        if self._connection is not None:
            return JetStreamLog(self._connection, self.stream, chained)
        return MemoryLog(self.stream, chained, self._memory)

    def subject(self, name: str) -> str:
        """A subject that the stream stores."""
        return f"registry.acme.agent.{name}" if self.stream == REGISTRY else f"project.acme.event.agent.{name}"


@pytest.fixture(params=[f"{kind}-{stream}" for kind in ("memory", "jetstream") for stream in SUBJECTS])
async def held(request: pytest.FixtureRequest, bus: Bus) -> AsyncIterator[Held]:
    """Each implementation, chained (REGISTRY) and not (EVENTS)."""
    kind, _, stream = str(request.param).partition("-")
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(open_account(bus)) if kind == "jetstream" else None
        yield Held(stream, connection)
