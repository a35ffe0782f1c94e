"""What each scope opens, and nothing else: written down here by hand, from the design, and tried on server and gateway.

The tables are the oracle. They are not made from the code, and a verb, a route or a method of the SDK that is added
without a line here fails a test.
"""

import inspect
import itertools
from collections.abc import Awaitable
from typing import Any

import msgspec
import pytest
from tests.conftest import OPERATOR
from tests.integration.raw_http import asking
from tests.security.attacker import Attacker, attacking, envelope
from tests.security.conftest import Side

from sos.broker.app import Running
from sos.broker.doors.nats_api import verbs
from sos.broker.doors.problems import encode_problem
from sos.broker.doors.route import AGENT
from sos.broker.doors.routes import ROUTES
from sos.broker.nats.grants import agent_grant
from sos.sdk import AsyncAgent, Message
from sos.wire import api
from sos.wire.errors import ErrorBody, MissingScope, NotAMember, SosError
from sos.wire.scopes import Scope

INBOX = "_INBOX_" + "a" * 32

# ── the oracle ───────────────────────────────────────────────────────────────────────────────────────────────────

SCOPES = (
    "mcp:send",
    "mcp:inbox",
    "mcp:broadcast",
    "mcp:workspace_join",
    "mcp:recall",
    "mcp:remember",
    "mcp:tasks",
    "mcp:goals",
)
ALWAYS = {
    "project.acme.beat.ann",
    "project.acme.api.ann.>",
    "$JS.API.DIRECT.GET.EVENTS.project.acme.address.*.*",
}
OPENS: dict[str, set[str]] = {
    "mcp:send": {"project.acme.agent.*.ann"},
    "mcp:broadcast": {"project.acme.squad.*.ann"},
    "mcp:inbox": {"$JS.API.CONSUMER.MSG.NEXT.MESSAGES.ann", "$JS.ACK.MESSAGES.ann.>"},
}
"""Subjects to publish to. The other scopes have none: the gateway checks them."""

NOBODY = "nobody"
ON_THE_SERVER: dict[str, tuple[str, str, bytes]] = {
    "send": ("mcp:send", "project.{p}.agent.vera.{me}", envelope()),
    "broadcast": ("mcp:broadcast", "project.{p}.squad.ops.{me}", envelope()),
    "pull": ("mcp:inbox", "$JS.API.CONSUMER.MSG.NEXT.MESSAGES.{me}", b'{"batch":1,"no_wait":true}'),
    "acknowledge": ("mcp:inbox", "$JS.ACK.MESSAGES.{me}.1.1.1.1.0", b"+ACK"),
    "beat": ("", "project.{p}.beat.{me}", b"{}"),
    "call": ("", "project.{p}.api.{me}.peers", b"{}"),
    "look up": ("", "$JS.API.DIRECT.GET.EVENTS.project.{p}.address.agent.vera", b""),
    "send as another": (NOBODY, "project.{p}.agent.vera.boss", envelope()),
    "pull from another": (NOBODY, "$JS.API.CONSUMER.MSG.NEXT.MESSAGES.vera", b'{"batch":1,"no_wait":true}'),
    "call as another": (NOBODY, "project.{p}.api.vera.peers", b"{}"),
    "record a fact": (NOBODY, "project.{p}.event.agent.{me}", b"{}"),
}
VERBS: dict[str, tuple[str, bytes]] = {
    "squad.join": ("mcp:workspace_join", b'{"squad":"ops"}'),
    "squad.leave": ("", b'{"squad":"ops"}'),
    "squad.members": ("", b'{"squad":"ops"}'),
    "peers": ("", b"{}"),
    "directory": ("", b"{}"),
    "agent.card": ("", b'{"name":"vera"}'),
    "session.end": ("", b'{"session":"another"}'),
}
NOT_SERVED: dict[str, str] = {
    "recall": "mcp:recall",
    "recall.search": "mcp:recall",
    "remember": "mcp:remember",
    "remember.store": "mcp:remember",
    "tasks": "mcp:tasks",
    "tasks.claim": "mcp:tasks",
    "goals": "mcp:goals",
    "goals.list": "mcp:goals",
    "nonsense": "",
    "squad.destroy": "",
    "recalled": "",
    "Tasks.List": "",
    "a.b.c.d": "",
}
ROUTES_OF_AGENTS: dict[str, tuple[str, object]] = {
    "GET /api/agent": ("", None),
    "GET /api/agent/sessions": ("", None),
    "POST /api/agent/join": ("", {"install": "an-install"}),
    "POST /api/session": ("", {}),
    "POST /api/agent/rotate": ("", {}),
}
"""No right is needed: each is about the agent itself. (The body of a session is left out: that it lacks its fields is
told only to who may open one.)"""
METHODS: dict[str, str] = {
    "send": "mcp:send",
    "reply": "mcp:send",
    "ack": "mcp:send",
    "broadcast": "mcp:broadcast",
    "inbox": "mcp:inbox",
    "start": "mcp:inbox",
    "join": "mcp:workspace_join",
    "leave": "",
    "members": "",
    "peers": "",
    "card": "",
}
"""Of the SDK. `start` is with a handler, for only then the inbox is read."""
OF_A_LIFE = {"connect", "wait", "stop"}
"""What opens and ends a session needs a token and no right."""

HOLDINGS: dict[str, tuple[str, ...]] = {
    "none": (),
    **{f"only {s}": (s,) for s in SCOPES},
    **{f"all but {s}": tuple(other for other in SCOPES if other != s) for s in SCOPES},
    "all": SCOPES,
}
holdings = pytest.mark.parametrize("held", HOLDINGS.values(), ids=HOLDINGS)
_serial = itertools.count(1)


def expected(needs: dict[str, str], held: tuple[str, ...]) -> dict[str, str]:
    """For each: the scope that is missing, empty if it may be done."""
    return {what: "" if scope in {"", *held} else scope for what, scope in needs.items()}


# ── that the oracle is whole ─────────────────────────────────────────────────────────────────────────────────────


def test_every_scope_there_is_stands_in_the_oracle():
    assert tuple(s.value for s in Scope) == SCOPES


def test_every_verb_that_the_gateway_serves_stands_in_the_oracle(bus: Running):
    assert set(verbs(bus.bus)) == set(VERBS)


def test_every_route_of_agents_stands_in_the_oracle():
    assert {f"{route.method} {route.path}" for route in ROUTES if route.token == AGENT} == set(ROUTES_OF_AGENTS)


def test_every_method_of_the_sdk_stands_in_the_oracle():
    methods = {n for n, _ in inspect.getmembers(AsyncAgent, inspect.iscoroutinefunction) if not n.startswith("_")}
    assert methods == set(METHODS) | OF_A_LIFE


# ── what the server lets through ─────────────────────────────────────────────────────────────────────────────────


def test_a_grant_is_what_its_scopes_open_and_not_one_subject_more():
    subsets = [c for n in range(len(SCOPES) + 1) for c in itertools.combinations(SCOPES, n)]
    assert len(subsets) == 2 ** len(SCOPES)
    for scopes in subsets:
        grant = agent_grant("acme", "ann", [Scope(s) for s in scopes], INBOX)
        assert set(grant.pub) == ALWAYS.union(*(OPENS.get(s, set()) for s in scopes)), scopes
        assert grant.sub == (f"{INBOX}.>",)


async def holder(own: Side, held: tuple[str, ...]) -> tuple[str, str]:
    """A new agent that holds these scopes: its name and token."""
    ask = api.MintAgent(agent_name=f"h{next(_serial)}", scopes=tuple(Scope(s) for s in held))
    minted = await own.bus.bus.agents.mint(OPERATOR, own.slug, ask)
    assert set(minted.scopes) == set(held)
    return minted.name, minted.raw_token


@holdings
async def test_the_server_lets_through_what_the_table_says_and_refuses_the_rest(own: Side, held: tuple[str, ...]):
    _, token = await holder(own, held)
    async with attacking(own.bus.url, token) as agent:
        lets = {what: await lets_through(agent, said, body) for what, (_, said, body) in ON_THE_SERVER.items()}
        assert lets == {what: scope in {"", *held} for what, (scope, _, _) in ON_THE_SERVER.items()}
        await agent.listen(f"project.{agent.slug}.agent.{agent.name}.*")
        assert agent.may_not_hear(f"project.{agent.slug}.agent.{agent.name}.*")


async def lets_through(agent: Attacker, said: str, body: bytes) -> bool:
    return not await agent.refused(said.format(p=agent.slug, me=agent.name), body, reply=agent.new_reply())


# ── what the gateway answers ─────────────────────────────────────────────────────────────────────────────────────


async def refusal(agent: Attacker, verb: str, body: bytes) -> ErrorBody | None:
    """What the gateway refuses a call with; None if it does what was asked. No answer at all fails the test."""
    answer = await agent.ask(f"project.{agent.slug}.api.{agent.name}.{verb}", body)
    if "Nats-Service-Error" not in answer.headers:
        return None
    error = msgspec.json.decode(answer.body, type=ErrorBody)
    assert answer.headers["Nats-Service-Error"] == error.code
    return error


def missing(error: ErrorBody | None) -> str:
    """The scope that a refusal names, in its text too; empty if it is about something else."""
    if error is None or error.code != "missing_scope":
        return ""
    assert error.fields["scope"] in error.detail
    assert error.fields["scope"] in error.cure
    return str(error.fields["scope"])


@holdings
async def test_the_gateway_answers_each_verb_as_the_table_says(own: Side, held: tuple[str, ...]):
    _, token = await holder(own, held)
    async with attacking(own.bus.url, token) as agent:
        answers = {verb: await refusal(agent, verb, body) for verb, (_, body) in VERBS.items()}
    needs = {verb: scope for verb, (scope, _) in VERBS.items()}
    assert {verb: missing(error) for verb, error in answers.items()} == expected(needs, held)
    others = {verb: e.code for verb, e in answers.items() if e is not None and e.code != "missing_scope"}
    assert others == ({} if "mcp:workspace_join" in held else {"squad.leave": "not_a_member"})


@holdings
async def test_a_verb_that_is_not_served_asks_for_its_right_first_and_is_then_unknown(own: Side, held: tuple[str, ...]):
    _, token = await holder(own, held)
    async with attacking(own.bus.url, token) as agent:
        answers = {verb: await refusal(agent, verb, b"{}") for verb in NOT_SERVED}
    assert {verb: missing(error) for verb, error in answers.items()} == expected(NOT_SERVED, held)
    for verb, error in answers.items():
        assert error is not None, verb
        if error.code != "missing_scope":
            assert (error.code, error.fields["verb"]) == ("unknown_verb", verb)
            assert set(error.fields["known"]) == set(VERBS)
            assert all(known in error.cure for known in VERBS)


async def test_a_verb_without_end_or_with_a_secret_in_it_is_not_repeated(own: Side):
    _, token = await holder(own, ())
    async with attacking(own.bus.url, token) as agent:
        endless = await refusal(agent, "x" * 2_000, b"{}")
        secret = await refusal(agent, token, b"{}")
    assert endless is not None
    assert secret is not None
    assert endless.code == secret.code == "unknown_verb"
    assert endless.fields["verb"] == "x" * 64
    assert token not in msgspec.json.encode(secret).decode()


async def test_every_call_is_answered_once(own: Side):
    _, token = await holder(own, SCOPES)
    async with attacking(own.bus.url, token) as agent:
        served = await agent.call(f"project.{agent.slug}.api.{agent.name}.peers", b"{}")
        unknown = await agent.call(f"project.{agent.slug}.api.{agent.name}.nonsense", b"{}")
        for reply in (served, unknown):
            await agent.take(reply)
        await agent.ask(f"project.{agent.slug}.api.{agent.name}.directory", b"{}")
        assert [agent.came(reply) for reply in (served, unknown)] == [0, 0]


@pytest.mark.parametrize("verb", ["nonsense", "tasks.list"])
@pytest.mark.parametrize("reply", ["project.{p}.agent.vera.boss", "project.{p}.api.vera.squad.leave", "_INBOX.loot"])
async def test_no_answer_to_an_unknown_verb_goes_anywhere_but_to_a_session(own: Side, verb: str, reply: str):
    _, token = await holder(own, ())
    target, heard = reply.format(p=own.slug), list[str]()

    async def hear(msg: Any) -> None:
        heard.append(msg.subject)

    async with attacking(own.bus.url, token) as agent, await own.seen.subscribe(target, hear):
        await agent.publish(f"project.{agent.slug}.api.{agent.name}.{verb}", b"{}", reply=target)
        assert await refusal(agent, verb, b"{}") is not None  # behind it, on the same subscription
    assert heard == []


# ── HTTP ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@holdings
async def test_a_route_of_agents_is_open_as_the_table_says(own: Side, held: tuple[str, ...]):
    _, token = await holder(own, held)
    for route, (_, body) in ROUTES_OF_AGENTS.items():
        method, path = route.split()
        answer = await asking(own.bus.url, method, path, token, body)
        assert answer.status == (422 if path == "/api/session" else 200), (route, answer.body)


async def test_no_scope_opens_a_route_of_owners(own: Side):
    name, token = await holder(own, SCOPES)
    for route in ROUTES:
        if route.token != AGENT:
            path = route.path.format(slug=own.slug, id=name, name=name)
            answer = await asking(own.bus.url, route.method, path, token, {} if route.request else None)
            answer.problem(401, "malformed_token")


def test_over_http_a_missing_scope_is_a_403_that_names_it():
    status, body = encode_problem(MissingScope(scope="mcp:tasks"))
    assert (status, msgspec.json.decode(body)["fields"]) == (403, {"scope": "mcp:tasks"})
    assert b"mcp:tasks" in body


# ── the SDK ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
async def letter(own: Side, tmp_path_factory: pytest.TempPathFactory) -> Message:
    """A message that can be replied to."""
    home = tmp_path_factory.mktemp("vera")
    async with AsyncAgent(own.tokens["vera"], "vera", url=own.bus.url, home=home) as vera:
        return (await vera.inbox(1))[0]


@holdings
@pytest.mark.usefixtures("home")
async def test_the_sdk_refuses_as_the_table_says_and_names_the_scope(own: Side, held: tuple[str, ...], letter: Message):
    name, token = await holder(own, held)
    agent = AsyncAgent(token, name, url=own.bus.url)
    agent.on_message(nothing)
    await agent.connect()
    done = {
        "send": await refused(agent.send("vera", "hello")),
        "reply": await refused(agent.reply(letter, "hello")),
        "ack": await refused(agent.ack(letter)),
        "broadcast": await refused(agent.broadcast("ops", "hello")),
        "inbox": await refused(agent.inbox(1)),
        "join": await refused(agent.join("ops")),
        "members": await refused(agent.members("ops")),
        "peers": await refused(agent.peers()),
        "card": await refused(agent.card("vera")),
        "leave": await refused(agent.leave("ops")),
        "start": await refused(agent.start()),
    }
    await agent.stop()
    assert done == expected(METHODS, held)


async def refused(doing: Awaitable[object]) -> str:
    """The scope that was missing; empty if it was done. Who could not join cannot leave, and that is no scope."""
    found: SosError | None = None
    try:
        await doing
    except (MissingScope, NotAMember) as e:
        found = e
    if not isinstance(found, MissingScope):
        return ""
    assert found.scope in str(found)
    return found.scope


def nothing(_: Message) -> None:
    """A handler that has nothing to do."""
