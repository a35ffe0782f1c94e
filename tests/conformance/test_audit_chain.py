"""The chain over a registry that a real gateway wrote, with every kind of fact in it: any change of it is noticed."""

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.conftest import ROOMY
from tests.every_fact import KINDS, fill

from sos.broker.app import run
from sos.broker.config import Config
from sos.broker.errors import DataLoss
from sos.broker.log.record import verify
from sos.wire.subjects import REGISTRY

CHANGES = 1_000
SEED = 20260101
Chain = list[tuple[int, str, bytes]]


@pytest.fixture(scope="module")
async def chain(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Chain]:
    """(sequence, subject, body) of every record, read back over HTTP."""
    home: Path = tmp_path_factory.mktemp("chain") / "home"
    async with run(Config(home=home, http_port=0, nats_port=0, tiers=ROOMY)) as running:
        found = (await fill(running, "acme")).stored
        assert {record.fact.type for record in found} == KINDS
        yield [(record.seq, record.subject, record.body) for record in found]


def is_found(chain: Chain) -> bool:
    """Whether verifying tells that this is not what was written."""
    try:
        verify(REGISTRY, chain)
    except DataLoss:
        return True
    return False


def test_what_the_gateway_wrote_is_whole(chain: Chain):
    assert not is_found(chain)
    assert [seq for seq, _, _ in chain] == list(range(1, len(chain) + 1))


def test_a_thousand_of_a_thousand_single_byte_changes_are_found(chain: Chain):
    """Every byte of every subject and body is as likely to be changed as any other, to any other value."""
    chance = random.Random(SEED)  # noqa: S311 - a fixed series, so that a failure can be seen again
    places = [(at, n) for at, (_, subject, body) in enumerate(chain) for n in range(len(subject) + len(body))]
    found = 0
    for at, n in chance.choices(places, k=CHANGES):
        found += is_found([*chain[:at], with_a_byte_changed(chain[at], n, chance.randrange(1, 256)), *chain[at + 1 :]])
    assert found == CHANGES


def with_a_byte_changed(record: tuple[int, str, bytes], n: int, by: int) -> tuple[int, str, bytes]:
    """The record with the byte at `n`, counted over subject and body, another one."""
    seq, subject, body = record
    size = len(subject)
    if n < size:
        # latin-1, so that any byte makes a text: a subject is ASCII, so another byte is another text
        return seq, (subject[:n] + chr(ord(subject[n]) ^ by) + subject[n + 1 :]), body
    place = n - size
    return seq, subject, body[:place] + bytes([body[place] ^ by]) + body[place + 1 :]


def test_every_record_that_is_missing_is_found_but_the_last(chain: Chain):
    assert [is_found([*chain[:at], *chain[at + 1 :]]) for at in range(len(chain) - 1)] == [True] * (len(chain) - 1)
    assert not is_found(chain[:-1])  # only a head that somebody remembers tells this


def test_every_two_records_that_are_swapped_are_found(chain: Chain):
    pairs = [(a, b) for a in range(len(chain)) for b in range(a + 1, len(chain))]
    for a, b in pairs:
        swapped = list(chain)
        swapped[a], swapped[b] = swapped[b], swapped[a]
        assert is_found(swapped), (a, b)


def test_every_record_that_stands_twice_is_found(chain: Chain):
    for at, record in enumerate(chain):
        assert is_found([*chain[: at + 1], record, *chain[at + 1 :]]), at


def test_a_record_that_stands_in_anothers_place_is_found(chain: Chain):
    for at in range(1, len(chain)):
        assert is_found([*chain[:at], chain[at - 1], *chain[at + 1 :]]), at


async def test_a_gateway_does_not_start_on_a_registry_with_one_byte_changed_on_disk(tmp_path: Path):
    """The byte lies in the stream's block file. Whether the server or the chain sees it first, nothing is served."""
    home = tmp_path / "home"
    config = Config(home=home, http_port=0, nats_port=0, tiers=ROOMY)
    async with run(config) as running:
        found = (await fill(running, "acme")).stored
    changed = found[len(found) // 2].body
    block = next(p for p in home.rglob("*.blk") if changed in p.read_bytes())
    content, place = block.read_bytes(), block.read_bytes().index(changed) + changed.index(b"decision") + 12
    block.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises(DataLoss, match="REGISTRY"):
        async with run(config):
            pass
    block.write_bytes(content)
    async with run(config) as running:
        assert running.operator_token
