"""/openapi.json: OpenAPI 3.1 from the routes and msgspec's own schemas. tests/acceptance holds the door to its word."""

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import msgspec

from sos.broker.control.idempotency import MAX_KEY_CHARS
from sos.broker.doors.problems import MEDIA_TYPE, Problem
from sos.broker.doors.route import AGENT, OPERATOR, OPERATOR_ONLY, Query, Route
from sos.wire import api
from sos.wire.errors import BadRequest
from sos.wire.ids import UUID7
from sos.wire.names import MAX_FREE_TEXT_CHARS

_PARAMETER = re.compile(r"\{(\w+)\}")
JSON = "application/json"
SCHEMES = {
    OPERATOR_ONLY: ("operator",),
    OPERATOR: ("operator", "tenant"),
    AGENT: ("agent",),
}
"""Which tokens an operation takes."""
_BEARERS = {
    "operator": "sk-op-…: the operator's, for everything that owners may do in any project, and for the bus itself.",
    "tenant": "sk-ten-…: of a project's owner, for this project alone.",
    "agent": "sk-bus-…: an agent's own, for itself alone.",
}
_SAID = {
    400: "The request is not HTTP.",
    401: "No token, or one that opens nothing here.",
    403: "A good token that does not reach this far, a disabled agent, or a tier that is used up.",
    404: "Something that is named is not there.",
    405: "Not with this method.",
    409: "It cannot be just now: a name is taken, or the first request with this Idempotency-Key is under way.",
    413: "The body is too large.",
    415: f"The body is not {JSON}.",
    422: "What was given does not fit, or holds a secret, or the Idempotency-Key was used for another request.",
    429: "Too many calls of this token, or of unknown tokens from this address.",
    500: "A defect of the gateway; its log has the details.",
    503: "NATS does not answer, or not in time.",
    507: "No room is left.",
}
_ALWAYS = (401, 413, 422, 429, 500, 503)
_CHANGING = (409, 507)
_FOR_EVERY_OWNER = {"/api/projects", "/api/catalog"}
"""Lists that show each caller what is theirs, so that no good token is refused."""
_NAMES_IN_BODY = (api.SetEscalation,)
"""Requests that name something which may not be there."""
_RETRY_AFTER = {"description": "Whole seconds to wait.", "schema": {"type": "integer", "minimum": 1}}
_HEADERS: dict[int, dict[str, Any]] = {
    401: {"WWW-Authenticate": {"required": True, "schema": {"const": "Bearer"}}},
    405: {"Allow": {"required": True, "schema": {"type": "string"}}},
    409: {"Retry-After": _RETRY_AFTER},
    429: {"Retry-After": _RETRY_AFTER | {"required": True}},
}
_REPLAYED = {
    "Idempotency-Replayed": {
        "description": "This is the answer of the first request with this Idempotency-Key.",
        "schema": {"const": "true"},
    }
}
_KEY_CHARS = rf"[!#-\[\]-~]{{1,{MAX_KEY_CHARS}}}"
_KEY: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A repetition under the same key, within a day, gets the first one's answer, tokens too. "
    "A refusal is not kept.",
    "schema": {"type": "string", "pattern": f'^({_KEY_CHARS}|"{_KEY_CHARS}")$'},
}


def document(routes: tuple[Route, ...], version: str) -> dict[str, Any]:
    """The whole document."""
    types = [t for r in routes for t in (r.request, r.answer) if t is not None]
    _, schemas = msgspec.json.schema_components(
        [*types, Problem, api.Health], ref_template="#/components/schemas/{name}"
    )
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    paths["/healthz"] = {"get": _health()}
    paths["/openapi.json"] = {"get": _itself()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "SOS bus", "version": version, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                name: {"type": "http", "scheme": "bearer", "description": said} for name, said in _BEARERS.items()
            },
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": route.summary,
        "description": f"Bearer: {route.token}.",
        "operationId": f"{route.method.lower()}{re.sub(r'[^a-z]+', '_', route.path)}".rstrip("_"),
        "security": [{scheme: list[str]()} for scheme in SCHEMES[route.token]],
        "parameters": _parameters(route),
        "responses": {str(int(route.status)): _done(route), **_refusals(_statuses(route))},
    }
    if route.request is not None:
        operation["requestBody"] = {"required": _needs_body(route), **_body(route.request)}
    return operation


# ── what goes in ─────────────────────────────────────────────────────────────────────────────────────────────────


def _parameters(route: Route) -> list[dict[str, Any]]:
    found = [_in_path(name, route.path) for name in _PARAMETER.findall(route.path)] + [
        _in_query(q) for q in route.query
    ]
    return [*found, _KEY] if route.method == "POST" else found


def _in_path(name: str, path: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": MAX_FREE_TEXT_CHARS}
    if f"messages/{{{name}}}" in path:
        schema = {"type": "string", "pattern": f"^{UUID7.pattern}$", "description": "A message's id, a UUIDv7."}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _in_query(query: Query) -> dict[str, Any]:
    return {
        "name": query.name,
        "in": "query",
        "description": query.description,
        "schema": {"type": "integer", "minimum": query.least, "maximum": query.most, "default": query.default},
    }


def _needs_body(route: Route) -> bool:
    """Whether an empty body, which stands for `{}`, does not do."""
    try:
        api.decode(b"", route.request)
    except BadRequest:
        return True
    return False


# ── what comes out ───────────────────────────────────────────────────────────────────────────────────────────────


def _statuses(route: Route) -> set[int]:
    """Every status that the operation may refuse with."""
    found = {*_ALWAYS, *(() if route.method == "GET" else _CHANGING)}
    if route.method != "GET" or route.path not in _FOR_EVERY_OWNER:
        found.add(403)
    if _PARAMETER.search(route.path) or route.request in _NAMES_IN_BODY:
        found.add(404)
    if route.request is not None:
        found.add(415)
    return found


def _done(route: Route) -> dict[str, Any]:
    content = _content("Done.", route.answer)
    return content | {"headers": _REPLAYED} if route.method == "POST" else content


def _health() -> dict[str, Any]:
    return {
        "summary": "Whether the gateway can serve.",
        "operationId": "get_healthz",
        "security": [],
        "responses": {"200": _content("It can.", api.Health), "503": _content("It cannot, and why.", api.Health)},
    }


def _itself() -> dict[str, Any]:
    content = {"description": "This document.", "content": {JSON: {"schema": {"type": "object"}}}}
    return {
        "summary": "What there is.",
        "operationId": "get_openapi",
        "security": [],
        "responses": {"200": content},
    }


def _refusals(statuses: Iterable[int]) -> dict[str, Any]:
    return {str(status): _refusal(status) for status in sorted(statuses)}


def _refusal(status: int) -> dict[str, Any]:
    content = {"description": f"{HTTPStatus(status).phrase}. {_SAID[status]}", **_body(Problem, MEDIA_TYPE)}
    return content | {"headers": _HEADERS[status]} if status in _HEADERS else content


def _content(description: str, shape: Any) -> dict[str, Any]:
    return {"description": description, **_body(shape)}


def _body(shape: Any, media_type: str = JSON) -> dict[str, Any]:
    (schema,), _ = msgspec.json.schema_components([shape], ref_template="#/components/schemas/{name}")
    return {"content": {media_type: {"schema": schema}}}
