"""From the inbox to the handler: `concurrency` at a time, one at a time for each sender, so a sender's order stands.

A handler that raises gets the message again after a pause, up to `max_deliver` times; then the message is parked.
"""

import asyncio
import contextvars
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

from sos.sdk.inbox import Arrival, Inbox
from sos.sdk.message import Message
from sos.sdk.seen import Seen
from sos.wire.tokens import redact

log = logging.getLogger("sos.sdk")

Handler = Callable[[Message], Awaitable[object]] | Callable[[Message], object]

BACKOFF_S = (1.0, 5.0, 30.0, 120.0)
"""Pauses before the second, third… attempt; the last one repeats."""
MAX_DELIVER = 5
AHEAD_S = 0.2
"""No more is fetched ahead than the handlers get done in this time: what waits here cannot be handed to another session
at once."""
MAX_AHEAD = 256
MAX_ERROR_CHARS = 500


class HandBack(Exception):
    """Raised by a handler that wants the message later, or in another session: it is no failure and is not counted."""

    def __init__(self, after_s: float = 0.0) -> None:
        super().__init__(f"handed back for {after_s:g} s")
        self.after_s = after_s


class Dispatcher:
    """Runs the handler. `take` is the inbox's sink, `room` its room."""

    def __init__(self, handler: Handler, seen: Seen, concurrency: int, max_deliver: int) -> None:
        self._handler = handler
        self._seen = seen
        self._concurrency = concurrency
        self._max_deliver = max_deliver
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="sos-handler")
        self._is_async = inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
            getattr(handler, "__call__", None)  # noqa: B004 - an object with an async __call__ is a handler too
        )
        self._backlog: deque[Arrival] = deque()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._mean_s: float | None = None
        self._inbox: Inbox

    def serve(self, inbox: Inbox) -> None:
        """Where what is taken came from and is settled."""
        self._inbox = inbox

    def room(self) -> int:
        """How many messages more would be begun soon."""
        ahead = 0 if self._mean_s is None else int(AHEAD_S / max(self._mean_s, 1e-6))
        return min(MAX_AHEAD, self._concurrency + ahead) - len(self._backlog) - len(self._running)

    def take(self, arrival: Arrival) -> None:
        """One message, exactly once."""
        self._backlog.append(arrival)
        self._start()

    async def drain(self, timeout_s: float) -> None:
        """Hand back what was not begun; wait for what was, up to `timeout_s`, then hand that back too."""
        waiting, self._backlog = list(self._backlog), deque()
        for arrival in waiting:
            await self._inbox.again(arrival, 0.0)
        if self._running:
            _, late = await asyncio.wait(self._running.values(), timeout=timeout_s)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _start(self) -> None:
        while len(self._running) < self._concurrency and (arrival := self._next()) is not None:
            sender = arrival.message.sender
            self._running[sender] = asyncio.create_task(self._run(arrival), name=f"sos-handle-{arrival.message.id}")

    def _next(self) -> Arrival | None:
        for i, arrival in enumerate(self._backlog):
            if arrival.message.sender not in self._running:
                del self._backlog[i]
                return arrival
        return None

    async def _run(self, arrival: Arrival) -> None:
        begun = monotonic()
        # A first attempt is put on record only when it fails; a later one before it begins, so that a message that
        # kills the process is counted too.
        attempt = self._seen.attempt(*arrival.key) if arrival.delivery.deliveries > 1 else 0
        try:
            if attempt > self._max_deliver:
                await self._inbox.park(arrival, f"its handler was begun {attempt - 1} times and never ended")
                return
            await self._call(arrival.message)
            await self._inbox.done(arrival)
        except (HandBack, asyncio.CancelledError) as e:
            if attempt:
                self._seen.not_attempted(*arrival.key)
            await self._inbox.again(arrival, e.after_s if isinstance(e, HandBack) else 0.0)
        except Exception as e:  # noqa: BLE001 - whatever a handler raises is its failure, and is reported there
            await self._failed(arrival, e, attempt or self._seen.attempt(*arrival.key))
        finally:
            took_s = monotonic() - begun
            self._mean_s = took_s if self._mean_s is None else self._mean_s * 0.9 + took_s * 0.1
            del self._running[arrival.message.sender]
            self._start()
            self._inbox.pull.wake()

    async def _call(self, message: Message) -> None:
        if self._is_async:
            await self._handler(message)  # type: ignore[misc]
            return
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        result = await loop.run_in_executor(self._threads, lambda: context.run(self._handler, message))
        if inspect.isawaitable(result):
            await result

    async def _failed(self, arrival: Arrival, error: Exception, attempt: int) -> None:
        """Have it given out again after a pause, or park it after the last attempt."""
        told = redact(f"{type(error).__name__}: {error}")[:MAX_ERROR_CHARS]
        if attempt >= self._max_deliver:
            log.error("message %s parked after %d attempts: %s", arrival.message.id, attempt, told)
            await self._inbox.park(arrival, told)
            return
        pause_s = BACKOFF_S[min(attempt, len(BACKOFF_S)) - 1]
        log.warning("attempt %d at message %s failed, again in %g s: %s", attempt, arrival.message.id, pause_s, told)
        await self._inbox.again(arrival, pause_s)
