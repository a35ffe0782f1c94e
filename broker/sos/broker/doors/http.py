"""The HTTP door: bearer in, JSON both ways, every refusal as problem+json. Nothing here is logged but what failed."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute

from sos.broker.control.bus import Bus
from sos.broker.control.tokens import Bearer, Doorkeeper
from sos.broker.doors.openapi import document
from sos.broker.doors.problems import MEDIA_TYPE, as_refusal, encode_problem
from sos.broker.doors.route import AGENT, Route
from sos.broker.doors.routes import ROUTES
from sos.broker.errors import ServerFailed
from sos.wire import api
from sos.wire.errors import BadRequest, BodyTooLarge, Internal, MissingToken, NotFound, SosError

MAX_BODY_BYTES = 1024 * 1024
CALL_TIMEOUT_S = 30.0
"""A call that takes longer is given up. What it had appended stays true."""
STOP_TIMEOUT_S = 5
"""For requests under way when the gateway stops."""
CONNECTION_BACKLOG = 512

Health = Callable[[], Awaitable[api.Health]]


def make_app(bus: Bus, doorkeeper: Doorkeeper, health: Health, version: str) -> Starlette:
    """The application."""
    described = msgspec.json.encode(document(ROUTES, version))

    async def healthz(_: Request) -> Response:
        found = await health()
        return _json(found, 200 if found.ok else 503)

    async def openapi(_: Request) -> Response:
        return Response(described, media_type="application/json")

    routes = [
        StarletteRoute("/healthz", healthz),
        StarletteRoute("/openapi.json", openapi),
        *(StarletteRoute(r.path, _endpoint(r, bus, doorkeeper), methods=[r.method]) for r in ROUTES),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: _on_http_exception})


def _endpoint(route: Route, bus: Bus, doorkeeper: Doorkeeper) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        what = f"{route.method} {route.path}"
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                token = _bearer(request, route.token)
                caller = Bearer(token) if route.token == AGENT else await doorkeeper.admit(token)
                ask = api.decode(await _body(request), route.request) if route.request is not None else None
                await bus.projects.pending.settle()
                given = dict(request.path_params) | route.whole_numbers(dict(request.query_params))
                answer = await route.call(bus, caller, given, ask)
                return _json(answer, route.status)
        except BodyTooLarge as e:
            return _refused(e, 413)
        except TimeoutError:
            return _refused(Internal(what=f"{what} within {CALL_TIMEOUT_S:g} s"), 503)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it
        except Exception as e:  # noqa: BLE001 - the last line of defence: told to the log and, as a code, to the caller
            return _refused(as_refusal(e, what))

    return endpoint


def _bearer(request: Request, expected: str) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise MissingToken(expected=f"an {expected}")
    return token.strip()


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise BodyTooLarge(limit_bytes=MAX_BODY_BYTES)
    return bytes(body)


def _json(answer: object, status: int) -> Response:
    return Response(msgspec.json.encode(answer), status, media_type="application/json")


def _refused(error: SosError, status: int | None = None) -> Response:
    code, body = encode_problem(error, status)
    headers = {"WWW-Authenticate": "Bearer"} if code == 401 else {}
    return Response(body, code, headers, MEDIA_TYPE)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """Starlette's own refusals: no such path, no such method on it."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 405:
        return _refused(BadRequest(why=f"{request.url.path} does not take {request.method}"), 405)
    return _refused(NotFound(path=request.url.path), status)


class _Server(uvicorn.Server):
    """uvicorn without its signal handling: whoever runs the gateway decides when it stops."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Bound before anything else starts, so that a taken port fails early and port 0 is known."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as e:
        listener.close()
        raise ServerFailed(why=f"the gateway cannot listen on {host}:{port} ({e.strerror})") from None
    listener.listen(CONNECTION_BACKLOG)
    return listener


@asynccontextmanager
async def serve_http(app: Starlette, listener: socket.socket) -> AsyncGenerator[None]:
    """The application on `listener`, while inside."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=STOP_TIMEOUT_S,
        h11_max_incomplete_event_size=64 * 1024,
    )
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
