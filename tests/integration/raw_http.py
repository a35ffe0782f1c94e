"""Requests as no client of ours would make them, each within a bound; and what every refusal must look like."""

import asyncio
import http.client
from collections.abc import Mapping
from contextlib import suppress
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import msgspec

BOUND_S = 5.0
PROBLEM = "application/problem+json"
NO_HEADERS: Mapping[str, str] = {}


class Problem(msgspec.Struct):
    """RFC 9457, and what this bus adds: all of it is required here."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    cure: str
    fields: dict[str, Any]


class Answer(msgspec.Struct):
    """What came back, and how long it took."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    took_s: float

    def problem(self, status: int, code: str) -> Problem:
        """The refusal, checked: its status, code and media type, and that its text says what happened and what to
        do."""
        assert (self.status, self.headers["content-type"]) == (status, PROBLEM), self.body
        problem = msgspec.json.decode(self.body, type=Problem)
        assert (problem.status, problem.code) == (status, code)
        assert problem.type == f"urn:sos:error:{code}"
        assert problem.title == code.replace("_", " ")
        assert len(problem.detail) > 10
        assert len(problem.cure) > 10
        assert problem.cure[0].isupper()
        assert problem.cure.endswith((".", "'"))
        assert "{" not in problem.cure
        assert self.took_s < BOUND_S
        return problem


def ask(
    url: str,
    method: str,
    path: str,
    token: str = "",
    body: object = None,
    authorization: str = "",
    more: Mapping[str, str] = NO_HEADERS,
) -> Answer:
    """One request, with `more` headers. A body that is not bytes is written as JSON."""
    parts, began = urlsplit(url), monotonic()
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=BOUND_S)
    headers = {"Content-Type": "application/json", **more}
    if token or authorization:
        headers["Authorization"] = authorization or f"Bearer {token}"
    content = body if isinstance(body, bytes) or body is None else msgspec.json.encode(body)
    try:
        with suppress(BrokenPipeError, ConnectionResetError):  # refused before it was read: the answer is there
            connection.request(method, path, content, headers)
        response = connection.getresponse()
        found = {k.lower(): v for k, v in response.getheaders()}
        return Answer(response.status, found, response.read(), monotonic() - began)
    finally:
        connection.close()


async def asking(
    url: str,
    method: str,
    path: str,
    token: str = "",
    body: object = None,
    authorization: str = "",
    more: Mapping[str, str] = NO_HEADERS,
) -> Answer:
    """The same beside the event loop, in which the gateway itself runs."""
    call = asyncio.to_thread(ask, url, method, path, token, body, authorization, more)
    return await asyncio.wait_for(call, 2 * BOUND_S)
