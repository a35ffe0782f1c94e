"""The tap of one project: looks at every stored message for secrets, because agents publish straight to NATS.

The laws:

- What is stored is looked at, also what came while no gateway was there: the tap reads the stream from a cursor of its
  own, and the cursor passes a message only after everything that follows from it was done.
- Live messages are a hint only. The subscription stands while nothing comes; under load there is none, and the stream
  is read every few milliseconds instead, many messages at a time.
- Nothing that a message holds stops it: neither bytes that are no envelope nor a flood of secrets. Secrets that open
  nothing are erased beside the looking, which does not wait for them.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import chain, islice

from sos.broker.control.leaks import Case, Found, Leaks
from sos.broker.control.tenant import Tenant
from sos.broker.nats.connection import Received
from sos.broker.nats.jetstream import READ_BATCH, StoredMessage
from sos.broker.views import Views
from sos.wire import secrets, subjects
from sos.wire.errors import SosError
from sos.wire.subjects import MESSAGES

log = logging.getLogger(__name__)

HINTED_PAUSE_S = 0.002
"""A hint comes when a message is published, a moment before it is stored."""
GATHER_PAUSE_S = 0.02
"""Between two reads while messages come: at thousands a second a read takes dozens, and a secret is still found well
within the 2 s that are promised."""
LONGEST_PAUSE_S = 0.2
"""Pauses double from read to read that finds nothing. Past this the tap waits for a hint instead."""
IDLE_POLL_S = 1.0
"""Hints are at most once: without any, this is how late a message may be looked at."""
RETRY_S = 0.5
"""Pause after a failure: NATS is away, or the disk is full."""
ERASE_BATCH = 64
"""Messages erased between two times that the cursor is saved."""
MAX_OWED = 10_000
"""Messages with secrets that open nothing and wait to be erased, about 10 MB. The server erases some 300 a second and
takes ten times as many; what comes beyond this is left where it is, rather than that the tap falls behind."""
MAX_INLINE_BYTES = 64 * 1024
"""Up to here a batch is looked at in well under a millisecond. More goes to a thread, so that no message, however
made, keeps the gateway from anything else."""


class Tap:
    """One project's. Run by `tapped`."""

    def __init__(self, tenant: Tenant, views: Views, leaks: Leaks) -> None:
        self._tenant = tenant
        self._views = views
        self._leaks = leaks
        self._begun = False
        self._seen = 0
        """Everything up to here was looked at."""
        self._owed: dict[int, Case] = {}
        self._owing = asyncio.Event()
        self._saving = asyncio.Lock()

    async def run(self) -> None:
        """Look until cancelled."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._again_and_again(self._follow))
            both.create_task(self._again_and_again(self._erase))

    async def _again_and_again(self, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await step()
            except SosError as e:
                log.warning("messages of %s are looked at later: %s", self._tenant.slug, e)
                await asyncio.sleep(RETRY_S)
            except Exception as e:  # noqa: BLE001 - its text may hold what was looked at, so its kind alone is told
                log.error("looking at messages of %s failed: %s", self._tenant.slug, type(e).__name__)  # noqa: TRY400
                await asyncio.sleep(RETRY_S)

    async def _follow(self) -> None:
        if not self._begun:
            await self._begin()
            self._begun = True
        await self._look()  # first of all: while NATS is away nothing is subscribed to
        await self._wait()
        await self._read()

    async def _erase(self) -> None:
        """Erase what is owed, the oldest first."""
        await self._owing.wait()
        while cases := list(islice(self._owed.values(), ERASE_BATCH)):
            await self._leaks.close(self._tenant, cases)
            for case in cases:
                del self._owed[case.seq]
            await self._save()
        self._owing.clear()

    async def _begin(self) -> None:
        """Make up for what a gateway that died had not told, and for a stream that was restored from a backup."""
        slug = self._tenant.slug
        self._seen = await self._views.tap(slug)
        if self._seen > await self._tenant.messages_head():
            log.warning("messages of %s end before what was looked at; looking at all of them again", slug)
            self._seen = 0
        await self._leaks.tell_again(self._tenant, self._seen)

    async def _wait(self) -> None:
        """Return when there may be something new."""
        hint = asyncio.Event()

        async def hinted(_: Received) -> None:
            hint.set()

        async with AsyncExitStack() as subscriptions:
            for subject in subjects.messages_of(self._tenant.slug):
                await subscriptions.enter_async_context(await self._tenant.connection.subscribe(subject, hinted))
            while not await self._look() and not hint.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(IDLE_POLL_S):
                        await hint.wait()

    async def _read(self) -> None:
        """Read until nothing has come for a while."""
        pause_s = HINTED_PAUSE_S
        while pause_s <= LONGEST_PAUSE_S:
            await asyncio.sleep(pause_s)
            pause_s = GATHER_PAUSE_S if await self._look() else pause_s * 2

    async def _look(self) -> bool:
        """Look at what is stored behind the cursor; whether there was anything."""
        anything = False
        while batch := await self._tenant.connection.read_batch(MESSAGES, self._seen + 1):
            anything = True
            if found := await searched(batch):
                self._owe(await self._leaks.answer(self._tenant, found))
            self._seen = batch[-1].seq
            await self._save()
            if len(batch) < READ_BATCH:
                break
        return anything

    def _owe(self, cases: Sequence[Case]) -> None:
        room = max(MAX_OWED - len(self._owed), 0)
        self._owed |= {case.seq: case for case in cases[:room]}
        self._owing.set()
        if len(cases) > room:
            left = len(cases) - room
            log.error("%d messages of %s with made-up secrets are too many to erase", left, self._tenant.slug)

    async def _save(self) -> None:
        """The cursor stays before what is owed: `_owed` is in the stream's order."""
        async with self._saving:
            await self._views.save_tap(self._tenant.slug, min(next(iter(self._owed), self._seen + 1) - 1, self._seen))


async def searched(batch: Sequence[StoredMessage]) -> list[Found]:
    """The messages that hold secrets."""
    if sum(len(message.body) for message in batch) <= MAX_INLINE_BYTES:
        return _search(batch)
    return await asyncio.to_thread(_search, batch)


def _search(batch: Sequence[StoredMessage]) -> list[Found]:
    found = (Found(message, _secrets_of(message)) for message in batch)
    return [one for one in found if one.secrets]


def _secrets_of(message: StoredMessage) -> tuple[secrets.Secret, ...]:
    """Those of the body and of the headers, each once. The subject is what the server let the sender write."""
    found = secrets.find_in(message.body)
    if message.headers:
        found += secrets.find("\n".join(chain(message.headers.keys(), message.headers.values())))
    return tuple(dict.fromkeys(found))


@asynccontextmanager
async def tapped(tenant: Tenant, views: Views, leaks: Leaks) -> AsyncGenerator[None]:
    """While inside, what the project's agents publish is looked at."""
    task = asyncio.create_task(Tap(tenant, views, leaks).run(), name=f"tap {tenant.slug}")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
