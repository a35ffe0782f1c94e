"""The control: in one shared account these routes work. So the tests next door, which say that they do not work on the
bus, can fail; and the same functions drive both."""

from collections.abc import AsyncIterator

import msgspec
import pytest
from tests.security.attacker import envelope
from tests.security.attacks import bounce_delivery, inject_reply, last_sequence_of, poison_id
from tests.security.conftest import held
from tests.security.shared_account import ATTACKERS, VICTIMS, SharedAccount, shared_account

from sos.wire.ids import uuid7

TARGET = f"project.{VICTIMS}.agent.vera.boss"


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SharedAccount]:
    async with shared_account(tmp_path_factory.mktemp("control")) as account:
        yield account


async def test_in_a_shared_account_subject_permissions_alone_hold_for_plain_publishes(shared: SharedAccount):
    async with shared.agent(ATTACKERS, "mallory") as mallory:
        assert await mallory.refused(TARGET, envelope())
    assert await held(shared.seen, TARGET) == 0


async def test_in_a_shared_account_a_pub_ack_lands_in_another_tenants_inbox(shared: SharedAccount):
    async with shared.agent(ATTACKERS, "mallory") as mallory:
        await inject_reply(mallory, TARGET)
        assert mallory.violations == []
    stored = await shared.seen.last_of("MESSAGES", TARGET)
    assert stored is not None
    assert msgspec.json.decode(stored.body, type=dict[str, object])["stream"] == "MESSAGES"


async def test_in_a_shared_account_a_delivery_is_bounced_into_another_tenants_stream(shared: SharedAccount):
    async with shared.agent(ATTACKERS, "mallory") as mallory:
        before = (await shared.seen.js("STREAM.INFO.MESSAGES"))["state"]["last_seq"]
        await bounce_delivery(mallory, TARGET)
        after = (await shared.seen.js("STREAM.INFO.MESSAGES"))["state"]["last_seq"]
    # Its own message, the one that was stored again on its way to the victim's subject, and the fence.
    assert after == before + 3


async def test_in_a_shared_account_a_used_id_drops_another_tenants_message(shared: SharedAccount):
    id_ = uuid7()
    async with shared.agent(ATTACKERS, "mallory") as mallory, shared.agent(VICTIMS, "vera") as vera:
        await poison_id(mallory, id_)
        before = await held(shared.seen, vera.own_subject)
        told = await vera.store(body=envelope("lost", id_), headers={"Nats-Msg-Id": id_})
    assert told["duplicate"] is True
    assert await held(shared.seen, vera.own_subject) == before


async def test_in_a_shared_account_another_tenants_last_sequence_is_told(shared: SharedAccount):
    async with shared.agent(ATTACKERS, "mallory") as mallory, shared.agent(VICTIMS, "vera") as vera:
        seq = (await vera.store())["seq"]
        assert await last_sequence_of(mallory, vera.own_subject) == seq
