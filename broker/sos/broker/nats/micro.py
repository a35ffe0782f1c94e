"""A service that answers requests and can be discovered: NATS' services protocol (ADR-32), about a screen of it.

nats-py's own version answers one request of an endpoint at a time, sends `repr()` of what a handler raised to whoever
asked, and uses a deprecated clock that turns into an error under strict warnings. Here requests run concurrently within
a bound, a handler that fails costs its own request alone, and nothing internal leaves the process.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

import msgspec

if TYPE_CHECKING:
    from sos.broker.nats.connection import Connection, Received

log = logging.getLogger(__name__)

MAX_CONCURRENT = 256
"""Requests of one endpoint under way at once; more wait in the subscription's own bounded queue."""
STOP_TIMEOUT_S = 5.0
"""How long running requests may take to finish when the service stops; then they are cancelled."""


class Answer(msgspec.Struct, frozen=True):
    """What goes back to who asked."""

    body: bytes
    headers: Mapping[str, str] | None = None


Handler = Callable[[str, str, bytes], Awaitable[Answer | None]]
"""(subject, reply, body) → the answer, or None for none. It answers its own errors."""


class Endpoint(msgspec.Struct, frozen=True):
    """Which requests come to which handler. `subject` may hold wildcards."""

    subject: str
    handler: Handler


class _Running:
    """One endpoint's subscription, tasks and counts."""

    def __init__(self, name: str, endpoint: Endpoint, queue: str, connection: "Connection") -> None:
        self.name, self.endpoint, self.queue = name, endpoint, queue
        self.requests = self.errors = self.busy_ns = 0
        self._connection = connection
        self._room = asyncio.Semaphore(MAX_CONCURRENT)
        self._tasks: set[asyncio.Task[None]] = set()

    async def received(self, msg: "Received") -> None:
        await self._room.acquire()
        task = asyncio.create_task(self._answer(msg), name=f"{self.name} {msg.subject}")
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._room.release()

    async def _answer(self, msg: "Received") -> None:
        began_ns = time.perf_counter_ns()
        self.requests += 1
        try:
            answer = await self.endpoint.handler(msg.subject, msg.reply, msg.body)
            if answer is not None and msg.reply:
                await self._connection.publish(msg.reply, answer.body, answer.headers)
        except Exception:
            self.errors += 1
            log.exception("the endpoint %s failed on a request to %s", self.name, msg.subject)
        finally:
            self.busy_ns += time.perf_counter_ns() - began_ns

    async def finish(self) -> None:
        """Let what is under way end within the bound, then end it."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=STOP_TIMEOUT_S)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    def info(self) -> dict[str, Any]:
        return {"name": self.name, "subject": self.endpoint.subject, "queue_group": self.queue}

    def stats(self) -> dict[str, Any]:
        average = self.busy_ns // self.requests if self.requests else 0
        counts = {"num_requests": self.requests, "num_errors": self.errors}
        return {**self.info(), **counts, "processing_time": self.busy_ns, "average_processing_time": average}


class Service:
    """Answers requests while it is entered. Several processes with the same `queue` share them."""

    def __init__(
        self, connection: "Connection", name: str, version: str, endpoints: Mapping[str, Endpoint], queue: str
    ) -> None:
        self.name, self.version, self.id = name, version, secrets.token_hex(11)
        self._connection = connection
        self._endpoints = [_Running(n, e, queue, connection) for n, e in endpoints.items()]
        self._started = datetime.now(UTC)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for e in self._endpoints:
                stack.push_async_callback(e.finish)
            for e in self._endpoints:
                sub = await self._connection.subscribe(e.endpoint.subject, e.received, e.queue)
                await stack.enter_async_context(sub)
            for verb, about in (("PING", self._ping), ("INFO", self._info), ("STATS", self._stats)):
                for subject in (verb, f"{verb}.{self.name}", f"{verb}.{self.name}.{self.id}"):
                    sub = await self._connection.subscribe(f"$SRV.{subject}", self._tell(about))
                    await stack.enter_async_context(sub)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _tell(self, about: Callable[[], dict[str, Any]]) -> Callable[["Received"], Awaitable[None]]:
        async def told(msg: "Received") -> None:
            # Only to a place for replies: a delivery that was bounced here would have its own acknowledged.
            if msg.reply.startswith("_INBOX"):
                await self._connection.publish(msg.reply, msgspec.json.encode(about()))

        return told

    def _identity(self, kind: str) -> dict[str, Any]:
        head = {"type": f"io.nats.micro.v1.{kind}_response", "metadata": dict[str, str]()}
        return {**head, "name": self.name, "id": self.id, "version": self.version}

    def _ping(self) -> dict[str, Any]:
        return self._identity("ping")

    def _info(self) -> dict[str, Any]:
        return {**self._identity("info"), "description": "", "endpoints": [e.info() for e in self._endpoints]}

    def _stats(self) -> dict[str, Any]:
        started = self._started.isoformat().replace("+00:00", "Z")
        return {**self._identity("stats"), "started": started, "endpoints": [e.stats() for e in self._endpoints]}
