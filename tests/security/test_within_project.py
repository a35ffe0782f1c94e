"""Inside one project: an agent writes only as itself and reads only its own inbox, by the server's own refusal."""

import msgspec
import pytest
from tests.security.attacker import Attacker, attacking, envelope
from tests.security.conftest import Side, held, snapshot

from sos.broker.nats.accounts import gateway_user
from sos.broker.nats.connection import connect
from sos.wire import subjects

MESSAGE = envelope("forged")
LOOT = b'{"name":"LOOT","subjects":["loot"],"storage":"file","max_bytes":1024}'
SPY = b'{"stream_name":"MESSAGES","config":{"name":"spy","ack_policy":"none","deliver_policy":"all"}}'
PUSH_SPY = (
    b'{"stream_name":"MESSAGES","config":{"durable_name":"spy","ack_policy":"none","deliver_subject":"_INBOX.loot"}}'
)
ONE = b'{"seq":1}'


class Record(msgspec.Struct):
    """What a fact is stored in."""

    event: dict[str, object]


AS_ANOTHER = (
    ("project.{p}.agent.vera.boss", MESSAGE),
    ("project.{p}.agent.mallory.vera", MESSAGE),
    ("project.{p}.squad.ops.boss", MESSAGE),
    ("project.{p}.agent.vera.mallory@elsewhere", MESSAGE),
    ("project.{p}.agent.vera.mallory.boss", MESSAGE),
    ("project.{p}.agent.vera.Mallory", MESSAGE),
    ("project.{p}.event.agent.vera", b"{}"),
    ("project.{p}.event.agent.mallory", b"{}"),
    ("project.{p}.event.squad.ops", b"{}"),
    ("project.{p}.address.agent.ghost", b'{"v":1,"event":{"state":"open"}}'),
    ("project.{p}.address.squad.ops", b'{"v":1,"event":{"state":"closed"}}'),
    ("project.{p}.beat.vera", b"{}"),
    ("project.{p}.api.vera.peers", b"{}"),
    ("project.{p}.api.vera.squad.leave", b'{"squad":"ops"}'),
    ("registry.{p}.agent.mallory", b"{}"),
)
JETSTREAM = (
    ("$JS.API.INFO", b""),
    ("$JS.API.STREAM.NAMES", b""),
    ("$JS.API.STREAM.LIST", b""),
    ("$JS.API.STREAM.CREATE.LOOT", LOOT),
    ("$JS.API.ACCOUNT.PURGE.x", b""),
    *(
        (f"$JS.API.{call.format(s=stream)}", body)
        for stream in ("MESSAGES", "EVENTS")
        for call, body in (
            ("STREAM.INFO.{s}", b""),
            ("STREAM.CREATE.{s}", LOOT),
            ("STREAM.UPDATE.{s}", LOOT),
            ("STREAM.DELETE.{s}", b""),
            ("STREAM.PURGE.{s}", b""),
            ("STREAM.SNAPSHOT.{s}", b'{"deliver_subject":"_INBOX.loot"}'),
            ("STREAM.MSG.GET.{s}", ONE),
            ("STREAM.MSG.DELETE.{s}", ONE),
            ("CONSUMER.CREATE.{s}", SPY),
            ("CONSUMER.CREATE.{s}.spy", SPY),
            ("CONSUMER.CREATE.{s}.spy.project.{{p}}.agent.vera.*", SPY),
            ("CONSUMER.DURABLE.CREATE.{s}.spy", PUSH_SPY),
            ("CONSUMER.INFO.{s}.vera", b""),
            ("CONSUMER.LIST.{s}", b""),
            ("CONSUMER.NAMES.{s}", b""),
            ("CONSUMER.DELETE.{s}.vera", b""),
            ("CONSUMER.PAUSE.{s}.vera", b'{"pause_until":"2099-01-01T00:00:00Z"}'),
            ("CONSUMER.MSG.NEXT.{s}.vera", b'{"batch":1}'),
            ("DIRECT.GET.{s}", ONE),
        )
    ),
    ("$JS.API.CONSUMER.DELETE.MESSAGES.mallory", b""),
    ("$JS.API.CONSUMER.INFO.MESSAGES.mallory", b""),
    ("$JS.API.DIRECT.GET.MESSAGES.project.{p}.agent.vera.boss", b""),
    ("$JS.API.DIRECT.GET.EVENTS.project.{p}.event.session.vera", b""),
    ("$JS.API.DIRECT.GET.EVENTS.project.{p}.event.squad.ops", b""),
    ("$JS.API.DIRECT.GET.EVENTS.project.{p}.event.>", b""),
    ("$JS.API.DIRECT.GET.EVENTS.project.{p}.>", b""),
    ("$JS.ACK.MESSAGES.vera.1.1.1.1.0", b"+ACK"),
    ("$JS.ACK.MESSAGES.vera.1.1.1.1.0", b"+TERM"),
    ("$JS.ACK.EVENTS.mallory.1.1.1.1.0", b"+ACK"),
)
SYSTEM = (
    ("$SYS.REQ.USER.INFO", b""),
    ("$SYS.REQ.ACCOUNT.PING.CONNZ", b'{"auth":true}'),
    ("$SYS.REQ.ACCOUNT.{account}.CONNZ", b'{"auth":true}'),
    ("$SYS.REQ.ACCOUNT.{account}.SUBSZ", b"{}"),
    ("$SYS.REQ.ACCOUNT.{account}.CLAIMS.LOOKUP", b""),
    ("$SYS.REQ.CLAIMS.UPDATE", b"x"),
    ("$SYS.REQ.CLAIMS.LIST", b""),
    ("$SYS.REQ.SERVER.PING", b""),
    ("$SRV.PING", b""),
    ("$SRV.INFO.sos", b""),
    ("_INBOX.loot", b"{}"),
    ("_INBOX_00000000000000000000000000000000.r.1", b"{}"),
)


@pytest.mark.parametrize(("subject", "body"), AS_ANOTHER + JETSTREAM + SYSTEM)
async def test_what_is_not_its_own_an_agent_cannot_say(mallory: Attacker, own: Side, subject: str, body: bytes):
    account = own.tenant.keys.identity.public
    said, reply = subject.format(p=own.slug, account=account), mallory.new_reply()
    before = await snapshot(own.seen)
    memberships = await own.bus.bus.squads.memberships(own.slug, "vera")
    assert await mallory.refused(said, body, reply=reply)
    assert mallory.came(reply) == 0
    assert await snapshot(own.seen) == before
    assert await own.bus.bus.squads.memberships(own.slug, "vera") == memberships


@pytest.mark.parametrize(
    ("subject", "traffic"),
    [
        (">", ""),
        ("*", "secret"),
        ("*.>", ""),
        ("project.>", ""),
        ("project.*.agent.*.*", ""),
        ("project.{p}.agent.vera.*", "project.{p}.agent.vera.boss"),
        ("project.{p}.agent.mallory.*", "project.{p}.agent.mallory.boss"),
        ("project.{p}.squad.ops.*", "project.{p}.squad.ops.boss"),
        ("project.{p}.beat.*", "project.{p}.beat.vera"),
        ("project.{p}.api.>", "project.{p}.api.vera.peers"),
        ("project.{p}.api.mallory.>", "project.{p}.api.mallory.peers"),
        ("_INBOX.>", "_INBOX.abc.1"),
        ("*.r.*", "{inbox}.r.1"),
        ("{inbox}.>", "{inbox}.r.1"),
        ("$SYS.>", "$SYS.ACCOUNT.x.CONNECT"),
        ("$JS.>", "$JS.ACK.MESSAGES.vera.1.1.1.1.0"),
        ("$JS.API.CONSUMER.MSG.NEXT.MESSAGES.vera", "$JS.API.CONSUMER.MSG.NEXT.MESSAGES.vera"),
        ("$JS.EVENT.ADVISORY.>", "$JS.EVENT.ADVISORY.API"),
        ("$SRV.>", "$SRV.PING"),
    ],
)
async def test_nobody_hears_what_is_not_sent_to_its_own_replies(
    mallory: Attacker, own: Side, subject: str, traffic: str
):
    async with attacking(own.bus.url, own.tokens["vera"]) as vera:
        said = subject.format(p=own.slug, inbox=vera.inbox)
        heard = await mallory.listen(said)
        for sent in (traffic or "project.{p}.beat.vera", "project.{p}.agent.vera.boss"):
            await own.seen.publish(sent.format(p=own.slug, inbox=vera.inbox), b"secret")
        await own.seen.js("INFO")
        await vera.ask(f"project.{own.slug}.api.vera.peers", b"{}")
        await mallory.flush()
        assert heard == []
        assert mallory.may_not_hear(said)


async def test_what_may_be_said_and_heard_in_an_account_without_grants_is_seen_by_these_very_tests(own: Side):
    heard: list[str] = []

    async def hear(message: object) -> None:
        heard.append(str(getattr(message, "subject", "")))

    before = await snapshot(own.seen)
    user, jwt = gateway_user(own.tenant.keys)
    async with connect(own.seen.servers, user, jwt, "no grant") as anyone:
        await anyone.subscribe(f"project.{own.slug}.agent.vera.*", hear)
        await anyone.request(f"project.{own.slug}.agent.vera.boss", MESSAGE)
        await anyone.flush()
        assert heard == [f"project.{own.slug}.agent.vera.boss"]
        assert (await anyone.js("STREAM.MSG.GET.MESSAGES", {"seq": 1}))["message"]
    assert await snapshot(own.seen) != before


async def test_an_acknowledgement_forged_to_the_last_digit_settles_nothing(mallory: Attacker, own: Side):
    async with attacking(own.bus.url, own.tokens["vera"]) as vera:
        delivered = await vera.take(await vera.call(subjects.pull("vera"), b'{"batch":1}'))
        assert delivered.reply.startswith("$JS.ACK.MESSAGES.vera.")
        for verdict in (b"+ACK", b"+TERM", b'-NAK {"delay": 999000000000}'):
            assert await mallory.refused(delivered.reply, verdict)
        info = await own.seen.js("CONSUMER.INFO.MESSAGES.vera")
        assert info["num_ack_pending"] == 1
        await vera.ask(delivered.reply, b"+ACK")
        info = await own.seen.js("CONSUMER.INFO.MESSAGES.vera")
        assert info["num_ack_pending"] == 0


@pytest.mark.parametrize(
    "ask",
    [
        {"seq": 1},
        {"seq": 1, "batch": 100},
        {"last_by_subj": "project.{p}.event.session.vera"},
        {"multi_last": ["project.>"]},
        {"multi_last": ["project.{p}.event.>"], "batch": 100},
        {"next_by_subj": "project.{p}.event.>", "seq": 1},
        {"start_time": "2020-01-01T00:00:00Z", "batch": 100},
    ],
)
@pytest.mark.parametrize("name", ["vera", "*", ">"])
async def test_the_address_subject_reads_no_other_fact_whatever_the_payload(
    mallory: Attacker, own: Side, ask: dict[str, object], name: str
):
    body = msgspec.json.encode(ask).replace(b"{p}", own.slug.encode())
    answer = await mallory.ask(f"$JS.API.DIRECT.GET.EVENTS.project.{own.slug}.address.agent.{name}", body)
    assert (answer.headers.get("Status"), answer.body) == ("408", b"")


@pytest.mark.parametrize("address", ["agent.vera", "squad.ops", "*.*", "agent.>"])
async def test_an_address_fact_holds_nothing_but_the_address(mallory: Attacker, own: Side, address: str):
    answer = await mallory.ask(f"$JS.API.DIRECT.GET.EVENTS.project.{own.slug}.address.{address}")
    assert answer.headers["Nats-Subject"].startswith(f"project.{own.slug}.address.")
    event = msgspec.json.decode(answer.body, type=Record).event
    assert set(event) <= {"type", "at", "actor", "project", "of", "name", "state", "members"}


@pytest.mark.parametrize(
    "headers",
    [
        {"Nats-Rollup": "all"},
        {"Nats-Rollup": "sub"},
        {"Nats-TTL": "1s"},
        {"Nats-TTL": "never"},
        {"Nats-Schedule": "@at 2020-01-01T00:00:00Z", "Nats-Schedule-Target": "project.{p}.agent.vera.boss"},
        {"Nats-Schedule": "@every 1s", "Nats-Schedule-Target": "project.{p}.agent.vera.boss"},
        {"Nats-Batch-Id": "b", "Nats-Batch-Sequence": "1", "Nats-Batch-Commit": "1"},
        {"Nats-Incr": "1"},
        {"Nats-Expected-Stream": "EVENTS"},
        {"Nats-Expected-Last-Sequence": "999999"},
        {"Nats-Expected-Last-Msg-Id": "x"},
        {"Nats-Expected-Last-Subject-Sequence": "999999"},
    ],
)
async def test_a_header_that_could_do_damage_is_refused_and_stores_nothing(
    mallory: Attacker, own: Side, headers: dict[str, str]
):
    before = await snapshot(own.seen)
    told = await mallory.store(headers={k: v.replace("{p}", own.slug) for k, v in headers.items()})
    assert "error" in told
    assert await snapshot(own.seen) == before


@pytest.mark.parametrize(
    "headers", [{"Nats-Marker-Reason": "Purge"}, {"KV-Operation": "PURGE"}, {"Nats-Subject": "project.x.agent.y.z"}]
)
async def test_a_header_that_is_let_through_is_only_text(mallory: Attacker, own: Side, headers: dict[str, str]):
    before = await own.seen.js("STREAM.INFO.MESSAGES")
    stored = await mallory.store(headers=headers)
    after = await own.seen.js("STREAM.INFO.MESSAGES")
    assert after["state"]["messages"] == before["state"]["messages"] + 1
    assert after["state"]["first_seq"] == before["state"]["first_seq"] == 1
    raw = await own.seen.js("STREAM.MSG.GET.MESSAGES", {"seq": stored["seq"]})
    assert raw["message"]["subject"] == mallory.own_subject


async def test_a_header_called_status_does_not_hide_messages_from_who_reads_the_stream(mallory: Attacker, own: Side):
    for status in ("404", "204", "408"):
        await mallory.store(headers={"Status": status})
    last = (await mallory.store())["seq"]
    read = await own.seen.read_batch("MESSAGES", 1)
    assert [m.seq for m in read] == list(range(1, last + 1))


@pytest.mark.parametrize("name", ["*", ">"])
async def test_a_wildcard_as_recipient_reaches_nobody(mallory: Attacker, own: Side, name: str):
    before = await snapshot(own.seen)
    await mallory.publish(f"project.{own.slug}.agent.{name}.mallory", MESSAGE)
    await mallory.publish(f"project.{own.slug}.squad.{name}.mallory", MESSAGE)
    after = await snapshot(own.seen)
    pending = {n: c["num_pending"] for n, c in before["consumers"].items()}
    assert {n: c["num_pending"] for n, c in after["consumers"].items()} == pending
    async with attacking(own.bus.url, own.tokens["vera"]) as vera:
        got = await vera.take(await vera.call(subjects.pull("vera"), b'{"no_wait":true,"batch":1}'))
        assert f".{name}." not in got.subject
    assert await held(own.seen, f"project.{own.slug}.agent.vera.*") >= 1
