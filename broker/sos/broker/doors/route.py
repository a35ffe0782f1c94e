"""One HTTP operation, as data: the server is made from it, and so is /openapi.json, so that they cannot disagree."""

from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from sos.broker.control.bus import Bus
from sos.wire.errors import BadRequest

Parameters = dict[str, Any]
"""Of the path, texts, and of the query, whole numbers."""

MAX_DIGITS = 18
OPERATOR_ONLY = "operator token"
OPERATOR = "operator or tenant token"
AGENT = "agent token"


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """A whole number in the query string."""

    name: str
    default: int
    description: str
    least: int = 0
    most: int = 10**MAX_DIGITS - 1

    def number(self, text: str) -> int:
        """The number that `text` is; `BadRequest`."""
        digits = text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS
        if not digits or not self.least <= int(text) <= self.most:
            given = text[:MAX_DIGITS]
            raise BadRequest(why=f"{self.name} is a whole number from {self.least} to {self.most}, not {given!r}")
        return int(text)


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One operation. `token` says which bearer it takes; `call` gets (bus, caller, parameters, request), the caller
    being a `Principal` for operators and owners and a `Bearer` for agents. `outlives_token`: it makes the token with
    which it is asked worthless, so a repetition is known by its stored answer before its token is judged. `cuts`: it
    cuts an agent off, which is taken on while NATS is away.
    """

    method: str
    path: str
    summary: str
    answer: Any
    token: str
    request: Any = None
    status: int = HTTPStatus.OK
    query: tuple[Query, ...] = ()
    outlives_token: bool = False
    cuts: bool = False
    call: Callable[[Bus, Any, Parameters, Any], Awaitable[Any]]

    def whole_numbers(self, given: Sequence[tuple[str, str]]) -> dict[str, int]:
        """The query's numbers, defaults where none is given; `BadRequest` for what is no number, out of bounds, given
        twice, or not asked for."""
        texts = dict(given)
        if len(texts) < len(given) or texts.keys() - {q.name for q in self.query}:
            raise BadRequest(why=f"the query takes {self._takes()}, and each once")
        return {q.name: q.number(texts[q.name]) if q.name in texts else q.default for q in self.query}

    def _takes(self) -> str:
        return ", ".join(q.name for q in self.query) or "nothing"
