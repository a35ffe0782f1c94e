"""A log and its projection in step: decide on what the views say, append with what they expect, wait for the views.

Another gateway may append at any time. A lost race is no error of the caller's: the views catch up and the command is
decided again, on what is true now.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from sos.broker.domain import Event
from sos.broker.errors import WrongLastSequence
from sos.broker.log import Log
from sos.broker.views import Views, catch_up
from sos.wire.errors import Contended, Internal, SosError

log = logging.getLogger(__name__)

MAX_TRIES = 16
"""Lost races in a row before a command gives up. Each means that somebody else succeeded."""
WATCH_S = 30.0
"""A follower looks by itself this often, in case every hint was lost."""
RETRY_S = 0.5
"""Pause of a follower after a failure: NATS is away, or a disk is full."""

Load = Callable[[], Awaitable[tuple[Any, int]]]
Decide = Callable[[Any, Any], tuple[Event, ...]]


class Journal:
    """One stream: `key` is its name in the views, `log` where its facts are."""

    def __init__(self, key: str, log_: Log, views: Views) -> None:
        self.key = key
        self.log = log_
        self.views = views
        self.failure: SosError | None = None
        """Why the views do not follow just now; None if they do."""
        self._folding = asyncio.Lock()

    async def execute(self, subject: str, load: Load, decide: Decide, command: object, within: str = "") -> int:
        """Carry out one command on one aggregate; with `within` the decision stands on every subject of that pattern.
        Returns the sequence the views have reached, so that a query made now shows what was done. Raises the domain's
        refusal, `Contended`, `NatsUnreachable` (it may have been stored)."""
        for _ in range(MAX_TRIES):
            state, seq = await load()
            try:
                for event in decide(state, command):
                    seq = await self.log.append(subject, event, seq, within)
            except WrongLastSequence:
                await self.catch_up()
                continue
            return await self.catch_up()
        raise Contended(subject=subject, tries=MAX_TRIES)

    async def record(self, subject: str, event: Event) -> int:
        """Append a fact that depends on nothing before it."""
        await self.log.append(subject, event, None)
        return await self.catch_up()

    async def catch_up(self) -> int:
        """Fold in everything that is stored now; returns the sequence reached."""
        async with self._folding:
            return await catch_up(self.views, self.key, self.log)

    @asynccontextmanager
    async def followed(self, moved: Callable[[], Awaitable[None]] | None = None) -> AsyncGenerator[None]:
        """While inside, facts that other gateways append are folded in as they come; then `moved` is called."""
        task = asyncio.create_task(self._follow(moved), name=f"follow {self.key}")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _follow(self, moved: Callable[[], Awaitable[None]] | None) -> None:
        while True:
            try:
                seq = (await self.views.cursor(self.key)).seq
                await self.log.wait_beyond(seq, WATCH_S)
                if await self.catch_up() > seq and moved is not None:
                    await moved()
                self.failure = None
            except SosError as e:
                self.failure = e
                log.warning("cannot follow %s: %s", self.key, e)
                await asyncio.sleep(RETRY_S)
            except Exception as e:
                self.failure = Internal(what=f"following {self.key} ({type(e).__name__})")
                log.exception("cannot follow %s", self.key)
                await asyncio.sleep(RETRY_S)
