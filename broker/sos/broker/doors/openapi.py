"""/openapi.json: OpenAPI 3.1 from the routes and msgspec's own schemas."""

import re
from typing import Any

import msgspec

from sos.broker.doors.problems import MEDIA_TYPE, Problem
from sos.broker.doors.route import Route
from sos.wire import api

_PARAMETER = re.compile(r"\{(\w+)\}")
REFUSALS = ("400", "401", "403", "404", "405", "409", "413", "422", "429", "500", "503", "507")


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
    return {
        "openapi": "3.1.0",
        "info": {"title": "SOS bus", "version": version, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": route.summary,
        "description": f"Bearer: {route.token}.",
        "operationId": f"{route.method.lower()}{re.sub(r'[^a-z]+', '_', route.path)}".rstrip("_"),
        "security": [{"bearer": []}],
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in _PARAMETER.findall(route.path)
        ]
        + [
            {
                "name": query.name,
                "in": "query",
                "description": query.description,
                "schema": {"type": "integer", "minimum": 0, "default": query.default},
            }
            for query in route.query
        ],
        "responses": {str(int(route.status)): _content("Done.", route.answer), **_refusals(REFUSALS)},
    }
    if route.request is not None:
        operation["requestBody"] = {"required": True, **_body(route.request)}
    return operation


def _health() -> dict[str, Any]:
    return {
        "summary": "Whether the gateway can serve.",
        "operationId": "get_healthz",
        "responses": {"200": _content("It can.", api.Health), "503": _content("It cannot, and why.", api.Health)},
    }


def _refusals(statuses: tuple[str, ...]) -> dict[str, Any]:
    content = {"description": "Refused: what happened, and the cure.", **_body(Problem, MEDIA_TYPE)}
    return dict.fromkeys(statuses, content)


def _content(description: str, shape: Any) -> dict[str, Any]:
    return {"description": description, **_body(shape)}


def _body(shape: Any, media_type: str = "application/json") -> dict[str, Any]:
    (schema,), _ = msgspec.json.schema_components([shape], ref_template="#/components/schemas/{name}")
    return {"content": {media_type: {"schema": schema}}}
