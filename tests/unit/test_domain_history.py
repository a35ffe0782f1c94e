"""Random histories: whatever `decide` allows, `apply` folds and the log's bytes carry."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sos.broker.domain import AnyEvent, addresses, agents, decode, encode, projects, sessions, squads, subject_of
from sos.broker.domain.event import Command
from sos.wire.errors import SosError
from sos.wire.scopes import Scope

T0 = datetime(2026, 1, 1, tzinfo=UTC)
SLUGS = ("acme", "beta")

_slug = st.sampled_from(SLUGS)
_name = st.sampled_from(["ann", "bob", "cy"])
_squad = st.sampled_from(["red", "blue"])
_text = st.text(max_size=8)
_who = st.fixed_dictionaries(
    {
        "at": st.integers(0, 10**6).map(lambda s: T0 + timedelta(seconds=s / 7)),
        "actor": st.sampled_from(["operator", "tenant:acme", "agent:bob", "gateway"]),
    }
)


def _of(command: type[Any], **parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    both = st.tuples(_who, st.fixed_dictionaries(parts))
    return both.map(lambda pair: command(**pair[0], **pair[1]))


_token = {"token_hash": _text, "token_tail": _text}
_agent = {"project": _slug, "name": _name}
_member = {"project": _slug, "squad": _squad, "agent": _name}
_minutes = st.integers(-5, 60 * 24).map(lambda m: T0 + timedelta(minutes=m))

commands = st.one_of(
    _of(
        projects.CreateProject,
        slug=_slug,
        project_id=_text,
        tier=st.sampled_from(["starter", "growth", "scale"]),
        tenant_token_hash=_text,
        tenant_token_tail=_text,
    ),
    _of(agents.MintAgent, **_agent, **_token, model=_text, charter=_text, scopes=st.just((Scope.SEND, Scope.INBOX))),
    _of(agents.DisableAgent, **_agent),
    _of(agents.EnableAgent, **_agent),
    _of(agents.RevokeAgent, **_agent),
    _of(squads.CreateSquad, project=_slug, squad=_squad, purpose=_text),
    _of(squads.JoinSquad, **_member, from_seq=st.integers(0, 99), summary=_text),
    _of(squads.LeaveSquad, **_member),
    _of(
        sessions.OpenSession,
        project=_slug,
        agent=_name,
        session=st.sampled_from(["s1", "s2"]),
        nkey=st.sampled_from(["UA", "UB", "UC"]),
        expires_at=_minutes,
        client=_text,
    ),
    _of(
        addresses.SetAddress,
        project=_slug,
        of=st.sampled_from(["agent", "squad"]),
        name=_name,
        state=st.sampled_from(["open", "suspended", "closed"]),
        members=st.none() | st.integers(0, 9),
    ),
)
histories = st.lists(commands, max_size=60)


def rules_of(command: Command) -> tuple[Any, str]:
    """The noun's module, and the subject the command is about."""
    match command:
        case projects.CreateProject():
            return projects, projects.subject(command.slug)
        case agents.MintAgent() | agents.DisableAgent() | agents.EnableAgent() | agents.RevokeAgent():
            return agents, agents.subject(command.project, command.name)
        case squads.CreateSquad() | squads.JoinSquad() | squads.LeaveSquad():
            return squads, squads.subject(command.project, command.squad)
        case sessions.OpenSession():
            return sessions, sessions.subject(command.project, command.agent)
        case addresses.SetAddress():
            return addresses, addresses.subject(command.project, command.of, command.name)
        case _:
            raise AssertionError(command)


def play(history: Iterable[Command]) -> tuple[list[AnyEvent], dict[str, Any]]:
    """All events of a history, refusals left out, and the state of each subject at its end."""
    states: dict[str, Any] = {}
    events: list[AnyEvent] = []
    for command in history:
        rules, subject = rules_of(command)
        try:
            decided = rules.decide(states.get(subject), command)
        except SosError:
            continue
        for event in decided:
            states[subject] = rules.apply(states.get(subject), event)
            events.append(event)
    return events, states


@given(histories)
def test_apply_folds_whatever_decide_allowed(history: list[Command]):
    events, states = play(history)
    assert {subject_of(event) for event in events} == set(states)


@given(histories)
def test_every_event_survives_its_bytes(history: list[Command]):
    events, _ = play(history)
    for event in events:
        assert decode(encode(event)) == event
        assert encode(decode(encode(event))) == encode(event)


@given(histories, commands)
def test_what_was_just_done_is_not_done_twice_except_opening_a_session(history: list[Command], command: Command):
    once, _ = play([*history, command])
    twice, _ = play([*history, command, command])
    if not isinstance(command, sessions.OpenSession):
        assert twice == once
