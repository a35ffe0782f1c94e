"""Bad input through the SDK: refused with its own error, in time, before anything is stored; nothing stops."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from time import monotonic

import pytest
from tests.conftest import Project, eventually
from tests.security.attacker import attacking

from sos.sdk import AsyncAgent, Message
from sos.wire import tokens
from sos.wire.envelope import MAX_ENCODED_BYTES, Envelope, encode, now
from sos.wire.errors import (
    BadEnvelope,
    BadName,
    BadRequest,
    GatewayUnreachable,
    MalformedToken,
    MessageTooLarge,
    MissingToken,
    SosError,
    UnknownAgent,
    UnknownRecipient,
    UnknownSquad,
    UnknownToken,
)
from sos.wire.ids import uuid7
from sos.wire.tokens import TokenKind

AT_ONCE_S = 1.0
"""For what can be told without asking anybody, and for a port where nobody listens."""
CONNECT_S = 1.0
MARGIN_S = 2.0


@contextmanager
def within(bound_s: float) -> Generator[None]:
    """What happens inside, a refusal too, takes no longer."""
    began = monotonic()
    try:
        yield
    finally:
        assert monotonic() - began < bound_s


async def stored(project: Project) -> int:
    """The last sequence of the project's MESSAGES."""
    return await (await project.bus.bus.projects.tenant(project.slug)).messages_head()


@asynccontextmanager
async def silence() -> AsyncGenerator[str]:
    """An address where connections are taken and nothing is ever answered."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


# ── who ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "token",
    ["x", "sk-bus-", "sk-bus-" + "A" * 33, tokens.make(TokenKind.OPERATOR), tokens.make(TokenKind.AGENT) + "x"],
)
def test_a_malformed_token_is_refused_before_anybody_is_asked(project: Project, token: str):
    with within(AT_ONCE_S), pytest.raises(MalformedToken, match="Copy the token again") as refused:
        AsyncAgent(token, "bob", url="http://127.0.0.1:1")
    assert len(token) < 10 or token not in str(refused.value)


def test_no_token_at_all_says_where_one_may_come_from(project: Project):
    with within(AT_ONCE_S), pytest.raises(MissingToken, match="SOS_TOKEN"):
        AsyncAgent()
    with pytest.raises(UnknownAgent, match="sos agent mint bob"):
        AsyncAgent(name="bob")


async def test_an_unknown_token_is_refused_at_once_and_not_tried_again(project: Project):
    token = tokens.make(TokenKind.AGENT)
    agent = await project.agent("bob", token)
    with within(AT_ONCE_S), pytest.raises(UnknownToken, match="not known here") as refused:
        await agent.start()
    assert token not in str(refused.value)


@pytest.mark.parametrize("name", ["a*b", "Ünïcode", "...", "x" * 300])
def test_what_is_no_name_is_refused_before_anybody_is_asked(project: Project, name: str):
    with within(AT_ONCE_S), pytest.raises(BadName, match="1 to 63"):
        AsyncAgent(tokens.make(TokenKind.AGENT), name, url="http://127.0.0.1:1")


@pytest.mark.parametrize(
    "url", ["ftp://x", "localhost:6070", "http://", "http://u:p@host", "http://host?x=1", "nonsense"]
)
def test_what_is_no_address_is_refused_with_an_example(project: Project, url: str):
    with within(AT_ONCE_S), pytest.raises(BadRequest, match="http://host:6070"):
        AsyncAgent(tokens.make(TokenKind.AGENT), "bob", url=url)


@pytest.mark.parametrize("url", ["http://host:port", "http://127.0.0.1:99999", "http://[::1"])
def test_an_address_that_cannot_be_read_is_refused_too(project: Project, url: str):
    with within(AT_ONCE_S), pytest.raises(BadRequest, match="http://host:6070"):
        AsyncAgent(tokens.make(TokenKind.AGENT), "bob", url=url)


# ── where nobody is ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_gateway_that_is_down_is_told_within_the_connect_timeout(project: Project):
    url = f"http://127.0.0.1:{free_port()}"
    agent = AsyncAgent(tokens.make(TokenKind.AGENT), "bob", url=url, connect_timeout_s=CONNECT_S)
    with within(CONNECT_S + AT_ONCE_S), pytest.raises(GatewayUnreachable, match="sos up") as refused:
        await agent.start()
    assert refused.value.url == url


async def test_a_gateway_that_takes_connections_and_is_silent_is_told_within_the_connect_timeout(project: Project):
    async with silence() as url:
        agent = AsyncAgent(tokens.make(TokenKind.AGENT), "bob", url=url, connect_timeout_s=CONNECT_S)
        with within(CONNECT_S + MARGIN_S), pytest.raises(GatewayUnreachable, match="did not answer in time"):
            await agent.start()


async def test_a_nats_server_is_not_taken_for_a_gateway(project: Project):
    url = project.bus.nats_urls[0].replace("nats://", "http://")
    agent = AsyncAgent(tokens.make(TokenKind.AGENT), "bob", url=url, connect_timeout_s=CONNECT_S)
    with within(CONNECT_S + AT_ONCE_S), pytest.raises(GatewayUnreachable):
        await agent.start()


# ── what is sent ─────────────────────────────────────────────────────────────────────────────────────────────────


def room_for_text(session: str) -> int:
    """How long a text of one-byte characters may be in an otherwise empty message of this session."""
    empty = Envelope(v=1, id=uuid7(), kind="message", text="", session=session, sent_at=now())
    longest = len(encode(empty)) + len("123456") * (empty.sent_at.microsecond == 0)
    return MAX_ENCODED_BYTES - longest - 8  # the time's last digits may be more or fewer


async def test_the_largest_message_passes_whole_and_one_past_it_is_refused_and_not_stored(project: Project):
    alice, bob = await project.agent("alice"), await project.agent("bob")
    await alice.start()
    await bob.start()
    largest = "x" * room_for_text(alice.session)
    await alice.send("bob", largest)
    before = await stored(project)
    with within(AT_ONCE_S), pytest.raises(MessageTooLarge, match="limit is 262144") as refused:
        await alice.send("bob", largest + "x" * 32)
    assert refused.value.size_bytes > refused.value.limit_bytes == MAX_ENCODED_BYTES
    with pytest.raises(MessageTooLarge):
        await alice.send("bob", "ü" * (MAX_ENCODED_BYTES // 2))
    with pytest.raises(MessageTooLarge):
        await alice.send("bob", "", data={"x": "y" * MAX_ENCODED_BYTES})
    assert await stored(project) == before
    assert [m.text for m in await bob.inbox()] == [largest]


async def test_data_that_is_not_json_is_refused_and_not_stored(project: Project):
    alice = await project.agent("alice")
    await project.mint("bob")
    await alice.start()
    deep: dict[str, object] = {}
    for _ in range(100_000):
        deep = {"d": deep}
    before = await stored(project)
    for data in ({"x": object()}, {"x": {1, 2}.__iter__()}, deep, {"x": "\ud800"}):
        with within(AT_ONCE_S), pytest.raises(BadEnvelope, match="JSON"):
            await alice.send("bob", "hi", data=data)
    with pytest.raises(BadEnvelope):
        await alice.send("bob", "\ud800")
    assert await stored(project) == before


@pytest.mark.parametrize(
    "id_", ["x", "not-a-uuid", "01a1fbd6-58a3-4fdd-a4dc-1b2496080a4a", uuid7().upper(), "a\r\nb: c"]
)
async def test_an_id_that_is_no_uuid7_is_refused_and_not_stored(project: Project, id_: str):
    """It is the message's id at the server and in every reader: what readers set aside may not be sent."""
    alice = await project.agent("alice")
    await project.mint("bob")
    await alice.start()
    before = await stored(project)
    with within(AT_ONCE_S), pytest.raises(SosError) as refused:
        await alice.send("bob", "hi", id=id_)
    assert refused.value.code in {"bad_request", "bad_envelope"}
    assert await stored(project) == before


@pytest.mark.parametrize("to", ["nobody", "agent:nobody"])
async def test_an_unknown_recipient_is_told_with_the_closest_names_and_nothing_is_stored(project: Project, to: str):
    alice = await project.agent("alice")
    await alice.start()
    before = await stored(project)
    with within(AT_ONCE_S), pytest.raises(UnknownRecipient, match="nothing was sent"):
        await alice.send(to, "hi")
    assert await stored(project) == before


@pytest.mark.parametrize("to", ["", "*", ">", "a.b.*", "agent:", "b@other", "Ünïcode", "x" * 300])
async def test_a_recipient_that_is_no_name_is_refused_and_nothing_is_stored(project: Project, to: str):
    alice = await project.agent("alice")
    await alice.start()
    before = await stored(project)
    with within(AT_ONCE_S), pytest.raises(BadName):
        await alice.send(to, "hi")
    assert await stored(project) == before


@pytest.mark.parametrize("squad", ["", "*", ">", "a.b.*", "b@other", "Ünïcode", "x" * 300])
async def test_a_squad_that_is_no_name_is_refused_by_every_call_and_nothing_is_stored(project: Project, squad: str):
    alice = await project.agent("alice")
    await alice.start()
    before = await stored(project)
    for call in (alice.broadcast(squad, "hi"), alice.join(squad), alice.leave(squad), alice.members(squad)):
        with within(AT_ONCE_S), pytest.raises(BadName):
            await call
    assert await stored(project) == before


async def test_an_unknown_squad_is_told_by_every_call_and_nothing_is_stored(project: Project):
    alice = await project.agent("alice")
    await alice.start()
    before = await stored(project)
    for call in (alice.broadcast("ops", "hi"), alice.join("ops"), alice.leave("ops"), alice.members("ops")):
        with within(AT_ONCE_S), pytest.raises(UnknownSquad, match="sos squad create ops"):
            await call
    assert await stored(project) == before


@pytest.mark.parametrize("limit", [0, -1, 501])
async def test_an_inbox_limit_that_makes_no_sense_is_refused(project: Project, limit: int):
    bob = await project.agent("bob")
    await bob.start()
    with within(AT_ONCE_S), pytest.raises(BadRequest, match="1 to 500"):
        await bob.inbox(limit)


# ── what others put into an inbox ────────────────────────────────────────────────────────────────────────────────

GOOD = Envelope(v=1, id=uuid7(), kind="message", text="hi", session="s", sent_at=now())
NO_MESSAGES = (
    b"",
    b"not json",
    b"\xff\xfe\x00",
    b"null",
    b"[]",
    b"{}",
    b"[" * 50_000,
    b'{"x":' * 40_000,
    encode(GOOD).replace(b'"v":1', b'"v":2'),
    encode(GOOD).replace(GOOD.id.encode(), b"not-an-id"),
    encode(GOOD).replace(b'"message"', b'"order"'),
    encode(GOOD).replace(b'"text":"hi"', b'"text":7'),
    encode(GOOD).replace(b'"session":"s"', b'"session":""'),
    encode(GOOD)[:-1],
    encode(GOOD) + b"x",
    b"x" * (MAX_ENCODED_BYTES + 1),
)


async def test_whatever_else_is_put_into_an_inbox_is_set_aside_and_the_loop_goes_on(project: Project):
    alice, bob, got = await project.agent("alice"), await project.agent("bob"), list[str]()

    @bob.on_message
    def take(message: Message) -> None:
        got.append(message.text)

    await bob.start()
    await alice.start()
    async with attacking(project.bus.url, await project.mint("mallory")) as mallory:
        for n, body in enumerate(NO_MESSAGES):
            told = await mallory.store(f"project.{project.slug}.agent.bob.mallory", body)
            assert told.get("seq"), told
            await alice.send("bob", str(n))
    await eventually(lambda: len(got) == len(NO_MESSAGES), f"only {got} came")
    assert got == [str(n) for n in range(len(NO_MESSAGES))]
    assert bob.counts.set_aside == len(NO_MESSAGES)
    assert bob.state == "consuming"


async def test_what_is_no_message_is_not_given_to_who_reads_by_hand_either(project: Project):
    alice, bob = await project.agent("alice"), await project.agent("bob")
    await alice.start()
    await bob.start()
    async with attacking(project.bus.url, await project.mint("mallory")) as mallory:
        for body in NO_MESSAGES:
            await mallory.store(f"project.{project.slug}.agent.bob.mallory", body)
    await alice.send("bob", "real")
    async with asyncio.timeout(10.0):
        assert [m.text for m in await bob.inbox(limit=1)] == ["real"]
        assert await bob.inbox() == []
