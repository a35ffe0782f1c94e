"""Requests whose answer is shown once: kept in the agent's home until what they brought is kept there.

The law: the request, its Idempotency-Key included, is on disk before it is sent, and stays there until `done`. So
whoever dies between the gateway's answer and the saved token repeats the very same request, and gets the same token.
A refusal for good takes the request away; an answer that never came leaves it for the next try.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import monotonic

import msgspec

from sos.sdk.gateway import Gateway
from sos.wire import api
from sos.wire.errors import AgentDisabled, InProgress, Kind, RateLimited, SosError
from sos.wire.home import write_secret

KEPT_FILE = "request.json"
NOT_YET_WAIT_S = 35.0
"""For a first request that is still under way: the gateway gives up every call after 30 s."""
_FOR_GOOD = {Kind.REFUSED, Kind.INVALID, Kind.NOT_FOUND, Kind.CONFLICT, Kind.EXHAUSTED}
_NOT_YET = (InProgress, AgentDisabled)
"""Refusals that pass: the first request may end, the agent may be enabled, and then a token waits to be fetched."""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """The file. `asker` is the id of the token it was sent with, which opens nothing: to the gateway, the same request
    of somebody else is another request."""

    path: str
    key: str
    asker: str
    body: msgspec.Raw


def kept(home: Path, path: str, asker: str) -> Kept | None:
    """The request to `path` that was begun by `asker` and is not done. One that cannot be read is none."""
    try:
        found = msgspec.json.decode((home / KEPT_FILE).read_bytes(), type=Kept)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return found if (found.path, found.asker) == (path, asker) else None


async def ask[T](
    gateway: Gateway, home: Path, path: str, body: api.Request, answer: type[T], *, asker: str, key: str = ""
) -> T:
    """POST `body`, or the request to `path` that is already kept. What comes of it is to be saved before `done`.

    Raises what the gateway refuses with, `GatewayUnreachable`, and `OSError` if the home cannot be written.
    """
    request = kept(home, path, asker)
    if request is None:
        request = Kept(
            path=path, key=key or secrets.token_hex(16), asker=asker, body=msgspec.Raw(msgspec.json.encode(body))
        )
        write_secret(home / KEPT_FILE, msgspec.json.encode(request).decode())
    try:
        return await patiently(
            lambda: gateway.call("POST", request.path, answer, request.body, idempotency_key=request.key)
        )
    except SosError as e:
        if e.kind in _FOR_GOOD and not isinstance(e, _NOT_YET):
            done(home)
        raise


def done(home: Path) -> None:
    """What the request brought is saved; a second time is fine."""
    (home / KEPT_FILE).unlink(missing_ok=True)


async def patiently[T](call: Callable[[], Awaitable[T]]) -> T:
    """What `call` comes to, asked again for as long as the gateway says 'not yet': another one of the same is under
    way, or this token has called too often. After `NOT_YET_WAIT_S` that is raised."""
    deadline = monotonic() + NOT_YET_WAIT_S
    while True:
        try:
            return await call()
        except (InProgress, RateLimited) as e:
            if monotonic() + e.retry_after_s >= deadline:
                raise
            await asyncio.sleep(e.retry_after_s)
