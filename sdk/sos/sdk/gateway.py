"""Calls to the gateway over HTTP: bearer token, JSON both ways, every wait bounded, errors as the classes they were."""

import asyncio
import http.client
import urllib.error
import urllib.request
from functools import partial
from http import HTTPStatus
from urllib.parse import urlsplit

import msgspec

from sos.wire import api
from sos.wire.errors import BadRequest, ErrorBody, GatewayUnreachable, Internal, SosError, from_wire
from sos.wire.tokens import redact

CALL_TIMEOUT_S = 10.0
"""Longer than anything the gateway does for a caller; shorter than a person's patience."""
MAX_ANSWER_BYTES = 8 * 1024 * 1024


class Gateway:
    """One gateway's address and the token that is shown to it. The token is never in `repr`."""

    def __init__(self, url: str, token: str = "") -> None:
        self.url = check_url(url)
        self._token = token

    def __repr__(self) -> str:
        return f"Gateway({self.url!r})"

    async def call[T](
        self,
        method: str,
        path: str,
        answer: type[T],
        body: object = None,
        timeout_s: float = CALL_TIMEOUT_S,
        *,
        idempotency_key: str = "",
    ) -> T:
        """`method path` with `body` as JSON; the answer as `answer`. Raises what the gateway refused with, or
        `GatewayUnreachable` within about `timeout_s`. With `idempotency_key`, a POST may be repeated unchanged and gets
        the first one's answer, tokens too."""
        blocking = partial(self.call_blocking, idempotency_key=idempotency_key)
        return await asyncio.to_thread(blocking, method, path, answer, body, timeout_s)

    def call_blocking[T](
        self,
        method: str,
        path: str,
        answer: type[T],
        body: object = None,
        timeout_s: float = CALL_TIMEOUT_S,
        *,
        idempotency_key: str = "",
    ) -> T:
        """The same, in the calling thread."""
        content = b"" if body is None else api.encode(body)
        request = urllib.request.Request(self.url + path, data=content or None, method=method)  # noqa: S310 - check_url allowed http and https only
        request.add_header("Accept", "application/json")
        if content:
            request.add_header("Content-Type", "application/json")
        if idempotency_key:
            request.add_header("Idempotency-Key", idempotency_key)
        if self._token:
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        return self._decode(self._exchange(request, timeout_s), answer)

    def _exchange(self, request: urllib.request.Request, timeout_s: float) -> bytes:
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as response:  # noqa: S310 - as above
                return response.read(MAX_ANSWER_BYTES)
        except urllib.error.HTTPError as e:
            with e:
                raise _refusal(e.code, e.read(MAX_ANSWER_BYTES)) from None
        except urllib.error.URLError as e:
            raise GatewayUnreachable(url=self.url, why=_why(e.reason)) from None
        except (OSError, http.client.HTTPException) as e:
            raise GatewayUnreachable(url=self.url, why=_why(e)) from None

    def _decode[T](self, content: bytes, answer: type[T]) -> T:
        try:
            return msgspec.json.decode(content, type=answer)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise GatewayUnreachable(url=self.url, why="what answers there is not an SOS gateway") from None


def check_url(url: str) -> str:
    """`url` without a trailing slash; `BadRequest` unless it is http or https with a host and a possible port."""
    try:
        parts = urlsplit(url)
        odd = parts.port == 0 or parts.username or parts.password or parts.query or parts.fragment
    except ValueError:
        raise _bad_url(url) from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or odd:
        raise _bad_url(url)
    return url.rstrip("/")


def _bad_url(url: str) -> BadRequest:
    return BadRequest(why=f"the gateway's address must look like http://host:6070, not {redact(url)!r}")


def _refusal(status: int, content: bytes) -> SosError:
    try:
        return from_wire(msgspec.json.decode(content, type=ErrorBody))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Internal(what=f"a call: HTTP {status} {HTTPStatus(status).phrase if status in _KNOWN else ''}".strip())


_KNOWN = frozenset(s.value for s in HTTPStatus)


def _why(reason: object) -> str:
    if isinstance(reason, TimeoutError):
        return "it did not answer in time"
    return reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason) or type(reason).__name__
