"""What only a log on a real server can meet: foreign bytes, used ids, a server that dies."""

import asyncio
import os
import signal
from itertools import chain, repeat

import pytest
from tests.conformance.conftest import Bus
from tests.conformance.test_log import charters, fact, read

from sos.broker.errors import DataLoss
from sos.broker.log import verify_log
from sos.broker.log.jetstream import JetStreamLog
from sos.broker.nats.connection import Connection
from sos.wire.ids import uuid7

SUBJECT = "registry.acme.agent.bob"


async def test_a_foreign_record_in_a_chained_stream_stops_reader_and_writer(account: Connection):
    log = JetStreamLog(account, "REGISTRY", chained=True)
    await log.append(SUBJECT, fact(), 0)
    await account.store("REGISTRY", SUBJECT, b'{"planted":true}', msg_id="x")
    with pytest.raises(DataLoss, match="sequence 2 "):
        await verify_log(log)
    with pytest.raises(DataLoss, match="sequence 2 "):
        await JetStreamLog(account, "REGISTRY", chained=True).append(SUBJECT, fact(), None)
    assert await log.head() == 2


async def test_a_record_copied_to_another_subject_is_found(account: Connection):
    log = JetStreamLog(account, "REGISTRY", chained=True)
    await log.append(SUBJECT, fact(), 0)
    (stored,) = await account.read_batch("REGISTRY", 1)
    await account.store("REGISTRY", "registry.acme.agent.eve", stored.body, msg_id="x")
    with pytest.raises(DataLoss, match="sequence 2 does not match its hash"):
        await read(log)


@pytest.mark.parametrize("stream", ["REGISTRY", "EVENTS"])
async def test_an_id_that_was_used_before_does_not_swallow_a_fact(account: Connection, stream: str):
    used = uuid7()
    series = chain([used, used], repeat(used, 1), (uuid7() for _ in range(5)))
    log = JetStreamLog(account, stream, chained=stream == "REGISTRY", new_id=lambda: next(series))
    subject = SUBJECT if stream == "REGISTRY" else "project.acme.event.agent.bob"
    assert await log.append(subject, fact("first"), 0) == 1
    assert await log.append(subject, fact("second"), 1) == 2
    assert await charters(log) == ["first", "second"]


async def test_a_log_that_was_away_while_others_appended_goes_on(account: Connection):
    here, there = (JetStreamLog(account, "REGISTRY", chained=True) for _ in range(2))
    await here.append(SUBJECT, fact(), 0)
    for n in range(1, 4):
        await there.append(SUBJECT, fact(), n)
    assert await here.append("registry.acme.agent.cy", fact(), 0) == 5
    assert (await verify_log(here)).seq == 5


async def test_appends_go_on_through_a_server_that_is_killed(bus: Bus, account: Connection):
    log = JetStreamLog(account, "REGISTRY", chained=True)

    async def append_all() -> list[int]:
        return [await log.append(f"registry.acme.agent.a{n}", fact(str(n)), 0) for n in range(40)]

    appending = asyncio.create_task(append_all())
    await log.wait_beyond(5, 20)
    os.kill(bus.server.pid, signal.SIGKILL)
    async with asyncio.timeout(30):
        seqs = await appending
    assert seqs == list(range(1, 41))
    assert await charters(log) == [str(n) for n in range(40)]
