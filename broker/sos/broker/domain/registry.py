"""All facts there are, as one union: what the log stores and reads back."""

import msgspec

from sos.broker.domain import (
    addresses,
    agent_facts,
    agents,
    catalogue,
    disks,
    escalations,
    leaks,
    projects,
    sessions,
    squads,
)
from sos.broker.domain.event import Event, UnknownFact

AnyEvent = (
    projects.ProjectCreated
    | projects.TenantRotated
    | projects.TenantVoided
    | agent_facts.AgentMinted
    | agent_facts.AgentDisabled
    | agent_facts.AgentEnabled
    | agent_facts.AgentRevoked
    | agent_facts.AgentJoined
    | agent_facts.AgentReleased
    | agent_facts.AgentRotated
    | agent_facts.AgentVoided
    | agent_facts.AgentRescoped
    | agent_facts.AgentCut
    | catalogue.EntryAdded
    | catalogue.EntryRemoved
    | escalations.EscalationSet
    | disks.DiskCrossed
    | squads.SquadCreated
    | squads.SquadJoined
    | squads.SquadLeft
    | sessions.SessionOpened
    | sessions.SessionEnded
    | addresses.AddressChanged
    | leaks.LeakFound
)

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)


def encode(event: Event) -> bytes:
    """The JSON of a fact, always the same bytes for the same fact."""
    return _encoder.encode(event)


def decode(body: bytes) -> AnyEvent:
    """The fact in `body`; `UnknownFact` says why not."""
    try:
        return _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as e:
        raise UnknownFact(why=str(e) if isinstance(e, msgspec.ValidationError) else "not JSON") from e


def subject_of(event: AnyEvent) -> str:
    """The one subject on which this fact may stand."""
    match event:
        case projects.ProjectCreated() | projects.TenantRotated() | projects.TenantVoided():
            return projects.subject(event.slug)
        case catalogue.EntryAdded() | catalogue.EntryRemoved():
            return catalogue.subject(event.name)
        case escalations.EscalationSet():
            return escalations.subject(event.of)
        case disks.DiskCrossed():
            return disks.subject(event.host)
        case squads.SquadCreated() | squads.SquadJoined() | squads.SquadLeft():
            return squads.subject(event.project, event.squad)
        case sessions.SessionOpened() | sessions.SessionEnded():
            return sessions.subject(event.project, event.agent)
        case addresses.AddressChanged():
            return addresses.subject(event.project, event.of, event.name)
        case leaks.LeakFound():
            return leaks.subject(event.project, event.message_seq)
        case _:
            return agents.subject(event.project, event.name)
