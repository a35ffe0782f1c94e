"""Envelopes: what is written is what is read, and nothing that arrives raises anything but `BadEnvelope`."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sos.wire import envelope
from sos.wire.envelope import MAX_ENCODED_BYTES, MAX_HOPS, Envelope
from sos.wire.errors import BadEnvelope, MessageTooLarge
from sos.wire.ids import uuid7


def minutes(n: int) -> timedelta:
    """An offset."""
    return timedelta(minutes=n)


plain = st.text(st.characters(exclude_categories=["Cs"]))
scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
json_values = st.recursive(
    scalars | plain, lambda c: st.lists(c, max_size=3) | st.dictionaries(plain, c, max_size=3), max_leaves=10
)
ids = st.builds(uuid7, st.integers(0, 2**48 - 1))
zones = st.just(UTC) | st.builds(timezone, st.integers(-720, 840).map(minutes))
moments = st.datetimes(datetime(1900, 1, 1), datetime(9000, 1, 1), timezones=zones)  # noqa: DTZ001 - bounds are naive
acks: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"ack": st.none() | st.sampled_from(["critical", "routine"])}
) | st.fixed_dictionaries({"ack_for": ids, "ok": st.booleans()})


@st.composite
def envelopes(draw: st.DrawFn) -> Envelope:
    """Any envelope that may be sent."""
    return Envelope(
        v=1,
        id=draw(ids),
        kind=draw(st.sampled_from(["message", "reply", "ack", "status"])),
        text=draw(plain),
        session=draw(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=256)),
        sent_at=draw(moments),
        data=draw(st.none() | st.dictionaries(plain, json_values, max_size=4)),
        thread=draw(st.none() | ids),
        reply_to=draw(st.none() | ids),
        hops=draw(st.integers(0, MAX_HOPS)),
        **draw(acks),
    )


def made(**fields: Any) -> Envelope:
    """A small envelope."""
    base: dict[str, Any] = {"v": 1, "id": uuid7(), "kind": "message", "text": "hi", "session": "s"}
    base["sent_at"] = datetime(2026, 1, 2, tzinfo=UTC)
    return Envelope(**(base | fields))


def body(**fields: Any) -> bytes:
    """The same as any client might write it, right or wrong. `None` leaves a field out."""
    base = {"v": 1, "id": uuid7(), "kind": "message", "text": "hi", "session": "s", "sent_at": "2026-01-02T03:04:05Z"}
    return json.dumps({k: v for k, v in (base | fields).items() if v is not None}).encode()


@given(sent=envelopes())
def test_an_envelope_is_read_as_it_was_written(sent: Envelope):
    assert envelope.decode(envelope.encode(sent)) == sent


@given(noise=st.binary() | st.text().map(lambda t: t.encode(errors="surrogatepass")))
def test_any_bytes_are_an_envelope_or_bad_envelope(noise: bytes):
    with pytest.raises(BadEnvelope):
        envelope.decode(noise)


@given(at=st.integers(0, 400), noise=st.binary(max_size=4), cut=st.integers(0, 6), sent=envelopes())
def test_a_spoiled_envelope_is_an_envelope_or_bad_envelope(at: int, noise: bytes, cut: int, sent: Envelope):
    whole = envelope.encode(sent)
    try:
        envelope.decode(whole[:at] + noise + whole[at + cut :])
    except BadEnvelope as e:
        str(e).encode()  # what it says can be printed


@given(fields=st.dictionaries(st.sampled_from(Envelope.__struct_fields__), json_values, max_size=3))
def test_any_json_in_any_field_is_an_envelope_or_bad_envelope(fields: dict[str, Any]):
    try:
        read = envelope.decode(body(**fields))
    except BadEnvelope:
        return
    assert envelope.decode(envelope.encode(read)) == read


def test_an_envelope_at_the_limit_is_written_and_read_and_one_byte_more_is_not():
    spare = MAX_ENCODED_BYTES - len(envelope.encode(made(text="")))
    fits = envelope.encode(made(text="x" * spare))
    assert len(fits) == MAX_ENCODED_BYTES
    envelope.decode(fits)
    with pytest.raises(MessageTooLarge) as refused:
        envelope.encode(made(text="x" * (spare + 1)))
    assert (refused.value.size_bytes, refused.value.limit_bytes) == (MAX_ENCODED_BYTES + 1, MAX_ENCODED_BYTES)
    with pytest.raises(BadEnvelope):
        envelope.decode(fits + b" ")


def test_the_limit_counts_bytes_and_not_characters():
    with pytest.raises(MessageTooLarge):
        envelope.encode(made(text="é" * (MAX_ENCODED_BYTES // 2)))


def test_an_answer_cannot_ask_for_an_answer():
    with pytest.raises(BadEnvelope):
        envelope.decode(body(ack="critical", ack_for=uuid7(), ok=True))


@pytest.mark.parametrize("fields", [{"ok": True}, {"ok": False}, {"ack_for": uuid7()}])
def test_ok_and_ack_for_come_together(fields: dict[str, Any]):
    with pytest.raises(BadEnvelope):
        envelope.decode(body(**fields))


def test_an_answer_that_says_no_is_an_answer_too():
    answer = made(kind="status", ack_for=uuid7(), ok=False)
    assert envelope.decode(envelope.encode(answer)).ok is False


@pytest.mark.parametrize(
    "fields",
    [
        *({"hops": MAX_HOPS + 1}, {"hops": -1}, {"hops": 1.5}, {"hops": "1"}, {"hops": True}, {"hops": 2**70}),
        *({"v": 0}, {"v": 2}, {"v": "1"}, {"kind": "order"}, {"kind": 1}, {"ack": "urgent"}, {"text": 1}),
        *({"session": ""}, {"session": "x" * 257}, {"id": ""}, {"id": "a" * 36}, {"id": uuid7() + "\n"}),
        *({"id": uuid7(15 << 44).upper()}, {"id": "00000000-0000-4000-8000-000000000000"}),
        *({"thread": "x"}, {"reply_to": "x"}, {"ack_for": "x", "ok": True}),
        *({"data": [1]}, {"data": "text"}, {"data": 1}, {"data": True}),
        *({"sent_at": "2026-01-02T03:04:05"}, {"sent_at": "yesterday"}, {"sent_at": 1_767_323_045}),
    ],
)
def test_a_field_that_does_not_fit_is_refused_by_name(fields: dict[str, Any]):
    with pytest.raises(BadEnvelope) as refused:
        envelope.decode(body(**fields))
    assert next(iter(fields)) in refused.value.why


@pytest.mark.parametrize("field", ["v", "id", "kind", "text", "session", "sent_at"])
def test_a_field_that_is_missing_is_named(field: str):
    with pytest.raises(BadEnvelope, match=field):
        envelope.decode(body(**{field: None}))


@pytest.mark.parametrize("fields", [{"from": "root"}, {"priority": {"a": [1, None]}}, {"sender": "alice", "to": 7}])
def test_fields_of_a_later_version_are_ignored(fields: dict[str, Any]):
    assert envelope.decode(body(**fields)).text == "hi"


@pytest.mark.parametrize(
    "data",
    [
        *({"a": float("nan")}, {"a": float("inf")}, {"a": [-float("inf")]}, {"a": object()}, {"a": {1, 2}}),
        *({"a": b"bytes"}, {1: "a number as a key"}, {"a": {None: 1}}, {"a": 1j}, {"a": len}, {"a": 10**5_000}),
    ],
)
def test_data_that_is_not_json_is_refused_before_it_is_sent(data: Any):
    with pytest.raises(BadEnvelope):
        envelope.encode(made(data=data))


@pytest.mark.parametrize(
    "fields", [{"text": "\ud800"}, {"data": {"a": "x\udfff"}}, {"data": {"\ud800": 1}}, {"session": "\ud800"}]
)
def test_a_lone_surrogate_is_refused_before_it_is_sent(fields: dict[str, Any]):
    with pytest.raises(BadEnvelope):
        envelope.encode(made(**fields))


@pytest.mark.parametrize(
    "text", [b'"\\ud800"', b'"\xff"', b'"\xed\xa0\x80"', b'"\xc0\x80"', b'"\x00"', b"NaN", b"'hi'"]
)
def test_text_that_is_not_utf_8_is_refused_when_it_arrives(text: bytes):
    with pytest.raises(BadEnvelope):
        envelope.decode(body().replace(b'"hi"', text))


@pytest.mark.parametrize("value", [b"NaN", b"Infinity", b"1e999", b"-1e999", b"9" * 5_000, b"01", b"{1:2}", b"[1,]"])
def test_data_that_is_not_json_is_refused_when_it_arrives(value: bytes):
    with pytest.raises(BadEnvelope):
        envelope.decode(body()[:-1] + b', "data": {"a": ' + value + b"}}")


@pytest.mark.parametrize("field", [b"data", b"a_later_version"])
@pytest.mark.parametrize("pair", [(b"[", b"]"), (b'{"a":', b"}")])
@pytest.mark.parametrize("depth", [2_000, 20_000])
def test_deep_nesting_ends_in_bad_envelope(field: bytes, pair: tuple[bytes, bytes], depth: int):
    nested = pair[0] * depth + b"1" + pair[1] * depth
    with pytest.raises(BadEnvelope):
        envelope.decode(body()[:-1] + b', "' + field + b'": {"a": ' + nested + b"}}")


def test_data_that_holds_itself_is_refused():
    loop: dict[str, Any] = {}
    loop["loop"] = loop
    with pytest.raises(BadEnvelope):
        envelope.encode(made(data=loop))


@pytest.mark.parametrize(
    "fields",
    [
        *({"id": "mine"}, {"hops": MAX_HOPS + 1}, {"kind": "order"}, {"session": ""}, {"ack": "urgent"}, {"v": 2}),
        *({"sent_at": datetime(2026, 1, 2)}, {"thread": "x"}, {"text": 7}),  # noqa: DTZ001 - naive is the point
    ],
)
def test_what_no_reader_would_take_is_refused_before_it_is_sent(fields: dict[str, Any]):
    with pytest.raises(BadEnvelope):
        envelope.encode(made(**fields))


@pytest.mark.parametrize(
    "fields", [{"ok": True}, {"ack_for": uuid7()}, {"ack": "routine", "ack_for": uuid7(), "ok": True}]
)
def test_the_rule_on_acks_holds_for_who_builds_one_too(fields: dict[str, Any]):
    with pytest.raises(ValueError, match=r"`ok`|answer"):
        made(**fields)


def test_the_time_of_sending_has_a_zone():
    assert envelope.now().tzinfo is UTC
