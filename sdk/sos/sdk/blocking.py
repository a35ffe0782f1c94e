"""`Agent`: the blocking face of `AsyncAgent`. Every method runs the async one of the same name in a loop of its own."""

import asyncio
import signal
import threading
from collections.abc import Coroutine
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from sos.sdk.aio import CONNECT_TIMEOUT_S, DRAIN_S, AsyncAgent
from sos.sdk.dispatch import MAX_DELIVER, Handler
from sos.sdk.inbox import Counts
from sos.sdk.message import Message, Receipt, State
from sos.sdk.seen import Parked
from sos.wire import api
from sos.wire.envelope import AckClass
from sos.wire.errors import BadRequest
from sos.wire.scopes import Scope


class Agent:
    """One agent on the bus, for code without an event loop. Takes what `AsyncAgent` takes.

    A plain handler runs in a thread and may call this object's methods. An `async` handler runs in the agent's loop,
    where blocking is refused: such code uses `AsyncAgent`.
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
        self._agent = AsyncAgent(
            token,
            name,
            project=project,
            url=url,
            client=client,
            model=model,
            concurrency=concurrency,
            max_deliver=max_deliver,
            connect_timeout_s=connect_timeout_s,
            home=home,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    # ── life ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_message[H: Handler](self, handler: H) -> H:
        """Decorator: `handler` is given each message."""
        return self._agent.on_message(handler)

    def connect(self) -> Self:
        """Open the session, without reading the inbox."""
        self._run(self._agent.connect())
        return self

    def start(self, *, block: bool = True) -> None:
        """Connect and read the inbox. Blocks until `stop()`, Ctrl-C or SIGTERM, and then drains; raises what ended the
        session if it was something else. With `block=False` it returns once the inbox is being read."""
        try:
            self._run(self._agent.start())
            if block:
                self._wait()
        finally:
            if block:
                self.stop()

    def stop(self, drain_s: float = DRAIN_S) -> None:
        """Drain and disconnect; from a handler too, and a second time is fine."""
        self._stop.set()
        if self._thread is None or self._loop is None or threading.current_thread().name.startswith("sos-handler"):
            return  # the thread in start() does the rest
        self._run(self._agent.stop(drain_s))
        loop, thread = self._loop, self._thread
        self._loop = self._thread = None
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    def __enter__(self) -> Self:
        self.start(block=False)
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None) -> None:
        self.stop()

    # ── who and how ──────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def name(self) -> str:
        """This agent's name; known once connected."""
        return self._agent.name

    @property
    def project(self) -> str:
        """Its project's slug; known once connected."""
        return self._agent.project

    @property
    def session(self) -> str:
        """The stamp of this run."""
        return self._agent.session

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """What this agent may do."""
        return self._agent.scopes

    @property
    def state(self) -> State:
        """Where this object is in its life."""
        return self._agent.state

    @property
    def counts(self) -> Counts:
        """What the inbox received, skipped and set aside since `start`."""
        return self._agent.counts

    def parked(self) -> list[Parked]:
        """Messages whose handler failed too often."""
        return self._agent.parked()

    # ── sending and reading ──────────────────────────────────────────────────────────────────────────────────────

    def send(
        self,
        to: str,
        text: str,
        *,
        data: dict[str, Any] | None = None,
        ack: AckClass | None = None,
        thread: str | None = None,
        id: str | None = None,  # noqa: A002 - the envelope's own word
    ) -> Receipt:
        """Send to one agent; see `AsyncAgent.send`."""
        return self._run(self._agent.send(to, text, data=data, ack=ack, thread=thread, id=id))

    def broadcast(
        self,
        squad: str,
        text: str,
        *,
        data: dict[str, Any] | None = None,
        thread: str | None = None,
        id: str | None = None,  # noqa: A002 - the envelope's own word
    ) -> Receipt:
        """Send to every member of a squad."""
        return self._run(self._agent.broadcast(squad, text, data=data, thread=thread, id=id))

    def reply(
        self,
        message: Message,
        text: str,
        *,
        data: dict[str, Any] | None = None,
        id: str | None = None,  # noqa: A002 - the envelope's own word
    ) -> Receipt:
        """Answer a message's sender, in its thread."""
        return self._run(self._agent.reply(message, text, data=data, id=id))

    def ack(self, message: Message, ok: bool = True, summary: str = "") -> Receipt:
        """Acknowledge a message to its sender: done, or not."""
        return self._run(self._agent.ack(message, ok, summary))

    def inbox(self, limit: int = 20) -> list[Message]:
        """Take up to `limit` unread messages, oldest first, and mark them read."""
        return self._run(self._agent.inbox(limit))

    def join(self, squad: str, summary: str = "") -> None:
        """Join a squad."""
        self._run(self._agent.join(squad, summary))

    def leave(self, squad: str) -> None:
        """Leave a squad."""
        self._run(self._agent.leave(squad))

    def members(self, squad: str) -> tuple[api.Member, ...]:
        """Who is in a squad."""
        return self._run(self._agent.members(squad))

    def card(self, name: str) -> api.Card:
        """What another agent of this project is and can do."""
        return self._run(self._agent.card(name))

    def peers(self) -> tuple[api.Peer, ...]:
        """The agents of this project, and which of them are connected now."""
        return self._run(self._agent.peers())

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _run[T](self, work: Coroutine[Any, Any, T]) -> T:
        loop = self._started()
        if threading.current_thread() is self._thread:
            work.close()
            raise BadRequest(why="an async handler cannot call a blocking method: use AsyncAgent")
        return asyncio.run_coroutine_threadsafe(work, loop).result()

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=loop.run_forever, name="sos-agent", daemon=True)
            self._thread.start()
        return self._loop

    def _wait(self) -> None:
        """Until told to stop, or until the session ended; it is that error's place to be raised."""
        ended = asyncio.run_coroutine_threadsafe(self._agent.wait(), self._started())
        ended.add_done_callback(lambda _: self._stop.set())
        restore = _on_sigterm(self._stop)
        try:
            self._stop.wait()
        except KeyboardInterrupt:
            self._stop.set()
        finally:
            restore()
        if ended.done():
            ended.result()
        ended.cancel()


def _on_sigterm(stop: threading.Event) -> Any:
    """SIGTERM drains while `start` blocks the main thread; returns what puts the old handler back."""
    if threading.current_thread() is not threading.main_thread():
        return lambda: None

    def on_signal(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    before = signal.signal(signal.SIGTERM, on_signal)
    return lambda: signal.signal(signal.SIGTERM, before)
