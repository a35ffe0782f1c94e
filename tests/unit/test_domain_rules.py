"""What each noun allows, refuses and takes for done."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from tests.unit.test_domain_history import T0, play

from sos.broker.domain import BrokenHistory, UnknownFact, addresses, agents, decode, encode, projects, sessions, squads
from sos.wire.api import AddressFact
from sos.wire.errors import BadName, NameTaken, NotAMember, UnknownAgent, UnknownSquad
from sos.wire.scopes import ALL

WHO: dict[str, Any] = {"at": T0, "actor": "operator"}
AGENT: dict[str, Any] = WHO | {"project": "acme", "name": "bob"}
SQUAD: dict[str, Any] = WHO | {"project": "acme", "squad": "red"}

CREATE = projects.CreateProject(
    **WHO, slug="acme", project_id="p1", tier="scale", tenant_token_hash="h", tenant_token_tail="t"
)
MINT = agents.MintAgent(**AGENT, model="m", charter="", scopes=ALL, token_hash="h", token_tail="t")
JOIN = squads.JoinSquad(**SQUAD, agent="bob", from_seq=7, summary="here")
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
        projects.decide(state, CREATE)


def test_a_slug_that_is_no_name_is_refused():
    with pytest.raises(BadName):
        projects.decide(None, replace(CREATE, slug="Acme.*"))


def test_an_agent_is_minted_active_and_once():
    assert after(MINT).state == "active"
    with pytest.raises(NameTaken):
        agents.decide(after(MINT), MINT)


@pytest.mark.parametrize("command", [agents.DisableAgent, agents.EnableAgent, agents.RevokeAgent])
def test_what_was_never_minted_is_unknown(command: Any):
    with pytest.raises(UnknownAgent):
        agents.decide(None, command(**AGENT))


@pytest.mark.parametrize(
    ("command", "state"),
    [(agents.DisableAgent, "disabled"), (agents.EnableAgent, "active"), (agents.RevokeAgent, "revoked")],
)
def test_repeating_a_change_of_an_agent_is_nothing(command: Any, state: str):
    changed = after(MINT, agents.DisableAgent(**AGENT), command(**AGENT))
    assert changed.state == state
    assert agents.decide(changed, command(**AGENT)) == ()


@pytest.mark.parametrize("command", [agents.DisableAgent, agents.EnableAgent])
def test_a_revoked_agent_stays_revoked(command: Any):
    with pytest.raises(UnknownAgent):
        agents.decide(after(MINT, agents.RevokeAgent(**AGENT)), command(**AGENT))


def test_a_revoked_name_stays_taken():
    with pytest.raises(NameTaken):
        agents.decide(after(MINT, agents.RevokeAgent(**AGENT)), MINT)


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


def test_an_expired_key_is_forgotten_at_the_next_opening():
    later = replace(OPEN, nkey="UB", session="s2", at=T0 + timedelta(hours=3), expires_at=T0 + timedelta(hours=4))
    assert set(after(OPEN, later).by_nkey) == {"UB"}


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
        (agents, agents.AgentDisabled(**AGENT)),
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
