"""The public types, pinned. Nothing here runs: pyright, which reads this file with the rest, is the test.

Where a line must *not* type-check it carries an ignore, and an ignore that is not needed is itself an error.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Literal, assert_type

from sos.sdk import Agent, AsyncAgent, HandBack, Message, Receipt, SosError
from sos.sdk.message import State
from sos.sdk.seen import Parked
from sos.wire.api import Member, Peer
from sos.wire.errors import Kind, UnknownRecipient


def a_blocking_agent(agent: Agent, message: Message) -> None:
    assert_type(agent.send("bob", "hi"), Receipt)
    assert_type(agent.send("bob", "hi", data={"pr": 7}, ack="critical", thread=None, id="x"), Receipt)
    assert_type(agent.broadcast("sales", "hi", data=None), Receipt)
    assert_type(agent.reply(message, "yes"), Receipt)
    assert_type(agent.ack(message), Receipt)
    assert_type(agent.ack(message, ok=False, summary="no"), Receipt)
    assert_type(agent.inbox(), list[Message])
    assert_type(agent.inbox(limit=5), list[Message])
    assert_type(agent.members("sales"), tuple[Member, ...])
    assert_type(agent.peers(), tuple[Peer, ...])
    assert_type(agent.parked(), list[Parked])
    assert_type((agent.name, agent.project, agent.session), tuple[str, str, str])
    assert_type(agent.state, State)
    assert_type(agent.connect(), Agent)
    assert_type(agent.start(), None)
    assert_type(agent.stop(drain_s=1.0), None)
    with agent as entered:
        assert_type(entered, Agent)


async def an_async_agent(agent: AsyncAgent, message: Message) -> None:
    assert_type(await agent.send("bob", "hi", ack="routine"), Receipt)
    assert_type(await agent.broadcast("sales", "hi"), Receipt)
    assert_type(await agent.reply(message, "yes"), Receipt)
    assert_type(await agent.ack(message, ok=False), Receipt)
    assert_type(await agent.inbox(), list[Message])
    assert_type(await agent.members("sales"), tuple[Member, ...])
    assert_type(await agent.peers(), tuple[Peer, ...])
    assert_type(await agent.join("sales", summary="x"), None)
    assert_type(await agent.leave("sales"), None)
    assert_type(await agent.connect(), AsyncAgent)
    assert_type(await agent.start(), AsyncAgent)
    assert_type(await agent.wait(), None)
    async with agent as entered:
        assert_type(entered, AsyncAgent)


def on_message_gives_the_handler_back_as_it_was(
    agent: Agent,
    other: AsyncAgent,
    plain: Callable[[Message], None],
    waiting: Callable[[Message], Awaitable[int]],
    wrong: Callable[[str], None],
) -> None:
    assert_type(agent.on_message(plain), Callable[[Message], None])
    assert_type(other.on_message(plain), Callable[[Message], None])
    assert_type(agent.on_message(waiting), Callable[[Message], Awaitable[int]])
    assert_type(other.on_message(waiting), Callable[[Message], Awaitable[int]])
    agent.on_message(wrong)  # pyright: ignore[reportArgumentType]
    other.on_message(wrong)  # pyright: ignore[reportArgumentType]


async def a_decorated_handler_can_still_be_called(agent: AsyncAgent, message: Message) -> None:
    @agent.on_message
    async def handle(message: Message) -> int:
        raise HandBack(after_s=1.0)

    assert_type(await handle(message), int)


def a_message_and_a_receipt(message: Message, receipt: Receipt) -> None:
    assert_type((message.id, message.sender, message.to, message.text), tuple[str, str, str, str])
    assert_type(message.squad, str | None)
    assert_type(message.kind, Literal["message", "reply", "ack", "status"])
    assert_type(message.ack, Literal["critical", "routine"] | None)
    assert_type(message.data, dict[str, Any] | None)
    assert_type((message.sent_at, message.stored_at), tuple[datetime, datetime])
    assert_type((message.seq, message.attempt, message.hops), tuple[int, int, int])
    assert_type((receipt.id, receipt.seq, receipt.at, receipt.to), tuple[str, int, datetime, str])
    assert_type(receipt.members, int | None)
    assert_type((receipt.suspended, receipt.renamed), tuple[bool, bool])
    message.text = "x"  # pyright: ignore[reportAttributeAccessIssue]
    receipt.id = "x"  # pyright: ignore[reportAttributeAccessIssue]


def an_error(error: SosError, unknown: UnknownRecipient) -> None:
    assert_type((error.code, error.detail, error.remedy), tuple[str, str, str])
    assert_type(error.kind, Kind)
    assert_type(unknown.close, tuple[str, ...])


def what_does_not_fit_is_refused(agent: Agent, other: AsyncAgent, message: Message) -> None:
    agent.send(7, "hi")  # pyright: ignore[reportArgumentType]
    agent.send("bob", "hi", ack="urgent")  # pyright: ignore[reportArgumentType]
    agent.send("bob", "hi", {"pr": 7})  # pyright: ignore[reportCallIssue]
    agent.send("bob", "hi", data=[1])  # pyright: ignore[reportArgumentType]
    agent.reply("bob", "hi")  # pyright: ignore[reportArgumentType]
    agent.broadcast("sales", "hi", ack="critical")  # pyright: ignore[reportCallIssue]
    other.send("bob", "not awaited")  # pyright: ignore[reportUnusedCoroutine]
    Agent("token", "name", "project")  # pyright: ignore[reportCallIssue]
    Agent(concurrency="4")  # pyright: ignore[reportArgumentType]
