"""The only module of the SDK that imports nats-py: one NATS connection, used until it closes, then thrown away.

nats-py's own reconnect is off. A connection that is lost, expired or revoked closes; `session.py` makes the next one.
So a publish can never sit in a client's buffer and be stored long after its caller gave up.
"""

import asyncio
import base64
import re
from collections.abc import Awaitable, Callable, Sequence
from itertools import count

import nats.errors
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from sos.sdk.credential import Credential
from sos.wire.errors import Forbidden, NatsUnreachable
from sos.wire.sturdy import Sturdy

CONNECT_TIMEOUT_S = 3.0
"""One try at one server."""
RETRY_SAME_SERVER_S = 0.05
PING_EVERY_S = 10
"""With two unanswered pings a silent connection is given up within half a minute; TCP alone would take much longer."""
FLUSH_TIMEOUT_S = 2.0
PENDING_BYTES = 64 * 1024 * 1024
"""What may wait inside nats-py for one subscription. The pull loop never asks for more than a quarter of it."""

_REFUSED = re.compile(r'permissions violation for (publish|subscription) to "([^"]+)"')


class Client(Sturdy, NatsClient):
    """nats-py's client, with answers to what peers and crashes do to it."""


class Reply:
    """What came back on a reply subject: a body, and a status where the server sent one instead ("503", "404"…)."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, msg: Msg) -> None:
        self.body: bytes = msg.data
        self.headers: dict[str, str] = msg.headers or {}
        self.status: str = self.headers.get("Status", "")


class Arrived:
    """A message as it came off the wire. `status` is set on the server's control messages, which have no body."""

    __slots__ = ("body", "headers", "reply", "subject")

    def __init__(self, msg: Msg) -> None:
        self.subject: str = msg.subject
        self.reply: str = msg.reply
        self.body: bytes = msg.data
        self.headers: dict[str, str] | None = msg.headers

    @property
    def status(self) -> str:
        """The server's status code, or the empty string for a message."""
        return (self.headers or {}).get("Status", "") if not self.body else ""


class Line:
    """One open connection. `closed` is set when it is gone, `rejected` if the server refused its credential."""

    def __init__(self, credential: Credential) -> None:
        self.credential = credential
        self.closed = asyncio.Event()
        self.rejected = False
        self._nc = Client()
        self._serial = count()
        self._waiting: dict[str, tuple[str, asyncio.Future[Reply]]] = {}
        self._replies = f"{credential.inbox_prefix}.r"

    @property
    def inbox_prefix(self) -> str:
        """Where this connection may subscribe."""
        return self.credential.inbox_prefix

    @property
    def server_version(self) -> str:
        """The server's own word on its version."""
        version = self._nc.connected_server_version
        return f"{version.major}.{version.minor}.{version.patch}"

    async def send(self, subject: str, body: bytes = b"", reply: str = "") -> bool:
        """Hand bytes to the connection; False if it is gone. True says nothing about delivery: what needs that uses
        `request`."""
        try:
            await self._nc.publish(subject, body, reply)
        except nats.errors.Error:
            await self.look()
            return False
        return True

    async def request(
        self, subject: str, body: bytes = b"", headers: dict[str, str] | None = None, timeout_s: float = 2.0
    ) -> Reply:
        """One request, one reply. `NatsUnreachable` if none comes in time or the connection closes meanwhile,
        `Forbidden` as soon as the server says that this agent may not publish there."""
        token = str(next(self._serial))
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[token] = (subject, future)
        try:
            await self._nc.publish(subject, body, f"{self._replies}.{token}", headers)
            return await asyncio.wait_for(future, timeout_s)
        except TimeoutError:
            raise self._gone(f"no answer in {timeout_s:g} s") from None
        except nats.errors.MaxPayloadError as e:
            raise self._gone("the server's payload limit is lower than the bus's") from e
        except nats.errors.Error as e:
            await self.look()
            raise self._gone(str(e)) from None
        finally:
            self._waiting.pop(token, None)

    async def subscribe(self, subject: str, callback: Callable[[Arrived], Awaitable[None]]) -> "Tap":
        """Call `callback` with each message, one after the other."""

        async def one(msg: Msg) -> None:
            await callback(Arrived(msg))

        try:
            sub = await self._nc.subscribe(subject, cb=one, pending_bytes_limit=PENDING_BYTES)  # pyright: ignore[reportUnknownMemberType]
        except nats.errors.Error as e:
            raise self._gone(str(e)) from None
        return Tap(sub)

    async def flush(self) -> None:
        """Return when the server has seen everything published so far; quietly if the connection is gone."""
        try:
            await self._nc.flush(timeout=FLUSH_TIMEOUT_S)  # pyright: ignore[reportArgumentType] - it takes float too
        except nats.errors.Error:
            self._fail_waiting("the connection is closing")

    async def look(self) -> None:
        """Notice a connection that closed without a word: should nats-py's own closing fail half-way, it calls nobody.
        So whoever depends on a line looks now and then."""
        if self._nc.is_closed and not self.closed.is_set():
            await self._on_closed()

    async def close(self) -> None:
        """Close; a second time is fine."""
        await self._nc.close()
        await self._on_closed()

    async def open(self, servers: Sequence[str], name: str) -> None:
        """Connect and authenticate; for `connect` alone."""
        await self._nc.connect(
            servers=list(servers),
            name=name,
            user_jwt_cb=lambda: bytearray(self.credential.jwt.encode()),
            signature_cb=self._sign,
            inbox_prefix=self.inbox_prefix.encode(),
            allow_reconnect=False,
            max_reconnect_attempts=1,  # per server and while connecting: nats-py would otherwise try 60 times
            reconnect_time_wait=RETRY_SAME_SERVER_S,  # pyright: ignore[reportArgumentType] - it takes float too
            connect_timeout=CONNECT_TIMEOUT_S,  # pyright: ignore[reportArgumentType] - it takes float too
            ping_interval=PING_EVERY_S,
            max_outstanding_pings=2,
            error_cb=self._on_error,
            closed_cb=self._on_closed,
        )
        await self._nc.subscribe(f"{self._replies}.*", cb=self._on_reply)  # pyright: ignore[reportUnknownMemberType]

    def _sign(self, nonce: str) -> bytes:
        return base64.b64encode(self.credential.sign(nonce.encode()))

    async def _on_reply(self, msg: Msg) -> None:
        _, future = self._waiting.get(msg.subject.rpartition(".")[2], (None, None))
        if future is not None and not future.done():
            future.set_result(Reply(msg))

    async def _on_error(self, error: Exception) -> None:
        if isinstance(error, nats.errors.AuthorizationError):
            self.rejected = True
        found = _REFUSED.search(str(error).lower())  # nats-py gives it in lower case anyway
        if found is None:
            return
        for subject, future in self._waiting.values():
            if subject.lower() == found[2] and not future.done():
                future.set_exception(Forbidden(what=f"publish to {subject}", needs="a scope that this token lacks"))

    async def _on_closed(self) -> None:
        reason = str(self._nc.last_error or "the connection closed")
        self.rejected = self.rejected or _is_rejection(reason)
        self._fail_waiting(reason)
        self.closed.set()

    def _fail_waiting(self, why: str) -> None:
        for _, future in self._waiting.values():
            if not future.done():
                future.set_exception(self._gone(why))

    def _gone(self, why: str) -> NatsUnreachable:
        return NatsUnreachable(servers=self.credential.servers, why=why)


class Tap:
    """A subscription."""

    def __init__(self, sub: Subscription) -> None:
        self._sub = sub

    async def drain(self) -> bool:
        """Unsubscribe, and return when everything that the server had sent before was handled; False if the connection
        is gone, and what was in flight with it."""
        try:
            await asyncio.wait_for(self._sub.drain(), FLUSH_TIMEOUT_S)
        except (nats.errors.Error, TimeoutError):
            return False
        return True


async def connect(credential: Credential, name: str) -> Line:
    """Connect to one of the credential's servers: `NatsUnreachable` if none answers within its bound,
    `CredentialRejected` if one answers and does not let this credential in."""
    line = Line(credential)
    try:
        await asyncio.wait_for(line.open(credential.servers, name), CONNECT_TIMEOUT_S * (len(credential.servers) + 1))
    except (nats.errors.Error, OSError, TimeoutError) as e:
        await line.close()
        if line.rejected or _is_rejection(str(e)):
            raise CredentialRejected from None
        raise NatsUnreachable(servers=credential.servers, why=str(e) or type(e).__name__) from None
    except BaseException:
        await line.close()
        raise
    return line


class CredentialRejected(Exception):
    """The server refused the JWT: it expired, or it was revoked. The cure is a new session."""


def _is_rejection(reason: str) -> bool:
    reason = reason.lower()
    return "authorization" in reason or "authentication" in reason
