"""The door keeps to /openapi.json: schemathesis reads it, makes requests from it, and judges every answer by it.

Seeded, so that a run is repeatable. `make fuzz` makes a thousand examples of each operation; SOS_HTTP_EXAMPLES says
how many otherwise.
"""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import requests
import schemathesis
from msgspec.structs import replace
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from tests.conftest import OPERATOR, Project
from tests.integration.raw_http import asking

from sos.broker.app import Running, run
from sos.broker.config import Config
from sos.broker.nats.tiers import MIB, TIERS
from sos.sdk.credential import SessionKey
from sos.wire import api

EXAMPLES = int(os.environ.get("SOS_HTTP_EXAMPLES", "8"))
"""Of each operation, besides the systematic cases, which are the same at any number."""
SEED = 20_260_515
BOUND_S = 60.0 + 3.0 * EXAMPLES
CALL_TIMEOUT_S = 10.0
TINY = replace(
    TIERS["starter"],
    custom_agents=None,
    calls_per_s=10_000.0,
    calls_burst=1_000_000,
    messages_max_bytes=MIB,
    events_max_bytes=MIB,
)
"""Small enough for hundreds of projects, and no limit that the run itself would meet."""
REFUSED_VALID = ["2xx", "401", "403", "404", "409", "422"]
"""What may become of a request that fits the document. 422 too: that a name is one is more than a schema can say."""
AGENTS_PATHS = r"^/api/(agent|session)"


class Token:
    """What requests are made with; a rotation is followed. Made for one schema."""

    def __init__(self, token: str) -> None:
        self.now = token

    def follow(self, path: str, response: Any) -> None:
        """A rotation's answer holds the next one."""
        first = "idempotency-replayed" not in response.headers
        if path == "/api/agent/rotate" and response.status_code == 200 and first:
            self.now = response.json()["raw_token"]


class Run:
    """What one run has seen: answers by status, and what was found wrong."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.wrong: dict[tuple[str, str], str] = {}

    def note(self, event: events.EngineEvent) -> None:
        """One event of the engine."""
        if isinstance(event, events.NonFatalError):
            self.wrong[event.label, "error"] = str(event.info)
        elif isinstance(event, events.FatalError):
            self.wrong["the run", "error"] = repr(event.exception)
        elif isinstance(event, events.ScenarioFinished):
            for interaction in event.recorder.interactions.values():
                self.statuses[interaction.response.status_code if interaction.response else 0] += 1
            for check in (c for checks in event.recorder.checks.values() for c in checks):
                if check.failure_info is not None:
                    failure = check.failure_info
                    told = f"{failure.failure.title}: {failure.failure.message}\n{failure.code_sample}"
                    self.wrong.setdefault((str(event.label), check.name), told)


async def described(bus: Running) -> dict[str, Any]:
    """The document, as it is served."""
    return msgspec.json.decode((await asking(bus.url, "GET", "/openapi.json")).body)


def load(bus: Running, token: str | Token, document: dict[str, Any]) -> Any:
    """The schema, its requests made with `token`."""
    # Any: schemathesis' own types are generic over frameworks of which none is used here.
    loader: Any = schemathesis
    settings: Any = SchemathesisConfig
    config = settings.from_dict(
        {
            "base-url": bus.url,
            "seed": SEED,
            "request-timeout": CALL_TIMEOUT_S,
            "generation": {"max-examples": EXAMPLES, "deterministic": True, "database": "none"},
            "checks": {"positive_data_acceptance": {"expected-statuses": REFUSED_VALID}},
        }
    )
    schema = loader.openapi.from_dict(document, config=config)
    held = token if isinstance(token, Token) else Token(token)

    class Bearer:
        """schemathesis makes one itself, so this is a class."""

        def get(self, _case: object, _context: object) -> str:
            return held.now

        def set(self, case: Any, data: str, _context: object) -> None:
            case.headers["Authorization"] = f"Bearer {data}"

    def after_call(_context: object, case: Any, response: Any) -> None:
        held.follow(case.path, response)

    schema.auth(refresh_interval=None)(Bearer)
    schema.hook("after_call")(after_call)
    return schema.exclude(path="/healthz")  # on a machine that is too busy its 503 is the truth


async def exercise(schema: Any) -> Run:
    """Every operation of the schema, in a thread: the gateway runs in this one."""
    found = Run()

    def execute() -> None:
        for event in from_schema(schema).execute():
            found.note(event)

    async with asyncio.timeout(BOUND_S):
        await asyncio.to_thread(execute)
    return found


@pytest.fixture
async def own(home: Path) -> AsyncIterator[Project]:
    """A project with an agent on a bus of the test's own, which no other test fills."""
    tiers: dict[api.Tier, Any] = dict.fromkeys(TIERS, TINY)
    async with run(Config(home=home, http_port=0, nats_port=0, tiers=tiers)) as bus:
        yield Project(bus, await bus.bus.projects.create(OPERATOR, api.CreateProject(slug="acme")))


def check(found: Run, *expected: int) -> None:
    """Nothing was found wrong, no answer was a 5xx, and the run did reach what it was to reach."""
    assert not found.wrong, "\n\n".join(f"{what}\n{told}" for what, told in found.wrong.items())
    assert not [status for status in found.statuses if not 200 <= status < 500], found.statuses
    assert set(expected) <= set(found.statuses), found.statuses


@pytest.mark.timeout(BOUND_S + 30)
async def test_with_an_operators_token_every_answer_is_as_the_document_says(own: Project):
    check(
        await exercise(load(own.bus, own.bus.operator_token, await described(own.bus))),
        200,
        201,
        401,
        404,
        405,
        409,
        415,
        422,
    )


@pytest.mark.timeout(BOUND_S + 30)
async def test_with_an_owners_token_every_answer_is_as_the_document_says(own: Project):
    found = await exercise(load(own.bus, own.tenant_token, await described(own.bus)).exclude(path_regex=AGENTS_PATHS))
    check(found, 200, 401, 403, 405, 422)


@pytest.mark.timeout(BOUND_S + 30)
async def test_with_an_agents_token_every_answer_is_as_the_document_says(own: Project):
    token = Token(await own.mint("bob"))
    found = await exercise(load(own.bus, token, await described(own.bus)).include(path_regex=AGENTS_PATHS))
    check(found, 200, 401, 405, 415, 422)
    still = await asking(own.bus.url, "GET", "/api/agent", token.now)
    assert still.status == 200, "the token was lost on the way, and with it what the rest of the run was for"


# ── what random requests seldom reach ────────────────────────────────────────────────────────────────────────────


async def test_what_succeeds_is_as_the_document_says(own: Project):
    """Every operation once with what it is for: keys that prove themselves and agents that are there come by no
    chance."""
    bob, token = await own.mint("bob"), own.bus.operator_token
    agents = "/api/tenants/{slug}/agents"
    async with await own.agent("bob", bob) as agent:
        sent = await agent.send("bob", "to myself")
    asks: tuple[tuple[str, str, str, object], ...] = (
        ("POST", "/api/projects", token, {"slug": "more", "tier": "starter"}),
        ("GET", "/api/projects", token, None),
        ("POST", "/api/projects/{slug}/escalation", token, {"to": "agent:bob"}),
        ("POST", "/api/escalation", token, {"to": "acme/agent:bob"}),
        ("POST", "/api/tenants/{slug}/squads", token, {"squad": "ops"}),
        ("GET", "/api/tenants/{slug}/squads", token, None),
        (
            "POST",
            "/api/catalog",
            token,
            {"name": "bob", "skills": [{"id": "review", "input_schema": {"type": "object"}}]},
        ),
        ("GET", "/api/catalog", token, None),
        ("GET", "/api/audit", token, None),
        ("POST", f"{agents}/mint", token, {"agent_name": "eve"}),
        ("GET", agents, token, None),
        ("POST", "/api/agent/join", bob, {"install": "install-1", "skills": [{"id": "review"}]}),
        ("GET", "/api/agent", bob, None),
        ("POST", "/api/session", bob, SessionKey().request(bob)),
        ("GET", "/api/agent/sessions", bob, None),
        ("GET", f"{agents}/{{id}}/sessions", token, None),
        ("GET", "/api/tenants/{slug}/messages/{id}/session", token, None),
        ("POST", f"{agents}/{{id}}/scopes", token, {"scopes": ["mcp:inbox"]}),
        ("POST", f"{agents}/{{id}}/disable", token, None),
        ("POST", f"{agents}/{{id}}/enable", token, None),
        ("POST", "/api/agent/rotate", bob, {"grace_s": 5}),
        ("POST", f"{agents}/{{id}}/rotate", token, None),
        ("POST", f"{agents}/{{id}}/release", token, None),
        ("DELETE", f"{agents}/{{id}}", token, None),
        ("DELETE", "/api/catalog/{name}", token, None),
        ("POST", f"{agents}/activate", token, {"agent_name": "kasra"}),
        ("POST", "/api/projects/{slug}/rotate", token, None),
        ("GET", "/healthz", "", None),
        ("GET", "/openapi.json", "", None),
    )
    await own.bus.bus.catalogue.add(OPERATOR, api.AddToCatalogue(name="kasra"))
    document = await described(own.bus)
    schema = load(own.bus, token, document)

    def ask(method: str, path: str, bearer: str, body: object) -> None:
        address = path.format(slug="acme", name="bob", id=sent.id if "messages" in path else "bob")
        response = requests.request(
            method,
            own.bus.url + address,
            data=None if body is None else msgspec.json.encode(body),
            headers={"Authorization": f"Bearer {bearer}", "Content-Type": "application/json"},
            timeout=CALL_TIMEOUT_S,
        )
        assert response.status_code in {200, 201}, (method, path, response.text)
        schema[path][method].validate_response(response)

    for asked in asks:
        await asyncio.to_thread(ask, *asked)
    documented = {(method.upper(), path) for path, operations in document["paths"].items() for method in operations}
    assert {(method, path) for method, path, _, _ in asks} == documented


# ── the checks can fail ──────────────────────────────────────────────────────────────────────────────────────────


async def test_a_status_that_the_document_leaves_out_is_noticed(own: Project):
    document = await described(own.bus)
    del document["paths"]["/api/tenants/{slug}/squads"]["get"]["responses"]["404"]
    schema = load(own.bus, own.bus.operator_token, document).include(path="/api/tenants/{slug}/squads", method="GET")
    found = await exercise(schema)
    assert {check for _, check in found.wrong} == {"status_code_conformance"}
    assert "404" in next(iter(found.wrong.values()))


async def test_an_answer_of_another_shape_is_noticed(own: Project):
    document = await described(own.bus)
    document["components"]["schemas"]["Project"]["required"].append("colour")
    found = await exercise(load(own.bus, own.bus.operator_token, document).include(path="/api/projects", method="GET"))
    assert {check for _, check in found.wrong} == {"response_schema_conformance"}


async def test_a_defect_of_the_gateway_is_noticed(own: Project, monkeypatch: pytest.MonkeyPatch):
    async def broken(_: object) -> None:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(own.bus.bus.catalogue, "list", broken)
    schema = load(own.bus, own.bus.operator_token, await described(own.bus)).include(path="/api/catalog", method="GET")
    found = await exercise(schema)
    assert "not_a_server_error" in {check for _, check in found.wrong}
    assert found.statuses[500]
