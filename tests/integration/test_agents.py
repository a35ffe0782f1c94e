"""Agents talk: what the SDK promises, on a real bus."""

import asyncio
import threading
from collections.abc import Callable

import pytest
from tests.conftest import Project, eventually

from sos.sdk import Agent, HandBack, Message
from sos.wire.errors import BadRequest, MissingScope, UnknownRecipient, UnknownSquad, WrongIdentity


def into(texts: list[str]) -> Callable[[Message], None]:
    """A handler that keeps the texts."""

    def take(message: Message) -> None:
        texts.append(message.text)

    return take


def by_recipient(texts: dict[str, list[str]]) -> Callable[[Message], None]:
    """A handler that keeps the texts of each recipient."""

    def take(message: Message) -> None:
        texts.setdefault(message.to, []).append(message.text)

    return take


async def test_a_message_reaches_the_handler_and_its_reply_comes_back(project: Project):
    bob, alice = await project.agent("bob"), await project.agent("alice")
    replies: list[Message] = []

    @bob.on_message
    async def answer(message: Message) -> None:
        await bob.reply(message, f"got {message.text}")

    alice.on_message(replies.append)
    await bob.start()
    await alice.start()
    sent = await alice.send("agent:Bob", "review this", data={"pr": 7})
    await eventually(lambda: len(replies) == 1, "no reply came")
    (reply,) = replies
    assert (reply.sender, reply.text, reply.kind) == ("bob", "got review this", "reply")
    assert (reply.reply_to, reply.thread, reply.hops) == (sent.id, sent.id, 1)


async def test_mail_waits_for_an_agent_that_is_away_and_comes_in_order(project: Project):
    alice, token = await project.agent("alice"), await project.mint("bob")
    await alice.start()
    for i in range(50):
        await alice.send("bob", str(i))
    bob = await project.agent("bob", token)
    got: list[str] = []
    bob.on_message(into(got))
    await bob.start()
    await eventually(lambda: len(got) == 50, "not all came")
    assert got == [str(i) for i in range(50)]


async def test_a_broadcast_reaches_every_member_and_not_its_sender_and_not_who_joins_later(project: Project):
    await project.squad("sales")
    got: dict[str, list[str]] = {}
    members = [await project.agent(name) for name in ("ann", "ben", "cat")]
    for member in members:
        member.on_message(by_recipient(got))
        await member.start()
        await member.join("sales")
    receipt = await members[0].broadcast("sales", "new lead")
    assert receipt.members == 2
    await eventually(lambda: {"ben", "cat"} <= got.keys(), "not everyone got it")
    late = await project.agent("dan")
    late.on_message(by_recipient(got))
    await late.start()
    await late.join("sales")
    await members[0].broadcast("sales", "second lead")
    await eventually(lambda: "dan" in got and len(got["ben"]) == len(got["cat"]) == 2, "the second one did not come")
    assert got == {"ben": ["new lead", "second lead"], "cat": ["new lead", "second lead"], "dan": ["second lead"]}


async def test_a_lagging_member_does_not_get_what_was_broadcast_before_it_joined(project: Project):
    await project.squad("ops")
    alice, bob = await project.agent("alice"), await project.agent("bob")
    await alice.start()
    await alice.send("bob", "first, to hold bob's cursor back")
    await alice.broadcast("ops", "before")
    await bob.connect()
    await bob.join("ops")
    await alice.broadcast("ops", "after")
    assert [m.text for m in await bob.inbox()] == ["first, to hold bob's cursor back", "after"]


async def test_a_running_agent_learns_of_a_squad_it_was_joined_to_elsewhere(project: Project):
    await project.squad("ops")
    token = await project.mint("bob")
    running, beside, alice = (
        await project.agent("bob", token),
        await project.agent("bob", token),
        await project.agent("a"),
    )
    got: list[str] = []
    running.on_message(into(got))
    await running.start()
    await beside.connect()
    await beside.join("ops")
    await alice.start()
    await alice.broadcast("ops", "hello")
    await eventually(lambda: got == ["hello"], "the broadcast did not come")


async def test_who_left_a_squad_gets_no_more_of_it(project: Project):
    await project.squad("ops")
    alice, bob = await project.agent("alice"), await project.agent("bob")
    await bob.start()
    await bob.join("ops")
    await bob.leave("ops")
    await alice.start()
    assert (await alice.broadcast("ops", "gone?")).members == 0
    await alice.send("bob", "direct")
    assert [m.text for m in await bob.inbox()] == ["direct"]


async def test_a_wrong_name_is_refused_with_the_closest_ones_and_nothing_is_stored(project: Project):
    alice = await project.agent("alice")
    await project.mint("codecheck")
    await alice.start()
    with pytest.raises(UnknownRecipient) as refused:
        await alice.send("codechek", "hi")
    assert refused.value.close == ("codecheck",)
    await project.squad("sales")
    with pytest.raises(UnknownSquad) as unknown:
        await alice.broadcast("salse", "hi")
    assert unknown.value.close == ("sales",)
    with pytest.raises(UnknownSquad):
        await alice.join("nowhere")


async def test_inbox_takes_what_is_there_up_to_the_limit_and_leaves_the_rest(project: Project):
    alice, bob = await project.agent("alice"), await project.agent("bob")
    await alice.start()
    await bob.start()
    for i in range(5):
        await alice.send("bob", str(i))
    assert [m.text for m in await bob.inbox(limit=3)] == ["0", "1", "2"]
    assert [m.text for m in await bob.inbox(limit=3)] == ["3", "4"]
    assert await bob.inbox() == []


async def test_a_failing_handler_gets_the_message_again_and_others_go_on(project: Project):
    alice, bob = await project.agent("alice"), await project.agent("bob", max_deliver=2)
    tries: list[str] = []

    @bob.on_message
    def handle(message: Message) -> None:
        tries.append(message.text)
        if message.text == "poison":
            raise RuntimeError("cannot")

    await bob.start()
    await alice.start()
    await alice.send("bob", "poison")
    await alice.send("bob", "fine")
    await eventually(lambda: len(bob.parked()) == 1, "the poisoned message was not parked")
    assert sorted(tries) == ["fine", "poison", "poison"]
    assert bob.parked()[0].error == "RuntimeError: cannot"


async def test_a_message_that_was_handed_back_comes_again_and_is_no_failure(project: Project):
    alice, bob = await project.agent("alice"), await project.agent("bob", max_deliver=1)
    seen: list[int] = []

    @bob.on_message
    async def handle(message: Message) -> None:
        seen.append(message.attempt)
        if len(seen) < 3:
            raise HandBack

    await bob.start()
    await alice.start()
    await alice.send("bob", "later")
    await eventually(lambda: len(seen) == 3, "it did not come again")
    assert bob.parked() == []


async def test_stop_lets_a_begun_handler_finish_and_hands_the_rest_back(project: Project):
    alice, token = await project.agent("alice"), await project.mint("bob")
    first, begun, go = await project.agent("bob", token), asyncio.Event(), asyncio.Event()
    handled: list[str] = []

    @first.on_message
    async def slow(message: Message) -> None:
        begun.set()
        await go.wait()
        handled.append(message.text)

    await alice.start()
    for i in range(3):
        await alice.send("bob", str(i))
    await first.start()
    await begun.wait()
    stopping = asyncio.create_task(first.stop())
    go.set()
    await stopping
    assert handled == ["0"]
    second = await project.agent("bob", token)
    second.on_message(into(handled))
    await second.start()
    await eventually(lambda: len(handled) == 3, "what was handed back did not come", within_s=5)
    assert handled == ["0", "1", "2"]


async def test_two_handlers_at_a_time_still_take_one_senders_messages_in_order(project: Project):
    bob = await project.agent("bob", concurrency=8)
    got: dict[str, list[int]] = {}
    most, running = 0, 0

    @bob.on_message
    async def handle(message: Message) -> None:
        nonlocal most, running
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        got.setdefault(message.sender, []).append(int(message.text))
        running -= 1

    senders = [await project.agent(f"s{i}") for i in range(4)]
    for sender in senders:
        await sender.start()

    async def burst(index: int) -> None:
        for n in range(25):
            await senders[index].send("bob", str(n))

    await asyncio.gather(*(burst(i) for i in range(4)))
    await bob.start()
    await eventually(lambda: sum(map(len, got.values())) == 100, "not all came")
    assert got == {f"s{i}": list(range(25)) for i in range(4)}
    assert most > 1


async def test_a_name_that_is_not_the_tokens_is_refused(project: Project):
    token = await project.mint("bob")
    impostor = await project.agent("alice", token)
    with pytest.raises(WrongIdentity):
        await impostor.start()


async def test_what_a_token_has_no_scope_for_is_refused_before_it_is_tried(project: Project):
    await project.mint("bob")
    token = await project.mint("reader", scopes=("mcp:inbox",))
    reader = await project.agent("reader", token)
    await reader.start()
    with pytest.raises(MissingScope) as missing:
        await reader.send("bob", "hi")
    assert missing.value.scope == "mcp:send"
    with pytest.raises(MissingScope):
        await reader.join("ops")


async def test_peers_says_who_is_connected_by_the_servers_word(project: Project):
    alice, bob = await project.agent("alice", model="opus"), await project.agent("bob")
    await project.mint("carol")
    await alice.start()
    await bob.start()
    found = {p.name: p.connected for p in await alice.peers()}
    assert found == {"alice": True, "bob": True, "carol": False}
    await bob.stop()
    found = {p.name: p.connected for p in await alice.peers()}
    assert found == {"alice": True, "bob": False, "carol": False}


async def test_the_blocking_agent_runs_plain_handlers_that_reply(project: Project):
    token = await project.mint("bob")
    alice = await project.agent("alice")
    got: list[str] = []
    alice.on_message(into(got))
    await alice.start()
    agent = Agent(token, "bob", url=project.bus.url)

    @agent.on_message
    def handle(message: Message) -> None:
        agent.reply(message, "from a thread")
        agent.stop()

    thread = threading.Thread(target=agent.start)
    thread.start()
    await alice.send("bob", "hello")
    await eventually(lambda: got == ["from a thread"], "no reply")
    await asyncio.to_thread(thread.join, 10)
    assert not thread.is_alive()
    assert agent.state == "stopped"


async def test_an_async_handler_of_the_blocking_agent_is_told_to_use_the_async_one(project: Project):
    alice = await project.agent("alice")
    agent = Agent(await project.mint("bob"), "bob", url=project.bus.url)
    told: list[BaseException] = []

    @agent.on_message
    async def handle(message: Message) -> None:
        try:
            agent.reply(message, "deadlock?")
        except BadRequest as e:
            told.append(e)

    await asyncio.to_thread(agent.start, block=False)
    await alice.start()
    await alice.send("bob", "hello")
    await eventually(lambda: len(told) == 1, "nothing was said")
    await asyncio.to_thread(agent.stop)


async def test_sends_at_once_on_an_agent_that_is_not_connected_open_one_session(project: Project):
    await project.mint("bob")
    alice = await project.agent("alice")
    receipts = await asyncio.gather(*(alice.send("bob", str(i)) for i in range(10)))
    assert sorted(r.seq for r in receipts) == list(range(1, 11))
    (me,) = [p for p in await alice.peers() if p.name == "alice"]
    assert len(me.sessions) == 1
