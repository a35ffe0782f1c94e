"""Reply subjects: where an answer may go, and what the server says of a delivery."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sos.wire import subjects
from sos.wire.errors import BadSubject
from sos.wire.subjects import Delivery

PREFIX = "_INBOX_" + "0123456789abcdef" * 2
counters = st.integers(0, 2**64 - 1)
tokens = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-", min_size=1, max_size=40)


@given(
    stream=tokens,
    consumer=tokens,
    deliveries=counters,
    stream_seq=counters,
    consumer_seq=counters,
    stored_ns=counters,
    pending=counters,
)
def test_an_ack_subject_is_read_as_adr_15_says(
    stream: str, consumer: str, deliveries: int, stream_seq: int, consumer_seq: int, stored_ns: int, pending: int
):
    reply = f"$JS.ACK.{stream}.{consumer}.{deliveries}.{stream_seq}.{consumer_seq}.{stored_ns}.{pending}"
    want = Delivery(stream, consumer, deliveries, stream_seq, consumer_seq, stored_ns, pending)
    assert subjects.parse_ack(reply) == want


@pytest.mark.parametrize(
    "reply",
    [
        *("", "$JS.ACK", "$JS.ACK.S.c.1.2.3.4", "$JS.ACK.S.c.1.2.3.4.5.6", "$JS.NAK.S.c.1.2.3.4.5"),
        *("$JS.ACK.S.c.x.2.3.4.5", "$JS.ACK.S.c.1.2.3.4.", "$JS.ACK.S.c.1.2.3.4.0x5", "JS.ACK.S.c.1.2.3.4.5"),
        "$JS.ACK.S.c.1.2.3.4." + "9" * 5_000,
    ],
)
def test_what_is_not_an_ack_subject_is_refused(reply: str):
    with pytest.raises(BadSubject) as refused:
        subjects.parse_ack(reply)
    assert len(refused.value.subject) <= 256


@pytest.mark.parametrize("number", ["-1", "+1", " 1", "1 ", "1_0", "٣", "1\n", "9" * 21])
def test_a_number_that_no_server_writes_is_refused(number: str):
    for at in range(5):
        numbers = ["1"] * 5
        numbers[at] = number
        with pytest.raises(BadSubject):
            subjects.parse_ack(f"$JS.ACK.MESSAGES.bob.{'.'.join(numbers)}")


@pytest.mark.parametrize("names", ["..", ".bob", "MESSAGES."])
def test_an_ack_subject_with_an_empty_token_is_refused(names: str):
    with pytest.raises(BadSubject):
        subjects.parse_ack(f"$JS.ACK.{names}.1.1.1.1.1")


@given(text=st.text())
def test_any_text_as_an_ack_subject_gives_a_delivery_or_bad_subject(text: str):
    for reply in (text, f"$JS.ACK.MESSAGES.bob.1.{text}.1.1.1"):
        try:
            subjects.parse_ack(reply)
        except BadSubject:
            continue


@given(rest=st.lists(tokens, min_size=1, max_size=3))
def test_an_answer_may_go_below_a_sessions_inbox(rest: list[str]):
    assert subjects.is_reply(f"{PREFIX}.{'.'.join(rest)}")


@pytest.mark.parametrize(
    "subject",
    [
        *("", PREFIX, f"{PREFIX}.", f"{PREFIX}.*", f"{PREFIX}.>", f"{PREFIX}.a.*", f"{PREFIX}.a b"),
        *(f"{PREFIX}.a\r\nPUB x", f"{PREFIX}x.a", f"{PREFIX[:-1]}.a", f" {PREFIX}.a", f"{PREFIX.upper()}.a"),
        *(f"{PREFIX}\n.a", f"x.{PREFIX}.a", "_INBOX.abc", "_INBOX_*.a", "_INBOX_.a", "_INBOX_>"),
        *("_INBOX_" + "*" * 32 + ".a", "_INBOX_" + "é" * 32 + ".a", "project.p.agent.bob.alice"),
        *("project.p.event.agent.bob", "registry.p.agent.bob", "$JS.API.STREAM.PURGE.MESSAGES"),
        *("$JS.ACK.MESSAGES.bob.1.1.1.1.1", "$SYS.REQ.CLAIMS.UPDATE", ">", "*"),
    ],
)
def test_an_answer_goes_nowhere_but_below_a_sessions_inbox(subject: str):
    assert not subjects.is_reply(subject)


@pytest.mark.parametrize("rest", ["a.", ".a", "a..b", ".", "a\x00", "a\x0b", "a\x7f", "a\x85b", "a\u2028", "a\u00a0b"])
def test_an_answer_does_not_go_to_a_subject_with_empty_tokens_or_control_characters(rest: str):
    assert not subjects.is_reply(f"{PREFIX}.{rest}")


@given(random=st.text("0123456789abcdef", min_size=32, max_size=32))
def test_an_inbox_prefix_is_its_root_and_32_random_characters(random: str):
    prefix = subjects.inbox_prefix(random)
    assert prefix == f"_INBOX_{random}"
    assert subjects.check_inbox_prefix(prefix) == prefix


@pytest.mark.parametrize(
    "bad", ["", "a" * 31, "a" * 33, "A" * 32, "*" * 32, "." * 32, "a" * 31 + "\n", "a" * 32 + "\n"]
)
def test_an_inbox_prefix_of_anything_else_is_refused(bad: str):
    with pytest.raises(BadSubject):
        subjects.inbox_prefix(bad)
    with pytest.raises(BadSubject):
        subjects.check_inbox_prefix(f"_INBOX_{bad}")
