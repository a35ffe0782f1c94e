"""Bad input over HTTP: each kind has its own code, tells the cure, changes nothing and does not hang."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from tests.conftest import OPERATOR, MakeProject, Project
from tests.integration.raw_http import Answer, ask, asking

from sos.broker.app import Running
from sos.sdk.credential import SessionKey
from sos.wire import tokens
from sos.wire.tokens import TokenKind

STAMP = re.compile(r"[a-z0-9-]+-\d{8}-\d{4}-[0-9a-f]{8}")
RACERS = 50
MIB = 1024 * 1024
DEEP = b"[" * 100_000
SESSION = "/api/session"
Count = Callable[[], Awaitable[int]]


def broken(token: str) -> str:
    """The token with its last character changed: the form is right, the checksum is not."""
    return token[:-1] + ("0" if token[-1] != "0" else "1")


def opening(token: str, **changes: object) -> dict[str, object]:
    return msgspec.structs.asdict(SessionKey().request(token)) | changes


@pytest.fixture
async def facts(bus: Running, project: Project) -> Count:
    """How many facts there are: nothing that was refused may have left one."""

    async def count() -> int:
        tenant = await bus.bus.projects.tenant(project.slug)
        return await bus.bus.registry.log.head() + await tenant.journal.log.head()

    return count


# ── tokens ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/projects"),
        ("POST", "/api/projects"),
        ("POST", "/api/tenants/acme/agents/mint"),
        ("GET", "/api/tenants/acme/agents"),
        ("POST", "/api/tenants/acme/squads"),
        ("POST", SESSION),
    ],
)
@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer ", "Basic YTpi", "sk-op-without-a-scheme"])
async def test_without_a_token_nothing_is_told(bus: Running, method: str, path: str, authorization: str):
    answer = await asking(bus.url, method, path, authorization=authorization)
    answer.problem(401, "missing_token")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["/api/projects", "/api/tenants/acme/agents"])
@pytest.mark.parametrize(
    "token",
    [
        "x",
        "sk-op-",
        "sk-op-" + "A" * 33,
        broken(tokens.make(TokenKind.OPERATOR)),
        broken(tokens.make(TokenKind.TENANT)),
        tokens.make(TokenKind.OPERATOR) + "A",
        tokens.make(TokenKind.OPERATOR)[:-1],
        "A" * 8_000,
    ],
)
async def test_a_malformed_token_is_called_malformed_and_not_repeated(bus: Running, path: str, token: str):
    answer = await asking(bus.url, "GET", path, token)
    answer.problem(401, "malformed_token")
    assert len(token) < 10 or token.encode() not in answer.body


@pytest.mark.parametrize("kind", [TokenKind.OPERATOR, TokenKind.TENANT])
async def test_a_well_formed_token_that_nobody_gave_out_is_unknown_and_shown_by_its_tail(bus: Running, kind: TokenKind):
    token = tokens.make(kind)
    answer = await asking(bus.url, "GET", "/api/projects", token)
    assert answer.problem(401, "unknown_token").fields == {"tail": token[-4:]}
    assert token.encode() not in answer.body


async def test_an_unknown_agents_token_opens_no_session(bus: Running, facts: Count):
    before, token = await facts(), tokens.make(TokenKind.AGENT)
    answer = await asking(bus.url, "POST", SESSION, token, opening(token))
    assert answer.problem(401, "unknown_token").fields == {"tail": token[-4:]}
    assert await facts() == before


async def test_an_agents_token_is_no_operators_and_an_operators_no_agents(bus: Running, project: Project, facts: Count):
    token = await project.mint("bob")
    before = await facts()
    for method, path, body in (
        ("GET", "/api/projects", None),
        ("POST", "/api/projects", {"slug": "mine"}),
        ("POST", f"/api/tenants/{project.slug}/agents/mint", {"agent_name": "eve"}),
    ):
        answer = await asking(bus.url, method, path, token, body)
        assert "sk-op-" in answer.problem(401, "malformed_token").detail
        assert token.encode() not in answer.body
    for other in (bus.operator_token, project.tenant_token):
        answer = await asking(bus.url, "POST", SESSION, other, opening(other))
        assert "sk-bus-" in answer.problem(401, "malformed_token").detail
        assert other.encode() not in answer.body
    assert await facts() == before


async def test_a_tenants_token_ends_at_its_own_project(bus: Running, make_project: MakeProject):
    mine, theirs = await make_project(), await make_project()
    for method, path, body in (
        ("GET", f"/api/tenants/{theirs.slug}/agents", None),
        ("POST", f"/api/tenants/{theirs.slug}/agents/mint", {"agent_name": "eve"}),
        ("GET", f"/api/tenants/{theirs.slug}/squads", None),
        ("POST", f"/api/tenants/{theirs.slug}/squads", {"squad": "ops"}),
        ("POST", "/api/projects", {"slug": "another"}),
        ("GET", "/api/tenants/no-such-project/agents", None),  # whether it exists is not told
    ):
        answer = await asking(bus.url, method, path, mine.tenant_token, body)
        answer.problem(403, "forbidden")
        assert mine.tenant_token.encode() not in answer.body
    shown = await asking(bus.url, "GET", "/api/projects", mine.tenant_token)
    assert [p["slug"] for p in msgspec.json.decode(shown.body)] == [mine.slug]
    assert await bus.bus.agents.list(OPERATOR, theirs.slug) == ()


async def test_a_name_that_is_not_the_tokens_opens_no_session(bus: Running, project: Project, facts: Count):
    token = await project.mint("bob")
    before = await facts()
    answer = await asking(bus.url, "POST", SESSION, token, opening(token, name="alice"))
    assert answer.problem(403, "wrong_identity").fields == {"claimed": "alice", "actual": "bob"}
    assert await facts() == before


# ── names and addresses ──────────────────────────────────────────────────────────────────────────────────────────

BAD_NAMES = [
    "",
    " ",
    "-",
    "...",
    "a*b",
    "a>b",
    "Ünïcode",
    "p\u0430ypal",
    "a" * 64,
    "a\u0000b",
    "x" * 256,
    "a;b",
    "agent@acme",
]


@pytest.mark.parametrize("name", BAD_NAMES)
async def test_what_cannot_be_a_name_is_refused_wherever_it_is_given(
    bus: Running, project: Project, facts: Count, name: str
):
    before = await facts()
    mint, squads = f"/api/tenants/{project.slug}/agents/mint", f"/api/tenants/{project.slug}/squads"
    for path, body in (
        ("/api/projects", {"slug": name}),
        (mint, {"agent_name": name}),
        (squads, {"squad": name}),
    ):
        (await asking(bus.url, "POST", path, bus.operator_token, body)).problem(422, "bad_name")
    assert await facts() == before


@pytest.mark.parametrize("slug", ["a*b", "%3E", "a%20%20", "-", "%C3%BC", "x" * 300])
async def test_a_bad_slug_in_the_path_is_refused(bus: Running, slug: str):
    path = f"/api/tenants/{slug}/agents"
    answer = await asking(bus.url, "GET", path, bus.operator_token)
    if slug == "a%20%20":  # white space normalises: then it is a name, of no project
        answer.problem(404, "unknown_project")
    else:
        answer.problem(422, "bad_name")


async def test_names_that_are_taken_and_projects_that_are_not_there(bus: Running, project: Project, facts: Count):
    await project.mint("bob")
    await project.squad("ops")
    before, owner = await facts(), project.tenant_token
    taken = (
        ("/api/projects", bus.operator_token, {"slug": project.slug.upper()}),
        (f"/api/tenants/{project.slug}/agents/mint", owner, {"agent_name": "Bob"}),
        (f"/api/tenants/{project.slug}/squads", owner, {"squad": "OPS"}),
    )
    for path, token, body in taken:
        (await asking(bus.url, "POST", path, token, body)).problem(409, "name_taken")
    answer = await asking(bus.url, "GET", f"/api/tenants/{project.slug}x/agents", bus.operator_token)
    assert project.slug in answer.problem(404, "unknown_project").fields["close"]
    assert await facts() == before


@pytest.mark.parametrize("path", ["/", "/api", "/api/nothing", "/api/tenants", "/api/projects/x", "/../etc/passwd"])
async def test_a_path_that_is_not_there_says_where_to_look(bus: Running, path: str):
    problem = (await asking(bus.url, "GET", path, bus.operator_token)).problem(404, "not_found")
    assert "/openapi.json" in problem.cure


@pytest.mark.parametrize(
    ("method", "path"),
    [("DELETE", "/api/projects"), ("GET", SESSION), ("PUT", SESSION), ("POST", "/healthz"), ("PATCH", "/openapi.json")],
)
async def test_a_wrong_method_is_called_one(bus: Running, method: str, path: str):
    answer = await asking(bus.url, method, path, bus.operator_token)
    assert method in answer.problem(405, "bad_request").detail


# ── bodies ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b"{",
        b"\xff\xfe",
        b'{"slug": NaN}',
        b"null",
        b"[]",
        b'"text"',
        b"{}",
        b"",
        b'{"slug": 7}',
        b'{"slug": null}',
        b'{"slug": ["a"]}',
        b'{"slug": "aaa", "tier": "huge"}',
        b'{"slug": "aaa", "surprise": 1}',
        b'{"slug": "' + b"a" * 257 + b'"}',
        DEEP,
        b'{"slug": ' + DEEP,
        b'{"surprise": ' + DEEP,
        b'{"slug": "aaa"} trailing',
    ],
    ids=lambda b: str(b[:24]),
)
async def test_a_body_that_does_not_fit_is_refused(bus: Running, facts: Count, body: bytes):
    before = await facts()
    (await asking(bus.url, "POST", "/api/projects", bus.operator_token, body)).problem(422, "bad_request")
    assert await facts() == before


@pytest.mark.parametrize(
    "changes",
    [
        {"scopes": ["mcp:everything"]},
        {"scopes": "mcp:send"},
        {"scopes": [1]},
        {"model": "m" * 257},
        {"charter": "c" * 8_001},
        {"agent_name": 1},
        {"raw_token": "sk-bus-mine"},
    ],
)
async def test_an_agent_cannot_be_minted_from_what_does_not_fit(
    bus: Running, project: Project, facts: Count, changes: dict[str, object]
):
    before = await facts()
    path = f"/api/tenants/{project.slug}/agents/mint"
    body = {"agent_name": "eve"} | changes
    (await asking(bus.url, "POST", path, project.tenant_token, body)).problem(422, "bad_request")
    assert await facts() == before


async def test_a_body_over_the_limit_is_refused_before_it_is_read(bus: Running, facts: Count):
    before = await facts()
    for size in (MIB + 1, 8 * MIB):
        answer = await asking(bus.url, "POST", "/api/projects", bus.operator_token, b" " * size)
        assert str(MIB) in answer.problem(413, "body_too_large").detail
    just_under = b'{"slug": "a*b"' + b" " * (MIB - 15) + b"}"
    (await asking(bus.url, "POST", "/api/projects", bus.operator_token, just_under)).problem(422, "bad_name")
    assert await facts() == before


def misspelt(nkey: str) -> str:
    """A public key whose checksum is wrong, in the right alphabet."""
    return nkey[:-1] + ("A" if nkey[-1] != "A" else "B")


@pytest.mark.parametrize(
    "changes",
    [
        {"public_nkey": ""},
        {"public_nkey": "U" + "A" * 54},
        {"public_nkey": "A" + SessionKey().public[1:]},
        {"public_nkey": SessionKey().public.lower()},
        {"public_nkey": misspelt(SessionKey().public)},
        {"public_nkey": "U" + "A" * 55},
        {"public_nkey": SessionKey().public + "\n"},
        {"inbox_prefix": ""},
        {"inbox_prefix": "_INBOX"},
        {"inbox_prefix": "_INBOX." + "a" * 32},
        {"inbox_prefix": "_INBOX_" + "a" * 31},
        {"inbox_prefix": "_INBOX_" + "a" * 33},
        {"inbox_prefix": "_INBOX_" + "*" * 32},
        {"inbox_prefix": "_INBOX_" + "a" * 32 + ".>"},
        {"inbox_prefix": "_INBOX_" + "a" * 32 + "\n"},
        {"inbox_prefix": ">"},
        {"proof": ""},
        {"proof": "A" * 86},
        {"proof": SessionKey().request(tokens.make(TokenKind.AGENT)).proof},
        {"jwt": "x"},
        {"name": 1},
        {"session": "s" * 257},
        {"client": "c" * 257},
    ],
)
async def test_a_session_is_not_opened_for_what_is_no_key_and_no_reply_prefix(
    bus: Running, project: Project, facts: Count, changes: dict[str, object]
):
    token = await project.mint("bob")
    before = await facts()
    answer = await asking(bus.url, "POST", SESSION, token, opening(token, **changes))
    answer.problem(422, "bad_request")
    assert token.encode() not in answer.body
    assert await facts() == before


@pytest.mark.parametrize("text", ["Ünïcode", "a*b", "a>b", "!!!", "a\u0000"])
async def test_free_text_that_cannot_be_a_name_opens_no_session(
    bus: Running, project: Project, facts: Count, text: str
):
    token = await project.mint("bob")
    before = await facts()
    (await asking(bus.url, "POST", SESSION, token, opening(token, name=text))).problem(422, "bad_name")
    assert await facts() == before


@pytest.mark.parametrize("text", ["claude-opus-4-6[1m]", "GPT (new)", "Ünïcode", "a*b", "a>b", "!!!", "a\u0000"])
async def test_whatever_a_client_or_model_is_called_its_session_has_a_stamp(bus: Running, project: Project, text: str):
    token = await project.mint("bob")
    answer = await asking(bus.url, "POST", SESSION, token, opening(token, client=text, model=text))
    assert answer.status == 201
    assert STAMP.fullmatch(msgspec.json.decode(answer.body)["session"])


# ── races ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_of_fifty_that_mint_one_name_at_once_one_gets_it_and_the_others_are_told(bus: Running, project: Project):
    path = f"/api/tenants/{project.slug}/agents/mint"

    def mint() -> Answer:
        return ask(bus.url, "POST", path, project.tenant_token, {"agent_name": "Bob"})

    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(RACERS) as threads:
        answers = await asyncio.gather(*(loop.run_in_executor(threads, mint) for _ in range(RACERS)))
    made = [a for a in answers if a.status == 201]
    assert len(made) == 1
    for answer in answers:
        if answer is not made[0]:
            answer.problem(409, "name_taken")
    assert [a.name for a in await bus.bus.agents.list(OPERATOR, project.slug)] == ["bob"]
    token = msgspec.json.decode(made[0].body)["raw_token"]
    assert (await asking(bus.url, "POST", SESSION, token, opening(token))).status == 201
