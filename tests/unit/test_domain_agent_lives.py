"""Whatever happens to an agent, in whatever order: what was taken from it does not come back."""

from collections.abc import Callable, Sequence
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.unit.test_domain_agents import BOB, JOIN, MINT, MINUTE, after, rotate
from tests.unit.test_domain_history import T0

from sos.broker.domain import agents
from sos.broker.domain.agent_facts import (
    AgentCommand,
    AgentEvent,
    AgentReleased,
    AgentRotated,
    AgentVoided,
    CutAgent,
    DisableAgent,
    EnableAgent,
    ReleaseAgent,
    RescopeAgent,
    RevokeAgent,
    VoidToken,
)
from sos.broker.domain.agents import Agent
from sos.wire.errors import NameTaken, SosError, UnknownAgent
from sos.wire.scopes import ALL, Scope

_HASHES = ["h0", "h1", "h2", "h3"]
_hash = st.sampled_from(_HASHES)
_until = st.none() | st.integers(-2, 40).map(lambda m: T0 + m * MINUTE)
_command: st.SearchStrategy[AgentCommand] = st.one_of(
    # Little of what ends a life or stops it, so that much happens in one.
    st.sampled_from([DisableAgent(**BOB), *[EnableAgent(**BOB)] * 3, *[ReleaseAgent(**BOB), JOIN] * 2])
    | st.sampled_from([JOIN, JOIN, JOIN, RevokeAgent(**BOB)]),
    st.builds(rotate, _hash, _until),
    st.builds(rotate, _hash, _until),
    _hash.map(lambda h: VoidToken(**BOB, token_hash=h, reason="")),
    st.sampled_from([ALL, (Scope.SEND,)]).map(lambda s: RescopeAgent(**BOB, scopes=s)),
    st.integers(0, 12).map(lambda e: CutAgent(**BOB, epoch=e, reason="")),
)
lives = st.lists(st.tuples(st.integers(0, 5), _command), max_size=15) | st.lists(
    st.tuples(st.integers(0, 5), _command), min_size=15, max_size=40
)


def live(life: Sequence[tuple[int, AgentCommand]], look: Callable[[Agent, datetime, AgentEvent | None], None]) -> None:
    """Bob's life, a command after so many minutes each, looked at before and after each fact as time goes on."""
    state, at = after(), T0
    look(state, at, None)
    for minutes, command in life:
        at += minutes * MINUTE
        look(state, at, None)
        try:
            events = agents.decide(state, replace(command, at=at))
        except SosError:
            continue
        for event in events:
            state = agents.apply(state, event)
            look(state, at, event)


@given(lives)
def test_a_credential_that_was_refused_once_is_never_honoured_again_while_the_agent_is_active(
    life: Sequence[tuple[int, AgentCommand]],
):
    refused: set[int] = set()

    def look(bob: Agent, at: datetime, _: AgentEvent | None) -> None:
        bad = {epoch for epoch in range(bob.epoch + 1) if not bob.honours(epoch, at)}
        assert refused <= bad
        # What a suspension refuses it has also made void, so only an epoch that nobody was given may come back.
        refused.update(bad - {bob.epoch} if bob.state == "disabled" else bad)

    live(life, look)


@given(lives)
def test_an_old_epoch_is_good_only_within_the_grace_of_the_rotation_that_ended_it(
    life: Sequence[tuple[int, AgentCommand]],
):
    grace: tuple[int, datetime] | None = None
    before = after()

    def look(bob: Agent, at: datetime, event: AgentEvent | None) -> None:
        nonlocal grace, before
        if bob.epoch != before.epoch:
            until = event.old_token_until if isinstance(event, AgentRotated) else None
            grace = (before.epoch, until) if until is not None else None
        for epoch in range(bob.epoch):
            if bob.honours(epoch, at):
                assert grace is not None
                assert epoch >= grace[0]
                assert at < grace[1]
        before = bob

    live(life, look)


@given(lives)
def test_at_most_two_tokens_open_sessions_and_only_for_an_epoch_that_is_honoured(
    life: Sequence[tuple[int, AgentCommand]],
):
    def look(bob: Agent, at: datetime, _: AgentEvent | None) -> None:
        opened = {h: epoch for h in _HASHES if (epoch := bob.epoch_of(h, at)) is not None}
        assert len(opened) <= 2
        assert bob.epoch_of("", at) is None
        assert all(bob.honours(epoch, at) for epoch in opened.values() if bob.state == "active")

    live(life, look)


@given(lives)
def test_a_token_that_was_voided_or_replaced_opens_nothing_ever_again_unless_it_is_set_anew(
    life: Sequence[tuple[int, AgentCommand]],
):
    dead: set[str] = set(_HASHES) - {"h0"}
    held = after()

    def look(bob: Agent, at: datetime, event: AgentEvent | None) -> None:
        nonlocal held
        match event:
            case AgentVoided():
                dead.add(event.token_hash)
            case AgentReleased():
                dead.update(_HASHES)
            case AgentRotated():
                if event.old_token_until is None:
                    dead.add(held.token_hash)
                dead.discard(event.token_hash)
            case _:
                dead.update(h for h in _HASHES if h not in {bob.token_hash, bob.old_token_hash})
        assert [h for h in dead if bob.epoch_of(h, at) is not None] == []
        held = bob

    live(life, look)


@given(lives)
def test_a_revoked_agent_stays_revoked_and_its_name_taken(life: Sequence[tuple[int, AgentCommand]]):
    gone = after(RevokeAgent(**BOB))
    for _, command in life:
        if isinstance(command, RevokeAgent):
            assert agents.decide(gone, command) == ()
        else:
            with pytest.raises(UnknownAgent):
                agents.decide(gone, command)
    with pytest.raises(NameTaken):
        agents.decide(gone, MINT)
