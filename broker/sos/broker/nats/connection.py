"""One connection to NATS. The only module of the broker that imports nats-py; its traps are answered here.

The laws:

- Everything that waits has a bound in seconds and ends in an answer or a `SosError`.
- A connection that drops fails what was waiting at once, rather than letting it run into its timeout, and comes back by
  itself for ever. While it is away nothing is buffered to be sent later: a call waits for the connection within its own
  bound or fails.
- Replies come to subjects below a prefix with 128 random bits, so nobody else in the account can write them.

nats-py gives up for good on an error such as a revoked credential; then `lost` is set and every call raises.
"""

import asyncio
import base64
import itertools
import logging
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from typing import Any, Protocol, Self, cast

import msgspec
from nats.aio.client import Client as NatsClient
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError

from sos.broker.nats.jetstream import JetStream
from sos.broker.nats.micro import Endpoint, Service
from sos.broker.nats.nkeys import KeyPair
from sos.wire.errors import MessageTooLarge, NatsUnreachable, SosError, Stopped
from sos.wire.sturdy import Sturdy
from sos.wire.subjects import inbox_prefix

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0
RECONNECT_WAIT_S = 0.1
"""A killed server is back within 50 ms [measured]; ten tries a second are no load on loopback."""
PING_INTERVAL_S = 20
MAX_OUTSTANDING_PINGS = 2
REQUEST_TIMEOUT_S = 2.0
FLUSH_TIMEOUT_S = 5
CLOSE_TIMEOUT_S = 2.0
MAX_PENDING_MSGS = 64 * 1024
"""Messages of one subscription that wait for its callback; past that nats-py drops and reports it."""
MAX_PENDING_BYTES = 128 * 1024 * 1024


class Received(msgspec.Struct, frozen=True):
    """A message as it arrived: a reply, or one for a subscription. `headers` is empty when there are none."""

    subject: str
    reply: str
    body: bytes
    headers: Mapping[str, str]

    @property
    def status(self) -> str:
        """The server's inline status such as `503`, or empty for a message that carries data."""
        return self.headers.get("Status", "")


Reply = Received
Callback = Callable[[Received], Awaitable[None]]


class _Msg(Protocol):
    subject: str
    reply: str
    data: bytes
    headers: dict[str, str] | None


class _Sub(Protocol):
    async def unsubscribe(self) -> None: ...


class _SturdyClient(Sturdy, NatsClient):
    """nats-py's client, with answers to what peers and crashes do to it."""


class _Client(Protocol):
    """The part of nats-py's client that is used, with the types it does not declare."""

    @property
    def is_connected(self) -> bool: ...
    @property
    def is_closed(self) -> bool: ...
    async def connect(self, servers: list[str], **options: Any) -> None: ...
    async def publish(
        self, subject: str, payload: bytes, reply: str = ..., headers: dict[str, str] | None = ...
    ) -> None: ...
    async def subscribe(
        self,
        subject: str,
        queue: str = ...,
        cb: Callable[[Any], Awaitable[None]] | None = ...,
        *,
        pending_msgs_limit: int = ...,
        pending_bytes_limit: int = ...,
    ) -> _Sub: ...
    async def flush(self, timeout: int = ...) -> None: ...
    async def close(self) -> None: ...


class Subscription:
    """A running subscription. Stopping it twice is fine."""

    def __init__(self, client: _Client, sub: _Sub) -> None:
        self._client = client
        self._sub: _Sub | None = sub

    async def unsubscribe(self) -> None:
        """No more callbacks after this; what was waiting for its callback is dropped."""
        sub, self._sub = self._sub, None
        if sub is not None and not self._client.is_closed:
            await sub.unsubscribe()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.unsubscribe()


class Connection(JetStream):
    """A connection of one user to one account. Made by `connect`."""

    def __init__(self, urls: Sequence[str], name: str) -> None:
        self.servers: tuple[str, ...] = tuple(urls)
        self.name = name
        self.lost = asyncio.Event()
        """Set when nats-py gave up for good (credential revoked or expired), or after `close`."""
        self._client = cast("_Client", _SturdyClient())
        self._up = asyncio.Event()
        self._closing = False
        self.last_error = ""
        """What the server last complained of, such as `permissions violation for publish to …`; in lower case."""
        self.inbox = inbox_prefix(secrets.token_hex(16))
        """The prefix of every reply subject; a restricted user's grant must let it subscribe below this."""
        self._tokens = itertools.count(1)
        self._waiting: dict[str, asyncio.Queue[Received | SosError]] = {}

    @property
    def connected(self) -> bool:
        """Whether there is a connection at this moment."""
        return self._up.is_set() and self._client.is_connected

    # ── asking ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def request(
        self,
        subject: str,
        body: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> Reply:
        """One answer. `NatsUnreachable`: nobody listens, no answer in time, or the connection dropped meanwhile."""
        async with aclosing(self.collect(subject, body, headers=headers, timeout_s=timeout_s)) as replies:
            async for reply in replies:
                return reply
        raise self.unreachable("no answer")  # `collect` never ends by itself

    async def collect(
        self,
        subject: str,
        body: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> AsyncGenerator[Reply]:
        """All answers to one request, until the caller leaves. `NatsUnreachable` as `request`; the bound is for each.

        Enter it with `contextlib.aclosing`, so that leaving early ends it at once.
        """
        with self._inbox() as (inbox, answers):
            try:
                async with asyncio.timeout(timeout_s):
                    await self._publish(subject, body, headers, inbox)
                while True:
                    async with asyncio.timeout(timeout_s):
                        answer = await answers.get()
                    yield self._checked(subject, answer)
            except TimeoutError:
                away = "" if self.connected else f"; not connected: {self.last_error or 'connecting'}"
                raise self.unreachable(f"no answer on {subject} within {timeout_s} s{away}") from None

    @contextmanager
    def _inbox(self) -> Generator[tuple[str, "asyncio.Queue[Received | SosError]"]]:
        token = str(next(self._tokens))
        answers: asyncio.Queue[Received | SosError] = asyncio.Queue()  # bounded by MAX_PENDING_* of the subscription
        self._waiting[token] = answers
        try:
            yield f"{self.inbox}.{token}", answers
        finally:
            del self._waiting[token]

    def _checked(self, subject: str, answer: Received | SosError) -> Received:
        if isinstance(answer, SosError):
            raise answer
        if answer.status == "503" and not answer.body and "Nats-Sequence" not in answer.headers:
            raise self.unreachable(f"nothing listens on {subject}")
        return answer

    # ── publishing and subscribing ───────────────────────────────────────────────────────────────────────────────

    async def publish(
        self,
        subject: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        reply: str = "",
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> None:
        """Send without waiting for anybody: at most once. Into a stream use `store`, which waits for the PubAck.

        `reply` is for a subject that was subscribed to; a pull's messages come there under their stored subjects, so
        `request` and `collect` cannot tell whose they are.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._publish(subject, body, headers, reply)
        except TimeoutError:
            raise self.unreachable(f"not connected for {timeout_s} s") from None

    async def _publish(self, subject: str, body: bytes, headers: Mapping[str, str] | None, reply: str) -> None:
        self._check_open()
        await self._up.wait()
        try:
            await self._client.publish(subject, body, reply=reply, headers=dict(headers) if headers else None)
        except MaxPayloadError:
            limit: int = getattr(self._client, "max_payload", 0)
            raise MessageTooLarge(size_bytes=len(body), limit_bytes=limit) from None
        except NatsError as e:
            raise self.unreachable(_says(e)) from e

    async def flush(self, timeout_s: int = FLUSH_TIMEOUT_S) -> None:
        """Return when the server has everything that was published before."""
        self._check_open()
        try:
            await self._client.flush(timeout_s)
        except (NatsError, OSError) as e:
            raise self.unreachable(_says(e)) from e

    async def subscribe(self, subject: str, callback: Callback, queue: str = "") -> Subscription:
        """Call `callback` with each message, one after the other; what it raises is logged and the next one comes.

        Survives reconnects. Returns when the server has the subscription.
        """

        async def received(msg: _Msg) -> None:
            try:
                await callback(Received(msg.subject, msg.reply, msg.data, msg.headers or {}))
            except Exception:
                log.exception("the callback of a subscription to %s failed", subject)

        self._check_open()
        subscription = Subscription(self._client, await self._subscribe(subject, received, queue))
        try:
            await self.flush()
        except BaseException:  # one that is tried again and again while the server is away must not pile up
            await subscription.unsubscribe()
            raise
        return subscription

    async def _subscribe(self, subject: str, received: Callable[[_Msg], Awaitable[None]], queue: str = "") -> _Sub:
        try:
            return await self._client.subscribe(
                subject,
                queue,
                received,
                pending_msgs_limit=MAX_PENDING_MSGS,
                pending_bytes_limit=MAX_PENDING_BYTES,
            )
        except NatsError as e:
            raise self.unreachable(_says(e)) from e

    @asynccontextmanager
    async def service(
        self, name: str, version: str, endpoints: Mapping[str, Endpoint], queue: str = "q"
    ) -> AsyncGenerator[Service]:
        """Serve requests while inside; `nats micro ls` and `nats micro stats` see it. See `sos.broker.nats.micro`."""
        async with Service(self, name, version, endpoints, queue) as running:
            yield running

    # ── opening and closing ──────────────────────────────────────────────────────────────────────────────────────

    async def open(self, user: KeyPair, jwt: str, timeout_s: float) -> None:
        """Connect and return once the server has answered; `connect` calls this."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._client.connect(list(self.servers), **self._options(user, jwt))
                await self._subscribe(f"{self.inbox}.*", self._answered)
                await self._client.flush(FLUSH_TIMEOUT_S)
        except (TimeoutError, NatsError, OSError) as e:
            await self.close()
            raise self.unreachable(self.last_error or _says(e)) from e
        self._up.set()

    def _options(self, user: KeyPair, jwt: str) -> dict[str, Any]:
        def sign(nonce: str) -> bytes:
            return base64.b64encode(user.sign(nonce.encode()))

        return {
            "name": self.name,
            "user_jwt_cb": jwt.encode,
            "signature_cb": sign,
            "inbox_prefix": self.inbox,
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": RECONNECT_WAIT_S,
            "connect_timeout": CONNECT_TIMEOUT_S,
            "ping_interval": PING_INTERVAL_S,
            "max_outstanding_pings": MAX_OUTSTANDING_PINGS,
            "error_cb": self._on_error,
            "disconnected_cb": self._on_disconnected,
            "reconnected_cb": self._on_reconnected,
            "closed_cb": self._on_closed,
        }

    async def close(self) -> None:
        """Hand what was published to the server and disconnect. Twice is fine."""
        if not self._closing:
            self._closing = True
            if self._client.is_connected:
                with suppress(NatsError, OSError, TimeoutError):  # closing must not fail for a server that is gone
                    async with asyncio.timeout(CLOSE_TIMEOUT_S):
                        await self._client.flush(FLUSH_TIMEOUT_S)
            await self._client.close()
        await self._on_closed()

    def unreachable(self, why: str) -> NatsUnreachable:
        """The error for this connection's servers."""
        return NatsUnreachable(servers=self.servers, why=why)

    def _check_open(self) -> None:
        if self._closing:
            raise Stopped(what=f"The connection {self.name}")
        if self.lost.is_set():
            raise self.unreachable(f"the server ended this connection for good: {self.last_error or 'no reason given'}")

    # ── what nats-py calls ───────────────────────────────────────────────────────────────────────────────────────

    async def _answered(self, msg: _Msg) -> None:
        waiting = self._waiting.get(msg.subject.rpartition(".")[2])
        if waiting is not None:
            waiting.put_nowait(Received(msg.subject, msg.reply, msg.data, msg.headers or {}))

    async def _on_error(self, e: Exception) -> None:
        # A refused login is often followed by a reset of its socket, which says less.
        if self._up.is_set() or not (self.last_error and isinstance(e, OSError)):
            self.last_error = _says(e)
        if self._up.is_set():
            log.warning("connection %s: %s", self.name, self.last_error)

    async def _on_disconnected(self) -> None:
        self._up.clear()
        self._fail_waiting("the connection dropped while an answer was awaited")

    async def _on_reconnected(self) -> None:
        self._up.set()
        log.info("connection %s is back", self.name)

    async def _on_closed(self) -> None:
        self._up.clear()
        self.last_error = self.last_error or str(getattr(self._client, "last_error", "") or "")
        self.lost.set()
        self._fail_waiting(self.last_error or "the connection was closed")

    def _fail_waiting(self, why: str) -> None:
        for answers in self._waiting.values():
            answers.put_nowait(self.unreachable(why))


@asynccontextmanager
async def connect(
    urls: Sequence[str], user: KeyPair, jwt: str, name: str, timeout_s: float = CONNECT_TIMEOUT_S
) -> AsyncGenerator[Connection]:
    """A connection of `user`, who is what `jwt` says. `NatsUnreachable` when none of `urls` lets it in in time."""
    connection = Connection(urls, name)
    await connection.open(user, jwt, timeout_s)
    try:
        yield connection
    finally:
        await connection.close()


def _says(e: BaseException) -> str:
    return str(e).removeprefix("nats: ") or type(e).__name__
