"""Order, against a model of the server: connections that die with deliveries in them, redeliveries, a consumer that
goes back. What a handler is given is in each sender's order, each message once."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sos.sdk.order import MAX_HOLDS, Cursor, Order

WAIT_S = 30.0
DUE = WAIT_S + 0.5
"""When what was lost at 0 has surely fallen due."""
TICK_S = 0.25
SENDERS = 3
ROOM = 4

Delivery = tuple[int, int, bool]
"""Stream sequence, consumer sequence, whether it is not the first delivery."""


@dataclass
class Server:
    """A JetStream consumer: numbers its deliveries, and gives what is overdue before anything new."""

    published: int = 0
    delivered: int = 0
    consumer_seq: int = 0
    owed: dict[int, float] = field(default_factory=dict[int, float])
    """What is not acknowledged, by stream sequence, and when it is overdue."""

    def pull(self, most: int, now: float) -> list[Delivery]:
        """Up to `most` deliveries."""
        given_: list[Delivery] = []
        while len(given_) < most:
            overdue = min((seq for seq, at in self.owed.items() if at <= now), default=None)
            if overdue is None and self.delivered >= self.published:
                break
            if overdue is None:
                self.delivered += 1
            self.consumer_seq += 1
            seq = overdue or self.delivered
            self.owed[seq] = now + WAIT_S
            given_.append((seq, self.consumer_seq, overdue is not None))
        return given_

    def restart(self, disk: tuple[int, int, dict[int, float]]) -> None:
        """Come back with an older state of the consumer."""
        self.delivered, self.consumer_seq, self.owed = disk[0], disk[1], dict(disk[2])


@dataclass
class Client:
    """The inbox without I/O. What goes on is handled and acknowledged at once; what is held is kept its own."""

    server: Server
    order: Order[int] = field(default_factory=lambda: Order[int](Cursor(0, 0), WAIT_S))
    now: float = 0.0
    is_new: bool = True
    began_at: float = 0.0
    """When the first delivery of the newest connection came: a gap is seen then."""
    arrived_at: dict[int, float] = field(default_factory=dict[int, float])
    handled: list[int] = field(default_factory=list[int])
    longest_hold_s: float = 0.0
    """Since the message came, or since the newest connection began if that was later."""

    def receive(self, deliveries: Sequence[Delivery], *, acks_reach: bool = True) -> None:
        """Take deliveries in."""
        for seq, consumer_seq, again in deliveries:
            self.began_at, self.is_new = self.now if self.is_new else self.began_at, False
            if acks_reach:
                self.server.owed.pop(seq, None)
            if seq in self.arrived_at:
                self.handle(self.order.passed(Cursor(consumer_seq, seq), again, self.now))
                continue
            self.arrived_at[seq] = self.now
            self.handle(self.order.arrived(seq, Cursor(consumer_seq, seq), again, self.now))

    def handle(self, going_on: Sequence[int]) -> None:
        """The handlers."""
        for seq in going_on:
            held_s = self.now - max(self.arrived_at[seq], self.began_at)
            self.longest_hold_s = max(self.longest_hold_s, held_s)
            self.handled.append(seq)

    def ask(self) -> list[Delivery]:
        """What the server gives for as much as may be asked for now."""
        limit = self.order.limit(self.now)
        return self.server.pull(ROOM if limit is None else limit, self.now)

    def run(self, for_s: float) -> None:
        """A connection that works."""
        until = self.now + for_s
        while self.now < until:
            self.now += TICK_S
            self.handle(self.order.due(self.now))
            self.receive(self.ask())

    def reconnect(self) -> None:
        """A new connection."""
        self.order.new_connection(self.now)
        self.is_new = True


@dataclass(frozen=True)
class Life:
    """What happens on one connection, until it is replaced."""

    new: int
    """Messages published meanwhile."""
    works_s: float
    then_new: int
    lost: int
    """Of the last pull, how many never arrive."""
    acks_reach: bool
    """Whether the last pull's acknowledgements reach the server."""
    away_s: float
    back: bool
    """Whether the server restarts with the consumer as it was when this connection began."""


seconds = st.sampled_from([0.0, 0.5, 1.0, 5.0, 15.0, 29.75, 30.0, 31.0, 40.0])
lives = st.builds(
    Life, st.integers(0, 5), seconds, st.integers(0, 5), st.integers(0, 4), st.booleans(), seconds, st.booleans()
)


def play(lives: list[Life]) -> Client:
    """Let the connections live one after the other, and then one that stays until all is quiet."""
    server = Server(published=2)
    client = Client(server)
    client.run(1.0)
    for life in lives:
        client.reconnect()
        disk = (server.delivered, server.consumer_seq, dict(server.owed))
        server.published += life.new
        client.run(life.works_s)
        server.published += life.then_new
        if life.back and not client.order.holding:
            # That it went back is seen by its numbers: the first pull after it arrives.
            server.restart(disk)
            client.reconnect()
            client.run(TICK_S)
        last = client.ask()
        arriving = last[: max(0, len(last) - life.lost)]
        client.receive(arriving, acks_reach=life.acks_reach)
        # While something is held the connection comes back soon, or the redeliveries are later than the hold.
        client.now += min(life.away_s, 1.0) if client.order.holding else life.away_s
    client.reconnect()
    server.published += 1
    client.run(2 * client.order.hold_s)
    return client


@settings(max_examples=1_000)
@given(lives=st.lists(lives, min_size=1, max_size=5))
def test_each_message_goes_on_once_and_in_its_senders_order_whatever_connections_lose(lives: list[Life]):
    client = play(lives)
    assert sorted(client.handled) == list(range(1, client.server.published + 1))
    for sender in range(SENDERS):
        own = [seq for seq in client.handled if seq % SENDERS == sender]
        assert own == sorted(own)


@settings(max_examples=1_000)
@given(lives=st.lists(lives, min_size=1, max_size=5))
def test_nothing_is_dropped_and_nothing_is_held_beyond_its_time(lives: list[Life]):
    client = play(lives)
    assert sorted(client.handled) == list(range(1, client.server.published + 1))
    assert client.longest_hold_s <= client.order.hold_s + TICK_S
    assert (client.order.held, client.order.holding) == (0, False)


@given(mine=st.lists(st.booleans(), min_size=1, max_size=50))
def test_what_another_session_gets_never_holds_a_steady_connection(mine: list[bool]):
    order = Order[int](Cursor(0, 0), WAIT_S)
    assert tuple(order.arrived(0, Cursor(1, 1), False, 0.0)) == (0,)
    for seq, is_mine in enumerate(mine, start=2):
        if is_mine:
            assert tuple(order.arrived(seq, Cursor(seq, seq), False, 0.0)) == (seq,)
            assert order.limit(0.0) is None
    assert not order.holding


def after_losing(count: int) -> Order[str]:
    """An order that had 1 to 5, then lost `count` with its connection, and has the first delivery of a new one."""
    order = Order[str](Cursor(5, 5), WAIT_S)
    order.new_connection(0.0)
    assert order.limit(0.0) == 1
    assert list(order.arrived(f"m{6 + count}", Cursor(6 + count, 6 + count), False, 0.0)) == []
    assert order.holding
    return order


def test_what_comes_after_a_gap_waits_for_what_was_lost_in_it():
    order = after_losing(2)
    assert order.limit(1.0) == 0
    assert order.limit(DUE) == 2
    assert list(order.arrived("m6", Cursor(9, 6), True, DUE)) == []
    assert list(order.arrived("m7", Cursor(10, 7), True, DUE)) == ["m6", "m7", "m8"]
    assert not order.holding
    assert order.limit(DUE) is None
    assert list(order.arrived("m9", Cursor(11, 9), False, DUE)) == ["m9"]


def test_redeliveries_that_are_due_at_the_reconnect_go_on_without_a_wait():
    order = Order[str](Cursor(5, 5), WAIT_S)
    order.new_connection(0.0)
    assert list(order.arrived("m6", Cursor(8, 6), True, 0.0)) == []
    assert order.limit(0.0) == 1
    assert list(order.arrived("m7", Cursor(9, 7), True, 0.0)) == ["m6", "m7"]


def test_a_new_message_after_the_wait_says_that_the_missing_went_elsewhere():
    order = after_losing(2)
    assert list(order.arrived("m9", Cursor(9, 9), False, DUE)) == ["m8", "m9"]
    assert not order.holding


def test_each_new_connection_asks_for_one_first_even_while_a_gap_is_open():
    order = after_losing(2)
    order.new_connection(1.0)
    assert order.limit(DUE) == 1


def test_redeliveries_that_are_lost_with_a_second_connection_are_waited_for_again():
    order = after_losing(2)
    order.new_connection(0.0)  # m6 and m7 were delivered again, as 9 and 10, to a connection that died
    assert list(order.arrived("m9", Cursor(11, 9), False, WAIT_S + 1.0)) == []
    again_at = 2 * WAIT_S + 1.5
    given_ = [*order.arrived("m6", Cursor(12, 6), True, again_at), *order.arrived("m7", Cursor(13, 7), True, again_at)]
    given_ += order.due(WAIT_S + 1.0 + order.hold_s)
    assert given_ == ["m6", "m7", "m8", "m9"]


def test_two_new_ones_in_one_batch_do_not_end_a_wait_that_has_not_begun():
    order = Order[str](Cursor(5, 5), WAIT_S)
    order.new_connection(0.0)  # m6 to m8 were lost; only m6 is due by now
    given_ = [*order.arrived("m6", Cursor(9, 6), True, 0.0)]
    for n in (9, 10):
        given_ += order.arrived(f"m{n}", Cursor(n + 1, n), False, 0.0)
    assert order.limit(0.0) == 0
    for n in (7, 8):
        given_ += order.arrived(f"m{n}", Cursor(n + 5, n), True, DUE)
    assert given_ == ["m6", "m7", "m8", "m9", "m10"]


def test_a_duplicate_that_comes_again_is_not_what_was_lost():
    order = after_losing(1)  # what 5 was had been handled, but its acknowledgement was lost too
    assert list(order.passed(Cursor(8, 5), again=True, now=DUE)) == []
    assert order.holding
    assert list(order.arrived("m6", Cursor(9, 6), True, DUE)) == ["m6", "m7"]


def test_a_message_whose_handler_failed_and_that_comes_again_is_not_what_was_lost():
    order = Order[str](Cursor(0, 0), WAIT_S)
    assert list(order.arrived("m1", Cursor(1, 1), False, 0.0)) == ["m1"]  # its handler fails: it comes again later
    order.new_connection(0.0)
    assert list(order.arrived("m3", Cursor(3, 3), False, 0.0)) == []  # m2 was lost
    early = list(order.arrived("m1", Cursor(4, 1), True, DUE))
    late = list(order.arrived("m2", Cursor(5, 2), True, DUE))
    assert [m for m in early + late if m != "m1"] == ["m2", "m3"]


def test_what_never_comes_back_is_waited_for_no_longer_than_the_hold():
    order = after_losing(1)
    assert list(order.due(order.hold_s - 0.01)) == []
    assert list(order.due(order.hold_s)) == ["m7"]
    assert list(order.due(order.hold_s)) == []
    assert (order.holding, order.held, order.limit(order.hold_s)) == (False, 0, None)


@pytest.mark.parametrize("cursor", [None, Cursor(6, 6)])
def test_the_first_delivery_ever_and_the_very_next_one_are_not_held(cursor: Cursor | None):
    order = Order[str](cursor, WAIT_S)
    assert list(order.arrived("m7", Cursor(7, 7), False, 0.0)) == ["m7"]


def test_a_consumer_that_went_back_is_followed_and_nothing_is_held():
    order = Order[str](Cursor(100, 100), WAIT_S)
    order.new_connection(0.0)
    assert list(order.passed(Cursor(91, 91), again=False, now=0.0)) == []
    assert (order.holding, order.last.consumer_seq) == (False, 91)
    assert list(order.arrived("m", Cursor(92, 92), False, 0.0)) == ["m"]


def test_connections_that_are_lost_one_after_the_other_do_not_hold_mail_for_ever():
    order = after_losing(1)
    now, gone_on = 0.0, list[str]()
    while not gone_on and now < 100 * order.hold_s:
        now += order.hold_s / 2  # each connection is lost before its hold ends
        gone_on += order.due(now)
        order.new_connection(now)
    assert gone_on == ["m7"]
    assert now <= MAX_HOLDS * order.hold_s


def test_flush_gives_everything_held_in_order():
    order = after_losing(3)
    order.arrived("m7", Cursor(10, 7), True, 1.0)
    assert list(order.flush()) == ["m7", "m9"]
    assert list(order.flush()) == []
