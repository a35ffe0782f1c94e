"""The proof that an agent is reachable: a session, a message from it to itself, its own name among the connected peers.

The law: other mail in the inbox is not marked as read. It is handed back, and another session of this agent that takes
the test message out of the inbox proves it just as well: both write into the one record of the agent's home.
"""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Literal, NamedTuple

from sos.sdk.seen import Seen
from sos.wire import api
from sos.wire.errors import ErrorBody, MissingScope, SosError
from sos.wire.home import agent_home
from sos.wire.ids import uuid7
from sos.wire.scopes import Scope

if TYPE_CHECKING:
    from sos.sdk import AsyncAgent, Message

Part = Literal["session", "test", "peers"]
CONNECT_TIMEOUT_S = 5.0
"""A person waits for the join; a bus that is slower than this is told as trouble, and joining again is cheap."""
ROUND_TRIP_S = 20.0
"""A message to oneself takes milliseconds. More is for mail that lies before it in the inbox, and for an inbox that
another install had meanwhile: what that one may still have in its hands is waited for, 15.5 s (`sos.sdk.order`)."""
PEERS_WAIT_S = 3.0
"""From being connected to being told so: the gateway asks NATS, which knows at once; this is for a busy machine."""
LOOK_EVERY_S = 0.05
FALLBACK_CLIENT = "sos-cli"
HAND_BACK_S = 2.0
"""For how long other mail is out of the way. It comes back by then to whoever reads the inbox."""
TEST_DATA = {"sos": "join test"}
TEST_TEXT = "Test of this inbox by 'sos agent join'. Nothing needs to be done."


class Subject(NamedTuple):
    """Whose reachability is to be proved, with which token and rights."""

    token: str
    name: str
    project: str
    url: str
    client: str
    model: str
    scopes: tuple[Scope, ...]
    root: Path | None

    def __repr__(self) -> str:
        return f"Subject({self.project}/{self.name})"


class Proof(NamedTuple):
    """What was seen. `round_trip_ms` is None if the test message was not seen again."""

    session: str = ""
    round_trip_ms: float | None = None
    in_peers: bool = False


Progress = Callable[[Part, str], None]
Trouble = Callable[[Part, ErrorBody], None]

_NOT_SEEN = ErrorBody(
    code="test_not_seen",
    detail=f"The test message is stored, and was not seen again within {ROUND_TRIP_S:g} s.",
    cure="Other mail may lie before it: read it with 'sos agent inbox', then join again.",
)
_NOT_AMONG_PEERS = ErrorBody(
    code="not_among_peers",
    detail=f"The agent is connected, and its peers do not see it so within {PEERS_WAIT_S:g} s.",
    cure="Join again; if it stays so, 'sos agent doctor' says what is not well.",
)


async def prove(subject: Subject, progress: Progress, trouble: Trouble) -> Proof:
    """As much of the proof as can be had; what cannot is told to `trouble`."""
    from sos.sdk import AsyncAgent

    agent = AsyncAgent(
        subject.token,
        subject.name,
        url=subject.url,
        client=subject.client or FALLBACK_CLIENT,
        model=subject.model,
        connect_timeout_s=CONNECT_TIMEOUT_S,
        max_deliver=sys.maxsize,  # looking is no attempt: nothing is parked for having been looked at
        home=subject.root,
    )
    inbox = _TestInbox(agent, subject)
    try:
        try:
            await agent.connect()
        except SosError as e:
            trouble("session", e.to_wire())
            return Proof()
        progress("session", agent.session)
        round_trip_ms = await _tested(inbox, subject.scopes, progress, trouble)
        return Proof(agent.session, round_trip_ms, await _among_peers(agent, progress, trouble))
    finally:
        await agent.stop(drain_s=1.0)


async def _tested(inbox: "_TestInbox", scopes: tuple[Scope, ...], progress: Progress, trouble: Trouble) -> float | None:
    missing = [s for s in (Scope.SEND, Scope.INBOX) if s not in scopes]
    for scope in missing:
        trouble("test", MissingScope(scope=scope).to_wire())
    if missing:
        return None
    try:
        took_ms = await inbox.round_trip()
    except SosError as e:
        trouble("test", e.to_wire())
        return None
    if took_ms is None:
        trouble("test", _NOT_SEEN)
        return None
    progress("test", f"a message to itself came back in {took_ms:.1f} ms")
    return took_ms


async def _among_peers(agent: "AsyncAgent", progress: Progress, trouble: Trouble) -> bool:
    deadline = monotonic() + PEERS_WAIT_S
    found: tuple[api.Peer, ...] = ()
    try:
        while not any(p.name == agent.name and p.connected for p in found):
            if monotonic() >= deadline:
                trouble("peers", _NOT_AMONG_PEERS)
                return False
            found = await agent.peers()
    except SosError as e:
        trouble("peers", e.to_wire())
        return False
    progress("peers", f"one of {len(found)} in the project")
    return True


class _TestInbox:
    """Takes the tests of this agent's joins out of its inbox, also those that an interrupted join left behind."""

    def __init__(self, agent: "AsyncAgent", subject: Subject) -> None:
        self._agent, self._subject = agent, subject
        self._id = uuid7()
        self._arrived = asyncio.Event()
        if {Scope.SEND, Scope.INBOX} <= set(subject.scopes):
            agent.on_message(self._take)

    async def _take(self, message: "Message") -> None:
        from sos.sdk import HandBack

        if message.sender != self._agent.name or message.data != TEST_DATA:
            raise HandBack(HAND_BACK_S)
        if message.id == self._id:
            self._arrived.set()

    async def round_trip(self) -> float | None:
        """Milliseconds from sending the test to its arrival; None if it was not seen in time."""
        await self._agent.start()
        began = monotonic()
        await self._agent.send(self._subject.name, TEST_TEXT, data=TEST_DATA, id=self._id)
        seen = Seen(agent_home(self._subject.project, self._subject.name, self._subject.root))
        try:
            while monotonic() < began + ROUND_TRIP_S:
                if self._arrived.is_set() or seen.handled(self._subject.name, self._id):
                    return (monotonic() - began) * 1_000
                await _within(self._arrived, LOOK_EVERY_S)
        finally:
            seen.close()
        return None


async def _within(event: asyncio.Event, timeout_s: float) -> None:
    waiting = asyncio.ensure_future(event.wait())
    await asyncio.wait([waiting], timeout=timeout_s)
    waiting.cancel()
