"""Across projects: the routes that work in a shared account (`test_control.py`), and the plain ones, all fail here."""

from collections.abc import Awaitable, Callable

import msgspec
import pytest
from tests.security.attacker import Attacker, attacking, envelope
from tests.security.attacks import BOUNCES, last_sequence_of, poison_id
from tests.security.conftest import Side, held, settled, snapshot

from sos.wire.ids import uuid7

SUBJECTS = (
    "project.{p}.agent.vera.boss",
    "project.{p}.agent.vera.mallory",
    "project.{p}.squad.ops.boss",
    "project.{p}.squad.ops.mallory",
    "project.{p}.event.agent.vera",
    "project.{p}.address.agent.vera",
    "project.{p}.beat.mallory",
    "project.{p}.api.vera.squad.leave",
    "project.{p}.api.mallory.peers",
)


@pytest.mark.parametrize("subject", SUBJECTS)
async def test_nothing_can_be_said_in_a_foreign_project(mallory: Attacker, foreign: Side, subject: str):
    before = await settled(foreign.seen)
    assert await mallory.refused(subject.format(p=foreign.slug), envelope("forged"))
    assert await snapshot(foreign.seen) == before


@pytest.mark.parametrize("bounce", BOUNCES, ids=lambda b: b.__name__)
@pytest.mark.parametrize("subject", SUBJECTS)
async def test_nothing_can_be_bounced_into_a_foreign_project(
    own: Side, foreign: Side, bounce: Callable[[Attacker, str], Awaitable[None]], subject: str
):
    target, before = subject.format(p=foreign.slug), await settled(foreign.seen)
    async with attacking(own.bus.url, own.tokens["mallory"]) as mallory:
        stored = await held(own.seen, mallory.own_subject)
        await bounce(mallory, target)
        # It did happen, in the account where it was done: only there is nobody who listens.
        assert mallory.violations == []
        assert await held(own.seen, mallory.own_subject) > stored
    assert await snapshot(foreign.seen) == before
    assert await held(own.seen, target) == 0


async def test_an_id_that_was_used_elsewhere_drops_nobodys_message(mallory: Attacker, foreign: Side):
    id_ = uuid7()
    await poison_id(mallory, id_)
    target = f"project.{foreign.slug}.agent.vera.boss"
    before = await held(foreign.seen, target)
    async with attacking(foreign.bus.url, foreign.tokens["boss"]) as boss:
        told = await boss.store(target, envelope("kept", id_), {"Nats-Msg-Id": id_})
    assert "duplicate" not in told
    assert await held(foreign.seen, target) == before + 1
    assert b'"kept"' in (await last_body(foreign, target))


async def last_body(side: Side, subject: str) -> bytes:
    stored = await side.seen.last_of("MESSAGES", subject)
    assert stored is not None
    return stored.body


async def test_a_foreign_subjects_last_sequence_is_not_told(mallory: Attacker, own: Side, foreign: Side):
    assert await held(foreign.seen, f"project.{foreign.slug}.agent.vera.boss") > 0
    assert await last_sequence_of(mallory, f"project.{foreign.slug}.agent.vera.boss") == 0
    await mallory.store()
    assert await last_sequence_of(mallory, mallory.own_subject) > 0  # of its own it is


@pytest.mark.parametrize("address", ["agent.vera", "squad.ops", "*.*", "agent.>"])
async def test_a_foreign_address_cannot_be_read(mallory: Attacker, foreign: Side, address: str):
    reply = mallory.new_reply()
    subject = f"$JS.API.DIRECT.GET.EVENTS.project.{foreign.slug}.address.{address}"
    assert await mallory.refused(subject, reply=reply)
    assert mallory.came(reply) == 0


@pytest.mark.parametrize("address", ["agent.vera", "*.*"])
async def test_naming_a_foreign_address_in_the_payload_reads_nothing(
    mallory: Attacker, own: Side, foreign: Side, address: str
):
    ask = msgspec.json.encode({"last_by_subj": f"project.{foreign.slug}.address.{address}"})
    answer = await mallory.ask(f"$JS.API.DIRECT.GET.EVENTS.project.{own.slug}.address.agent.vera", ask)
    assert (answer.headers.get("Status"), answer.body) == ("408", b"")


@pytest.mark.parametrize("subject", ["project.{p}.>", "project.*.agent.vera.*", "project.{p}.beat.*", "{inbox}.>", ">"])
async def test_a_foreign_project_cannot_be_listened_to(mallory: Attacker, foreign: Side, subject: str):
    async with attacking(foreign.bus.url, foreign.tokens["boss"]) as boss:
        said = subject.format(p=foreign.slug, inbox=boss.inbox)
        heard = await mallory.listen(said)
        await boss.store(f"project.{foreign.slug}.agent.vera.boss")
        await boss.publish(f"project.{foreign.slug}.beat.boss")
        await mallory.flush()
        assert heard == []
        assert mallory.may_not_hear(said)


async def test_the_same_subject_heard_by_the_gateway_of_another_account_is_another_subject(own: Side, foreign: Side):
    """Even with every permission in its own account, which no agent has, a project is alone in it."""
    before = await settled(foreign.seen)
    await own.seen.publish(f"project.{foreign.slug}.agent.vera.boss", envelope("from outside"))
    await own.seen.publish(f"project.{foreign.slug}.event.agent.vera", b"{}")
    await own.seen.js("INFO")
    assert await snapshot(foreign.seen) == before


async def test_a_token_of_one_project_opens_no_session_in_another(own: Side, foreign: Side):
    async with attacking(own.bus.url, own.tokens["vera"]) as vera:
        assert vera.slug == own.slug != foreign.slug
        assert await vera.refused(f"project.{foreign.slug}.agent.boss.vera", envelope())
