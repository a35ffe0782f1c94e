"""The routes that subject permissions alone do not close. The same functions drive the control and the real tests."""

import re

from tests.security.attacker import Attacker, envelope

from sos.wire import subjects

UNREACHED = 999_999_999


async def inject_reply(attacker: Attacker, target: str) -> None:
    """Store a message of its own and name `target` as where the PubAck goes: NATS checks no reply subject."""
    await attacker.publish(attacker.own_subject, envelope(), reply=target)
    await attacker.fence()


async def bounce_delivery(attacker: Attacker, target: str) -> None:
    """Have a message of its own inbox delivered to `target`."""
    await attacker.store()
    await attacker.publish(subjects.pull(attacker.name), b'{"batch":1}', reply=target)
    await attacker.fence()


async def bounce_status(attacker: Attacker, target: str) -> None:
    """Have the refusal of a pull that is too large sent to `target`: headers and no body."""
    await attacker.publish(subjects.pull(attacker.name), b'{"batch":5000}', reply=target)
    await attacker.fence()


async def bounce_by_acknowledging(attacker: Attacker, target: str) -> None:
    """`+NXT` acknowledges and pulls in one: the next message goes to the reply subject of the acknowledgement."""
    await attacker.store()
    await attacker.store()
    reply = await attacker.call(subjects.pull(attacker.name), b'{"batch":1}')
    delivered = await attacker.take(reply)
    assert delivered.reply.startswith(f"$JS.ACK.MESSAGES.{attacker.name}.")
    await attacker.publish(delivered.reply, b"+NXT", reply=target)
    await attacker.fence()


async def poison_id(attacker: Attacker, msg_id: str) -> None:
    """Use up a message id that somebody else is about to use."""
    await attacker.store(headers={"Nats-Msg-Id": msg_id})


async def last_sequence_of(attacker: Attacker, subject: str) -> int:
    """What a publish that expects an impossible last sequence of `subject` is told."""
    headers = {
        "Nats-Expected-Last-Subject-Sequence": str(UNREACHED),
        "Nats-Expected-Last-Subject-Sequence-Subject": subject,
    }
    told = str((await attacker.store(headers=headers)).get("error"))
    found = re.search(r"wrong last sequence: (\d+)", told)
    return int(found[1]) if found else 0


BOUNCES = (inject_reply, bounce_delivery, bounce_status, bounce_by_acknowledging)
