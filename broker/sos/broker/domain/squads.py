"""A squad: a named channel of a project, and who is in it. Stream EVENTS of the project."""

import msgspec
from msgspec.structs import replace

from sos.broker.domain.event import Command, Event, broken
from sos.wire import names
from sos.wire.envelope import Moment
from sos.wire.errors import NameTaken, NotAMember, UnknownSquad
from sos.wire.subjects import Fact


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One member. What is older than `from_seq`, a sequence of the stream MESSAGES, was before its time."""

    name: str
    summary: str
    joined_at: Moment
    from_seq: int


class Squad(msgspec.Struct, frozen=True, kw_only=True):
    """State. `members` by name."""

    project: str
    squad: str
    purpose: str
    created_at: Moment
    members: dict[str, Member]


class CreateSquad(Command, frozen=True, kw_only=True):
    """Make a squad, empty."""

    project: str
    squad: str
    purpose: str = ""


class JoinSquad(Command, frozen=True, kw_only=True):
    """Join, or say something new of oneself. `from_seq` counts only for who is not in it yet."""

    project: str
    squad: str
    agent: str
    from_seq: int
    summary: str = ""


class LeaveSquad(Command, frozen=True, kw_only=True):
    """Leave."""

    project: str
    squad: str
    agent: str


class SquadCreated(Event, frozen=True, kw_only=True, tag="squad.created"):
    """There is a squad."""

    project: str
    squad: str
    purpose: str = ""


class SquadJoined(Event, frozen=True, kw_only=True, tag="squad.joined"):
    """An agent is in it, from the sequence `from_seq` of MESSAGES on; again with a new summary."""

    project: str
    squad: str
    agent: str
    from_seq: int
    summary: str = ""


class SquadLeft(Event, frozen=True, kw_only=True, tag="squad.left"):
    """An agent is not in it any more."""

    project: str
    squad: str
    agent: str


SquadCommand = CreateSquad | JoinSquad | LeaveSquad
SquadEvent = SquadCreated | SquadJoined | SquadLeft


def decide(state: Squad | None, command: SquadCommand) -> tuple[SquadEvent, ...]:
    """`NameTaken`, `UnknownSquad` or `NotAMember`; joining again with the same summary is nothing."""
    if isinstance(command, CreateSquad):
        return (_create(state, command),)
    if state is None:
        raise UnknownSquad(project=command.project, squad=command.squad)
    if isinstance(command, JoinSquad):
        return _join(state.members.get(command.agent), command)
    if command.agent not in state.members:
        raise NotAMember(squad=command.squad, name=command.agent)
    return (SquadLeft(**msgspec.structs.asdict(command)),)


def apply(state: Squad | None, event: SquadEvent) -> Squad:
    """The squad after `event`."""
    if isinstance(event, SquadCreated):
        return Squad(project=event.project, squad=event.squad, purpose=event.purpose, created_at=event.at, members={})
    if state is None:
        raise broken(subject(event.project, event.squad), event)
    if isinstance(event, SquadJoined):
        return replace(state, members=state.members | {event.agent: _member(state.members.get(event.agent), event)})
    return replace(state, members={name: m for name, m in state.members.items() if name != event.agent})


def subject(project: str, squad: str) -> str:
    """Where a squad's facts are: `project.<project>.event.squad.<squad>`."""
    return str(Fact(project, "squad", squad))


def _create(state: Squad | None, command: CreateSquad) -> SquadCreated:
    squad = names.check(command.squad, "squad id")
    if state is not None:
        raise NameTaken(what="squad", name=squad)
    return SquadCreated(**msgspec.structs.asdict(command))


def _join(member: Member | None, command: JoinSquad) -> tuple[SquadJoined, ...]:
    names.check(command.agent, "agent name")
    if member is None:
        return (SquadJoined(**msgspec.structs.asdict(command)),)
    if member.summary == command.summary:
        return ()
    return (SquadJoined(**msgspec.structs.asdict(replace(command, from_seq=member.from_seq))),)


def _member(before: Member | None, event: SquadJoined) -> Member:
    joined_at = before.joined_at if before else event.at
    return Member(name=event.agent, summary=event.summary, joined_at=joined_at, from_seq=event.from_seq)
