"""One session of an agent, kept alive: a credential that is renewed in time, a connection that is replaced when lost.

A `Session` always either has a line, or is making one (full jitter between tries), or has ended because the gateway
said for good that this token may not. Everyone who needs the connection waits for it with a bound.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from time import monotonic

import msgspec

from sos.sdk.credential import Credential, SessionKey
from sos.sdk.gateway import CALL_TIMEOUT_S, Gateway
from sos.sdk.holding import Holding
from sos.sdk.lasting import lasting
from sos.sdk.link import CredentialRejected, Line, connect
from sos.wire.api import SessionOpened
from sos.wire.errors import GatewayUnreachable, Kind, NatsUnreachable, SosError, Stopped, UnknownToken

log = logging.getLogger("sos.sdk")

RETRY_BASE_S = 0.05
RETRY_CAP_S = 5.0
"""Full jitter: the n-th try waits a random time up to min(cap, base · 2ⁿ), so a fleet does not come back in step."""
RENEW_AFTER = 0.7
"""A credential is renewed when this share of its life is over: the rest is for a gateway that is away."""
MIN_CALL_S = 0.1
ASK_ANEW_AFTER = 5
LOOK_EVERY_S = 0.5
"""How long a connection that closed without telling anybody goes unnoticed."""
_FINAL = {Kind.UNAUTHENTICATED, Kind.REFUSED, Kind.INVALID, Kind.NOT_FOUND}
"""What the gateway will say again however often it is asked."""

LineChanged = Callable[[Line, Line | None], Awaitable[None]]


class Who(msgspec.Struct, frozen=True):
    """What acts under the name, as it says of itself. `name` may be empty: then the token says it."""

    name: str = ""
    client: str = ""
    model: str = ""
    install: str = ""


class Session:
    """`async with Session(...)`: connected inside, nothing left outside. `opened` is the gateway's last answer."""

    def __init__(self, url: str, holding: Holding, who: Who, on_line: LineChanged, connect_timeout_s: float) -> None:
        self._url = url
        self._holding = holding
        self._who = who
        self._on_line = on_line
        self._connect_timeout_s = connect_timeout_s
        self._line: Line | None = None
        self._ready = asyncio.Event()
        self._supervisor: asyncio.Task[None] | None = None
        self._credential: Credential | None = None
        self._renew_at = self._expires_at = 0.0
        self.opened: SessionOpened
        self.failure: SosError | None = None
        """Set when the session ended for good and not by `close`."""
        self.ended = asyncio.Event()
        self.reconnects = 0

    async def __aenter__(self) -> "Session":
        deadline = monotonic() + self._connect_timeout_s
        await self._connect(deadline)
        self._supervisor = asyncio.create_task(self._supervise(), name="sos-session")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection and end the supervision; a second time is fine."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.wait([self._supervisor])
            self._supervisor = None
        if self._line is not None:
            await self._line.close()
            self._line = None
        self._ready.clear()
        self.ended.set()

    @property
    def current(self) -> Line | None:
        """The open connection, if there is one just now."""
        return self._line if self._line is not None and not self._line.closed.is_set() else None

    async def line(self, timeout_s: float) -> Line:
        """The open connection, waiting up to `timeout_s` for one: else `NatsUnreachable`, or why the session ended."""
        deadline = monotonic() + timeout_s
        while True:
            if self.failure is not None:
                raise self.failure
            if self.ended.is_set():
                raise Stopped(what="the session")
            if self._line is not None:
                await self._line.look()
                if not self._line.closed.is_set():
                    return self._line
            self._ready.clear()  # of a line that has just closed: else this would spin until the supervisor ran
            if not await _within(self._ready.wait(), deadline - monotonic()):
                raise NatsUnreachable(servers=self.opened.nats_urls, why=f"no connection for {timeout_s:g} s")

    async def _supervise(self) -> None:
        try:
            await lasting(self._keep, "keeping the connection", unless=SosError)
        except SosError as e:
            self.failure = e
            log.warning("session ended: %s", e)
        finally:
            self._ready.set()  # wake those who wait for a line: there will be none
            self.ended.set()

    async def _keep(self) -> None:
        """Wait until something has to be done about the connection, and do it. Raises what is final."""
        if self._line is None or await _within(self._line.closed.wait(), self._next_look_s()):
            self._ready.clear()
            self.reconnects += 1
            await self._connect(deadline=None)
        elif monotonic() >= self._renew_at:
            await self._renew()
        else:
            await self._line.look()

    def _next_look_s(self) -> float:
        return min(self._renew_at - monotonic(), LOOK_EVERY_S)

    async def _renew(self) -> None:
        """Change to a new credential while the old connection still serves; try again soon if that cannot be now."""
        try:
            await self._replace(await self._open(deadline=None))
        except (SosError, CredentialRejected) as e:
            if isinstance(e, SosError) and e.kind in _FINAL:
                raise
            self._renew_at = monotonic() + random.uniform(RETRY_BASE_S, RETRY_CAP_S)  # noqa: S311 - jitter
            log.warning("credential not renewed yet: %s", e)

    async def _connect(self, deadline: float | None) -> None:
        """Connect, with a new session where there is no valid credential. Tries until it works, until the refusal is
        final, or until `deadline` (monotonic)."""
        tries = 0
        while True:
            try:
                return await self._replace(await self._usable(tries, deadline))
            except CredentialRejected:
                self._credential = None
                refusal: SosError = NatsUnreachable(servers=self._servers(), why="it refused the credential")
            except SosError as e:
                if e.kind in _FINAL:
                    raise
                refusal = e
            pause_s = random.uniform(0, min(RETRY_CAP_S, RETRY_BASE_S * 2 ** min(tries, 16)))  # noqa: S311 - jitter
            tries += 1
            if deadline is not None and monotonic() + pause_s >= deadline:
                raise refusal
            if tries % 10 == 0:
                log.warning("still no connection after %d tries: %s", tries, refusal)
            await asyncio.sleep(pause_s)

    async def _replace(self, credential: Credential) -> None:
        """Connect with `credential` and hand over from the line before, which is closed last."""
        new = await connect(credential, self.opened.session)
        self._credential = credential
        old, self._line = self._line, new
        await self._on_line(new, old)
        self._ready.set()
        if old is not None:
            await old.close()

    async def _open(self, deadline: float | None) -> Credential:
        """Ask the gateway for a new credential, no longer than until `deadline`."""
        key, asked_at = SessionKey(), monotonic()
        self.opened = await self._ask(key, deadline)
        credential = Credential(key, self.opened)
        self._renew_at = asked_at + credential.lifetime_s * RENEW_AFTER
        self._expires_at = asked_at + credential.lifetime_s
        return credential

    async def _usable(self, tries: int, deadline: float | None) -> Credential:
        """The credential if it has not expired, else a new one. After a few tries in vain a new one too, if the gateway
        is there: NATS may have moved, and only a new session knows where to."""
        current = self._credential if monotonic() < self._expires_at else None
        if current is not None and tries % ASK_ANEW_AFTER != ASK_ANEW_AFTER - 1:
            return current
        try:
            return await self._open(deadline)
        except GatewayUnreachable:
            if current is None:
                raise
            return current

    async def _ask(self, key: SessionKey, deadline: float | None) -> SessionOpened:
        """The gateway's answer; asked again if the token was rotated meanwhile and the home holds the new one."""
        while True:
            left_s = CALL_TIMEOUT_S if deadline is None else max(deadline - monotonic(), MIN_CALL_S)
            token, who = self._holding.now(), self._who
            stamp = self.opened.session if hasattr(self, "opened") else ""
            ask = key.request(
                token, name=who.name, client=who.client, model=who.model, install=who.install, session=stamp
            )
            try:
                gateway = Gateway(self._url, token)
                return await gateway.call("POST", "/api/session", SessionOpened, ask, min(left_s, CALL_TIMEOUT_S))
            except UnknownToken:
                if not await self._holding.another_than(token):
                    raise

    def _servers(self) -> tuple[str, ...]:
        return self.opened.nats_urls if hasattr(self, "opened") else ()


async def _within(waiting: Awaitable[object], timeout_s: float) -> bool:
    """Whether `waiting` came true within the time."""
    try:
        await asyncio.wait_for(waiting, max(timeout_s, 0.0))
    except TimeoutError:
        return False
    return True
