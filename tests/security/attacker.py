"""An attacker: a real credential of an agent, and plain nats-py. Nothing of the SDK stands before the server."""

import asyncio
import base64
import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol, cast

import msgspec
import nats.errors
from nats.aio.client import Client

from sos.sdk.credential import SessionKey
from sos.sdk.gateway import Gateway
from sos.wire import subjects
from sos.wire.api import SessionOpened
from sos.wire.envelope import Envelope, encode, now
from sos.wire.ids import uuid7

WITHIN_S = 5.0


class Heard(msgspec.Struct, frozen=True):
    """What came on a subscription."""

    subject: str
    reply: str
    body: bytes
    headers: dict[str, str]


class LoginRefused(Exception):
    """The server said that this credential does not let in."""


class _Msg(Protocol):
    subject: str
    reply: str
    data: bytes
    headers: dict[str, str] | None


class _Nats(Protocol):
    """The part of nats-py's client that is used here, with the types it does not declare."""

    @property
    def is_connected(self) -> bool: ...
    @property
    def is_closed(self) -> bool: ...
    async def connect(self, **options: Any) -> None: ...
    async def publish(
        self, subject: str, payload: bytes = ..., reply: str = ..., headers: dict[str, str] | None = ...
    ) -> None: ...
    async def subscribe(self, subject: str, *, cb: Callable[[_Msg], Awaitable[None]]) -> object: ...
    async def flush(self, timeout: float = ...) -> None: ...
    async def close(self) -> None: ...
    async def _send_command(self, cmd: bytes) -> None: ...
    async def _flush_pending(self) -> object: ...


class Attacker:
    """One connection of an agent that keeps to no rule of ours. `violations` is what the server complained of."""

    def __init__(self, slug: str, name: str, key: SessionKey) -> None:
        self.slug, self.name, self.inbox = slug, name, key.inbox_prefix
        self.violations: list[str] = []
        self.closed = asyncio.Event()
        self._key = key
        self._serial = itertools.count()
        self._answers: dict[str, asyncio.Queue[Heard]] = {}
        self.nats = cast("_Nats", Client())

    async def open(self, urls: tuple[str, ...], jwt: str) -> None:
        """Connect as what `jwt` says, and hear what comes to the own reply prefix. Raises `LoginRefused`."""
        try:
            async with asyncio.timeout(WITHIN_S):
                await self._connect(urls, jwt)
        except (nats.errors.Error, OSError, TimeoutError) as e:
            if any("authorization" in v or "expired" in v for v in (*self.violations, str(e).lower())):
                raise LoginRefused from e
            raise

    async def _connect(self, urls: tuple[str, ...], jwt: str) -> None:
        await self.nats.connect(
            servers=list(urls),
            user_jwt_cb=lambda: bytearray(jwt.encode()),
            signature_cb=self._sign,
            inbox_prefix=self.inbox.encode(),
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0.05,
            connect_timeout=3,
            error_cb=self._on_error,
            closed_cb=self._on_closed,
        )
        await self.nats.subscribe(f"{self.inbox}.>", cb=self._on_answer)
        await self.flush()

    # ── what it does ─────────────────────────────────────────────────────────────────────────────────────────────

    async def publish(
        self, subject: str, body: bytes = b"", *, reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Publish; returns when the server has looked at it, so a violation has arrived by then."""
        await self.nats.publish(subject, body, reply, headers)
        await self.flush()

    async def publish_raw(self, subject: str, header_block: bytes, body: bytes = b"") -> None:
        """Publish with a header block of any bytes, which no client library would write."""
        size, whole = len(header_block), len(header_block) + len(body)
        command = b"HPUB %s %d %d\r\n%s%s\r\n" % (subject.encode(), size, whole, header_block, body)
        await self.publish_bytes(command)

    async def publish_bytes(self, command: bytes) -> None:
        """Send bytes of the NATS protocol as they are."""
        await self.send_bytes(command)
        await self.flush()

    async def send_bytes(self, command: bytes) -> None:
        """The same, for what the server answers by hanging up."""
        await self.nats._send_command(command)  # pyright: ignore[reportPrivateUsage]
        await self.nats._flush_pending()  # pyright: ignore[reportPrivateUsage]

    async def flush(self) -> None:
        """Return when the server has looked at all that was sent.

        Twice, because nats-py writes the PING of a flush before what was published just before it: only the second
        PING is sure to come behind.
        """
        await self.nats.flush(WITHIN_S)
        await self.nats.flush(WITHIN_S)

    async def refused(
        self, subject: str, body: bytes = b"", *, reply: str = "", headers: dict[str, str] | None = None
    ) -> bool:
        """Publish, and say whether the server refused exactly that."""
        seen = len(self.violations)
        await self.publish(subject, body, reply=reply, headers=headers)
        return any(f'publish to "{subject.lower()}"' in v for v in self.violations[seen:])

    async def ask(self, subject: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Heard:
        """One answer, waited for with a bound."""
        return await self.take(await self.call(subject, body, headers))

    async def call(self, subject: str, body: bytes = b"", headers: dict[str, str] | None = None) -> str:
        """Publish with a reply subject of its own, which is returned."""
        reply = self.new_reply()
        await self.publish(subject, body, reply=reply, headers=headers)
        return reply

    def new_reply(self) -> str:
        """A reply subject that `take` and `came` look at."""
        reply = f"{self.inbox}.{next(self._serial)}"
        self._answers[reply] = asyncio.Queue()
        return reply

    async def take(self, reply: str) -> Heard:
        """The next answer on `reply`, waited for with a bound."""
        async with asyncio.timeout(WITHIN_S):
            return await self._answers[reply].get()

    def came(self, reply: str) -> int:
        """How many answers are there that nobody took."""
        return self._answers[reply].qsize()

    def deliveries(self) -> list[Heard]:
        """Every delivery of a consumer that is there and that nobody took, whichever request it came for."""
        found: list[Heard] = []
        for queue in self._answers.values():
            waiting = [queue.get_nowait() for _ in range(queue.qsize())]
            found += [heard for heard in waiting if heard.reply.startswith("$JS.ACK.")]
        return found

    async def listen(self, subject: str) -> list[Heard]:
        """Subscribe; the list grows with what comes."""
        heard: list[Heard] = []

        async def hear(msg: _Msg) -> None:
            heard.append(_heard(msg))

        await self.nats.subscribe(subject, cb=hear)
        await self.flush()
        return heard

    def may_not_hear(self, subject: str) -> bool:
        """Whether the server refused that subscription."""
        return any(f'subscription to "{subject.lower()}"' in v for v in self.violations)

    # ── what it may do, and builds its attacks from ──────────────────────────────────────────────────────────────

    @property
    def own_subject(self) -> str:
        """A message to itself: every agent with the scope may store one."""
        return str(subjects.ToAgent(self.slug, self.name, self.name))

    async def store(
        self, subject: str = "", body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """Store a message (to itself unless said otherwise) and return the PubAck."""
        body = envelope() if body is None else body
        answer = await self.ask(subject or self.own_subject, body, headers)
        return msgspec.json.decode(answer.body, type=dict[str, Any])

    async def fence(self) -> None:
        """Return when everything that the stream had to send before has been sent: what a stream sends, PubAcks and
        deliveries alike, goes through one queue, and a PubAck of now comes behind all of it."""
        assert (await self.store())["seq"] > 0

    # ── what nats-py calls ───────────────────────────────────────────────────────────────────────────────────────

    async def _on_answer(self, msg: _Msg) -> None:
        # A delivery keeps the subject it was stored under, so only replies proper are told apart by their subject.
        if (waiting := self._answers.get(msg.subject)) is not None:
            waiting.put_nowait(_heard(msg))
        elif self._answers:
            next(reversed(self._answers.values())).put_nowait(_heard(msg))

    def _sign(self, nonce: str) -> bytes:
        return base64.b64encode(self._key.sign(nonce.encode()))

    async def _on_error(self, error: Exception) -> None:
        self.violations.append(str(error).lower())

    async def _on_closed(self) -> None:
        self.closed.set()


def envelope(text: str = "hello", id_: str | None = None) -> bytes:
    """A well-formed message."""
    return encode(Envelope(v=1, id=id_ or uuid7(), kind="message", text=text, session="s", sent_at=now()))


def _heard(msg: _Msg) -> Heard:
    return Heard(msg.subject, msg.reply, msg.data, dict(msg.headers or {}))


async def open_session(url: str, token: str, name: str = "") -> tuple[SessionKey, SessionOpened]:
    """A real credential, as the gateway gives it to whoever holds the token."""
    key = SessionKey()
    ask = key.request(token, name=name)
    return key, await Gateway(url, token).call("POST", "/api/session", SessionOpened, ask)


@asynccontextmanager
async def attacking(url: str, token: str) -> AsyncGenerator[Attacker]:
    """The agent whose token this is, connected with nothing but nats-py."""
    key, opened = await open_session(url, token)
    async with connected(opened.project, opened.name, key, opened.nats_urls, opened.jwt) as attacker:
        yield attacker


@asynccontextmanager
async def connected(slug: str, name: str, key: SessionKey, urls: tuple[str, ...], jwt: str) -> AsyncGenerator[Attacker]:
    """The holder of a JWT, connected."""
    attacker = Attacker(slug, name, key)
    try:
        await attacker.open(urls, jwt)
        yield attacker
    finally:
        await attacker.nats.close()
