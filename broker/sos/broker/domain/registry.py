"""All facts there are, as one union: what the log stores and reads back."""

import msgspec

from sos.broker.domain import addresses, agents, projects, sessions, squads
from sos.broker.domain.event import Event, UnknownFact

AnyEvent = (
    projects.ProjectCreated
    | agents.AgentMinted
    | agents.AgentDisabled
    | agents.AgentEnabled
    | agents.AgentRevoked
    | squads.SquadCreated
    | squads.SquadJoined
    | squads.SquadLeft
    | sessions.SessionOpened
    | addresses.AddressChanged
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
        case projects.ProjectCreated():
            return projects.subject(event.slug)
        case agents.AgentMinted() | agents.AgentDisabled() | agents.AgentEnabled() | agents.AgentRevoked():
            return agents.subject(event.project, event.name)
        case squads.SquadCreated() | squads.SquadJoined() | squads.SquadLeft():
            return squads.subject(event.project, event.squad)
        case sessions.SessionOpened():
            return sessions.subject(event.project, event.agent)
        case addresses.AddressChanged():
            return addresses.subject(event.project, event.of, event.name)
