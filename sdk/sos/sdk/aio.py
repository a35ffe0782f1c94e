"""`AsyncAgent`: one agent on the bus, in an event loop. `Agent` is its blocking face."""

import asyncio
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Self

import msgspec

from sos.sdk import identity, surroundings
from sos.sdk.addresses import Addresses
from sos.sdk.calls import Calls, Memberships
from sos.sdk.dispatch import MAX_DELIVER, Dispatcher, Handler
from sos.sdk.gateway import check_url
from sos.sdk.inbox import Arrival, Counts, Inbox
from sos.sdk.link import Line
from sos.sdk.message import Message, State
from sos.sdk.outbox import Outbox
from sos.sdk.seen import Parked, Seen
from sos.sdk.sending import Sending
from sos.sdk.session import Session, Who
from sos.wire import api
from sos.wire.errors import (
    BadRequest,
    MissingScope,
    NatsUnreachable,
    SosError,
    Stopped,
)
from sos.wire.home import agent_home
from sos.wire.names import normalise, recipient
from sos.wire.scopes import Scope

log = logging.getLogger("sos.sdk")

CONNECT_TIMEOUT_S = 10.0
"""How long `start` tries: long enough for a gateway that starts beside the agent."""
DRAIN_S = 10.0
"""How long `stop` waits for handlers that have begun."""
END_TIMEOUT_S = 1.0
"""For telling the gateway that the run is over: milliseconds, and nobody waits for a gateway that is away."""
INBOX_WAIT_S = 10.0
MAX_INBOX = 500
MAX_CONCURRENCY = 256


class AsyncAgent(Sending):
    """One agent: a durable name, one inbox.

    `token` may come from `SOS_TOKEN` or from the home of the saved agent `name`; `url` from `SOS_URL`, the home's
    context, or `http://127.0.0.1:6070`. `concurrency` handlers run at a time, one for each sender; a message whose
    handler fails `max_deliver` times is parked. `client` and `model` say what acts under the name; where they are not
    given, the environment does (`sos.sdk.surroundings`). `home` stands for `$SOS_HOME` where the record is kept.
    """

    def __init__(
        self,
        token: str | None = None,
        name: str | None = None,
        *,
        project: str | None = None,
        url: str | None = None,
        client: str = "",
        model: str = "",
        concurrency: int = 1,
        max_deliver: int = MAX_DELIVER,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        home: Path | None = None,
    ) -> None:
        if not 1 <= concurrency <= MAX_CONCURRENCY:
            raise BadRequest(why=f"concurrency must be 1 to {MAX_CONCURRENCY}, not {concurrency}")
        if max_deliver < 1:
            raise BadRequest(why=f"max_deliver must be at least 1, not {max_deliver}")
        who = identity.find(token, name, project, url)
        self._url, self._holding = check_url(who.url), who.holding
        self._who = Who(who.name, *surroundings.named(client, model, os.environ))
        self._home = home
        self._concurrency, self._max_deliver = concurrency, max_deliver
        self._connect_timeout_s = connect_timeout_s
        self._handler: Handler | None = None
        self._session: Session | None = None
        self._seen: Seen | None = None
        self._inbox: Inbox | None = None
        self._dispatcher: Dispatcher | None = None
        self._connecting, self._reading = asyncio.Lock(), asyncio.Lock()
        self._state: State = "new"
        self._outbox = Outbox(self._live)
        self._calls = Calls(self._live, self._url)
        self._memberships = Memberships(self._calls)
        self._addresses = Addresses(self._live, self._names)

    # ── life ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_message[H: Handler](self, handler: H) -> H:
        """Decorator: `handler` is given each message. It may be `async` or plain; a plain one runs in a thread."""
        if self._state != "new":
            raise BadRequest(why="set the handler before start()")
        self._handler = handler
        return handler

    async def connect(self) -> Self:
        """Open the session, without reading the inbox. Raises what the gateway refused with, `GatewayUnreachable`, or
        `NatsUnreachable` after `connect_timeout_s`."""
        async with self._connecting:
            if self._session is None:
                await self._connect()
        return self

    async def _connect(self) -> None:
        if self._state == "stopped":
            raise Stopped(what="this agent")
        self._who = msgspec.structs.replace(self._who, install=identity.install_id(self._home))
        session = Session(self._url, self._holding, self._who, self._on_line, self._connect_timeout_s)
        self._session = await session.__aenter__()
        self._memberships.opened(session.opened)
        self._seen = Seen(agent_home(self.project, self.name, self._home))
        self._state = "connected"

    async def start(self) -> Self:
        """Connect and, where there is a handler, read the inbox until `stop`."""
        await self.connect()
        if self._handler is not None and self._inbox is None:
            self._need(Scope.INBOX)
            self._dispatcher = Dispatcher(self._handler, self._record(), self._concurrency, self._max_deliver)
            self._inbox = self._new_inbox(self._dispatcher.take, self._dispatcher.room)
            self._dispatcher.serve(self._inbox)
            await self._inbox.move(await self._live().line(self._connect_timeout_s))
            self._state = "consuming"
        return self

    async def wait(self) -> None:
        """Return when the agent was stopped; raise why, if the gateway or NATS ended its session for good."""
        session = self._live()
        await session.ended.wait()
        if session.failure is not None:
            raise session.failure

    async def stop(self, drain_s: float = DRAIN_S) -> None:
        """Take nothing more, let handlers that have begun finish (up to `drain_s`), hand everything else back, and
        disconnect. A second time is fine."""
        if self._inbox is not None and self._dispatcher is not None:
            await self._inbox.stop()
            await self._dispatcher.drain(drain_s)
            await self._inbox.close()
        if self._session is not None:
            if (line := self._session.current) is not None and self._state != "stopped":
                await line.flush()
                await self._tell_end()
            await self._session.close()
        if self._seen is not None:
            self._seen.close()
        self._state = "stopped"

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None
    ) -> None:
        await self.stop()

    # ── who and how ──────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def name(self) -> str:
        """This agent's name; known once connected."""
        return self._opened.name

    @property
    def project(self) -> str:
        """Its project's slug; known once connected."""
        return self._opened.project

    @property
    def session(self) -> str:
        """The stamp of this run."""
        return self._opened.session

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """What this agent may do; known once connected."""
        return self._opened.scopes

    @property
    def state(self) -> State:
        """Where this object is in its life."""
        return self._state

    @property
    def counts(self) -> Counts:
        """What the inbox received, skipped and set aside since `start`."""
        return self._inbox.counts if self._inbox is not None else Counts()

    def parked(self) -> list[Parked]:
        """Messages whose handler failed too often, kept in this agent's home."""
        return self._record().parked()

    # ── reading without a handler ────────────────────────────────────────────────────────────────────────────────

    async def inbox(self, limit: int = 20) -> list[Message]:
        """Take up to `limit` unread messages, oldest first, and mark them read. The rest stays for the next call."""
        if not 1 <= limit <= MAX_INBOX:
            raise BadRequest(why=f"limit must be 1 to {MAX_INBOX}, not {limit}")
        await self.connect()
        self._need(Scope.INBOX)
        if self._inbox is not None:
            raise BadRequest(why="this agent's handler reads its inbox")
        async with self._reading:
            taken: list[Arrival] = []
            reader = self._new_inbox(taken.append, lambda: limit - len(taken), once=True)
            try:
                await self._read(reader, taken, limit)
                taken.sort(key=lambda a: a.delivery.stream_seq)
                for arrival in taken:
                    await reader.done(arrival)
            finally:
                await reader.close()
        return [a.message for a in taken]

    async def _read(self, reader: Inbox, taken: Sequence[Arrival], limit: int) -> None:
        deadline = monotonic() + INBOX_WAIT_S
        await reader.move(await self._live().line(INBOX_WAIT_S))
        while len(taken) < limit and not reader.pull.empty.is_set():
            if monotonic() >= deadline:
                raise NatsUnreachable(servers=self._live().opened.nats_urls, why=f"no answer in {INBOX_WAIT_S:g} s")
            await asyncio.sleep(0.005)
        await reader.stop()

    # ── squads and peers, through the gateway ────────────────────────────────────────────────────────────────────

    async def join(self, squad: str, summary: str = "") -> None:
        """Join a squad: from now on its broadcasts reach this inbox. Joining again changes the summary."""
        await self.connect()
        self._need(Scope.WORKSPACE_JOIN)
        ask = api.JoinSquad(squad=normalise(squad, "squad id"), summary=summary)
        self._memberships.remember((await self._calls.call("squad.join", ask, api.Joined)).memberships)

    async def leave(self, squad: str) -> None:
        """Leave a squad: nothing more of it comes, not even what was broadcast before and is unread."""
        await self.connect()
        ask = api.LeaveSquad(squad=normalise(squad, "squad id"))
        self._memberships.remember((await self._calls.call("squad.leave", ask, api.Joined)).memberships)

    async def members(self, squad: str) -> tuple[api.Member, ...]:
        """Who is in a squad."""
        await self.connect()
        ask = api.ListMembers(squad=normalise(squad, "squad id"))
        return (await self._calls.call("squad.members", ask, api.Members)).members

    async def peers(self) -> tuple[api.Peer, ...]:
        """The agents of this project, and which of them are connected now."""
        await self.connect()
        return (await self._calls.call("peers", api.ListPeers(), api.Peers)).peers

    async def card(self, name: str) -> api.Card:
        """What another agent of this project is and can do."""
        await self.connect()
        return await self._calls.call("agent.card", api.ShowCard(name=recipient(name)), api.Card)

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _live(self) -> Session:
        if self._session is None or self._state == "stopped":
            raise Stopped(what="this agent") if self._state == "stopped" else BadRequest(why="connect() comes first")
        return self._session

    @property
    def _opened(self) -> api.SessionOpened:
        """What the gateway said of this session last; it stays when the agent is stopped."""
        if self._session is None:
            raise BadRequest(why="connect() comes first")
        return self._session.opened

    def _record(self) -> Seen:
        if self._seen is None:
            raise BadRequest(why="connect() comes first")
        return self._seen

    async def _tell_end(self) -> None:
        """Have the end of this run recorded. Unheard, the gateway notes it when the credential has run out."""
        try:
            await self._calls.call("session.end", api.EndSession(session=self.session), api.Ended, END_TIMEOUT_S)
        except SosError as e:
            log.info("the end of the session was not recorded: %s", e)

    def _need(self, scope: Scope) -> None:
        if scope not in self._live().opened.scopes:
            raise MissingScope(scope=scope)

    def _new_inbox(self, sink: Any, room: Any, *, once: bool = False) -> Inbox:
        ack_wait_s = self._live().opened.ack_wait_s
        return Inbox(self.project, self.name, self._record(), ack_wait_s, self._memberships.of, sink, room, once=once)

    async def _on_line(self, new: Line, old: Line | None) -> None:  # noqa: ARG002 - the inbox knows the line it is on
        if self._session is not None:
            self._memberships.opened(self._session.opened)
        if self._inbox is not None:
            await self._inbox.move(new)

    async def _names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        found = await self._calls.directory()
        return found.agents, found.squads
