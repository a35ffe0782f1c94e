"""Rate limits: a token has the rate of its project's tier, guessing has little, the operator none."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from tests.conftest import OPERATOR, ROOMY, WITHIN_S, Project
from tests.integration.raw_http import Answer, asking

from sos.broker.app import Running, run
from sos.broker.config import Config
from sos.broker.control.rates import UNKNOWN_BURST, UNKNOWN_PER_S, Bucket, Rates
from sos.broker.nats.tiers import TIERS, Limits
from sos.sdk.credential import SessionKey
from sos.wire import api, tokens
from sos.wire.api import Tier
from sos.wire.errors import RateLimited
from sos.wire.tokens import TokenKind

BURST, PER_S = 20, 0.5
ME = "/api/agent"


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


# ── buckets ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_bucket_gives_its_burst_at_once_and_then_its_rate():
    bucket = Bucket(2.0, 5, now=0.0)
    assert [bucket.take(0.0) for _ in range(5)] == [0.0] * 5
    assert bucket.take(0.0) == pytest.approx(0.5)
    assert bucket.take(0.4) == pytest.approx(0.1)
    assert bucket.take(0.5) == 0.0
    assert bucket.take(0.5) == pytest.approx(0.5)
    assert [bucket.take(1_000.0) for _ in range(6)] == [0.0] * 5 + [pytest.approx(0.5)]


def test_what_is_refused_costs_nothing():
    bucket = Bucket(1.0, 1, now=0.0)
    bucket.take(0.0)
    for _ in range(100):
        assert bucket.take(0.5) == pytest.approx(0.5)
    assert bucket.take(1.0) == 0.0


def test_a_clock_that_goes_back_gives_nothing_away():
    bucket = Bucket(1.0, 1, now=10.0)
    bucket.take(10.0)
    assert bucket.take(5.0) == pytest.approx(1.0)
    assert bucket.take(10.5) == pytest.approx(0.5)


# ── who has which ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_each_caller_has_a_bucket_of_its_projects_tier(bus: Running, project: Project, clock: Clock):
    tiers: dict[Tier, Limits] = {**TIERS, "starter": replace(TIERS["starter"], calls_per_s=1.0, calls_burst=3)}
    rates = Rates(tiers, bus.bus.registry.views, clock)
    assert not rates.spend("one")
    await rates.introduce("one", project.slug)
    assert rates.spend("one")
    assert rates.spend("one")
    with pytest.raises(RateLimited) as refused:
        rates.spend("one")
    assert (refused.value.per_s, refused.value.retry_after_s) == (1.0, 1.0)
    await rates.introduce("two", project.slug)
    for _ in range(3):
        await rates.agent(project.slug, "bob")
    with pytest.raises(RateLimited):
        await rates.agent(project.slug, "bob")
    await rates.agent(project.slug, "eve")
    clock.now += 1.0
    assert rates.spend("one")
    await rates.agent(project.slug, "bob")


async def test_unknown_tokens_share_a_small_rate_for_each_address(bus: Running, clock: Clock):
    rates = Rates(TIERS, bus.bus.registry.views, clock)
    for _ in range(UNKNOWN_BURST):
        rates.may_guess("192.0.2.1")
        rates.guessed("192.0.2.1")
    with pytest.raises(RateLimited):
        rates.may_guess("192.0.2.1")
    rates.may_guess("192.0.2.2")
    clock.now += 1 / UNKNOWN_PER_S
    rates.may_guess("192.0.2.1")
    rates.guessed("192.0.2.1")
    with pytest.raises(RateLimited):
        rates.guessed("192.0.2.1")


async def test_the_table_is_bounded_and_forgets_who_was_away_longest(bus: Running, project: Project, clock: Clock):
    rates = Rates(TIERS, bus.bus.registry.views, clock, most=10)
    for n in range(10):
        await rates.introduce(f"token-{n}", project.slug)
    assert rates.spend("token-0")
    for n in range(100, 109):
        await rates.introduce(f"token-{n}", project.slug)
    assert rates.spend("token-0")
    assert not rates.spend("token-1")
    for n in range(1_000):
        rates.may_guess(f"address {n}")
    assert len(rates._known) == len(rates._addresses) == 10  # pyright: ignore[reportPrivateUsage] - their bound


# ── over HTTP and NATS ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def slow(home: Path) -> AsyncIterator[Project]:
    """A project of a tier whose tokens have few calls, on a bus of its own, so that no other test is slowed."""
    tier = replace(ROOMY["starter"], calls_per_s=PER_S, calls_burst=BURST)
    async with run(Config(home=home, http_port=0, nats_port=0, tiers={**ROOMY, "starter": tier})) as bus:
        ask = api.CreateProject(slug="acme", tier="starter")
        project = Project(bus, await bus.bus.projects.create(OPERATOR, ask))
        yield project
        await project.close()


async def calls(project: Project, path: str, token: str, times: int) -> list[Answer]:
    return [await asking(project.bus.url, "GET", path, token) for _ in range(times)]


def check_refusal(answer: Answer) -> None:
    problem = answer.problem(429, "rate_limited")
    wait_s = problem.fields["retry_after_s"]
    assert int(answer.headers["retry-after"]) >= max(wait_s, 1)
    assert wait_s <= 1 / PER_S


async def test_a_token_that_calls_too_often_is_told_when_to_call_again_and_no_other_is_held_up(slow: Project):
    bob, eve = await slow.mint("bob"), await slow.mint("eve")
    agents = f"/api/tenants/{slow.slug}/agents"
    for path, token in ((ME, bob), (agents, slow.tenant_token)):
        answers = await calls(slow, path, token, BURST + 5)
        assert [a.status for a in answers[:BURST]] == [200] * BURST
        assert answers[-1].status == 429
        check_refusal(answers[-1])
    assert (await calls(slow, ME, eve, 1))[0].status == 200


async def test_what_is_refused_for_its_rate_is_not_carried_out(slow: Project):
    await calls(slow, f"/api/tenants/{slow.slug}/agents", slow.tenant_token, BURST + 2)
    path = f"/api/tenants/{slow.slug}/agents/mint"
    check_refusal(await asking(slow.bus.url, "POST", path, slow.tenant_token, {"agent_name": "bob"}))
    assert await slow.bus.bus.agents.list(OPERATOR, slow.slug) == ()


async def test_the_operator_health_and_the_document_are_not_limited(slow: Project):
    token = slow.bus.operator_token
    for path in ("/api/projects", "/healthz", "/openapi.json"):
        assert {a.status for a in await calls(slow, path, token, 3 * BURST)} == {200}


async def guess(project: Project, path: str, kind: TokenKind) -> list[Answer]:
    """Show made-up tokens until one is told to wait."""
    answers: list[Answer] = []
    async with asyncio.timeout(WITHIN_S):
        while not answers or answers[-1].status == 401:
            answers += await calls(project, path, tokens.make(kind), 1)
    return answers


async def test_guessing_is_limited_and_holds_up_nobody_who_is_known(slow: Project):
    bob = await slow.mint("bob")
    assert (await calls(slow, ME, bob, 1))[0].status == 200
    guesses = await guess(slow, ME, TokenKind.AGENT)
    assert [a.status for a in guesses[:-1]] == [401] * (len(guesses) - 1)
    assert len(guesses) > UNKNOWN_BURST
    guesses[-1].problem(429, "rate_limited")
    assert len(await guess(slow, "/api/projects", TokenKind.TENANT)) < UNKNOWN_BURST  # from the same bucket
    assert (await calls(slow, ME, bob, 1))[0].status == 200
    assert (await calls(slow, "/api/projects", slow.bus.operator_token, 1))[0].status == 200


async def test_a_disabled_agent_is_limited_like_any_other_and_does_not_count_as_guessing(slow: Project):
    bob = await slow.mint("bob")
    await slow.bus.bus.cutting.disable(OPERATOR, slow.slug, "bob")
    answers = await calls(slow, ME, bob, BURST + 5)
    assert answers[0].status == 403
    assert answers[-1].status == 429
    eve = await slow.mint("eve")
    assert (await calls(slow, ME, eve, 1))[0].status == 200


async def test_agents_that_ask_over_nats_are_limited_too(slow: Project):
    bob, eve = await slow.agent("bob"), await slow.agent("eve")
    async with bob, eve:
        refused: list[RateLimited] = []
        async with asyncio.timeout(20):
            for _ in range(BURST + 5):
                try:
                    await bob.peers()
                except RateLimited as e:
                    refused.append(e)
        assert refused
        assert refused[0].per_s == PER_S
        await eve.peers()


async def test_sessions_of_known_tokens_go_on_being_opened_while_a_stranger_guesses(slow: Project):
    bob = await slow.mint("bob")
    opened = await asking(slow.bus.url, "POST", "/api/session", bob, SessionKey().request(bob))
    assert opened.status == 201
    await asyncio.gather(*(calls(slow, ME, tokens.make(TokenKind.AGENT), 30) for _ in range(5)))
    again = await asking(slow.bus.url, "POST", "/api/session", bob, SessionKey().request(bob))
    assert again.status == 201
    assert msgspec.json.decode(again.body)["name"] == "bob"
