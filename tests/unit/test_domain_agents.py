"""Who an agent's token and credentials belong to: epochs, graces, installs, and how many there may be."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from tests.unit.test_domain_history import T0

from sos.broker.domain import agents
from sos.broker.domain.agent_facts import (
    AgentCommand,
    CutAgent,
    DisableAgent,
    EnableAgent,
    JoinAgent,
    MintAgent,
    ReleaseAgent,
    RescopeAgent,
    RevokeAgent,
    RotateToken,
    VoidToken,
)
from sos.broker.domain.agents import Agent, Roster
from sos.wire.errors import (
    AgentDisabled,
    BadName,
    LimitReached,
    NameClaimed,
    NameTaken,
    ReservedName,
)
from sos.wire.scopes import ALL, Scope
from sos.wire.skills import Skill
from sos.wire.subjects import GATEWAY

BOB: dict[str, Any] = {"at": T0, "actor": "operator", "project": "acme", "name": "bob"}
MINT = MintAgent(**BOB, model="m", charter="c", scopes=ALL, token_hash="h0", token_tail="t0")
JOIN = JoinAgent(**BOB, install="i1", role="executor", skills=(Skill(id="paint"),))
MINUTE = timedelta(minutes=1)
LATER = T0 + 10 * MINUTE
NEXT_EPOCH: Sequence[AgentCommand] = [
    DisableAgent(**BOB),
    RevokeAgent(**BOB),
    ReleaseAgent(**BOB),
    RotateToken(**BOB, token_hash="h9", token_tail="t9"),
    VoidToken(**BOB, token_hash="h0", reason="leaked"),
    RescopeAgent(**BOB, scopes=(Scope.SEND,)),
    CutAgent(**BOB, epoch=7, reason="a credential leaked"),
]


def rotate(token_hash: str, until: datetime | None = None) -> RotateToken:
    """A rotation, with a grace or without."""
    return RotateToken(**BOB, token_hash=token_hash, token_tail=token_hash[-1:], old_token_until=until)


def after(*commands: AgentCommand) -> Agent:
    """Bob, minted, after these."""
    state: Agent | None = None
    for command in (MINT, *commands):
        for event in agents.decide(state, command):
            state = agents.apply(state, event)
    assert state is not None
    return state


# ── tokens and epochs ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_minted_agents_token_opens_sessions_of_the_first_epoch():
    bob = after()
    assert (bob.epoch, bob.epoch_of("h0", T0), bob.epoch_of("h1", T0)) == (0, 0, None)
    assert bob.honours(0, T0)


@pytest.mark.parametrize("command", NEXT_EPOCH, ids=lambda c: type(c).__name__)
def test_whatever_takes_rights_away_voids_every_credential_given_out_before(command: AgentCommand):
    bob = after(command)
    assert not bob.honours(0, T0)
    assert bob.epoch == (7 if isinstance(command, CutAgent) else 1)
    if not isinstance(command, DisableAgent | RevokeAgent):
        assert bob.honours(bob.epoch, T0)


@pytest.mark.parametrize("command", NEXT_EPOCH, ids=lambda c: type(c).__name__)
def test_whatever_takes_rights_away_ends_a_grace_too(command: AgentCommand):
    if isinstance(command, VoidToken):
        command = replace(command, token_hash="h1")
    bob = after(rotate("h1", LATER), replace(command, epoch=9) if isinstance(command, CutAgent) else command)
    assert bob.epoch_of("h0", T0) is None
    assert not bob.honours(0, T0)


@pytest.mark.parametrize("command", [EnableAgent(**BOB), JOIN], ids=lambda c: type(c).__name__)
def test_what_takes_no_right_away_leaves_credentials_good(command: AgentCommand):
    disabled = isinstance(command, EnableAgent)
    bob = after(*([DisableAgent(**BOB)] if disabled else []), command)
    assert bob.honours(bob.epoch, T0)
    assert bob.epoch == int(disabled)


def test_an_enabled_agent_has_its_token_again_and_not_its_credentials():
    bob = after(DisableAgent(**BOB), EnableAgent(**BOB))
    assert bob.epoch_of("h0", T0) == 1
    assert bob.honours(1, T0)
    assert not bob.honours(0, T0)


@pytest.mark.parametrize("state", [DisableAgent(**BOB), RevokeAgent(**BOB)], ids=["disabled", "revoked"])
def test_of_an_agent_that_is_not_active_no_credential_is_good_of_whatever_epoch(state: AgentCommand):
    assert not any(after(state).honours(epoch, T0) for epoch in range(9))


def test_a_rotation_without_grace_leaves_the_new_token_alone():
    bob = after(rotate("h1"))
    assert (bob.token_hash, bob.token_tail, bob.old_token_hash, bob.old_token_until) == ("h1", "1", "", None)
    assert bob.epoch_of("h0", T0) is None
    assert bob.epoch_of("h1", T0) == 1


def test_within_its_grace_the_old_token_opens_what_it_always_opened_and_then_nothing():
    bob = after(rotate("h1", LATER))
    for at, old in ((T0, 0), (LATER - timedelta(microseconds=1), 0), (LATER, None), (LATER + MINUTE, None)):
        assert bob.epoch_of("h0", at) == old
        assert bob.epoch_of("h1", at) == 1
        assert bob.honours(0, at) is (old is not None)
        assert bob.honours(1, at)


def test_a_grace_that_is_over_when_it_begins_is_none():
    bob = after(rotate("h1", T0))
    assert bob.epoch_of("h0", T0) is None
    assert not bob.honours(0, T0)


def test_a_second_rotation_ends_the_grace_of_the_first():
    bob = after(rotate("h1", LATER), rotate("h2", LATER))
    assert [bob.epoch_of(h, T0) for h in ("h0", "h1", "h2")] == [None, 1, 2]
    assert [bob.honours(epoch, T0) for epoch in range(3)] == [False, True, True]


def test_rotating_to_the_token_it_has_is_nothing():
    assert agents.decide(after(rotate("h1", LATER)), rotate("h1")) == ()


def test_a_leaked_token_opens_nothing_and_the_agent_stays():
    bob = after(VoidToken(**BOB, token_hash="h0", reason="leaked"))
    assert (bob.state, bob.token_hash, bob.token_tail) == ("active", "", "")
    assert bob.epoch_of("h0", T0) is bob.epoch_of("", T0) is None
    assert after(VoidToken(**BOB, token_hash="h0", reason="leaked"), rotate("h1")).epoch_of("h1", T0) == 2


def test_a_leaked_old_token_takes_what_it_opened_with_it_and_leaves_the_new_one_its_own():
    bob = after(rotate("h1", LATER), VoidToken(**BOB, token_hash="h0", reason="leaked"))
    assert (bob.epoch_of("h0", T0), bob.epoch_of("h1", T0)) == (None, 1)
    assert not bob.honours(0, T0)
    assert bob.honours(1, T0)


@pytest.mark.parametrize("token_hash", ["h5", ""])
def test_voiding_a_token_that_the_agent_does_not_hold_is_nothing(token_hash: str):
    void = VoidToken(**BOB, token_hash=token_hash, reason="leaked")
    for bob in (after(), after(VoidToken(**BOB, token_hash="h0", reason="leaked")), after(ReleaseAgent(**BOB))):
        assert agents.decide(bob, void) == ()


def test_cutting_at_an_epoch_that_has_passed_is_nothing():
    bob = after(CutAgent(**BOB, epoch=3, reason="x"))
    for epoch in (0, 3):
        assert agents.decide(bob, CutAgent(**BOB, epoch=epoch, reason="x")) == ()
    assert bob.epoch_of("h0", T0) == 3


def test_the_same_scopes_again_are_nothing_and_end_no_session():
    assert agents.decide(after(), RescopeAgent(**BOB, scopes=ALL)) == ()
    assert after(RescopeAgent(**BOB, scopes=(Scope.SEND,))).scopes == (Scope.SEND,)


# ── joining and letting go ───────────────────────────────────────────────────────────────────────────────────────


def test_an_install_that_joins_has_the_name_and_says_what_it_is():
    bob = after(JOIN)
    assert (bob.install, bob.role, bob.joined_at) == ("i1", "executor", T0)
    assert [s.id for s in bob.skills] == ["paint"]


def test_joining_again_from_the_same_install_is_nothing_whenever_it_is():
    assert agents.decide(after(JOIN), replace(JOIN, at=LATER)) == ()


def test_an_install_may_say_something_new_of_itself():
    again = replace(JOIN, role="oracle", skills=(), at=LATER)
    bob = after(JOIN, again)
    assert (bob.role, bob.skills, bob.install, bob.joined_at) == ("oracle", (), "i1", LATER)


@pytest.mark.parametrize("by_mint", [True, False])
def test_another_install_is_told_that_the_name_is_claimed_and_since_when(by_mint: bool):
    state = agents.apply(None, agents.decide_mint(Roster(agent=None, custom=0), replace(MINT, install="i1"))[0])
    with pytest.raises(NameClaimed) as refused:
        agents.decide(state if by_mint else after(JOIN), replace(JOIN, install="i2"))
    assert ("minting" if by_mint else "2026-01-01 00:00 UTC") in refused.value.since


def test_the_install_that_was_named_at_the_minting_joins():
    state = agents.apply(None, agents.decide_mint(Roster(agent=None, custom=0), replace(MINT, install="i1"))[0])
    assert state.joined_at is None
    (event,) = agents.decide(state, JOIN)
    assert agents.apply(state, event).joined_at == T0


def test_a_disabled_agent_does_not_join():
    with pytest.raises(AgentDisabled):
        agents.decide(after(DisableAgent(**BOB)), JOIN)


def test_a_name_that_was_let_go_has_no_token_and_waits_for_another_install():
    bob = after(JOIN, ReleaseAgent(**BOB))
    assert (bob.state, bob.install, bob.joined_at, bob.token_hash) == ("active", "", None, "")
    assert bob.epoch_of("h0", T0) is None
    taken = after(JOIN, ReleaseAgent(**BOB), rotate("h1"), replace(JOIN, install="i2"))
    assert (taken.install, taken.epoch_of("h1", T0)) == ("i2", 2)


def test_letting_go_twice_is_nothing_and_of_a_name_nobody_joined_still_takes_its_token():
    assert agents.decide(after(ReleaseAgent(**BOB)), ReleaseAgent(**BOB)) == ()
    assert after(ReleaseAgent(**BOB)).token_hash == ""


# ── the roster ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("limit", "custom"), [(1, 0), (5, 4), (None, 10_000)])
def test_there_is_room_up_to_the_tiers_limit(limit: int | None, custom: int):
    assert agents.decide_mint(Roster(agent=None, custom=custom), replace(MINT, limit=limit))


@pytest.mark.parametrize(("limit", "custom"), [(0, 0), (1, 1), (5, 5), (5, 9)])
def test_one_more_than_the_tier_allows_is_refused_with_the_number(limit: int, custom: int):
    with pytest.raises(LimitReached, match=str(limit)):
        agents.decide_mint(Roster(agent=None, custom=custom), replace(MINT, limit=limit))


def test_an_agent_that_the_platform_runs_takes_no_room():
    assert agents.decide_mint(Roster(agent=None, custom=5), replace(MINT, limit=5, origin="platform"))


def test_the_limit_is_no_part_of_the_fact():
    (event,) = agents.decide_mint(Roster(agent=None, custom=0), replace(MINT, limit=5))
    assert not hasattr(event, "limit")


def test_a_mint_that_is_repeated_with_its_token_is_nothing_even_where_no_room_is_left():
    assert agents.decide_mint(Roster(agent=after(), custom=5), replace(MINT, limit=5)) == ()


def test_a_name_that_is_there_is_taken_and_that_is_told_before_the_limit():
    for roster in (after(), after(rotate("h1")), after(RevokeAgent(**BOB))):
        with pytest.raises(NameTaken):
            agents.decide_mint(Roster(agent=roster, custom=9), replace(MINT, token_hash="h0x", limit=5))


def test_a_mint_that_is_repeated_after_the_agent_was_revoked_or_rotated_does_not_bring_its_token_back():
    for state in (after(RevokeAgent(**BOB)), after(rotate("h1"))):
        with pytest.raises(NameTaken):
            agents.decide_mint(Roster(agent=state, custom=0), MINT)


def test_the_buss_own_name_is_given_to_nobody():
    with pytest.raises(ReservedName, match=GATEWAY):
        agents.decide_mint(Roster(agent=None, custom=0), replace(MINT, name=GATEWAY))


@pytest.mark.parametrize("name", ["Bob", "b.*", "", "a" * 64, "bob\n"])
def test_an_agent_whose_name_is_none_is_not_minted(name: str):
    with pytest.raises(BadName):
        agents.decide_mint(Roster(agent=None, custom=0), replace(MINT, name=name))
