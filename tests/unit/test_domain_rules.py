"""What each noun allows, refuses and takes for done."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from tests.unit.test_domain_history import T0, play

from sos.broker.domain import (
    BrokenHistory,
    UnknownFact,
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
)
from sos.wire.api import AddressFact
from sos.wire.errors import (
    BadName,
    NameTaken,
    NotAMember,
    NotInCatalogue,
    UnknownAgent,
    UnknownProject,
    UnknownSquad,
)
from sos.wire.scopes import ALL

WHO: dict[str, Any] = {"at": T0, "actor": "operator"}
AGENT: dict[str, Any] = WHO | {"project": "acme", "name": "bob"}
SQUAD: dict[str, Any] = WHO | {"project": "acme", "squad": "red"}

CREATE = projects.CreateProject(
    **WHO, slug="acme", project_id="p1", tier="scale", tenant_token_hash="h", tenant_token_tail="t"
)
MINT = agent_facts.MintAgent(**AGENT, model="m", charter="", scopes=ALL, token_hash="h", token_tail="t")
JOIN = squads.JoinSquad(**SQUAD, agent="bob", from_seq=7, summary="here")
ROTATE = projects.RotateTenant(**WHO, slug="acme", tenant_token_hash="h2", tenant_token_tail="u")
VOID = projects.VoidTenant(**WHO, slug="acme", tenant_token_hash="h", reason="leaked")
ADD = catalogue.AddEntry(**WHO, name="kasra", model="m", charter="c", role="oracle", scopes=ALL, skills=())
LEAK = leaks.ReportLeak(
    **WHO,
    project="acme",
    message_seq=7,
    sender="bob",
    secrets=(leaks.Leaked(kind="agent_token", tail="abcd", of="agent:bob", action="voided"),),
)
OPEN = sessions.OpenSession(
    **WHO, project="acme", agent="bob", session="s1", nkey="UA", expires_at=T0 + timedelta(hours=1)
)


def after(*commands: Any) -> Any:
    """The state of the one subject that `commands` are about."""
    (state,) = play(commands)[1].values()
    return state


def test_a_project_is_created_once():
    state = after(CREATE)
    assert (state.slug, state.tier, state.created_at) == ("acme", "scale", T0)
    with pytest.raises(NameTaken):
        projects.decide(state, replace(CREATE, tenant_token_hash="another"))


def test_creating_a_project_again_with_the_token_it_has_is_nothing():
    assert projects.decide(after(CREATE), replace(CREATE, at=T0 + timedelta(1), project_id="p2")) == ()
    with pytest.raises(NameTaken):
        projects.decide(after(CREATE, ROTATE), CREATE)


def test_an_owners_token_is_replaced_at_once():
    state = after(CREATE, ROTATE)
    assert (state.tenant_token_hash, state.tenant_token_tail) == ("h2", "u")
    assert projects.decide(state, ROTATE) == ()


def test_an_owners_token_that_leaked_opens_nothing_until_it_is_rotated():
    state = after(CREATE, VOID)
    assert (state.tenant_token_hash, state.tenant_token_tail) == ("", "")
    assert after(CREATE, VOID, ROTATE).tenant_token_hash == "h2"


@pytest.mark.parametrize("token_hash", ["another", ""])
def test_voiding_a_token_that_the_owner_does_not_hold_is_nothing(token_hash: str):
    for state in (after(CREATE), after(CREATE, VOID)):
        assert projects.decide(state, replace(VOID, tenant_token_hash=token_hash)) == ()


@pytest.mark.parametrize("command", [ROTATE, VOID])
def test_a_project_that_is_not_there_is_unknown(command: Any):
    with pytest.raises(UnknownProject):
        projects.decide(None, command)


def test_a_slug_that_is_no_name_is_refused():
    with pytest.raises(BadName):
        projects.decide(None, replace(CREATE, slug="Acme.*"))


def test_an_agent_is_minted_active_and_once():
    assert after(MINT).state == "active"
    with pytest.raises(NameTaken):
        agents.decide(after(MINT), replace(MINT, token_hash="another"))


@pytest.mark.parametrize("command", [agent_facts.DisableAgent, agent_facts.EnableAgent, agent_facts.RevokeAgent])
def test_what_was_never_minted_is_unknown(command: Any):
    with pytest.raises(UnknownAgent):
        agents.decide(None, command(**AGENT))


@pytest.mark.parametrize(
    ("command", "state"),
    [(agent_facts.DisableAgent, "disabled"), (agent_facts.EnableAgent, "active"), (agent_facts.RevokeAgent, "revoked")],
)
def test_repeating_a_change_of_an_agent_is_nothing(command: Any, state: str):
    changed = after(MINT, agent_facts.DisableAgent(**AGENT), command(**AGENT))
    assert changed.state == state
    assert agents.decide(changed, command(**AGENT)) == ()


@pytest.mark.parametrize("command", [agent_facts.DisableAgent, agent_facts.EnableAgent])
def test_a_revoked_agent_stays_revoked(command: Any):
    with pytest.raises(UnknownAgent):
        agents.decide(after(MINT, agent_facts.RevokeAgent(**AGENT)), command(**AGENT))


def test_a_revoked_name_stays_taken():
    with pytest.raises(NameTaken):
        agents.decide(after(MINT, agent_facts.RevokeAgent(**AGENT)), MINT)


def test_a_squad_is_created_once_and_empty():
    state = after(squads.CreateSquad(**SQUAD, purpose="paint"))
    assert (state.purpose, state.members) == ("paint", {})
    with pytest.raises(NameTaken):
        squads.decide(state, squads.CreateSquad(**SQUAD))


def test_joining_a_squad_that_is_not_there_is_refused():
    with pytest.raises(UnknownSquad):
        squads.decide(None, JOIN)


def test_joining_again_with_the_same_summary_is_nothing():
    state = after(squads.CreateSquad(**SQUAD), JOIN)
    assert squads.decide(state, replace(JOIN, from_seq=99, at=T0 + timedelta(1))) == ()


def test_a_new_summary_keeps_when_and_from_where_the_membership_began():
    again = replace(JOIN, summary="busy", from_seq=99, at=T0 + timedelta(1))
    state = after(squads.CreateSquad(**SQUAD), JOIN, again)
    assert state.members["bob"] == squads.Member(name="bob", summary="busy", joined_at=T0, from_seq=7)


def test_who_left_and_joins_again_begins_anew():
    later = replace(JOIN, from_seq=99, at=T0 + timedelta(1))
    state = after(squads.CreateSquad(**SQUAD), JOIN, squads.LeaveSquad(**SQUAD, agent="bob"), later)
    assert state.members["bob"].from_seq == 99
    assert state.members["bob"].joined_at == T0 + timedelta(1)


def test_leaving_a_squad_one_is_not_in_is_refused():
    with pytest.raises(NotAMember):
        squads.decide(after(squads.CreateSquad(**SQUAD)), squads.LeaveSquad(**SQUAD, agent="bob"))


def test_a_member_that_is_no_name_is_refused():
    with pytest.raises(BadName):
        squads.decide(after(squads.CreateSquad(**SQUAD)), replace(JOIN, agent="b.*"))


def test_a_renewal_adds_a_key_to_the_same_session():
    renewed = replace(OPEN, nkey="UB", at=T0 + timedelta(minutes=40), expires_at=T0 + timedelta(hours=2))
    state = after(OPEN, renewed)
    assert set(state.by_nkey) == {"UA", "UB"}
    assert state.by_nkey["UB"].opened_at == T0


def test_a_session_that_ended_holds_no_key_and_leaves_the_others_alone():
    other = replace(OPEN, session="s2", nkey="UB")
    end = sessions.EndSession(**WHO, project="acme", agent="bob", session="s1", reason="stopped")
    state = after(OPEN, replace(OPEN, nkey="UC"), other, end)
    assert set(state.by_nkey) == {"UB"}
    assert state.news[-1] == sessions.End(session="s1", nkeys=("UA", "UC"), ended_at=T0, reason="stopped")


def test_ending_a_session_that_is_not_open_is_nothing():
    end = sessions.EndSession(**WHO, project="acme", agent="bob", session="s1", reason="expired")
    for state in (None, after(OPEN, end), after(replace(OPEN, session="s2"))):
        assert sessions.decide(state, end) == ()


def test_an_entry_of_the_catalogue_is_offered_as_it_was_given_last():
    changed = replace(ADD, model="m2", at=T0 + timedelta(1))
    assert (after(ADD).listed, after(ADD).added_at) == (True, T0)
    assert (after(ADD, changed).model, after(ADD, changed).added_at) == ("m2", T0 + timedelta(1))
    assert catalogue.decide(after(ADD), replace(ADD, at=T0 + timedelta(1))) == ()


def test_an_entry_that_was_removed_is_not_offered_and_may_be_added_again():
    gone = after(ADD, catalogue.RemoveEntry(**WHO, name="kasra"))
    assert not gone.listed
    assert catalogue.decide(gone, catalogue.RemoveEntry(**WHO, name="kasra")) == ()
    assert after(ADD, catalogue.RemoveEntry(**WHO, name="kasra"), ADD).listed


def test_what_was_never_in_the_catalogue_cannot_be_removed_and_what_is_no_name_cannot_be_added():
    with pytest.raises(NotInCatalogue):
        catalogue.decide(None, catalogue.RemoveEntry(**WHO, name="kasra"))
    with pytest.raises(BadName):
        catalogue.decide(None, replace(ADD, name="Kasra!"))


@pytest.mark.parametrize("of", ["acme", ""])
def test_a_target_of_escalation_is_set_changed_and_taken_away_once_each(of: str):
    for before, to, changes in (("", "acme/agent:bob", True), ("acme/agent:bob", "", True), ("x", "x", False)):
        state = escalations.Escalation(of=of, to=before) if before else None
        command = escalations.SetEscalation(**WHO, of=of, to=to)
        assert bool(escalations.decide(state, command)) is changes
    assert escalations.decide(None, escalations.SetEscalation(**WHO, of=of, to="")) == ()


def test_a_projects_target_and_the_operators_stand_apart_even_in_a_project_called_like_the_bus():
    assert len({escalations.subject(of) for of in ("", "sos", "operator")}) == 3


def levels(*measured: float) -> list[str]:
    """The level of each fact that these measurements leave."""
    events, _ = play([disks.MeasureDisk(**WHO, host="m1", used_percent=used) for used in measured])
    return [event.level for event in events if isinstance(event, disks.DiskCrossed)]


@pytest.mark.parametrize(
    ("measured", "told"),
    [
        ((50, 84.9, 85, 89.9), []),
        ((90,), ["warning"]),
        ((95,), ["critical"]),
        ((89.9, 90, 94.9, 95, 100), ["warning", "critical"]),
        ((90, 89, 91, 86, 90, 85), ["warning"]),
        ((90, 84.9, 90), ["warning", "ok", "warning"]),
        ((95, 94.9, 85), ["critical", "warning"]),
        ((95, 84.9), ["critical", "ok"]),
        ((95, 96, 99, 95), ["critical"]),
    ],
)
def test_a_disk_is_told_of_once_at_each_crossing(measured: tuple[float, ...], told: list[str]):
    assert levels(*measured) == told


@pytest.mark.parametrize("used", [96, 100.1, 1e9, float("inf")])
def test_a_fact_about_a_disk_can_be_read_again_whatever_was_measured(used: float):
    (event,) = disks.decide(None, disks.MeasureDisk(**WHO, host="m1", used_percent=used))
    assert encode(decode(encode(event))) == encode(event)
    assert decode(encode(event)) == event


def test_a_leak_is_reported_once_whoever_finds_it():
    state = after(LEAK)
    assert (state.sender, state.found_at, state.secrets) == ("bob", T0, LEAK.secrets)
    assert leaks.decide(state, replace(LEAK, at=T0 + timedelta(1), secrets=())) == ()


def test_an_address_changes_only_when_something_changes():
    opened = addresses.SetAddress(**AGENT, of="agent", state="open")
    assert addresses.decide(after(opened), opened) == ()
    assert addresses.decide(after(opened), replace(opened, state="suspended")) != ()
    assert addresses.decide(after(opened), replace(opened, members=3)) != ()


def test_an_address_that_never_was_is_closed_already():
    assert addresses.decide(None, addresses.SetAddress(**AGENT, of="agent", state="closed")) == ()


@pytest.mark.parametrize("members", [None, 0, 12])
def test_an_address_fact_reads_as_the_wire_promises(members: int | None):
    command = addresses.SetAddress(**AGENT, of="squad", state="open", members=members)
    (event,) = addresses.decide(None, command)
    assert msgspec.json.decode(encode(event), type=AddressFact) == AddressFact(state="open", members=members)


@pytest.mark.parametrize(
    ("rules", "event"),
    [
        (agents, agent_facts.AgentDisabled(**AGENT)),
        (agents, agent_facts.AgentRotated(**AGENT, token_hash="h", token_tail="t")),
        (projects, projects.TenantVoided(**WHO, slug="acme", tenant_token_hash="h", reason="")),
        (catalogue, catalogue.EntryRemoved(**WHO, name="kasra")),
        (squads, squads.SquadJoined(**SQUAD, agent="bob", from_seq=1)),
        (squads, squads.SquadLeft(**SQUAD, agent="bob")),
    ],
)
def test_a_fact_about_what_was_never_made_is_a_broken_history(rules: Any, event: Any):
    with pytest.raises(BrokenHistory):
        rules.apply(None, event)


@pytest.mark.parametrize("body", [b"", b"{}", b"\xff", b'{"type":"moon.landed"}', b'{"type":"agent.minted"}'])
def test_what_is_no_fact_is_refused_saying_why(body: bytes):
    with pytest.raises(UnknownFact) as refused:
        decode(body)
    assert refused.value.why


def test_a_fact_with_a_field_of_a_later_version_is_refused():
    body = encode(squads.SquadLeft(**SQUAD, agent="bob")).replace(b'"agent":', b'"mood":"sad","agent":')
    with pytest.raises(UnknownFact, match="mood"):
        decode(body)


def test_a_fact_of_an_earlier_version_reads_with_the_defaults_of_what_came_later_and_keeps_its_bytes():
    body = (
        b'{"type":"agent.minted","at":"2026-01-01T00:00:00Z","actor":"operator","project":"acme","name":"bob",'
        b'"model":"m","charter":"","scopes":["mcp:send"],"token_hash":"h","token_tail":"t"}'
    )
    event = decode(body)
    assert isinstance(event, agent_facts.AgentMinted)
    assert (event.role, event.origin, event.skills, event.install, event.token_id) == (
        "specialist",
        "custom",
        (),
        "",
        "",
    )
    assert encode(event) == body
    opened = (
        b'{"type":"session.opened","at":"2026-01-01T00:00:00Z","actor":"agent:bob","project":"acme","agent":"bob",'
        b'"session":"s1","nkey":"UA","expires_at":"2026-01-01T12:00:00Z","client":"codex"}'
    )
    assert encode(decode(opened)) == opened
