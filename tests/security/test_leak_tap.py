"""What agents do to hide a secret from the tap, to use it against others, or to keep it busy."""

import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.conftest import MakeProject, Project
from tests.leaking import (
    bus_with,
    erased,
    holding,
    leak_in,
    letters,
    looked_through,
    mint,
    refusal,
    report_to,
    stored,
    told,
    until,
)
from tests.security.attacker import Attacker, attacking, envelope, open_session

from sos.broker.app import Running
from sos.broker.control.leaks import BUDGET, MAX_JUDGED, MAX_RECORDED
from sos.broker.domain.leaks import Leaked
from sos.broker.nats.claims import user_jwt
from sos.broker.nats.grants import Grant
from sos.broker.nats.nkeys import KeyPair
from sos.wire.nkeys import NkeyKind
from sos.wire.scopes import Scope
from sos.wire.tokens import TokenKind, make, tail


@pytest.fixture
async def mallory(project: Project) -> AsyncIterator[Attacker]:
    """An agent that keeps to no rule, connected."""
    async with attacking(project.bus.url, await project.mint("mallory")) as attacker:
        yield attacker


# ── hiding it ────────────────────────────────────────────────────────────────────────────────────────────────────


def escaped(secret: str) -> bytes:
    """An envelope in which every character of the secret is a JSON escape."""
    return envelope("SECRET").replace(b"SECRET", "".join(f"\\u{ord(c):04x}" for c in secret).encode())


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ("escaped", None),
        ("in data that is no envelope", None),
        ("in bytes that are no text", None),
        ("glued to other words", None),
        ("", {"X-Note": "SECRET"}),
        ("", {"SECRET": "a header's name"}),
        ("", {"Status": "404", "Description": "SECRET"}),
    ],
    ids=lambda value: str(value) or "nothing",
)
async def test_a_secret_is_found_wherever_in_the_message_it_stands(
    project: Project, mallory: Attacker, body: str, headers: dict[str, str] | None
):
    victim = await project.mint("victim")
    bodies = {
        "escaped": escaped(victim),
        "in data that is no envelope": json.dumps({"a": [{"b": victim}]}).encode(),
        "in bytes that are no text": b"\xff\x00\xfe" + victim.encode() + b"\xff",
        "glued to other words": envelope(f"xx{victim}yy"),
        "": envelope("nothing here"),
    }
    put = {k.replace("SECRET", victim): v.replace("SECRET", victim) for k, v in (headers or {}).items()}
    ack = await mallory.store(body=bodies[body], headers=put or None)
    leak = await leak_in(project.bus, project.slug, ack["seq"])
    assert leak.secrets == (Leaked(kind="agent_token", tail=tail(victim), of="agent:victim", action="voided"),)
    await erased(project.bus, project.slug, ack["seq"])
    assert await refusal(project.bus, victim) == "unknown_token"


async def test_a_secret_in_a_message_to_a_squad_is_found(project: Project, mallory: Attacker):
    await project.squad("ops")
    victim = await project.mint("victim")
    ack = await mallory.store(f"project.{project.slug}.squad.ops.mallory", envelope(victim))
    assert (await leak_in(project.bus, project.slug, ack["seq"])).secrets[0].action == "voided"


async def test_an_agent_that_may_only_send_is_found_out_too(project: Project):
    token = await project.mint("mallory", scopes=(Scope.SEND,))
    async with attacking(project.bus.url, token) as mallory:
        ack = await mallory.store(body=envelope(token))
    leak = await leak_in(project.bus, project.slug, ack["seq"])
    assert (leak.sender, leak.secrets[0].action) == ("mallory", "voided")


async def test_a_secret_in_two_halves_is_not_found_and_the_documents_say_so(project: Project, mallory: Attacker):
    victim = await project.mint("victim")
    seqs = [(await mallory.store(body=envelope(half)))["seq"] for half in (victim[:20], victim[20:])]
    await looked_through(project.bus, project.slug)
    assert await project.bus.bus.registry.views.leaks(project.slug) == []
    assert set(seqs) <= (await stored(project.bus, project.slug)).keys()
    assert "two messages" in (Path(__file__).parents[2] / "docs" / "operations.md").read_text()


HOSTILE_HEADERS = (
    b"NATS/1.0 404 no such thing\r\n\r\n",
    b"NATS/1.0 \r\n\r\n",
    b"NATS/1.0\r\n\r\n\r\n",
    b"NATS/1.0\r\n",
    b"NATS/1.0\r\nno colon\r\n\r\n",
    b"NATS/1.0\r\n\xff\xfe: \xff\r\n\r\n",
    b"NATS/1.0\r\n: no name\r\n\r\n",
    b"NATS/1.0\r\nNats-Sequence: x\r\nNats-Time-Stamp: x\r\nNats-Last-Sequence: x\r\n\r\n",
    b"nothing of NATS at all\r\n\r\n",
    b"\r\n\r\n",
    b"NATS/1.0 100\r\nNats-Consumer-Stalled: a.b\r\n\r\n",
)


async def test_no_bytes_that_an_agent_can_store_stop_the_tap(project: Project, mallory: Attacker):
    for block in HOSTILE_HEADERS:
        await mallory.publish_raw(mallory.own_subject, block, b"")
        await mallory.publish_raw(mallory.own_subject, block, b"\xff" * 64)
    ack = await mallory.store(body=envelope(make(TokenKind.AGENT)))
    await leak_in(project.bus, project.slug, ack["seq"])


# ── what only looks like one ─────────────────────────────────────────────────────────────────────────────────────


async def test_what_is_no_secret_by_its_checksum_is_left_alone(project: Project, mallory: Attacker):
    token, seed = make(TokenKind.AGENT), KeyPair.generate(NkeyKind.USER).seed
    near = [
        token[:-1] + ("0" if token[-1] != "0" else "1"),
        token.replace("sk-bus-", "sk-ten-"),
        token[:30],
        seed[:-1] + ("A" if seed[-1] != "A" else "B"),
        KeyPair.generate(NkeyKind.USER).public,
        "eyJhbGciOiJ.not-a-jwt-at-all.but-three-parts-of-some-length",
        "sk-bus-…" + tail(token),
    ]
    seqs = {(await mallory.store(body=envelope(text)))["seq"] for text in near}
    await looked_through(project.bus, project.slug)
    assert seqs <= (await stored(project.bus, project.slug)).keys()
    assert await project.bus.bus.registry.views.leaks(project.slug) == []


async def test_a_secret_that_stands_where_the_sender_does_is_not_repeated_as_the_senders_name(
    project: Project, caplog: pytest.LogCaptureFixture
):
    """A server's answer may be stored under whatever subject an agent names as its reply subject."""
    made, slug = make(TokenKind.AGENT), project.slug
    tenant = await project.bus.bus.projects.tenant(slug)
    subject = f"project.{slug}.agent.mallory.{made}"
    seq = (await tenant.connection.store("MESSAGES", subject, envelope(made), msg_id=made)).seq
    leak = await leak_in(project.bus, slug, seq)
    await erased(project.bus, slug, seq)
    assert leak.sender == "?"
    assert await letters(project.bus, slug) == []
    assert made not in caplog.text


# ── using it against others ──────────────────────────────────────────────────────────────────────────────────────


async def test_whoever_publishes_anothers_token_has_shown_that_it_is_known_so_it_is_void(
    project: Project, mallory: Attacker
):
    victim, own = await project.mint("victim"), await project.mint("other")
    ack = await mallory.store(body=envelope(victim))
    leak = await leak_in(project.bus, project.slug, ack["seq"])
    assert (leak.sender, leak.secrets[0].of) == ("mallory", "agent:victim")
    to_victim = await told(project.bus, project.slug, "agent:victim")
    assert "of mallory" in to_victim.text
    assert (await refusal(project.bus, victim), await refusal(project.bus, own)) == ("unknown_token", "")
    await mallory.fence()


async def test_a_token_of_another_project_is_void_there_and_its_name_is_not_told_here(make_project: MakeProject):
    here, there = await make_project(), await make_project()
    victim, _ = await there.mint("victim"), await there.mint("watch")
    await report_to(there.bus, there.slug, "watch")
    await here.mint("boss")
    await report_to(here.bus, here.slug, "boss")
    async with attacking(here.bus.url, await here.mint("mallory")) as mallory:
        ack = await mallory.store(body=envelope(victim))
    await leak_in(here.bus, here.slug, ack["seq"])
    to_victim = await told(there.bus, there.slug, "agent:victim")
    to_watch = await told(there.bus, there.slug, "agent:watch")
    await told(here.bus, here.slug, "agent:boss")
    here_told = [t.envelope for t in await letters(here.bus, here.slug)]
    assert len(here_told) == 2
    for letter in here_told:
        assert "victim" not in letter.text + str(letter.data)
        assert there.slug not in letter.text + str(letter.data)
    for letter in (to_victim, to_watch):
        assert "mallory" not in letter.text + str(letter.data)
        assert here.slug not in letter.text + str(letter.data)
    assert await refusal(here.bus, victim) == "unknown_token"


async def test_a_made_up_credential_with_anothers_key_cuts_nobody(project: Project, mallory: Attacker):
    token = await project.mint("victim")
    key, opened = await open_session(project.bus.url, token)
    forged = user_jwt(
        "victim",
        key.public,
        KeyPair.generate(NkeyKind.ACCOUNT).public,
        KeyPair.generate(NkeyKind.ACCOUNT),
        Grant((">",), (">",)),
        opened.expires_at,
        max_payload=-1,
        max_subs=-1,
    )
    tampered = opened.jwt.rpartition(".")[0] + "." + forged.rpartition(".")[2]
    for jwt in (forged, tampered):
        ack = await mallory.store(body=envelope(jwt))
        assert (await leak_in(project.bus, project.slug, ack["seq"])).secrets[0].action == "none"
    agent, _ = await project.bus.bus.registry.views.agent(project.slug, "victim")
    assert agent is not None
    assert agent.epoch == 0


async def test_a_seed_of_the_bus_own_keys_is_erased_and_the_operator_told_that_nothing_else_was_done(
    home: Path, caplog: pytest.LogCaptureFixture
):
    async with bus_with(home / "bus") as bus:
        token, _ = await mint(bus, "mallory"), await mint(bus, "operator")
        await report_to(bus, "", "operator")
        seeds = [(home / "bus" / "keys" / f"{name}.nk").read_text().strip() for name in ("system", "operator-signing")]
        account = (await bus.bus.projects.tenant("acme")).keys.signing
        async with attacking(bus.url, token) as mallory:
            for seed in (*seeds, account.seed):
                ack = await mallory.store(body=envelope(seed))
                leak = await leak_in(bus, "acme", ack["seq"])
                assert (leak.secrets[0].action, leak.secrets[0].of.startswith("bus:")) == ("none", True)
                await erased(bus, "acme", ack["seq"])

        async def reported() -> list[str] | None:
            texts = [t.envelope.text for t in await letters(bus, "acme") if "NOTHING" in t.envelope.text]
            return texts if len(texts) == 3 else None

        texts = await until(reported, "the operator is told of three keys")
        assert all(name in " ".join(texts) for name in ("system.nk", "operator-signing.nk", "acme"))
    errors = [
        r.getMessage() for r in caplog.records if r.levelno == logging.ERROR and "key of the bus" in r.getMessage()
    ]
    assert len(errors) == 3
    assert not any(seed in caplog.text for seed in (*seeds, account.seed))


# ── keeping it busy ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_flood_of_made_up_secrets_hides_no_real_one_and_fills_no_stream_with_facts(
    project: Project, mallory: Attacker, record_property: Callable[[str, object], None]
):
    bus, slug, victim = project.bus, project.slug, await project.mint("victim")
    for _ in range(1_000):
        await mallory.nats.publish(mallory.own_subject, envelope(make(TokenKind.AGENT)))
    began = time.monotonic()
    ack = await mallory.store(body=envelope(victim))
    leak = await leak_in(bus, slug, ack["seq"])
    took_s = time.monotonic() - began
    record_property("flood_found_s", took_s)
    assert leak.secrets[0].action == "voided"
    await looked_through(bus, slug, within_s=60.0)
    left = await stored(bus, slug)
    assert {m.subject.rpartition(".")[2] for m in left.values()} == {"gateway"}
    assert len(await bus.bus.registry.views.leaks(slug)) == BUDGET + 1


async def test_a_message_full_of_made_up_tokens_is_erased_with_a_fact_of_bounded_size(
    project: Project, mallory: Attacker
):
    text = " ".join(make(TokenKind.AGENT) for _ in range(2 * MAX_JUDGED))
    ack = await mallory.store(body=envelope(text))
    leak = await leak_in(project.bus, project.slug, ack["seq"])
    assert len(leak.secrets) == MAX_RECORDED
    await erased(project.bus, project.slug, ack["seq"])


# ── where it is afterwards ───────────────────────────────────────────────────────────────────────────────────────


async def test_after_the_erasing_the_secret_is_in_no_file_of_the_home_no_log_and_no_letter(
    home: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    folder = home / "bus"
    async with bus_with(folder) as bus:
        victim, other = await mint(bus, "victim"), await mint(bus, "mallory")
        secrets = {victim: "agent_token", make(TokenKind.TENANT): "tenant_token"}
        secrets |= {KeyPair.generate(NkeyKind.USER).seed: "nats_seed"}
        async with attacking(bus.url, other) as mallory:
            for secret in secrets:
                before = (await mallory.store())["seq"]
                ack = await mallory.store(body=envelope(secret), headers={"X-Note": secret})
                await mallory.store()
                await told(bus, "acme", "agent:mallory")
                await erased(bus, "acme", ack["seq"])
                assert before in await stored(bus, "acme")
            await looked_through(bus, "acme")
        _nowhere(folder, bus, caplog, tuple(secrets))
    assert [holding(secret, folder) for secret in secrets] == [[], [], []]


def _nowhere(folder: Path, bus: Running, caplog: pytest.LogCaptureFixture, secrets: tuple[str, ...]) -> None:
    assert any(p.suffix == ".blk" for p in folder.rglob("*"))
    for secret in secrets:
        assert holding(secret, folder) == []
        assert secret not in caplog.text
        assert secret not in repr(bus)
