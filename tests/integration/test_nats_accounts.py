"""Accounts, grants and revocations on a real server. One server for the module, one project a test."""

import asyncio
import itertools
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from sos.broker.nats.accounts import Accounts, AccountSpec, gateway_user
from sos.broker.nats.claims import user_jwt
from sos.broker.nats.connection import Connection, Received, connect
from sos.broker.nats.grants import agent_grant
from sos.broker.nats.keys import AccountKeys, Keyring, open_keyring
from sos.broker.nats.nkeys import KeyPair
from sos.broker.nats.server import Server, serve
from sos.broker.nats.streams import events_stream, inbox_consumer, messages_stream
from sos.broker.nats.tiers import AGENT_MAX_PAYLOAD_BYTES, AGENT_MAX_SUBS, MIB, TIERS
from sos.wire import subjects
from sos.wire.errors import NatsUnreachable, StorageExhausted
from sos.wire.nkeys import NkeyKind
from sos.wire.scopes import ALL, Scope

ROOM = 8 * 1024 * 1024 * 1024
NOT_HEARD_S = 0.3
"""How long a refused request is waited for."""
LIMITS = TIERS["starter"]


class World(msgspec.Struct):
    server: Server
    keyring: Keyring
    system: Connection
    accounts: Accounts


class Place(msgspec.Struct):
    """A project with its account, streams and gateway connection."""

    slug: str
    keys: AccountKeys
    gateway: Connection
    world: World

    @asynccontextmanager
    async def agent(
        self, name: str, scopes: tuple[Scope, ...] = ALL, user: KeyPair | None = None, lives: timedelta | None = None
    ) -> AsyncGenerator["Agent"]:
        user = user or KeyPair.generate(NkeyKind.USER)
        # The SDK names its inbox and asks for a credential for it; here the connection has already chosen one.
        connection = Connection(self.world.server.urls, name)
        grant = agent_grant(self.slug, name, scopes, connection.inbox)
        expires = datetime.now(UTC) + lives if lives else None
        jwt = user_jwt(
            name,
            user.public,
            self.keys.identity.public,
            self.keys.signing,
            grant,
            expires,
            max_payload=AGENT_MAX_PAYLOAD_BYTES,
            max_subs=AGENT_MAX_SUBS,
        )
        await connection.open(user, jwt, 2.0)
        try:
            yield Agent(connection, user)
        finally:
            await connection.close()


class Agent(msgspec.Struct):
    connection: Connection
    user: KeyPair

    async def tell(self, subject: str) -> int:
        stored = await self.connection.store(
            "MESSAGES", subject, b"{}", msg_id=secrets.token_hex(8), timeout_s=NOT_HEARD_S, tries=1
        )
        return stored.seq

    async def pull(self) -> Received:
        got: asyncio.Queue[Received] = asyncio.Queue()
        inbox = self.connection.inbox + ".pull"
        async with await self.connection.subscribe(inbox, got.put):
            await self.connection.publish(subjects.pull(self.connection.name), b'{"batch":1}', reply=inbox)
            return await asyncio.wait_for(got.get(), 2.0)

    async def refused(self, subject: str, body: bytes = b"") -> bool:
        try:
            await self.connection.request(subject, body, timeout_s=NOT_HEARD_S)
        except NatsUnreachable:
            return True
        return False


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[World]:
    home: Path = tmp_path_factory.mktemp("home")
    keyring = open_keyring(home)
    async with (
        serve(home, keyring=keyring, max_file_bytes=ROOM) as server,
        connect(server.urls, *gateway_user(keyring.system), "system") as system,
    ):
        yield World(server, keyring, system, Accounts(system, keyring))


_slugs = itertools.count(1)


def spec(slug: str, **changes: object) -> AccountSpec:
    return msgspec.structs.replace(AccountSpec(project=slug, project_id="1", limits=LIMITS), **changes)


@pytest.fixture
async def place(world: World) -> AsyncGenerator[Place]:
    slug = f"project-{next(_slugs)}"
    keys = await world.accounts.push(spec(slug))
    async with connect(world.server.urls, *gateway_user(keys), "gateway") as gateway:
        await gateway.ensure_stream(messages_stream(slug, LIMITS))
        await gateway.ensure_stream(events_stream(slug, LIMITS))
        await gateway.open_inbox(inbox_consumer(slug, "bob", (), 30.0))
        await gateway.open_inbox(inbox_consumer(slug, "eve", (), 30.0))
        yield Place(slug, keys, gateway, world)


async def test_pushing_an_account_again_changes_nothing_and_cuts_nobody(place: Place):
    async with place.agent("bob") as bob:
        for _ in range(3):
            again = await place.world.accounts.push(spec(place.slug))
            assert again.identity.public == place.keys.identity.public
        assert bob.connection.connected
        assert not bob.connection.lost.is_set()
        assert await bob.tell(f"project.{place.slug}.agent.eve.bob") == 1


async def test_streams_and_inboxes_made_again_change_nothing(place: Place):
    for _ in range(2):
        info = await place.gateway.ensure_stream(messages_stream(place.slug, LIMITS))
        assert info["config"]["max_bytes"] == LIMITS.messages_max_bytes
        await place.gateway.open_inbox(inbox_consumer(place.slug, "bob", ("dev",), 30.0))
    assert (await place.gateway.js("STREAM.INFO.MESSAGES"))["state"]["consumer_count"] == 2


async def test_a_project_that_grows_gets_its_room(place: Place):
    grown = TIERS["growth"]
    await place.world.accounts.push(spec(place.slug, limits=grown))
    info = await place.gateway.ensure_stream(messages_stream(place.slug, grown))
    assert info["config"]["max_consumers"] == grown.consumers
    assert (await place.gateway.js("INFO"))["limits"]["max_storage"] == grown.disk_storage


async def test_a_stream_past_the_accounts_room_is_refused(place: Place):
    with pytest.raises(StorageExhausted):
        await place.gateway.ensure_stream(messages_stream(place.slug, TIERS["scale"]) | {"max_consumers": 200})


async def test_an_agent_sends_pulls_and_acknowledges_with_its_grant(place: Place):
    async with place.agent("eve") as eve, place.agent("bob") as bob:
        assert await eve.tell(f"project.{place.slug}.agent.bob.eve") == 1
        assert await eve.tell(f"project.{place.slug}.squad.dev.eve") == 2
        got = await bob.pull()
        assert got.subject == f"project.{place.slug}.agent.bob.eve"
        await bob.connection.request(got.reply, b"+ACK")
        info = await place.gateway.js("CONSUMER.INFO.MESSAGES.bob")
        assert (info["ack_floor"]["stream_seq"], info["num_ack_pending"]) == (1, 0)


async def test_an_agent_reads_the_last_fact_of_an_address_and_no_other_fact(place: Place):
    address = subjects.Address(place.slug, "agent", "bob")
    await place.gateway.store("EVENTS", str(address), b"open", msg_id="1")
    await place.gateway.store("EVENTS", f"project.{place.slug}.event.token.t1", b"secret", msg_id="2")
    async with place.agent("eve") as eve:
        assert (await eve.connection.request(subjects.address_read(address))).body == b"open"
        assert await eve.refused(f"$JS.API.DIRECT.GET.EVENTS.project.{place.slug}.event.token.t1")
        payload = await eve.connection.request(subjects.address_read(address), b'{"seq":2}')
        assert (payload.status, payload.body) == ("408", b"")


@pytest.mark.parametrize(
    "subject",
    [
        "project.{p}.agent.bob.bob",
        "project.{p}.agent.bob.eve.x",
        "project.{p}.event.agent.bob",
        "project.{p}.address.agent.bob",
        "project.{p}.beat.bob",
        "project.{p}.api.bob.peers",
        "$JS.API.INFO",
        "$JS.API.STREAM.INFO.MESSAGES",
        "$JS.API.STREAM.NAMES",
        "$JS.API.STREAM.MSG.GET.MESSAGES",
        "$JS.API.STREAM.PURGE.MESSAGES",
        "$JS.API.DIRECT.GET.MESSAGES",
        "$JS.API.DIRECT.GET.EVENTS",
        "$JS.API.CONSUMER.CREATE.MESSAGES.x",
        "$JS.API.CONSUMER.INFO.MESSAGES.eve",
        "$JS.API.CONSUMER.MSG.NEXT.MESSAGES.bob",
        "$JS.ACK.MESSAGES.bob.1.1.1.1.0",
        "$SYS.REQ.ACCOUNT.PING.CONNZ",
        "$SYS.REQ.USER.INFO",
        "_INBOX_00000000000000000000000000000000.1",
    ],
)
async def test_what_the_grant_does_not_name_the_server_does_not_let_through(place: Place, subject: str):
    heard: list[Received] = []

    async def hear(message: Received) -> None:
        heard.append(message)

    said = subject.format(p=place.slug)
    before = (await place.gateway.js("STREAM.INFO.MESSAGES"))["state"]["last_seq"]
    async with await place.gateway.subscribe(said, hear), place.agent("eve") as eve:
        await eve.connection.publish(said, b"{}")
        # The server handles one connection's messages in order: the answer comes after the refusal.
        await eve.tell(f"project.{place.slug}.agent.bob.eve")
        await place.gateway.flush()
        assert "permissions violation" in eve.connection.last_error
    assert heard == []
    assert (await place.gateway.js("STREAM.INFO.MESSAGES"))["state"]["last_seq"] == before + 1


async def test_an_agent_without_scopes_can_neither_send_nor_pull(place: Place):
    async with place.agent("eve", scopes=()) as eve:
        with pytest.raises(NatsUnreachable):
            await eve.tell(f"project.{place.slug}.agent.bob.eve")
        assert await eve.refused(subjects.pull("eve"), b'{"batch":1}')


async def test_nobody_listens_outside_the_inbox(place: Place):
    heard: list[Received] = []

    async def hear(message: Received) -> None:
        heard.append(message)

    async with place.agent("eve") as eve:
        await eve.connection.subscribe(">", hear)
        await eve.connection.subscribe(f"project.{place.slug}.>", hear)
        await place.gateway.publish(f"project.{place.slug}.beat.bob", b"{}")
        await place.gateway.flush()
        await eve.connection.flush()
        assert "permissions violation" in eve.connection.last_error
    assert heard == []


async def test_a_revocation_cuts_the_live_connection_and_every_later_one(place: Place):
    async with place.agent("bob") as bob, place.agent("eve") as eve:
        began = time.perf_counter()
        until = int(time.time()) + 60  # a JWT that is signed in a later second than this would be a good one
        await place.world.accounts.push(spec(place.slug, revocations={bob.user.public: until}))
        async with asyncio.timeout(2.0):
            await bob.connection.lost.wait()
        assert time.perf_counter() - began < 0.5
        with pytest.raises(NatsUnreachable, match="for good"):
            await bob.tell(f"project.{place.slug}.agent.eve.bob")
        with pytest.raises(NatsUnreachable, match=r"(?i)authorization|revoked"):
            async with place.agent("bob", user=bob.user):
                raise AssertionError("let in")
        assert eve.connection.connected
        assert place.gateway.connected
        async with place.agent("bob") as again:  # a new key under the same name
            assert again.connection.connected


async def test_an_expired_credential_ends_the_connection(place: Place):
    async with place.agent("bob", lives=timedelta(seconds=1)) as bob:
        async with asyncio.timeout(5.0):
            await bob.connection.lost.wait()
        assert "xpired" in bob.connection.last_error


async def test_who_is_connected_is_the_servers_own_word(place: Place):
    async def now() -> set[str]:
        return await place.world.accounts.connected_users(place.keys.identity.public)

    gateway = await now()
    assert len(gateway) == 1
    async with place.agent("bob") as bob, place.agent("eve") as eve:
        assert await now() == gateway | {bob.user.public, eve.user.public}
    async with asyncio.timeout(2.0):
        while await now() != gateway:
            await asyncio.sleep(0.005)


async def test_the_list_of_connected_users_spans_pages(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sos.broker.nats.accounts.CONNECTIONS_PAGE", 2)
    async with place.agent("a"), place.agent("b"), place.agent("c"), place.agent("d"):
        assert len(await place.world.accounts.connected_users(place.keys.identity.public)) == 5


async def test_an_account_nobody_knows_has_nobody_connected(world: World):
    assert await world.accounts.connected_users(world.keyring.account("nobody", "1").identity.public) == set()


async def test_a_project_that_the_disk_has_no_room_for_is_refused_before_it_is_made(place: Place):
    await place.world.accounts.check_room(LIMITS)
    with pytest.raises(StorageExhausted, match="a project of 9000 MiB"):
        await place.world.accounts.check_room(msgspec.structs.replace(LIMITS, messages_max_bytes=(9000 - 32) * MIB))
    with pytest.raises(StorageExhausted):
        await place.world.accounts.check_room(LIMITS, replicas=2)


async def test_more_projects_than_memory_could_be_promised_to_have_jetstream(world: World):
    for n in range(8):
        keys = await world.accounts.push(spec(f"many-{n}"))
        async with connect(world.server.urls, *gateway_user(keys), "gateway") as gateway:
            await gateway.ensure_stream(messages_stream(f"many-{n}", LIMITS))
            durable = inbox_consumer(f"many-{n}", "bob", (), 30.0) | {"mem_storage": True}
            assert (await gateway.open_inbox(durable))["config"]["mem_storage"] is True


async def test_an_account_that_another_operator_signed_lets_nobody_in(world: World, tmp_path: Path):
    # The server stores what a user of the system account pushes and looks at its signature when somebody connects.
    keys = await Accounts(world.system, open_keyring(tmp_path)).push(spec("stolen"))
    with pytest.raises(NatsUnreachable, match=r"(?i)authorization"):
        async with connect(world.server.urls, *gateway_user(keys), "thief", timeout_s=0.5):
            raise AssertionError("let in")
