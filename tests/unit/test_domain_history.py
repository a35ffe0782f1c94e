"""Random histories: whatever `decide` allows, `apply` folds and the log's bytes carry."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from sos.broker.domain import (
    AnyEvent,
    addresses,
    agent_facts,
    agents,
    catalogue,
    decode,
    disks,
    encode,
    escalations,
    leaks,
    projects,
    sessions,
    squads,
    subject_of,
)
from sos.broker.domain.event import Command
from sos.wire.errors import SosError
from sos.wire.roles import ROLES
from sos.wire.scopes import ALL
from sos.wire.skills import Skill

T0 = datetime(2026, 1, 1, tzinfo=UTC)
SLUGS = ("acme", "beta")

_slug = st.sampled_from(["acme", "acme", "acme", "beta"])  # most of it in one place, so that much happens to one thing
_name = st.sampled_from(["ann", "bob"])
_squad = st.sampled_from(["red", "blue"])
_text = st.text(max_size=8)
_hash = st.sampled_from(["h1", "h2", "h3", "h4"])
_any_hash = _hash | st.just("")
_at = st.integers(0, 10**6).map(lambda s: T0 + timedelta(seconds=s / 7))
_who = st.fixed_dictionaries({"at": _at, "actor": st.sampled_from(["operator", "tenant:acme", "agent:bob", "gateway"])})


def _of(command: type[Any], **parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    both = st.tuples(_who, st.fixed_dictionaries(parts))
    return both.map(lambda pair: command(**pair[0], **pair[1]))


_tenant = {"slug": _slug, "tenant_token_hash": _hash}
_agent = {"project": _slug, "name": _name}
_token = {"token_hash": _hash, "token_tail": _text}
_member = {"project": _slug, "squad": _squad, "agent": _name}
_minutes = st.integers(-5, 60 * 24).map(lambda m: T0 + timedelta(minutes=m))
_role = st.sampled_from(ROLES)
_scopes = st.lists(st.sampled_from(ALL), unique=True, max_size=3).map(tuple)
_skills = st.sampled_from([(), (Skill(id="a"),), (Skill(id="a"), Skill(id="b", input_schema={"x": [1, 0.5, None]}))])
_about = {"role": _role, "skills": _skills}
_session = st.sampled_from(["s1", "s2"])
_leaked = st.builds(
    leaks.Leaked,
    kind=st.sampled_from(get_args(leaks.SecretKind)),
    tail=_text,
    of=_text,
    action=st.sampled_from(get_args(leaks.LeakAction)),
)

_project_commands = st.one_of(
    _of(
        projects.CreateProject,
        **_tenant,
        project_id=_text,
        tier=st.sampled_from(["starter", "growth", "scale"]),
        tenant_token_tail=_text,
    ),
    _of(projects.RotateTenant, **_tenant, tenant_token_tail=_text),
    _of(projects.VoidTenant, slug=_slug, tenant_token_hash=_any_hash, reason=_text),
    _of(escalations.SetEscalation, of=_slug | st.just(""), to=_text),
    _of(catalogue.AddEntry, name=_name, model=_text, charter=_text, scopes=_scopes, **_about),
    _of(catalogue.RemoveEntry, name=_name),
    _of(disks.MeasureDisk, host=st.sampled_from(["m1", "m2"]), used_percent=st.integers(0, 100) | st.floats(80, 100)),
)
agent_commands = st.one_of(
    _of(
        agent_facts.MintAgent,
        **_agent,
        **_token,
        **_about,
        model=_text,
        charter=_text,
        scopes=_scopes,
        origin=st.sampled_from(["custom", "platform"]),
        install=st.sampled_from(["", "i1"]),
    ),
    _of(agent_facts.DisableAgent, **_agent),
    _of(agent_facts.EnableAgent, **_agent),
    _of(agent_facts.RevokeAgent, **_agent),
    _of(agent_facts.JoinAgent, **_agent, **_about, install=st.sampled_from(["i1", "i2"])),
    _of(agent_facts.ReleaseAgent, **_agent),
    _of(agent_facts.RotateToken, **_agent, **_token, old_token_until=st.none() | _minutes),
    _of(agent_facts.VoidToken, **_agent, token_hash=_any_hash, reason=_text),
    _of(agent_facts.RescopeAgent, **_agent, scopes=_scopes),
    _of(agent_facts.CutAgent, **_agent, epoch=st.integers(0, 9), reason=_text),
)
session_commands = st.one_of(
    _of(
        sessions.OpenSession,
        project=_slug,
        agent=_name,
        session=_session,
        nkey=st.sampled_from(["UA", "UB", "UC"]),
        expires_at=_minutes,
        client=_text,
        epoch=st.integers(0, 4),
    ),
    _of(
        sessions.EndSession,
        project=_slug,
        agent=_name,
        session=_session,
        reason=st.sampled_from(get_args(sessions.EndReason)),
    ),
)
_other_commands = st.one_of(
    _of(squads.CreateSquad, project=_slug, squad=_squad, purpose=_text),
    _of(squads.JoinSquad, **_member, from_seq=st.integers(0, 99), summary=_text),
    _of(squads.LeaveSquad, **_member),
    _of(
        addresses.SetAddress,
        project=_slug,
        of=st.sampled_from(["agent", "squad"]),
        name=_name,
        state=st.sampled_from(["open", "suspended", "closed"]),
        members=st.none() | st.integers(0, 9),
    ),
    _of(
        leaks.ReportLeak,
        project=_slug,
        message_seq=st.integers(1, 3),
        sender=_name,
        secrets=st.lists(_leaked, max_size=2).map(tuple),
    ),
)
commands = st.one_of(_project_commands, agent_commands, session_commands, _other_commands)
_by: dict[str, Any] = {"at": T0, "actor": "operator", "project": "acme"}
_minted: dict[str, Any] = {"model": "", "charter": "", "scopes": ALL, "token_tail": ""}
_made: list[Command] = [
    agent_facts.MintAgent(**_by, **_minted, name="ann", token_hash="h1"),
    agent_facts.DisableAgent(**_by, name="ann"),
    agent_facts.MintAgent(**_by, **_minted, name="bob", token_hash="h2"),
    squads.CreateSquad(**_by, squad="red"),
    squads.JoinSquad(**_by, squad="red", agent="bob", from_seq=0),
    squads.JoinSquad(**_by, squad="red", agent="ann", from_seq=0),
    squads.LeaveSquad(**_by, squad="red", agent="ann"),
]
# A history from nothing, or one of a project in which things are there to be changed.
histories = st.builds(
    list[Command].__add__,
    st.sampled_from([[], _made]),
    st.lists(commands, max_size=15) | st.lists(commands, min_size=20, max_size=60),
)


def rules_of(command: Command) -> tuple[Any, str]:
    """The noun's module, and the subject the command is about."""
    match command:
        case projects.CreateProject() | projects.RotateTenant() | projects.VoidTenant():
            return projects, projects.subject(command.slug)
        case escalations.SetEscalation():
            return escalations, escalations.subject(command.of)
        case catalogue.AddEntry() | catalogue.RemoveEntry():
            return catalogue, catalogue.subject(command.name)
        case disks.MeasureDisk():
            return disks, disks.subject(command.host)
        case squads.CreateSquad() | squads.JoinSquad() | squads.LeaveSquad():
            return squads, squads.subject(command.project, command.squad)
        case sessions.OpenSession() | sessions.EndSession():
            return sessions, sessions.subject(command.project, command.agent)
        case addresses.SetAddress():
            return addresses, addresses.subject(command.project, command.of, command.name)
        case leaks.ReportLeak():
            return leaks, leaks.subject(command.project, command.message_seq)
        case _:
            assert isinstance(command, agent_facts.AgentCommand)
            return agents, agents.subject(command.project, command.name)


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


def test_every_fact_there_is_comes_of_some_command_here():
    # What is added to the union and not to the histories above would be folded untested.
    made: set[type] = set()

    @settings(database=None, derandomize=True, max_examples=400)
    @given(histories)
    def look(history: list[Command]) -> None:
        made.update(type(event) for event in play(history)[0])

    look()
    assert made == set(get_args(AnyEvent))
