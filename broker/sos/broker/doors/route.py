"""One HTTP operation, as data: the server is made from it, and so is /openapi.json, so that they cannot disagree."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import msgspec

from sos.broker.control.bus import Bus
from sos.wire.errors import BadRequest

Parameters = dict[str, Any]
"""Of the path, texts, and of the query, whole numbers."""

OPERATOR = "operator or tenant token"
AGENT = "agent token"


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """A whole number in the query string."""

    name: str
    default: int
    description: str


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One operation. `token` says which bearer it takes; `call` gets (bus, caller, parameters, request), the caller
    being a `Principal` for operators and owners and a `Bearer` for agents."""

    method: str
    path: str
    summary: str
    answer: Any
    token: str
    request: Any = None
    status: int = HTTPStatus.OK
    query: tuple[Query, ...] = ()
    call: Callable[[Bus, Any, Parameters, Any], Awaitable[Any]]

    def whole_numbers(self, given: Parameters) -> dict[str, int]:
        """The query's numbers, defaults where none is given; `BadRequest` for what is no number."""
        found: dict[str, int] = {}
        for query in self.query:
            text = given.get(query.name, str(query.default))
            if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
                raise BadRequest(why=f"{query.name} is a whole number, not {text[:MAX_DIGITS]!r}")
            found[query.name] = int(text)
        return found


MAX_DIGITS = 18
