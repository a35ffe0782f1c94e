"""Odd HTTP: addresses, methods, headers, content types. Each has its status, is no 5xx, and reaches no route it does
not name."""

import asyncio
import http.client
import socket
from time import monotonic
from urllib.parse import urlsplit

import pytest
from tests.conftest import OPERATOR, WITHIN_S, Project
from tests.integration.raw_http import asking

from sos.broker.app import Running
from sos.broker.doors.http import MAX_HEADER_BYTES

REPEATS = 20
QUICK_S = 0.02
"""Half of a delayed acknowledgement, and ten times what a call takes."""


@pytest.mark.parametrize(
    "path",
    [
        "/api/tenants/{slug}%2Fagents",
        "/api/tenants/{slug}%2fagents",
        "/api/tenants%2F{slug}/agents",
        "/api/tenants/x%2F..%2F{slug}/agents",
        "/api/tenants//agents",
        "//api/tenants/{slug}/agents",
        "/api/tenants/{slug}/agents/",
        "/api/tenants/{slug}/agents//sessions",
        "/api/catalog/",
        "/API/projects",
        "/api/projects;x=1",
        "/api/tenants/{slug}/agents/" + "a/" * 3_000,
    ],
)
async def test_an_address_that_is_written_another_way_is_another_address(bus: Running, project: Project, path: str):
    address = path.replace("{slug}", project.slug)
    (await asking(bus.url, "GET", address, bus.operator_token)).problem(404, "not_found")


async def test_an_encoded_slash_carries_no_name_into_another_route(bus: Running, project: Project):
    path = f"/api/tenants/{project.slug}%2Fagents%2Fmint"
    (await asking(bus.url, "POST", path, project.tenant_token, {"agent_name": "eve"})).problem(404, "not_found")
    path = f"/api/tenants/{project.slug}/agents/bob%2Fdisable"
    (await asking(bus.url, "POST", path, project.tenant_token)).problem(404, "not_found")
    assert await bus.bus.agents.list(OPERATOR, project.slug) == ()


@pytest.mark.parametrize("part", ["..", ".", "%2e%2e", "%00", "a%00b", "%ff%fe", "%F0%9F%98%80", "%", "%zz"])
async def test_a_part_of_a_path_that_is_no_name_is_refused(bus: Running, part: str):
    answer = await asking(bus.url, "GET", f"/api/tenants/{part}/agents", bus.operator_token)
    answer.problem(422, "bad_name")
    answer = await asking(bus.url, "DELETE", f"/api/catalog/{part}", bus.operator_token)
    answer.problem(422, "bad_name")


@pytest.mark.parametrize(
    "query",
    [
        "after=-1",
        "after=x",
        "after=1.0",
        "after=",
        "after=1e3",
        "after=%201",
        "after=%D9%A1",
        "after=" + "9" * 19,
        "after=" + "9" * 5_000,
        "limit=0",
        "limit=257",
        "after=1&after=2",
        "before=1",
        "=1",
        "after=%00",
    ],
)
async def test_a_query_that_does_not_fit_is_refused(bus: Running, query: str):
    (await asking(bus.url, "GET", f"/api/audit?{query}", bus.operator_token)).problem(422, "bad_request")


@pytest.mark.parametrize("made", ["fc5018d4-8c8d", "ffffffff-ffff", "00000000-0000"])
async def test_a_messages_id_from_any_year_is_looked_up(bus: Running, project: Project, made: str):
    path = f"/api/tenants/{project.slug}/messages/{made}-762c-bbd0-72500fec6837/session"
    (await asking(bus.url, "GET", path, bus.operator_token)).problem(404, "unknown_message")


async def test_a_query_where_none_is_taken_is_refused(bus: Running, project: Project):
    path = f"/api/tenants/{project.slug}/agents?state=active"
    assert (
        "takes nothing" in (await asking(bus.url, "GET", path, bus.operator_token)).problem(422, "bad_request").detail
    )


@pytest.mark.parametrize("query", ["after=0", "limit=1", "limit=256", "after=" + "9" * 18, "after=0&limit=5", ""])
async def test_a_query_that_fits_is_answered(bus: Running, query: str):
    assert (await asking(bus.url, "GET", f"/api/audit?{query}", bus.operator_token)).status == 200


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("OPTIONS", "/api/projects", "GET, HEAD, POST"),
        ("TRACE", "/api/projects", "GET, HEAD, POST"),
        ("PUT", "/api/tenants/acme/agents", "GET, HEAD"),
        ("GET", "/api/tenants/acme/agents/mint", "POST"),
        ("GET", "/api/tenants/acme/agents/bob", "DELETE"),
        ("QUERY", "/api/session", "POST"),
        ("POST", "/healthz", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(bus: Running, method: str, path: str, allowed: str):
    answer = await asking(bus.url, method, path, bus.operator_token)
    answer.problem(405, "bad_request")
    assert answer.headers["allow"] == allowed


async def test_head_is_get_without_its_body(bus: Running):
    got = await asking(bus.url, "GET", "/api/projects", bus.operator_token)
    head = await asking(bus.url, "HEAD", "/api/projects", bus.operator_token)
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", got.headers["content-length"])
    assert (await asking(bus.url, "HEAD", "/api/projects")).status == 401


@pytest.mark.parametrize(
    "given", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "*"]
)
async def test_a_body_that_says_it_is_not_json_is_refused(bus: Running, project: Project, given: str):
    path, body = f"/api/tenants/{project.slug}/agents/mint", b'{"agent_name": "eve"}'
    answer = await asking(bus.url, "POST", path, project.tenant_token, body, more={"Content-Type": given})
    assert "application/json" in answer.problem(415, "bad_request").detail
    assert await bus.bus.agents.list(OPERATOR, project.slug) == ()


@pytest.mark.parametrize("given", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
async def test_a_body_that_says_it_is_json_is_taken(bus: Running, project: Project, given: str):
    path, body = f"/api/tenants/{project.slug}/agents/mint", b'{"agent_name": "eve"}'
    answer = await asking(bus.url, "POST", path, project.tenant_token, body, more={"Content-Type": given})
    assert answer.status == 201


async def test_a_body_on_a_get_changes_nothing_and_is_bounded(bus: Running):
    path, token = "/api/projects", bus.operator_token
    assert (await asking(bus.url, "GET", path, token, b'{"x": 1}')).status == 200
    (await asking(bus.url, "GET", path, token, b" " * (1024 * 1024 + 1))).problem(413, "body_too_large")


async def test_headers_without_an_end_are_refused(bus: Running):
    address = urlsplit(bus.url)

    def ask() -> bytes:
        with socket.create_connection((address.hostname, address.port), timeout=WITHIN_S) as client:
            client.sendall(b"GET /api/projects HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * (2 * MAX_HEADER_BYTES))
            return client.recv(1_000)

    assert (await asyncio.to_thread(ask)).startswith(b"HTTP/1.1 400 ")
    answer = await asking(bus.url, "GET", "/api/projects", bus.operator_token, more={"X-Long": "x" * 30_000})
    assert answer.status == 200


@pytest.mark.parametrize(
    "body",
    [
        b'{"agent_name": "\\ud800"}',
        b'{"agent_name": "\xed\xa0\x80"}',
        b'{"agent_name": "a\x00"}',
        b'{"agent_name": 1e999}',
        b'{"agent_name": "eve", "skills": [{"id": "x", "input_schema": {"x": 1e999}}]}',
        b'{"agent_name": "eve", "skills": [{"id": "x", "input_schema": {"x": ' + b"9" * 10_000 + b"}}]}",
        b'{"agent_name": "eve", "skills": [{"id": "x", "input_schema": {"x": ' + b"[" * 100 + b"]" * 100 + b"}}]}",
        b'{"agent_name": "eve", "skills": [{"id": "x", "input_schema": {"x": NaN}}]}',
        b'{"agent_name": "eve", "agent_name": "a*b"}',
        b"\xef\xbb\xbf{}",
    ],
    ids=lambda b: str(b[:40]),
)
async def test_json_that_others_read_differently_or_not_at_all_is_refused(bus: Running, project: Project, body: bytes):
    path = f"/api/tenants/{project.slug}/agents/mint"
    answer = await asking(bus.url, "POST", path, project.tenant_token, body)
    assert answer.status == 422, answer.body
    assert await bus.bus.agents.list(OPERATOR, project.slug) == ()


async def test_a_connection_that_is_kept_answers_without_delay(bus: Running):
    """An accepted socket without TCP_NODELAY adds 40 ms to every answer but the first."""

    def ask() -> float:
        address = urlsplit(bus.url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=WITHIN_S)
        took_s: list[float] = []
        for _ in range(REPEATS):
            began = monotonic()
            connection.request("GET", "/openapi.json")
            connection.getresponse().read()
            took_s.append(monotonic() - began)
        connection.close()
        return sorted(took_s)[REPEATS // 2]

    assert await asyncio.to_thread(ask) < QUICK_S
