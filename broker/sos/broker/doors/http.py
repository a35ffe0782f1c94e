"""The HTTP door: every route on a socket, and what belongs to none of them. One call is in `sos.broker.doors.calls`."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.routing import Route as StarletteRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from sos.broker.control.bus import Bus
from sos.broker.control.tokens import Doorkeeper
from sos.broker.doors.calls import JSON, Calls, check_address, refused
from sos.broker.doors.openapi import document
from sos.broker.doors.routes import ROUTES
from sos.broker.errors import ServerFailed
from sos.wire import api
from sos.wire.errors import BadRequest, NotFound, SecretInMessage

STOP_TIMEOUT_S = 5
"""For requests under way when the gateway stops."""
CONNECTION_BACKLOG = 512
MAX_HEADER_BYTES = 64 * 1024
"""Of a request's line and headers together: what is longer and has not come whole by then is answered with 400."""
MAX_PATH_CHARS = 2_048
"""No address of ours is half as long; a longer one is repeated in no answer."""

Health = Callable[[], Awaitable[api.Health]]


def make_app(bus: Bus, doorkeeper: Doorkeeper, health: Health, version: str) -> ASGIApp:
    """The application."""
    described = msgspec.json.encode(document(ROUTES, version))
    calls = Calls(bus, doorkeeper)

    async def healthz(_: Request) -> Response:
        found = await health()
        return Response(msgspec.json.encode(found), 200 if found.ok else 503, media_type=JSON)

    async def openapi(_: Request) -> Response:
        return Response(described, media_type=JSON)

    routes = [
        StarletteRoute("/healthz", healthz),
        StarletteRoute("/openapi.json", openapi),
        *(StarletteRoute(r.path, calls.endpoint(r), methods=[r.method]) for r in ROUTES),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _on_http_exception})
    app.router.redirect_slashes = False
    return _Addresses(app)


class _Addresses:
    """In front of the routes: an address that means another one to somebody on the way is nobody's here.

    An encoded slash would be decoded before the routes see it, and a name become two parts of the path.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            raw: bytes = scope.get("raw_path", b"")
            if b"%2f" in raw.lower() or len(raw) > MAX_PATH_CHARS:
                await refused(NotFound(path="an address with a slash or more in a name"))(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """Starlette's own refusals: no such path, no such method on it."""
    try:
        check_address(request)
    except SecretInMessage as e:
        return refused(e)
    if not isinstance(error, HTTPException) or error.status_code != 405:
        return refused(NotFound(path=request.url.path))
    here = [r for r in request.app.routes if r.matches(request.scope)[0] is not Match.NONE]
    methods = {m for r in here if r.path == here[0].path for m in r.methods}  # the first, as in /openapi.json: its own
    refusal = refused(BadRequest(why=f"{request.url.path} does not take {request.method}"), 405)
    refusal.headers["Allow"] = ", ".join(sorted(methods))
    return refusal


class _Server(uvicorn.Server):
    """uvicorn without its signal handling: whoever runs the gateway decides when it stops."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Bound before anything else starts, so that a taken port fails early and port 0 is known."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named TCP, or asyncio does not set TCP_NODELAY on what it accepts, and each answer on a connection that is kept
    # waits 40 ms for the client's delayed acknowledgement [measured].
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as e:
        listener.close()
        raise ServerFailed(why=f"the gateway cannot listen on {host}:{port} ({e.strerror})") from None
    listener.listen(CONNECTION_BACKLOG)
    return listener


@asynccontextmanager
async def serve_http(app: ASGIApp, listener: socket.socket) -> AsyncGenerator[None]:
    """The application on `listener`, while inside."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=STOP_TIMEOUT_S,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
    )
    # An access line holds the address as it was sent, before anybody has looked for secrets in it; and a handler
    # that somebody else hangs on this logger would bring the lines back.
    logging.getLogger("uvicorn.access").disabled = True
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    try:
        yield
    finally:
        server.should_exit = True
        await asyncio.wait([serving], timeout=2 * STOP_TIMEOUT_S)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        listener.close()
