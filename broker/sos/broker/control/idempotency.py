"""Requests that may be repeated: the first is carried out, every repetition gets its answer (Idempotency-Key).

The law, for any number of gateways: of equal requests under one key exactly one is carried out, and the others get its
status and its bytes. Who stores the first record on the request's subject carries it out; the server decides that race.
A refusal is not kept. A first request whose gateway died is carried out again, and control derives the same tokens for
it (`sos.broker.control.tokens.Minting`), so that it finds what was done and says it again.

Source: draft-ietf-httpapi-idempotency-key-header. The stream holds no secret in clear: an answer is encrypted with a
key that takes both the bus' root and the client's own key.
"""

import hashlib
import json
import logging
import re
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from sos.broker.errors import WrongLastSequence
from sos.broker.nats.connection import Connection
from sos.wire import subjects
from sos.wire.errors import BadRequest, IdempotencyMismatch, InProgress, SosError, StorageExhausted
from sos.wire.ids import uuid7

log = logging.getLogger(__name__)

MAX_KEY_CHARS = 255
MAX_CALL_S = 30.0
"""How long a call may take; every door gives up then."""
DEAD_AFTER_S = MAX_CALL_S + 3.0
"""A first request that began longer ago has no gateway any more: the margin is for clocks that differ."""
RETRY_AFTER_S = 1.0
MAX_TRIES = 4
"""Lost races for one key before a request is told that another one is under way: each means that one was."""
STORE_TRIES = 3
"""About 6 s: enough for a leader to be elected, and the call itself has time left."""
SAY_FULL_EVERY_S = 600.0
NONCE_BYTES = 12

_KEY = re.compile(rf'"?([!#-\[\]-~]{{1,{MAX_KEY_CHARS}}})"?')

Derive = Callable[..., bytes]
"""(purpose, *context) → 32 secret bytes, such as `Keyring.secret`."""


class Answer(msgspec.Struct, frozen=True):
    """What goes back to who asked."""

    status: int
    body: bytes
    replayed: bool = False

    def __repr__(self) -> str:
        return f"Answer({self.status}, {len(self.body)} bytes)"


class Repeatable(msgspec.Struct, frozen=True, kw_only=True):
    """One request under a key. `repeat` is its identity, `key` what the client chose."""

    repeat: str
    key: str
    fingerprint: str

    def __repr__(self) -> str:
        return f"Repeatable({self.repeat[:12]}…)"


class Started(msgspec.Struct, frozen=True, kw_only=True, tag="started", tag_field="state"):
    """A gateway carries it out. `home` tells gateways apart."""

    fingerprint: str
    home: str


class Done(msgspec.Struct, frozen=True, kw_only=True, tag="done", tag_field="state"):
    """It was carried out. `sealed` is nonce and ciphertext of the answer's body."""

    fingerprint: str
    status: int
    sealed: bytes


class _Found(msgspec.Struct, frozen=True):
    """The last record of a request, where it stands and when it was stored."""

    seq: int
    at: datetime
    record: Started | Done


Record = Started | Done


def parse_key(given: list[str]) -> str:
    """The key of the header's values, without its quotes; empty if there is none. `BadRequest` if it is no key."""
    if not given:
        return ""
    found = _KEY.fullmatch(given[0])
    if len(given) > 1 or found is None or given[0].startswith('"') != given[0].endswith('"'):
        raise BadRequest(
            why=f"an Idempotency-Key is 1 to {MAX_KEY_CHARS} visible ASCII characters, quoted or not, given once"
        )
    return found[1]


def identity(token_hash: str, method: str, path: str, key: str) -> str:
    """What a request is known by: who asks what of which address, under which key."""
    # JSON keeps the parts apart whatever they hold.
    return hashlib.sha256(json.dumps([token_hash, method, path, key]).encode()).hexdigest()


def repeatable(repeat: str, key: str, body: bytes) -> Repeatable:
    """The request whose identity is `repeat`, with its body's fingerprint."""
    return Repeatable(repeat=repeat, key=key, fingerprint=hashlib.sha256(body).hexdigest())


class Idempotency:
    """The answers of the last day, in the stream IDEMPOTENCY.

    `home` is the same at every start of one gateway and another for every other gateway: what the earlier life of this
    one left under way is nobody's any more.
    """

    def __init__(
        self,
        connection: Connection,
        derive: Derive,
        home: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._connection = connection
        self._derive = derive
        self._home = home
        self._now = now
        self._under_way: dict[str, str] = {}
        self._said_full = datetime.min.replace(tzinfo=UTC)

    async def once(self, asked: Repeatable, carry_out: Callable[[], Awaitable[Answer]]) -> Answer:
        """The answer of the first such request, carried out now if this is it.

        Raises `IdempotencyMismatch`, `InProgress`, `NatsUnreachable`, and whatever `carry_out` refuses with.
        """
        if asked.repeat in self._under_way:
            raise self._busy(asked, self._under_way[asked.repeat])
        self._under_way[asked.repeat] = asked.fingerprint
        try:
            begun = await self._begin(asked)
            if isinstance(begun, Answer):
                return begun
            try:
                answer = await carry_out()
            except Exception:
                await self._free(begun)
                raise
            await self._keep(asked, begun, answer)
            return answer
        finally:
            del self._under_way[asked.repeat]

    async def recall(self, asked: Repeatable) -> Answer | None:
        """The answer of the first such request if it is kept. `IdempotencyMismatch`."""
        found = await self._last(asked)
        return self._opened(asked, found.record) if found is not None and isinstance(found.record, Done) else None

    # ── the first record decides ─────────────────────────────────────────────────────────────────────────────────

    async def _begin(self, asked: Repeatable) -> Answer | int:
        """The sequence of this gateway's own record, 0 if the stream has no room for one; or the answer there is."""
        record, expected = Started(fingerprint=asked.fingerprint, home=self._home), 0
        for _ in range(MAX_TRIES):
            try:
                return await self._store(asked, record, expected)
            except StorageExhausted as e:
                self._say_full(e)
                return 0
            except WrongLastSequence:
                found = await self._last(asked)
            if found is None:  # refused or forgotten meanwhile
                expected = 0
            elif isinstance(found.record, Done):
                return self._opened(asked, found.record)
            elif found.record.fingerprint != asked.fingerprint or not self._is_dead(found):
                raise self._busy(asked, found.record.fingerprint)
            else:
                expected = found.seq
        raise InProgress(retry_after_s=RETRY_AFTER_S)

    def _busy(self, asked: Repeatable, fingerprint: str) -> SosError:
        same = fingerprint == asked.fingerprint
        return InProgress(retry_after_s=RETRY_AFTER_S) if same else IdempotencyMismatch()

    def _is_dead(self, found: _Found) -> bool:
        """Whether nobody carries it out any more: it is this gateway's own and not under way here (only `once` asks,
        and it has made sure of that), or so old that whoever began it has given up."""
        started = found.record
        if isinstance(started, Started) and started.home == self._home:
            return True
        return self._now() - found.at > timedelta(seconds=DEAD_AFTER_S)

    async def _free(self, seq: int) -> None:
        """What was refused may be tried again under the same key. Undone, it is taken over here, or later elsewhere."""
        if not seq:
            return
        try:
            await self._connection.erase(subjects.IDEMPOTENCY, seq)
        except SosError as e:
            log.warning("the key of a refused request is not free yet: %s", e)

    async def _keep(self, asked: Repeatable, seq: int, answer: Answer) -> None:
        """Keep the answer. What was done is done: if this fails, a repetition is carried out again, and finds it."""
        if not seq:
            return
        sealed = self._seal(asked, answer)
        record = Done(fingerprint=asked.fingerprint, status=answer.status, sealed=sealed)
        try:
            with suppress(WrongLastSequence):  # this took so long that another gateway took it over
                await self._store(asked, record, seq)
        except StorageExhausted as e:
            self._say_full(e)
        except SosError as e:
            log.warning("the answer to a repeatable request was not kept: %s", e)

    def _say_full(self, error: StorageExhausted) -> None:
        """Now and then: a full stream must not fill the log as well. Requests are carried out all the same: that one
        owner has filled it may not keep another from revoking an agent."""
        if self._now() - self._said_full > timedelta(seconds=SAY_FULL_EVERY_S):
            self._said_full = self._now()
            log.error("answers to repeatable requests are not kept: %s", error)

    # ── records ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _store(self, asked: Repeatable, record: Record, expected: int) -> int:
        stored = await self._connection.store(
            subjects.IDEMPOTENCY,
            subjects.repeat(asked.repeat),
            msgspec.json.encode(record),
            msg_id=uuid7(),
            expected_subject_seq=expected,
            tries=STORE_TRIES,
        )
        return stored.seq

    async def _last(self, asked: Repeatable) -> _Found | None:
        stored = await self._connection.last_of(subjects.IDEMPOTENCY, subjects.repeat(asked.repeat))
        if stored is None:
            return None
        return _Found(stored.seq, stored.time, msgspec.json.decode(stored.body, type=Started | Done))

    def _seal(self, asked: Repeatable, answer: Answer) -> bytes:
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._cipher(asked).encrypt(nonce, answer.body, _context(asked, answer.status))

    def _opened(self, asked: Repeatable, done: Done) -> Answer:
        if done.fingerprint != asked.fingerprint:
            raise IdempotencyMismatch
        nonce, sealed = done.sealed[:NONCE_BYTES], done.sealed[NONCE_BYTES:]
        try:
            body = self._cipher(asked).decrypt(nonce, sealed, _context(asked, done.status))
        except InvalidTag:
            raise IdempotencyMismatch from None  # the record is not what was stored for this request
        return Answer(done.status, body, replayed=True)

    def _cipher(self, asked: Repeatable) -> ChaCha20Poly1305:
        return ChaCha20Poly1305(self._derive("idempotent answer", asked.repeat, asked.key))


def _context(asked: Repeatable, status: int) -> bytes:
    """What the encryption binds the answer to."""
    return f"{asked.repeat} {asked.fingerprint} {status}".encode()
