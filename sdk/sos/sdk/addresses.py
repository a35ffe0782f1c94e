"""Whether an address exists, asked of NATS itself: an address exists if and only if its last fact says so."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

import msgspec

from sos.sdk.session import Session
from sos.wire import subjects
from sos.wire.api import AddressFact
from sos.wire.errors import Internal, NatsUnreachable, SosError, UnknownRecipient, UnknownSquad
from sos.wire.names import closest

CACHE_S = 30.0
"""How long a found address is believed. What was not found is asked again each time."""
MAX_CACHED = 10_000
PAUSE_S = 0.1
"""Between tries that failed at once, as on a connection that has just closed."""
LOOKUP_TIMEOUT_S = 10.0
"""With a reconnect in it; without one a look-up takes half a millisecond."""


class _Record(msgspec.Struct):
    event: AddressFact


Names = Callable[[], Awaitable[tuple[tuple[str, ...], tuple[str, ...]]]]


class Addresses:
    """The addresses of one project. `names` lists all agents and squads, for the closest names of a wrong one."""

    def __init__(self, session: Callable[[], Session], names: Names) -> None:
        self._session, self._names = session, names
        self._cache: dict[str, tuple[float, AddressFact]] = {}

    async def agent(self, project: str, name: str) -> AddressFact:
        """An agent's address, or `UnknownRecipient` with the closest names."""
        fact = await self._look_up(subjects.Address(project, "agent", name))
        if fact is None:
            raise UnknownRecipient(project=project, name=name, close=closest(name, (await self._known())[0]))
        return fact

    async def squad(self, project: str, squad: str) -> AddressFact:
        """A squad's address, or `UnknownSquad` with the closest names."""
        fact = await self._look_up(subjects.Address(project, "squad", squad))
        if fact is None:
            raise UnknownSquad(project=project, squad=squad, close=closest(squad, (await self._known())[1]))
        return fact

    async def _look_up(self, address: subjects.Address) -> AddressFact | None:
        key = str(address)
        until, fact = self._cache.get(key, (0.0, None))
        if fact is None or monotonic() >= until:
            fact = await self._ask(address)
            if len(self._cache) >= MAX_CACHED:
                self._cache.clear()
            if fact is not None:
                self._cache[key] = (monotonic() + CACHE_S, fact)
        return fact

    async def _ask(self, address: subjects.Address) -> AddressFact | None:
        deadline = monotonic() + LOOKUP_TIMEOUT_S
        while True:
            try:
                line = await self._session().line(deadline - monotonic())
                reply = await line.request(subjects.address_read(address))
            except NatsUnreachable:
                if monotonic() >= deadline:
                    raise
                await asyncio.sleep(PAUSE_S)
                continue
            break
        if reply.status == "404":
            return None
        try:
            fact = msgspec.json.decode(reply.body, type=_Record).event
        except msgspec.MsgspecError:
            raise Internal(what=f"looking up {address} (status {reply.status or 'none'})") from None
        return None if fact.state == "closed" else fact

    async def _known(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """All names, or none while the gateway is away: they only help with a message that is refused anyway."""
        try:
            return await self._names()
        except SosError:
            return (), ()
