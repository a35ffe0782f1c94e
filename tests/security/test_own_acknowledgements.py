"""An agent may acknowledge on its own consumer, whatever sequence it writes. That must not be a way to read."""

import pytest
from tests.security.attacker import Attacker, Heard
from tests.security.conftest import Side

from sos.wire import subjects

VERDICTS = (b"-NAK", b'-NAK {"delay": 1}', b"+WPI", b'+NXT {"batch": 5, "no_wait": true}')
"""(A +NXT that waits would take what the tests store later.)"""
FOREIGN_SEQ = 1
"""The message that boss sent to vera: the first of the stream."""


async def pulled(mallory: Attacker) -> list[Heard]:
    """All deliveries so far, whatever asked for them, and all that the own consumer gives out within a moment. (Asked
    not to wait at all, it may not know yet of what has just been stored.)"""
    reply = await mallory.call(subjects.pull(mallory.name), b'{"batch": 50, "expires": 300000000}')
    got: list[Heard] = []
    while not (answer := await mallory.take(reply)).headers.get("Status"):
        got.append(answer)
    return got + mallory.deliveries()


async def forge(mallory: Attacker, up_to: int) -> list[int]:
    """Every verdict on the foreign sequence, under every delivery number and a few beyond the last; returns the
    sequences that were given out then."""
    for number in range(up_to + 3):
        for verdict in VERDICTS:
            subject = f"$JS.ACK.MESSAGES.{mallory.name}.1.{FOREIGN_SEQ}.{number}.1700000000000000000.0"
            await mallory.publish(subject, verdict, reply=mallory.new_reply())
    return [subjects.parse_ack(m.reply).stream_seq for m in await pulled(mallory)]


async def test_a_forged_acknowledgement_of_anothers_message_never_gives_it_out(mallory: Attacker, own: Side):
    stored = await own.seen.js("STREAM.MSG.GET.MESSAGES", {"seq": FOREIGN_SEQ})
    assert stored["message"]["subject"] == f"project.{own.slug}.agent.vera.boss"
    for earlier in await pulled(mallory):
        await mallory.publish(earlier.reply, b"+ACK")
    settled = (await own.seen.js("CONSUMER.INFO.MESSAGES.mallory"))["delivered"]["consumer_seq"]
    assert await forge(mallory, settled) == []  # with nothing pending
    mine = (await mallory.store())["seq"]
    (pending,) = await pulled(mallory)
    assert subjects.parse_ack(pending.reply).stream_seq == mine
    assert FOREIGN_SEQ not in await forge(mallory, settled + 1)  # with one pending
    await mallory.publish(pending.reply, b"+ACK")
    assert await forge(mallory, settled + 2) == []  # with all settled again


@pytest.mark.parametrize("verdict", [b"-NAK", b""])
async def test_a_genuine_acknowledgement_of_the_own_message_works(mallory: Attacker, own: Side, verdict: bytes):
    """So that the test above can fail: these very means do have an effect where they may."""
    mine = (await mallory.store())["seq"]
    given = {subjects.parse_ack(m.reply).stream_seq: m for m in await pulled(mallory)}
    await mallory.publish(given[mine].reply, verdict)
    again = [subjects.parse_ack(m.reply).stream_seq for m in await pulled(mallory)]
    assert (mine in again) == (verdict == b"-NAK")
