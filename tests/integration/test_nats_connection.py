"""Storing, reading back and answering over one connection to a real server. One server and account for the module."""

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncGenerator
from pathlib import Path

import msgspec
import pytest

from sos.broker.errors import WrongLastSequence
from sos.broker.nats.accounts import Accounts, AccountSpec, gateway_user
from sos.broker.nats.connection import Connection, Received, connect
from sos.broker.nats.jetstream import JetStreamRefused
from sos.broker.nats.keys import AccountKeys, open_keyring
from sos.broker.nats.micro import Answer, Endpoint
from sos.broker.nats.nkeys import KeyPair
from sos.broker.nats.server import Server, serve
from sos.broker.nats.streams import events_stream
from sos.broker.nats.tiers import MAX_MESSAGE_BYTES, TIERS
from sos.wire.errors import MessageTooLarge, NatsUnreachable, Stopped, StorageExhausted
from sos.wire.nkeys import NkeyKind

ROOM = 1024 * 1024 * 1024
LIMITS = TIERS["starter"]
WITHIN_S = 10.0


class World(msgspec.Struct):
    server: Server
    keys: AccountKeys
    connection: Connection


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[World]:
    home: Path = tmp_path_factory.mktemp("home")
    keyring = open_keyring(home)
    async with (
        serve(home, keyring=keyring, max_file_bytes=ROOM) as server,
        connect(server.urls, *gateway_user(keyring.system), "system") as system,
    ):
        keys = await Accounts(system, keyring).push(AccountSpec(project="acme", project_id="1", limits=LIMITS))
        async with connect(server.urls, *gateway_user(keys), "gateway") as connection:
            await connection.ensure_stream(events_stream("acme", LIMITS))
            yield World(server, keys, connection)


@pytest.fixture
def nats(world: World) -> Connection:
    return world.connection


def subject() -> str:
    return f"project.acme.event.task.{secrets.token_hex(8)}"


async def put(nats: Connection, at: str, msg_id: str, expected: int | None = None, body: bytes = b"{}") -> int:
    return (await nats.store("EVENTS", at, body, msg_id=msg_id, expected_subject_seq=expected)).seq


async def test_a_new_subject_is_expected_at_zero_and_the_loser_of_a_race_is_told(nats: Connection):
    at = subject()
    outcomes = await asyncio.gather(*(put(nats, at, f"{at}{n}", 0) for n in range(8)), return_exceptions=True)
    assert len([o for o in outcomes if isinstance(o, int)]) == 1
    lost = [o for o in outcomes if isinstance(o, WrongLastSequence)]
    assert len(lost) == 7
    assert (lost[0].subject, lost[0].expected) == (at, 0)


async def test_storing_again_under_the_same_id_is_the_same_message_even_with_an_expectation(nats: Connection):
    at = subject()
    first = await put(nats, at, at, 0)
    for expected in (0, None):
        again = await nats.store("EVENTS", at, b"{}", msg_id=at, expected_subject_seq=expected)
        assert (again.seq, again.duplicate) == (first, True)
    after = await put(nats, at, at + "2", first)
    again = await nats.store("EVENTS", at, b"{}", msg_id=at, expected_subject_seq=0)
    assert again.seq == first != after


async def test_an_expected_stream_sequence_is_kept_too(nats: Connection):
    at = subject()
    seq = await put(nats, at, at)
    stored = await nats.store("EVENTS", at, b"", msg_id=at + "2", expected_stream_seq=seq)
    assert stored.seq == seq + 1
    with pytest.raises(WrongLastSequence):
        await nats.store("EVENTS", at, b"", msg_id=at + "3", expected_stream_seq=seq)


async def test_a_try_whose_answer_was_lost_is_recognised_when_it_is_tried_again(nats: Connection):
    class Deaf(Connection):
        """Sends the first request and does not hear its answer."""

        deaf = True

        async def request(self, subject: str, body: bytes = b"", **options: object) -> Received:
            reply = await nats.request(subject, body, **options)  # pyright: ignore[reportArgumentType]
            if self.deaf:
                self.deaf = False
                raise self.unreachable("the answer was lost")
            return reply

    at = subject()
    stored = await Deaf(nats.servers, "deaf").store("EVENTS", at, b"mine", msg_id=at, expected_subject_seq=0)
    assert (stored.duplicate, stored.tries) == (True, 2)
    last = await nats.last_of("EVENTS", at)
    assert last is not None
    assert (last.seq, last.body) == (stored.seq, b"mine")


async def test_the_last_message_of_a_subject_is_read_with_its_id_and_time(nats: Connection):
    at = subject()
    await put(nats, at, at)
    seq = await put(nats, at, at + "2", body=b"\x00\xff")
    last = await nats.last_of("EVENTS", at)
    assert last is not None
    assert (last.seq, last.subject, last.body) == (seq, at, b"\x00\xff")
    assert last.headers["Nats-Msg-Id"] == at + "2"
    assert last.time.tzinfo is not None
    assert await nats.last_of("EVENTS", subject()) is None


async def test_a_stream_is_read_in_batches_to_its_end(nats: Connection):
    first = await put(nats, subject(), secrets.token_hex(8))
    for _ in range(9):
        await put(nats, subject(), secrets.token_hex(8))
    seen: list[int] = []
    sizes: list[int] = []
    at = first
    while batch := await nats.read_batch("EVENTS", at, max_messages=4):
        seen += [m.seq for m in batch]
        sizes.append(len(batch))
        at = batch[-1].seq + 1
    assert seen == list(range(first, first + 10))
    assert sizes == [4, 4, 2]
    assert await nats.read_batch("EVENTS", 10**9) == []


async def test_a_message_reads_the_same_both_ways(nats: Connection):
    at = subject()
    seq = await put(nats, at, at, body=b"body")
    one, other = (await nats.read_batch("EVENTS", seq, 1))[0], await nats.last_of("EVENTS", at)
    assert one == other


async def test_large_messages_come_in_batches_of_bounded_bytes(nats: Connection):
    body = secrets.token_bytes(MAX_MESSAGE_BYTES)
    first = await put(nats, subject(), secrets.token_hex(8), body=body)
    for _ in range(39):
        await put(nats, subject(), secrets.token_hex(8), body=body)
    batch = await nats.read_batch("EVENTS", first)
    assert 0 < len(batch) < 40
    rest = await nats.read_batch("EVENTS", batch[-1].seq + 1)
    assert [m.seq for m in batch + rest] == list(range(first, first + 40))


async def test_a_body_past_the_limit_is_refused_with_both_sizes(nats: Connection):
    with pytest.raises(MessageTooLarge) as refused:
        await put(nats, subject(), secrets.token_hex(8), body=b"x" * (MAX_MESSAGE_BYTES + 8192))
    assert refused.value.size_bytes == MAX_MESSAGE_BYTES + 8192
    with pytest.raises(MessageTooLarge):
        await put(nats, subject(), secrets.token_hex(8), body=b"x" * (2 * 1024 * 1024))


async def test_a_stream_that_does_not_exist_is_an_error_and_not_an_empty_one(nats: Connection):
    with pytest.raises(JetStreamRefused) as refused:
        await nats.js("STREAM.INFO.NOPE")
    assert refused.value.err_code == 10059
    with pytest.raises(NatsUnreachable, match="nothing listens"):
        await nats.read_batch("NOPE", 1)


async def test_nobody_listening_is_said_at_once_and_silence_within_the_bound(nats: Connection):
    async def silent(_: Received) -> None: ...

    with pytest.raises(NatsUnreachable, match="nothing listens on nobody"):
        await nats.request("nobody", timeout_s=WITHIN_S)
    async with await nats.subscribe("silent", silent):
        with pytest.raises(NatsUnreachable, match=r"within 0\.05 s"):
            await nats.request("silent", timeout_s=0.05)


async def test_an_ended_subscription_hears_nothing_and_ends_twice(nats: Connection):
    heard: list[bytes] = []
    third = asyncio.Event()

    async def hear(message: Received) -> None:
        heard.append(message.body)
        if len(heard) == 3:
            third.set()
        raise RuntimeError("a callback that fails is logged and the next message comes")

    sub = await nats.subscribe("ears", hear)
    for n in range(3):
        await nats.publish("ears", str(n).encode())
    async with asyncio.timeout(WITHIN_S):
        await third.wait()
    await sub.unsubscribe()
    await sub.unsubscribe()
    await nats.publish("ears", b"more")
    await nats.flush()
    assert heard == [b"0", b"1", b"2"]


async def test_a_request_under_way_fails_at_once_when_the_server_dies_and_the_next_one_waits_for_it(world: World):
    waiting = asyncio.Event()

    async def silent(_: Received) -> None:
        waiting.set()

    async with await world.connection.subscribe("silent", silent):
        began = asyncio.get_running_loop().time()
        asked = asyncio.create_task(world.connection.request("silent", timeout_s=WITHIN_S))
        await waiting.wait()
        os.kill(world.server.pid, signal.SIGKILL)
        with pytest.raises(NatsUnreachable, match="dropped"):
            await asked
        assert asyncio.get_running_loop().time() - began < WITHIN_S / 2
        # The API answers again as soon as both are back; the subscription has survived.
        assert (await world.connection.js("STREAM.INFO.EVENTS"))["config"]["name"] == "EVENTS"
        waiting.clear()
        await world.connection.publish("silent")
        await asyncio.wait_for(waiting.wait(), WITHIN_S)


async def test_a_closed_connection_says_so_and_closes_twice(world: World):
    async with connect(world.server.urls, *gateway_user(world.keys), "short") as connection:
        assert connection.connected
    await connection.close()
    assert not connection.connected
    with pytest.raises(Stopped):
        await connection.request("x")


async def test_a_credential_that_the_server_does_not_know_is_refused_within_the_bound(world: World):
    _, jwt = gateway_user(world.keys)
    with pytest.raises(NatsUnreachable, match=r"(?i)authorization"):
        async with connect(world.server.urls, KeyPair.generate(NkeyKind.USER), jwt, "liar", timeout_s=0.5):
            raise AssertionError("let in")


async def test_a_server_that_is_not_there_is_said_within_the_bound(world: World):
    with pytest.raises(NatsUnreachable, match=r"nats://127\.0\.0\.1:1"):
        async with connect(["nats://127.0.0.1:1"], *gateway_user(world.keys), "lost", timeout_s=0.3):
            raise AssertionError("let in")


async def test_a_service_answers_many_at_once_and_survives_a_bad_request(nats: Connection):
    together = asyncio.Barrier(5)

    async def handle(at: str, reply: str, body: bytes) -> Answer | None:
        assert reply
        if body == b"bad":
            raise ValueError("secret inside")
        if body == b"silent":
            return None
        if body == b"together":
            await together.wait()
        return Answer(at.encode() + b":" + body, {"Said-By": "echo"})

    async with nats.service("sos-test", "1.0.0", {"echo": Endpoint("svc.*.echo", handle)}):
        for body in (b"bad", b"silent"):
            with pytest.raises(NatsUnreachable):
                await nats.request("svc.a.echo", body, timeout_s=0.1)
        answers = await asyncio.gather(*(nats.request("svc.a.echo", b"together") for _ in range(5)))
        assert {a.body for a in answers} == {b"svc.a.echo:together"}
        assert answers[0].headers["Said-By"] == "echo"
        stats = msgspec.json.decode((await nats.request("$SRV.STATS.sos-test")).body)
        assert stats["endpoints"][0]["num_requests"] == 7
        assert stats["endpoints"][0]["num_errors"] == 1
        assert msgspec.json.decode((await nats.request("$SRV.PING.sos-test")).body)["version"] == "1.0.0"
    with pytest.raises(NatsUnreachable, match="nothing listens"):
        await nats.request("svc.a.echo")


async def test_a_service_that_stops_finishes_what_is_under_way(nats: Connection):
    began, go = asyncio.Event(), asyncio.Event()

    async def handle(_at: str, _reply: str, _body: bytes) -> Answer:
        began.set()
        await go.wait()
        return Answer(b"done")

    async with nats.service("sos-slow", "1.0.0", {"slow": Endpoint("slow", handle)}):
        asked = asyncio.create_task(nats.request("slow"))
        await began.wait()
        asyncio.get_running_loop().call_later(0.05, go.set)
    assert (await asked).body == b"done"


async def test_a_full_stream_refuses_and_keeps_everything_it_has(nats: Connection):
    stream = {"name": "FULL", "subjects": ["full"], "max_bytes": 4096, "discard": "new"}
    await nats.ensure_stream(stream)
    for n in range(3):
        await nats.store("FULL", "full", b"x" * 1024, msg_id=str(n))
    with pytest.raises(StorageExhausted, match="maximum bytes"):
        await nats.store("FULL", "full", b"x" * 1024, msg_id="one too many")
    assert (await nats.js("STREAM.INFO.FULL"))["state"]["messages"] == 3
    await nats.js("STREAM.DELETE.FULL")
