"""The hash chain: any change of what is stored shows, whatever byte it is."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count

import pytest
from tests.conformance.conftest import SUBJECTS

from sos.broker.domain import agents, projects, subject_of
from sos.broker.errors import DataLoss
from sos.broker.log import MemoryLog, verify
from sos.wire.ids import uuid7

CHANGES = 300
Stored = list[tuple[int, str, bytes]]


def ids() -> Iterator[str]:
    """Ids of one fixed series."""
    return (uuid7(now_ms=n) for n in count(1))


@pytest.fixture
async def stored() -> Stored:
    """A chain of seven records."""
    series = ids()
    log = MemoryLog("REGISTRY", chained=True, new_id=lambda: next(series))
    at = datetime(2026, 1, 1, tzinfo=UTC)
    created = projects.ProjectCreated(
        at=at, actor="operator", slug="acme", project_id="p", tier="scale", tenant_token_hash="h", tenant_token_tail="t"
    )
    await log.append(subject_of(created), created, 0)
    for name in ("ann", "bob", "cy"):
        minted = agents.AgentMinted(
            at=at, actor="x", project="acme", name=name, model="é", charter="", scopes=(), token_hash="h", token_tail=""
        )
        revoked = agents.AgentRevoked(at=at, actor="x", project="acme", name=name)
        for event in (minted, revoked):
            await log.append(subject_of(event), event, None)
    return log.held.stored


def test_a_whole_chain_gives_its_head(stored: Stored):
    assert verify("REGISTRY", stored) in stored[-1][2].decode()
    assert verify("REGISTRY", []) == ""


def test_any_changed_byte_of_any_body_is_found(stored: Stored):
    chance = random.Random(20260101)  # noqa: S311 - a fixed series, so that a failure can be seen again
    for _ in range(CHANGES):
        at = chance.randrange(len(stored))
        seq, subject, body = stored[at]
        place, change = chance.randrange(len(body)), chance.randrange(1, 256)
        changed = body[:place] + bytes([body[place] ^ change]) + body[place + 1 :]
        with pytest.raises(DataLoss, match=f"sequence {seq} "):
            verify("REGISTRY", [*stored[:at], (seq, subject, changed), *stored[at + 1 :]])


def test_every_single_flipped_bit_of_the_last_body_is_found(stored: Stored):
    seq, subject, body = stored[-1]
    for place in range(len(body)):
        for bit in range(8):
            changed = body[:place] + bytes([body[place] ^ (1 << bit)]) + body[place + 1 :]
            with pytest.raises(DataLoss):
                verify("REGISTRY", [*stored[:-1], (seq, subject, changed)])


def test_any_byte_added_or_removed_is_found(stored: Stored):
    chance = random.Random(7)  # noqa: S311 - a fixed series
    for _ in range(CHANGES):
        at = chance.randrange(len(stored))
        seq, subject, body = stored[at]
        place = chance.randrange(len(body) + 1)
        more = body[:place] + chance.choice([b" ", b"\n", b"0", b"{"]) + body[place:]
        for changed in (more, body[:place] + body[place + 1 :] if place < len(body) else b""):
            with pytest.raises(DataLoss):
                verify("REGISTRY", [*stored[:at], (seq, subject, changed), *stored[at + 1 :]])


def test_any_changed_character_of_a_subject_is_found(stored: Stored):
    for at, (seq, subject, body) in enumerate(stored):
        for place in range(len(subject)):
            changed = subject[:place] + chr(ord(subject[place]) ^ 1) + subject[place + 1 :]
            with pytest.raises(DataLoss, match=f"sequence {seq} "):
                verify("REGISTRY", [*stored[:at], (seq, changed, body), *stored[at + 1 :]])


@pytest.mark.parametrize("at", range(6))
def test_a_record_that_is_missing_or_swapped_is_found(stored: Stored, at: int):
    with pytest.raises(DataLoss, match="does not continue"):
        verify("REGISTRY", [*stored[:at], *stored[at + 1 :]])
    with pytest.raises(DataLoss, match="does not continue"):
        verify("REGISTRY", [*stored[:at], stored[at + 1], stored[at], *stored[at + 2 :]])


def test_the_suite_stands_on_the_subjects_of_the_wire():
    assert SUBJECTS["REGISTRY"] == ("registry.*.*.*",)
