"""No secret comes in by any door: not in a body, a path or a query, however it is written; nothing is stored of it."""

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest
from tests.conftest import OPERATOR, Project
from tests.integration.raw_http import asking

from sos.broker.app import Running
from sos.broker.nats.nkeys import KeyPair
from sos.sdk.credential import SessionKey
from sos.wire import tokens
from sos.wire.errors import SecretInMessage
from sos.wire.nkeys import NkeyKind
from sos.wire.secrets import find_in
from sos.wire.tokens import TokenKind

SESSIONS = 300
Count = Callable[[], Awaitable[int]]


def jwt() -> str:
    return f"eyJ0eXAiOiJKV1QiLCJhbGciOiJlZDI1NTE5LW5rZXkifQ.eyJqdGkiOiJ{'A' * 40}.{'b' * 86}"


SECRETS: dict[str, Callable[[], str]] = {
    "agent": lambda: tokens.make(TokenKind.AGENT),
    "tenant": lambda: tokens.make(TokenKind.TENANT),
    "operator": lambda: tokens.make(TokenKind.OPERATOR),
    "seed": lambda: KeyPair.generate(NkeyKind.USER).seed,
    "account seed": lambda: KeyPair.generate(NkeyKind.ACCOUNT).seed,
    "jwt": jwt,
}


@pytest.fixture(params=SECRETS)
def secret(request: pytest.FixtureRequest) -> str:
    return SECRETS[request.param]()


@pytest.fixture
async def facts(bus: Running, project: Project) -> Count:
    """How many facts there are."""

    async def count() -> int:
        tenant = await bus.bus.projects.tenant(project.slug)
        return await bus.bus.registry.log.head() + await tenant.journal.log.head()

    return count


def nowhere(secret: str, home: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is in no file of the bus and in no line of the log."""
    assert secret not in caplog.text
    for path in Path(home).rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path


def escaped(text: str) -> str:
    return "".join(f"\\u{ord(c):04x}" for c in text)


async def test_a_body_with_a_secret_is_refused_and_nothing_of_it_is_kept(
    bus: Running, project: Project, facts: Count, secret: str, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    bob, before = await project.mint("bob"), await facts()
    mint, owner = f"/api/tenants/{project.slug}/agents/mint", project.tenant_token
    skill = {"id": "review", "description": f"with {secret}", "input_schema": {"default": {"deep": [secret]}}}
    bodies: tuple[tuple[str, str, bytes], ...] = (
        (mint, owner, msgspec.json.encode({"agent_name": "eve", "charter": f"use {secret}, it works"})),
        (mint, owner, f'{{"agent_name": "eve", "charter": "{escaped(secret)}"}}'.encode()),
        (mint, owner, msgspec.json.encode({"agent_name": secret})),
        (mint, owner, msgspec.json.encode({"agent_name": "eve", "skills": [skill]})),
        (mint, owner, f'{{"agent_name": "eve", "{secret}": 1}}'.encode()),
        (mint, owner, f"not json {secret}".encode()),
        (f"/api/tenants/{project.slug}/agents/bob/disable", owner, f'{{"why": "{secret}"}}'.encode()),
        (f"/api/tenants/{project.slug}/squads", owner, msgspec.json.encode({"squad": "ops", "purpose": secret})),
        ("/api/agent/join", bob, msgspec.json.encode({"install": f"at {secret}"})),
        ("/api/session", bob, msgspec.json.encode({"install": secret})),
        ("/api/projects", bus.operator_token, msgspec.json.encode({"slug": secret})),
    )
    for path, token, body in bodies:
        answer = await asking(bus.url, "POST", path, token, body, more={"Idempotency-Key": "key-1"})
        problem = answer.problem(422, "secret_in_message")
        assert secret[-4:] in problem.fields["what"]
        assert secret.encode() not in answer.body
    assert await facts() == before
    assert [a.name for a in await bus.bus.agents.list(OPERATOR, project.slug)] == ["bob"]
    nowhere(secret, bus.home, caplog)


async def test_an_address_with_a_secret_is_refused_and_not_repeated(
    bus: Running, project: Project, secret: str, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    agents = f"/api/tenants/{project.slug}/agents"
    twisted = "".join(f"%{ord(c):02x}" for c in secret)
    for method, path in (
        ("GET", f"/api/tenants/{secret}/agents"),
        ("GET", f"/api/tenants/{twisted}/agents"),
        ("GET", f"{agents}?token={secret}"),
        ("GET", f"{agents}?{quote('&x=' + secret)}"),
        ("GET", f"/api/audit?after={twisted}"),
        ("DELETE", f"{agents}/{secret}"),
        ("PUT", f"{agents}/{secret}"),
        ("GET", f"/nothing/{secret}"),
        ("POST", f"/healthz/{twisted}"),
    ):
        answer = await asking(bus.url, method, path, bus.operator_token)
        answer.problem(422, "secret_in_message")
        assert secret.encode() not in answer.body
    nowhere(secret, bus.home, caplog)


async def test_a_key_with_a_secret_is_refused(bus: Running, project: Project):
    path, secret = f"/api/tenants/{project.slug}/agents/mint", tokens.make(TokenKind.AGENT)
    answer = await asking(
        bus.url, "POST", path, project.tenant_token, {"agent_name": "eve"}, more={"Idempotency-Key": secret}
    )
    answer.problem(422, "secret_in_message")


async def test_a_request_over_nats_with_a_secret_is_refused(project: Project, facts: Count, secret: str):
    await project.squad("ops")
    async with await project.agent("bob") as bob:
        before = await facts()
        with pytest.raises(SecretInMessage) as refused:
            await bob.join("ops", f"I know {secret}")
        assert secret not in str(refused.value)
        assert await facts() == before


async def test_what_only_looks_like_a_secret_is_let_through(bus: Running, project: Project):
    lookalikes = (
        "sk-bus-" + "A" * 33,
        tokens.make(TokenKind.AGENT)[:-1],
        "SU" + "A" * 56,
        "eyJhbGciOi.is.no.jwt",
        "the prefix sk-bus- starts an agent's token",
    )
    for n, text in enumerate(lookalikes):
        path = f"/api/tenants/{project.slug}/agents/mint"
        body = {"agent_name": f"agent-{n}", "charter": text}
        assert (await asking(bus.url, "POST", path, project.tenant_token, body)).status == 201, text


def test_no_session_is_refused_for_its_key_or_its_proof():
    """Keys, prefixes and proofs are random: none of many looks like a secret."""
    token = tokens.make(TokenKind.AGENT)
    for _ in range(SESSIONS):
        assert find_in(msgspec.json.encode(SessionKey().request(token))) == ()
