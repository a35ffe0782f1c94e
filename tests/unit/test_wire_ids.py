"""UUIDv7, as RFC 9562 lays it out."""

from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sos.wire.ids import is_uuid7, uuid7

millis = st.integers(0, 2**48 - 1)


@given(ms=millis)
def test_an_id_holds_its_millisecond_its_version_and_its_variant(ms: int):
    id_ = UUID(uuid7(ms))
    assert id_.int >> 80 == ms
    assert id_.version == 7
    assert id_.variant == RFC_4122


@given(ms=millis)
def test_an_id_is_canonical_text(ms: int):
    text = uuid7(ms)
    assert is_uuid7(text)
    assert str(UUID(text)) == text


@given(times=st.lists(millis, min_size=2, max_size=20, unique=True))
def test_ids_sort_by_the_millisecond_they_were_made_in(times: list[int]):
    assert [UUID(text).int >> 80 for text in sorted(map(uuid7, times))] == sorted(times)


def test_a_hundred_thousand_ids_of_one_millisecond_all_differ():
    assert len({uuid7(1) for _ in range(100_000)}) == 100_000


def test_all_74_random_bits_are_used():
    ones, zeros = 0, 0
    for _ in range(500):
        bits = UUID(uuid7(0)).int
        ones |= bits
        zeros |= ~bits
    random_bits = ((1 << 12) - 1) << 64 | ((1 << 62) - 1)
    assert ones & random_bits == random_bits
    assert zeros & random_bits == random_bits


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "x",
            uuid7(1).upper() + "x",
            uuid7(1)[:-1],
            uuid7(1) + "\n",
            f"{{{uuid7(1)}}}",
            uuid7(1).replace("-", ""),
        ),
        *("00000000-0000-4000-8000-000000000000", "00000000-0000-7000-c000-000000000000", "urn:uuid:" + uuid7(1)),
        "0000000A-0000-7000-8000-000000000000",
    ],
)
def test_what_is_not_a_uuid7_in_canonical_form_is_told(text: str):
    assert not is_uuid7(text)


@given(text=st.text())
def test_any_text_is_an_id_or_not(text: str):
    assert is_uuid7(text) in {True, False}
