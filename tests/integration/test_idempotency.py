"""Idempotency-Key: what was asked twice is done once, and the first answer comes again, whatever died meanwhile."""

import asyncio
import socket
from collections import Counter
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import msgspec
import pytest
from tests.conftest import OPERATOR, WITHIN_S, Project
from tests.integration.raw_http import Answer, asking

from sos.broker.app import Running
from sos.broker.control import idempotency
from sos.broker.control.idempotency import DEAD_AFTER_S, Idempotency, Repeatable, identity, repeatable
from sos.broker.nats.connection import Connection
from sos.sdk.credential import SessionKey
from sos.wire import subjects
from sos.wire.errors import BadSubject, IdempotencyMismatch, InProgress, NameTaken
from sos.wire.tokens import digest

RACERS = 20
ROTATE = "/api/agent/rotate"


async def post(bus: Running, path: str, token: str, body: object, key: str) -> Answer:
    return await asking(bus.url, "POST", path, token, body, more={"Idempotency-Key": key})


async def mint(project: Project, name: str, key: str, **more: object) -> Answer:
    path = f"/api/tenants/{project.slug}/agents/mint"
    return await post(project.bus, path, project.tenant_token, {"agent_name": name} | more, key)


def token_of(answer: Answer) -> str:
    return msgspec.json.decode(answer.body)["raw_token"]


async def agents_of(project: Project) -> list[str]:
    return [a.name for a in await project.bus.bus.agents.list(OPERATOR, project.slug)]


def same(first: Answer, again: Answer) -> None:
    """The same answer, and the second says that it is one."""
    assert (again.status, again.body) == (first.status, first.body)
    assert again.headers["content-type"] == first.headers["content-type"]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"


# ── the same again ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_mint_that_is_repeated_gets_the_first_ones_answer_to_the_byte(project: Project):
    first = await mint(project, "bob", "key-1")
    assert first.status == 201
    same(first, await mint(project, "bob", "key-1"))
    same(first, await mint(project, "bob", '"key-1"'))
    assert await agents_of(project) == ["bob"]


async def test_without_a_key_or_under_another_one_it_is_another_request(project: Project):
    assert (await mint(project, "bob", "key-1")).status == 201
    (await mint(project, "bob", "key-2")).problem(409, "name_taken")
    (await mint(project, "bob", "KEY-1")).problem(409, "name_taken")


async def test_a_key_that_was_used_for_another_body_is_refused(project: Project):
    first = await mint(project, "bob", "key-1")
    (await mint(project, "eve", "key-1")).problem(422, "idempotency_mismatch")
    (await mint(project, "bob", "key-1", model="another")).problem(422, "idempotency_mismatch")
    assert await agents_of(project) == ["bob"]
    same(first, await mint(project, "bob", "key-1"))


async def test_one_key_at_another_address_or_of_another_token_is_another_request(bus: Running, project: Project):
    first = await mint(project, "bob", "key-1")
    path = f"/api/tenants/{project.slug}/agents/mint"
    (await post(bus, path, bus.operator_token, {"agent_name": "bob"}, "key-1")).problem(409, "name_taken")
    answer = await post(bus, f"/api/tenants/{project.slug}/squads", project.tenant_token, {"squad": "ops"}, "key-1")
    assert answer.status == 201
    same(first, await mint(project, "bob", "key-1"))


async def test_a_refusal_is_not_kept_and_its_key_is_free_again(project: Project):
    (await mint(project, "a*b", "key-1")).problem(422, "bad_name")
    taken = await mint(project, "bob", "key-2")
    (await mint(project, "bob", "key-1")).problem(409, "name_taken")
    first = await mint(project, "eve", "key-1")
    assert (taken.status, first.status) == (201, 201)
    same(first, await mint(project, "eve", "key-1"))


@pytest.mark.parametrize(
    "key", ["", '"', '""', '"a', 'a"', "a b", "k" * 256, f'"{"k" * 256}"', "ä", "a\\b", 'a"b', "a\tb", '"a"b"']
)
async def test_an_odd_key_is_refused_and_nothing_is_done(project: Project, key: str):
    (await mint(project, "bob", key)).problem(422, "bad_request")
    assert await agents_of(project) == []


@pytest.mark.parametrize("key", ["k", "k" * 255, f'"{"k" * 255}"', "!#$%&'()*+,-./:;<=>?@[]^_`{|}~", "8e03978e-40d5"])
async def test_every_key_of_visible_characters_will_do(project: Project, key: str):
    first = await mint(project, "bob", key)
    assert first.status == 201
    same(first, await mint(project, "bob", key))


async def test_every_post_takes_a_key(bus: Running, project: Project):
    bob = token_of(await mint(project, "bob", "0"))
    agent, slug, owner = f"/api/tenants/{project.slug}/agents", project.slug, project.tenant_token
    asks: tuple[tuple[str, str, object], ...] = (
        ("/api/projects", bus.operator_token, {"slug": f"{slug}-more", "tier": "starter"}),
        (f"/api/projects/{slug}/escalation", owner, {"to": "agent:bob"}),
        ("/api/escalation", bus.operator_token, {"to": f"{slug}/agent:bob"}),
        ("/api/escalation", bus.operator_token, {"to": ""}),
        (f"/api/tenants/{slug}/squads", owner, {"squad": "ops"}),
        ("/api/catalog", bus.operator_token, {"name": f"{slug}-kasra"}),
        (f"{agent}/activate", owner, {"agent_name": f"{slug}-kasra"}),
        ("/api/agent/join", bob, {"install": "install-1"}),
        ("/api/session", bob, SessionKey().request(bob)),
        (f"{agent}/bob/scopes", owner, {"scopes": ["mcp:send"]}),
        (f"{agent}/bob/disable", owner, None),
        (f"{agent}/bob/enable", owner, None),
        (f"{agent}/bob/rotate", owner, {}),
        (f"{agent}/bob/release", owner, None),
        (f"/api/projects/{slug}/rotate", bus.operator_token, None),
    )
    for n, (path, token, body) in enumerate(asks):
        first = await post(bus, path, token, body, f"key-{n}")
        assert first.status in {200, 201}, (path, first.body)
        same(first, await post(bus, path, token, body, f"key-{n}"))


# ── tokens and sessions ──────────────────────────────────────────────────────────────────────────────────────────


async def test_a_session_that_is_repeated_is_the_same_session(bus: Running, project: Project):
    token, key = await project.mint("bob"), SessionKey()
    first = await post(bus, "/api/session", token, key.request(token), "key-1")
    assert first.status == 201
    same(first, await post(bus, "/api/session", token, key.request(token), "key-1"))
    runs = await asking(bus.url, "GET", "/api/agent/sessions", token)
    assert len(msgspec.json.decode(runs.body)) == 1


async def test_an_agent_that_missed_the_answer_to_its_own_rotation_asks_again_with_the_old_token(
    bus: Running, project: Project
):
    old = await project.mint("bob")
    first = await post(bus, ROTATE, old, {}, "key-1")
    assert first.status == 200
    (await asking(bus.url, "GET", "/api/agent", old)).problem(401, "unknown_token")
    same(first, await post(bus, ROTATE, old, {}, "key-1"))
    new = token_of(first)
    assert (await asking(bus.url, "GET", "/api/agent", new)).status == 200
    assert (await post(bus, ROTATE, new, {}, "key-2")).status == 200
    same(first, await post(bus, ROTATE, old, {}, "key-1"))  # although its token opens nothing any more
    (await post(bus, ROTATE, old, {}, "key-3")).problem(401, "unknown_token")


async def test_what_only_the_first_answer_held_is_told_to_nobody_else(bus: Running, project: Project):
    """The right key alone opens nothing, and neither does a token that is revoked since."""
    bob, eve = await project.mint("bob"), await project.mint("eve")
    ask = SessionKey().request(bob)
    assert (await post(bus, "/api/session", bob, ask, "key-1")).status == 201
    (await post(bus, "/api/session", eve, ask, "key-1")).problem(422, "bad_request")
    await bus.bus.cutting.revoke(OPERATOR, project.slug, "bob")
    (await post(bus, "/api/session", bob, ask, "key-1")).problem(401, "unknown_token")


async def test_the_stream_holds_no_answer_in_clear(bus: Running, project: Project, sos: Connection):
    token = token_of(await mint(project, "bob", "a-key-to-find"))
    opened = await post(bus, "/api/session", token, SessionKey().request(token), "another-key-to-find")
    jwt = msgspec.json.decode(opened.body)["jwt"]
    last, stored = 1, b""
    while batch := await sos.read_batch(subjects.IDEMPOTENCY, last):
        stored += b"".join(m.body + m.subject.encode() for m in batch)
        last = batch[-1].seq + 1
    assert stored.count(b'"state":"done"') >= 2
    for secret in (token, token[7:-6], jwt, jwt.split(".")[1], "a-key-to-find", project.slug):
        assert secret.encode() not in stored


# ── races ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_of_many_at_once_under_one_key_one_is_carried_out_and_the_others_wait_or_get_its_answer(
    project: Project,
):
    answers = await asyncio.gather(*(mint(project, "bob", "key-1") for _ in range(RACERS)))
    done = [a for a in answers if a.status == 201]
    assert len({a.body for a in done}) == 1
    assert sum("idempotency-replayed" not in a.headers for a in done) == 1
    for answer in answers:
        if answer.status != 201:
            answer.problem(409, "in_progress")
            assert int(answer.headers["retry-after"]) >= 1
    assert await agents_of(project) == ["bob"]
    assert (await mint(project, "bob", "key-1")).body == done[0].body


@pytest.fixture
def sos(bus: Running) -> Connection:
    """The gateway's own connection of the account SOS."""
    return bus.bus.idempotency._connection  # pyright: ignore[reportPrivateUsage] - to look into its stream


def gateway(sos: Connection, home: str, later_s: float = 0.0) -> Idempotency:
    """Another gateway on the same NATS, its clock ahead by `later_s`."""
    return Idempotency(
        sos,
        lambda *context: "\n".join(context).encode().ljust(32, b"-")[-32:],
        home,
        lambda: datetime.now(UTC) + timedelta(seconds=later_s),
    )


def request(name: str, body: bytes = b"{}") -> Repeatable:
    return repeatable(identity("token", "POST", f"/{name}", "key"), "key", body)


async def test_of_many_gateways_that_race_for_one_key_exactly_one_carries_it_out(sos: Connection, project: Project):
    carried_out: Counter[int] = Counter()

    async def ask(n: int) -> idempotency.Answer | InProgress:
        async def carry_out() -> idempotency.Answer:
            carried_out[n] += 1
            return idempotency.Answer(200, b"by %d" % n)

        try:
            return await gateway(sos, f"home-{n}").once(request(project.slug), carry_out)
        except InProgress as e:
            return e

    answers = await asyncio.gather(*(ask(n) for n in range(RACERS)))
    ((winner, times),) = carried_out.items()
    assert times == 1
    bodies = {a.body for a in answers if isinstance(a, idempotency.Answer)}
    assert bodies == {b"by %d" % winner}
    assert await ask(RACERS) == idempotency.Answer(200, b"by %d" % winner, replayed=True)


class Dying(BaseException):
    """A gateway's end, in the middle of what it does."""


async def begin_and_die(sos: Connection, home: str, asked: Repeatable) -> None:
    async def carry_out() -> idempotency.Answer:
        raise Dying

    with pytest.raises(Dying):
        await gateway(sos, home).once(asked, carry_out)


async def yes() -> idempotency.Answer:
    return idempotency.Answer(200, b"yes")


async def test_what_a_dead_gateway_left_is_taken_over_by_its_next_life_at_once_and_by_others_when_it_is_old(
    sos: Connection, project: Project
):
    mine, theirs = request(f"{project.slug}-1"), request(f"{project.slug}-2")
    await begin_and_die(sos, "one", mine)
    with pytest.raises(InProgress):
        await gateway(sos, "other").once(mine, yes)
    with pytest.raises(InProgress):
        await gateway(sos, "other", DEAD_AFTER_S - 5).once(mine, yes)
    with pytest.raises(IdempotencyMismatch):
        await gateway(sos, "one").once(request(f"{project.slug}-1", b"another body"), yes)
    assert await gateway(sos, "one").once(mine, yes) == idempotency.Answer(200, b"yes")
    await begin_and_die(sos, "one", theirs)
    assert await gateway(sos, "other", DEAD_AFTER_S + 5).once(theirs, yes) == idempotency.Answer(200, b"yes")
    again = await gateway(sos, "third").once(theirs, yes)
    assert again.replayed


async def test_an_answer_that_comes_after_its_request_was_taken_over_changes_nothing(sos: Connection, project: Project):
    asked = request(project.slug)

    async def slow() -> idempotency.Answer:
        taken_over = await gateway(sos, "other", DEAD_AFTER_S + 5).once(asked, yes)
        assert not taken_over.replayed
        return idempotency.Answer(200, b"late")

    assert (await gateway(sos, "one").once(asked, slow)).body == b"late"
    assert (await gateway(sos, "third").once(asked, yes)).body == b"yes"


async def test_a_refusal_that_comes_after_its_request_was_taken_over_frees_nothing(sos: Connection, project: Project):
    asked = request(project.slug)

    async def slow() -> idempotency.Answer:
        await gateway(sos, "other", DEAD_AFTER_S + 5).once(asked, yes)
        raise NameTaken(what="agent", name="bob")

    with pytest.raises(NameTaken):
        await gateway(sos, "one").once(asked, slow)
    assert (await gateway(sos, "third").once(asked, yes)).replayed


@pytest.mark.parametrize("digest", ["", "x", "*", "a" * 63, "A" * 64, "a" * 65, "a" * 63 + ".", ">" * 64])
def test_nothing_but_a_digest_has_a_subject(digest: str):
    with pytest.raises(BadSubject):
        subjects.repeat(digest)


# ── lost answers ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_client_that_hangs_up_before_the_answer_gets_the_same_token_later(project: Project):
    body = b'{"agent_name":"bob"}'
    head = (
        f"POST /api/tenants/{project.slug}/agents/mint HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {project.tenant_token}\r\nIdempotency-Key: key-1\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    address = urlsplit(project.bus.url)
    async with asyncio.timeout(WITHIN_S):
        with socket.create_connection((address.hostname, address.port), timeout=WITHIN_S) as client:
            client.sendall(head.encode() + body)
            while await agents_of(project) != ["bob"]:
                await asyncio.sleep(0.01)
        while (again := await mint(project, "bob", "key-1")).status == 409:
            again.problem(409, "in_progress")
            await asyncio.sleep(0.01)
    assert again.status == 201
    assert (await asking(project.bus.url, "GET", "/api/agent", token_of(again))).status == 200


async def test_where_the_fact_alone_survived_the_same_token_comes_again(project: Project, sos: Connection):
    """What is left after a kill between the fact and the answer: the fact, and nothing in IDEMPOTENCY."""
    first = await mint(project, "bob", "key-1")
    path = f"/api/tenants/{project.slug}/agents/mint"
    repeat = identity(digest(project.tenant_token), "POST", path, "key-1")
    stored = await sos.last_of(subjects.IDEMPOTENCY, subjects.repeat(repeat))
    assert stored is not None
    assert await sos.erase(subjects.IDEMPOTENCY, stored.seq)
    again = await mint(project, "bob", "key-1")
    assert "idempotency-replayed" not in again.headers
    assert (again.status, token_of(again)) == (201, token_of(first))
