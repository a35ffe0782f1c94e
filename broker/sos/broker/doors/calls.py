"""One HTTP call, from its bytes to its answer: limits, bearer, body, repetition, then the route.

The order is the law: what costs nothing is refused first; a secret is refused before anything is stored or logged; a
repetition is answered before anything is carried out; and nothing leaves but the route's answer or problem+json.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote_plus

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from sos.broker.control.bus import Bus
from sos.broker.control.idempotency import MAX_CALL_S, Answer, Repeatable, identity, parse_key, repeatable
from sos.broker.control.tokens import Bearer, Doorkeeper, Principal
from sos.broker.doors.problems import MEDIA_TYPE, as_refusal, encode_problem
from sos.broker.doors.route import AGENT, Route
from sos.wire import api
from sos.wire.errors import (
    AgentDisabled,
    BadRequest,
    BodyTooLarge,
    InProgress,
    Internal,
    Kind,
    MissingToken,
    NatsUnreachable,
    RateLimited,
    SosError,
)
from sos.wire.secrets import check_no_secret
from sos.wire.tokens import TokenKind, check, digest

CALL_TIMEOUT_S = MAX_CALL_S
"""A call that takes longer is given up. What it had appended stays true."""
MAX_BODY_BYTES = 1024 * 1024
JSON = "application/json"
KEY_HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotency-Replayed"

Caller = Principal | Bearer


class _NotJson(Exception):
    """The Content-Type says that the body is something else."""


class Calls:
    """Makes the endpoint of each route."""

    def __init__(self, bus: Bus, doorkeeper: Doorkeeper) -> None:
        self._bus = bus
        self._doorkeeper = doorkeeper

    def endpoint(self, route: Route) -> Callable[[Request], Awaitable[Response]]:
        """What answers the route's requests, whatever happens."""
        what = f"{route.method} {route.path}"

        async def endpoint(request: Request) -> Response:
            try:
                async with asyncio.timeout(CALL_TIMEOUT_S):
                    return _answered(await _Call(self._bus, self._doorkeeper, route, request).answer())
            except BodyTooLarge as e:
                return refused(e, 413)
            except _NotJson:
                return refused(BadRequest(why=f"its Content-Type is not {JSON}"), 415)
            except TimeoutError:
                return refused(Internal(what=f"{what} within {CALL_TIMEOUT_S:g} s"), 503)
            except ClientDisconnect:
                return Response(status_code=400)  # nobody is there to read it
            except Exception as e:  # noqa: BLE001 - the last line of defence: told to the log and, as a code, to the caller
                return refused(as_refusal(e, what))

        return endpoint


class _Call:
    """One request of one route."""

    def __init__(self, bus: Bus, doorkeeper: Doorkeeper, route: Route, request: Request) -> None:
        self._bus = bus
        self._doorkeeper = doorkeeper
        self._route = route
        self._request = request

    async def answer(self) -> Answer:
        """The route's answer, or that of the same request before."""
        check_address(self._request)
        key = self._key()
        token = self._bearer()
        hashed = digest(token)
        known = self._is_operators(hashed) or self._bus.rates.spend(hashed)
        if not known:
            self._bus.rates.may_guess(self._address)
        repeat = identity(hashed, self._route.method, self._request.url.path, key) if key else ""
        try:
            caller = await self._judge(token, repeat, known)
        except SosError:
            if not repeat or not self._route.outlives_token:
                raise
            asked = repeatable(repeat, key, await self._body())
            if (kept := await self._bus.idempotency.recall(asked)) is None:
                raise
            return kept
        body = await self._body()
        check_no_secret(body)
        return await self._carried_out(caller, body, repeatable(repeat, key, body) if repeat else None)

    async def _carried_out(self, caller: Caller, body: bytes, asked: Repeatable | None) -> Answer:
        ask = self._decoded(body)
        given: dict[str, Any] = dict(self._request.path_params)
        given |= self._route.whole_numbers(self._request.query_params.multi_items())
        if not self._route.cuts:
            await self._bus.projects.pending.settle()

        async def carry_out() -> Answer:
            answer = await self._route.call(self._bus, caller, given, ask)
            return Answer(self._route.status, msgspec.json.encode(answer))

        if asked is None:
            return await carry_out()
        try:
            return await self._bus.idempotency.once(asked, carry_out)
        except NatsUnreachable:
            if not self._route.cuts:
                raise
            return await carry_out()  # cutting somebody off does not wait for the record of its own answer

    # ── who asks ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _bearer(self) -> str:
        """The token, if it has the form of one that this route takes."""
        scheme, _, token = self._request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise MissingToken(expected=f"an {self._route.token}")
        kinds = (TokenKind.AGENT,) if self._route.token == AGENT else (TokenKind.OPERATOR, TokenKind.TENANT)
        check(token.strip(), *kinds)
        return token.strip()

    def _is_operators(self, hashed: str) -> bool:
        return self._doorkeeper.is_operators(hashed)

    async def _judge(self, token: str, repeat: str, known: bool) -> Caller:
        """Who this is. A token that is not known here yet gets its bucket, or counts as guessed."""
        try:
            caller, project = await self._found(token, repeat, known)
        except AgentDisabled as e:
            if not known:
                await self._bus.rates.introduce(digest(token), e.project)
            raise
        except SosError as e:
            if e.kind is Kind.UNAUTHENTICATED and not known:
                self._bus.rates.guessed(self._address)
            raise
        if not known and project is not None:
            await self._bus.rates.introduce(digest(token), project)
        return caller

    async def _found(self, token: str, repeat: str, known: bool) -> tuple[Caller, str | None]:
        """The caller and its project. What would be stored for an agent's token waits until that is looked up; else a
        known one is judged by the route alone."""
        if self._route.token != AGENT:
            principal = await self._doorkeeper.admit(token)
            return msgspec.structs.replace(principal, repeat=repeat), principal.project
        bearer = Bearer(token, repeat)
        if known and not repeat:
            return bearer, None
        rotated = await self._bus.cutting.rotated_by(bearer) if self._route.outlives_token else None
        agent = rotated or await self._bus.agents.of_token(token)
        return bearer, agent.project

    @property
    def _address(self) -> str:
        return self._request.client.host if self._request.client else ""

    def _key(self) -> str:
        if self._route.method != "POST":
            return ""
        key = parse_key(self._request.headers.getlist(KEY_HEADER))
        check_no_secret(key.encode())
        return key

    # ── what is asked ────────────────────────────────────────────────────────────────────────────────────────────

    async def _body(self) -> bytes:
        body = bytearray()
        async for chunk in self._request.stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise BodyTooLarge(limit_bytes=MAX_BODY_BYTES)
        return bytes(body)

    def _decoded(self, body: bytes) -> Any:
        if self._route.request is None:
            return None
        given = self._request.headers.get("content-type", JSON)
        if body and given.partition(";")[0].strip().lower() != JSON:
            raise _NotJson
        return api.decode(body, self._route.request)


def check_address(request: Request) -> None:
    """`SecretInMessage` if the path or the query holds one."""
    raw: bytes = request.scope.get("raw_path", b"") + b"?" + request.scope.get("query_string", b"")
    check_no_secret(unquote_plus(raw.decode("latin-1")).encode())


def refused(error: SosError, status: int | None = None) -> Response:
    """The problem, with the headers that its status calls for."""
    code, body = encode_problem(error, status)
    headers = {"WWW-Authenticate": "Bearer"} if code == 401 else {}
    if isinstance(error, RateLimited | InProgress):
        headers["Retry-After"] = str(max(math.ceil(error.retry_after_s), 1))
    return Response(body, code, headers, MEDIA_TYPE)


def _answered(answer: Answer) -> Response:
    headers = {REPLAYED_HEADER: "true"} if answer.replayed else {}
    return Response(answer.body, answer.status, headers, JSON)
