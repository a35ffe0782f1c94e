"""What each scope opens, and nothing else: written down here by hand, and tried on the server."""

import itertools

import pytest
from tests.conftest import OPERATOR
from tests.security.attacker import Attacker, attacking, envelope
from tests.security.conftest import Side

from sos.broker.nats.grants import agent_grant
from sos.wire import api
from sos.wire.scopes import Scope

INBOX = "_INBOX_" + "a" * 32
ALWAYS = {
    "project.acme.beat.ann",
    "project.acme.api.ann.>",
    "$JS.API.DIRECT.GET.EVENTS.project.acme.address.*.*",
}
OPENS: dict[str, set[str]] = {
    "mcp:send": {"project.acme.agent.*.ann"},
    "mcp:broadcast": {"project.acme.squad.*.ann"},
    "mcp:inbox": {"$JS.API.CONSUMER.MSG.NEXT.MESSAGES.ann", "$JS.ACK.MESSAGES.ann.>"},
    "mcp:workspace_join": set(),
    "mcp:recall": set(),
    "mcp:remember": set(),
}
SUBSETS = [c for n in range(len(OPENS) + 1) for c in itertools.combinations(OPENS, n)]


def test_every_scope_there_is_stands_in_the_table():
    assert {s.value for s in Scope} == set(OPENS)


@pytest.mark.parametrize("scopes", SUBSETS, ids=lambda c: "+".join(c) or "none")
def test_a_grant_is_what_its_scopes_open_and_not_one_subject_more(scopes: tuple[str, ...]):
    grant = agent_grant("acme", "ann", [Scope(s) for s in scopes], INBOX)
    assert set(grant.pub) == ALWAYS.union(*(OPENS[s] for s in scopes))
    assert grant.sub == (f"{INBOX}.>",)


TRIED: dict[str, tuple[str, bytes]] = {
    "send": ("project.{p}.agent.vera.{me}", envelope()),
    "broadcast": ("project.{p}.squad.ops.{me}", envelope()),
    "pull": ("$JS.API.CONSUMER.MSG.NEXT.MESSAGES.{me}", b'{"batch":1,"no_wait":true}'),
    "acknowledge": ("$JS.ACK.MESSAGES.{me}.1.1.1.1.0", b"+ACK"),
    "beat": ("project.{p}.beat.{me}", b"{}"),
    "call": ("project.{p}.api.{me}.peers", b"{}"),
    "look up": ("$JS.API.DIRECT.GET.EVENTS.project.{p}.address.agent.vera", b""),
    "listen": ("", b""),
}
ANYBODY = {"beat", "call", "look up"}
MAY: dict[str, set[str]] = {
    "": ANYBODY,
    "mcp:send": ANYBODY | {"send"},
    "mcp:broadcast": ANYBODY | {"broadcast"},
    "mcp:inbox": ANYBODY | {"pull", "acknowledge"},
    "mcp:workspace_join": ANYBODY,
    "mcp:recall": ANYBODY,
    "mcp:remember": ANYBODY,
    "all": ANYBODY | {"send", "broadcast", "pull", "acknowledge"},
}


@pytest.mark.parametrize("scope", MAY)
async def test_the_server_lets_each_scope_do_what_the_table_says(own: Side, scope: str):
    name = "a-" + (scope.replace("mcp:", "").replace("_", "-") or "none")
    scopes = tuple(Scope) if scope == "all" else (Scope(scope),) if scope else ()
    ask = api.MintAgent(agent_name=name, scopes=scopes)
    minted = await own.bus.bus.agents.mint(OPERATOR, own.slug, ask)
    assert set(minted.scopes) == set(scopes)
    async with attacking(own.bus.url, minted.raw_token) as agent:
        assert {what for what in TRIED if await lets(agent, what)} == MAY[scope]


async def lets(agent: Attacker, what: str) -> bool:
    said, body = TRIED[what]
    if what == "listen":
        await agent.listen(f"project.{agent.slug}.agent.{agent.name}.*")
        return not agent.may_not_hear(f"project.{agent.slug}.agent.{agent.name}.*")
    return not await agent.refused(said.format(p=agent.slug, me=agent.name), body, reply=agent.new_reply())


@pytest.mark.parametrize("scope", list(Scope))
async def test_only_who_holds_workspace_join_joins_a_squad(own: Side, scope: Scope):
    ask = api.MintAgent(agent_name=f"j-{scope.value.removeprefix('mcp:').replace('_', '-')}", scopes=(scope,))
    minted = await own.bus.bus.agents.mint(OPERATOR, own.slug, ask)
    async with attacking(own.bus.url, minted.raw_token) as agent:
        answer = await agent.ask(f"project.{own.slug}.api.{agent.name}.squad.join", b'{"squad":"ops"}')
    joined = await own.bus.bus.squads.memberships(own.slug, minted.name)
    assert bool(joined) == (scope is Scope.WORKSPACE_JOIN)
    assert (answer.headers.get("Nats-Service-Error") == "missing_scope") == (scope is not Scope.WORKSPACE_JOIN)
