"""Inside one project bouncing is possible by NATS' design, so it must be harmless: the SDK and the gateway tell what
is a message and what is a call from what merely landed there."""

from collections.abc import Awaitable, Callable

import msgspec
import pytest
from tests.conftest import Project, eventually
from tests.security.attacker import Attacker, attacking, envelope
from tests.security.attacks import BOUNCES, bounce_status, inject_reply
from tests.security.conftest import held

from sos.sdk import AsyncAgent, Message
from sos.sdk.seen import Seen
from sos.wire.home import agent_home

OPS = b'{"squad":"ops"}'
STORED_BY = {"inject_reply": 1, "bounce_status": 1, "bounce_delivery": 0, "bounce_by_acknowledging": 0}
"""How much of a bounce is stored under the victim's subject. A delivery keeps the subject it was stored under first, so
it can only come back to its own sender."""


async def listening(project: Project, name: str) -> tuple[AsyncAgent, list[str]]:
    agent, got = await project.agent(name), list[str]()

    @agent.on_message
    def take(message: Message) -> None:
        got.append(f"{message.sender}: {message.text}")

    return await agent.start(), got


@pytest.mark.parametrize("bounce", BOUNCES, ids=lambda b: b.__name__)
async def test_what_is_bounced_into_an_inbox_reaches_no_handler_and_the_next_message_does(
    project: Project, bounce: Callable[[Attacker, str], Awaitable[None]]
):
    (vera, got), boss = await listening(project, "vera"), await project.agent("boss")
    await boss.start()
    seen = (await project.bus.bus.projects.tenant(project.slug)).connection
    target, expected = f"project.{project.slug}.agent.vera.boss", STORED_BY[bounce.__name__]
    async with attacking(project.bus.url, await project.mint("mallory")) as mallory:
        await bounce(mallory, target)
    assert await held(seen, target) == expected
    await boss.send("vera", "real")
    await eventually(lambda: got == ["boss: real"], "the real message did not come")
    assert vera.counts.set_aside == expected
    info = await seen.js("CONSUMER.INFO.MESSAGES.vera")
    assert info["num_redelivered"] == 0


async def test_what_was_set_aside_is_kept_for_a_look(project: Project):
    vera, got = await listening(project, "vera")
    async with attacking(project.bus.url, await project.mint("mallory")) as mallory:
        for inject in (inject_reply, bounce_status):
            await inject(mallory, f"project.{project.slug}.agent.vera.boss")
    await eventually(lambda: vera.counts.set_aside == 2, "not set aside")
    record = Seen(agent_home(project.slug, "vera"))
    assert [subject for _, subject, _ in record.aside()] == [f"project.{project.slug}.agent.vera.boss"] * 2
    record.close()
    assert got == []


async def test_a_pub_ack_bounced_into_a_squad_reaches_no_members_handler(project: Project):
    await project.squad("ops")
    (vera, got), boss = await listening(project, "vera"), await project.agent("boss")
    await vera.join("ops")
    await boss.start()
    async with attacking(project.bus.url, await project.mint("mallory")) as mallory:
        await inject_reply(mallory, f"project.{project.slug}.squad.ops.boss")
    await boss.broadcast("ops", "real")
    await eventually(lambda: got == ["boss: real"], "the real broadcast did not come")
    assert vera.counts.set_aside == 1


@pytest.mark.parametrize("bounce", BOUNCES, ids=lambda b: b.__name__)
@pytest.mark.parametrize("verb", ["squad.leave", "squad.join", "peers", "directory"])
async def test_nothing_that_is_bounced_onto_an_api_subject_is_a_call(
    project: Project, bounce: Callable[[Attacker, str], Awaitable[None]], verb: str
):
    await project.squad("ops")
    vera, got = await listening(project, "vera")
    await vera.join("ops")
    before = await project.bus.bus.squads.memberships(project.slug, "vera")
    async with attacking(project.bus.url, await project.mint("mallory")) as mallory:
        await mallory.store(body=OPS)  # a body that would be a call, were it delivered as one
        await bounce(mallory, f"project.{project.slug}.api.vera.{verb}")
    assert [m.name for m in await vera.members("ops")] == [
        "vera"
    ]  # behind the bounce, on the same endpoints' connection
    assert await project.bus.bus.squads.memberships(project.slug, "vera") == before
    assert got == []


@pytest.mark.parametrize("verb", ["peers", "squad.members"])
@pytest.mark.parametrize(
    "reply",
    [
        "project.{p}.agent.vera.boss",
        "project.{p}.squad.ops.boss",
        "project.{p}.event.agent.vera",
        "project.{p}.address.agent.vera",
        "project.{p}.api.vera.squad.leave",
        "$JS.API.STREAM.DELETE.MESSAGES",
        "$JS.ACK.MESSAGES.vera.1.1.1.1.0",
        "_INBOX.loot",
        "_INBOX_00000000000000000000000000000000",
    ],
)
async def test_the_gateway_answers_to_replies_of_sessions_and_writes_nowhere_else(
    project: Project, verb: str, reply: str
):
    await project.squad("ops")
    await project.mint("vera")
    seen, heard = (await project.bus.bus.projects.tenant(project.slug)).connection, list[bytes]()
    target = reply.format(p=project.slug)

    async def hear(message: object) -> None:
        heard.append(bytes(getattr(message, "body", b"")))

    async with (
        attacking(project.bus.url, await project.mint("mallory")) as mallory,
        await seen.subscribe(target, hear),
    ):
        before = await held(seen, ">")
        await mallory.publish(f"project.{project.slug}.api.mallory.{verb}", OPS, reply=target)
        await mallory.publish(f"project.{project.slug}.api.mallory.peers", b"{}", reply=target)
        # An answer to a call of the same endpoint: calls that came before it have been looked at.
        answer = await mallory.ask(f"project.{project.slug}.api.mallory.{verb}", OPS if "." in verb else b"{}")
        assert answer.body
        await seen.js("INFO")
        assert heard == []
        assert await held(seen, ">") == before


async def test_a_call_whose_body_is_a_pub_ack_changes_nothing_and_says_so_to_its_caller_alone(project: Project):
    await project.squad("ops")
    token = await project.mint("mallory")
    bodies = (
        b'{"stream":"MESSAGES","seq":4}',
        b'{"squad":"ops","seq":4}',
        b"",
        b"[]",
        b"null",
        b"not json",
        envelope(),
    )
    async with attacking(project.bus.url, token) as mallory:
        await mallory.ask(f"project.{project.slug}.api.mallory.squad.join", OPS)
        for body in bodies:
            answer = await mallory.ask(f"project.{project.slug}.api.mallory.squad.leave", body)
            assert msgspec.json.decode(answer.body, type=dict[str, object])["code"] == "bad_request"
        assert len(await project.bus.bus.squads.memberships(project.slug, "mallory")) == 1


async def test_a_message_that_is_delivered_a_thousand_times_to_itself_costs_only_its_sender(project: Project):
    """A pull whose reply is a subject of its own stream stores what it delivers: it must end, and stay in one inbox."""
    (_, got), boss = await listening(project, "vera"), await project.agent("boss")
    await boss.start()
    async with attacking(project.bus.url, await project.mint("mallory")) as mallory:
        await mallory.store()
        pull = f"$JS.API.CONSUMER.MSG.NEXT.MESSAGES.{mallory.name}"
        await mallory.publish(pull, b'{"batch":1000}', reply=mallory.own_subject)
        await mallory.publish(pull, b'{"batch":1000000}', reply=mallory.own_subject)
        await boss.send("vera", "real")
        await eventually(lambda: got == ["boss: real"], "the real message did not come")
    seen = (await project.bus.bus.projects.tenant(project.slug)).connection
    assert await held(seen, f"project.{project.slug}.agent.mallory.*") < 2_100
