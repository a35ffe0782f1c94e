"""An agent: a durable name in one project, holding one token. Stream REGISTRY.

active ⇄ disabled, and from both → revoked, which is final: the name stays taken, so that nobody can later speak
under the name of an agent that others remember.

Each credential is signed for the agent's `epoch` of that moment. What takes rights away (disable, revoke, other scopes,
another token) begins a new epoch, and credentials of an earlier one are void: told from facts alone, by no clock.
"""

from datetime import datetime

import msgspec
from msgspec.structs import asdict, replace

from sos.broker.domain.agent_facts import (
    AgentCommand,
    AgentCut,
    AgentDisabled,
    AgentEnabled,
    AgentEvent,
    AgentJoined,
    AgentMinted,
    AgentReleased,
    AgentRescoped,
    AgentRevoked,
    AgentRotated,
    AgentVoided,
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
from sos.broker.domain.event import broken
from sos.wire import names
from sos.wire.api import AgentState
from sos.wire.api.agents import AgentOrigin
from sos.wire.envelope import Moment
from sos.wire.errors import AgentDisabled as Disabled
from sos.wire.errors import LimitReached, NameClaimed, NameTaken, ReservedName, UnknownAgent
from sos.wire.roles import Role
from sos.wire.scopes import Scope
from sos.wire.skills import Skill
from sos.wire.subjects import GATEWAY, RegistryFact

RESERVED = frozenset({GATEWAY})
"""Names under which the bus itself writes."""


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    """State. Hashes are SHA-256 in hex, `token_tail` is the token's last four characters; empty if there is none.

    While `old_token_until` lies ahead, the token before the last rotation and what it opened (`old_epoch`) are good.
    """

    project: str
    name: str
    model: str
    charter: str
    role: Role
    origin: AgentOrigin
    scopes: tuple[Scope, ...]
    skills: tuple[Skill, ...]
    token_hash: str
    token_tail: str
    old_token_hash: str
    old_token_until: Moment | None
    epoch: int
    old_epoch: int
    install: str
    joined_at: Moment | None
    state: AgentState
    minted_at: Moment

    def epoch_of(self, token_hash: str, at: datetime) -> int | None:
        """The epoch for which this token opens sessions at `at`; None if it opens none."""
        if token_hash == self.token_hash != "":
            return self.epoch
        return self.old_epoch if token_hash == self.old_token_hash != "" and self._in_grace(at) else None

    def honours(self, epoch: int, at: datetime) -> bool:
        """Whether a credential of that epoch is good at `at`."""
        first = self.old_epoch if self._in_grace(at) else self.epoch
        return self.state == "active" and epoch >= first

    def _in_grace(self, at: datetime) -> bool:
        return self.old_token_until is not None and at < self.old_token_until


class Roster(msgspec.Struct, frozen=True, kw_only=True):
    """What a mint is decided on: the name's own state, and how many custom agents the project has that count."""

    agent: Agent | None
    custom: int


def decide_mint(roster: Roster, command: MintAgent) -> tuple[AgentMinted, ...]:
    """`NameTaken`, `ReservedName`, `BadName`, or `LimitReached` for one more custom agent than the tier allows.

    A mint with the token of the one before it is that one again: nothing, so that it can be repeated.
    """
    name = names.check(command.name, "agent name")
    if name in RESERVED:
        raise ReservedName(name=name)
    if roster.agent is not None:
        if roster.agent.token_hash == command.token_hash and roster.agent.state != "revoked":
            return ()
        raise NameTaken(what="agent", name=name)
    if command.limit is not None and command.origin == "custom" and roster.custom >= command.limit:
        raise LimitReached(what=f"custom agents of project {command.project}", limit=command.limit)
    fields = asdict(command)
    del fields["limit"]
    return (AgentMinted(**fields),)


def decide(state: Agent | None, command: AgentCommand) -> tuple[AgentEvent, ...]:
    """`UnknownAgent` for what is not there or is revoked; `AgentDisabled`, `NameClaimed` for a join; repeating is
    nothing."""
    if isinstance(command, MintAgent):
        return decide_mint(Roster(agent=state, custom=0), command)
    if state is None or (state.state == "revoked" and not isinstance(command, RevokeAgent)):
        raise UnknownAgent(project=command.project, name=command.name)
    if not _changes(state, command):
        return ()
    if isinstance(command, JoinAgent) and state.state == "disabled":
        raise Disabled(project=state.project, name=state.name)
    if isinstance(command, JoinAgent | RotateToken):
        _check_claim(state, command.install)
    return (_FACT[type(command)](**asdict(command)),)


def apply(state: Agent | None, event: AgentEvent) -> Agent:  # noqa: C901 - one line an event
    """The agent after `event`."""
    if isinstance(event, AgentMinted):
        return _minted(event)
    if state is None:
        raise broken(subject(event.project, event.name), event)
    match event:
        case AgentDisabled():
            return replace(_next_epoch(state), state="disabled")
        case AgentEnabled():
            return replace(state, state="active")
        case AgentRevoked():
            return replace(_next_epoch(state), state="revoked")
        case AgentJoined():
            return replace(state, install=event.install, role=event.role, skills=event.skills, joined_at=event.at)
        case AgentReleased():
            return replace(_next_epoch(state), install="", joined_at=None, token_hash="", token_tail="")
        case AgentRotated():
            return _rotated(state, event)
        case AgentVoided():
            return _voided(state, event)
        case AgentRescoped():
            return replace(_next_epoch(state), scopes=event.scopes)
        case AgentCut():
            return replace(_next_epoch(state), epoch=event.epoch, old_epoch=event.epoch)


def subject(project: str, name: str) -> str:
    """Where an agent's facts are: `registry.<project>.agent.<name>`."""
    return str(RegistryFact(project, "agent", name))


_FACT: dict[type, type[AgentEvent]] = {
    DisableAgent: AgentDisabled,
    EnableAgent: AgentEnabled,
    RevokeAgent: AgentRevoked,
    JoinAgent: AgentJoined,
    ReleaseAgent: AgentReleased,
    RotateToken: AgentRotated,
    VoidToken: AgentVoided,
    RescopeAgent: AgentRescoped,
    CutAgent: AgentCut,
}


def _changes(state: Agent, command: AgentCommand) -> bool:  # noqa: C901 - one line a command
    """Whether there is anything left to do."""
    match command:
        case DisableAgent():
            return state.state != "disabled"
        case EnableAgent():
            return state.state != "active"
        case RevokeAgent():
            return state.state != "revoked"
        case JoinAgent():
            there = (state.install, state.role, state.skills)
            return state.joined_at is None or there != (command.install, command.role, command.skills)
        case ReleaseAgent():
            return bool(state.install or state.token_hash)
        case RotateToken():
            return state.token_hash != command.token_hash
        case VoidToken():
            return command.token_hash in {state.token_hash, state.old_token_hash} - {""}
        case RescopeAgent():
            return state.scopes != command.scopes
        case CutAgent():
            return state.epoch < command.epoch
        case MintAgent():
            return True


def _check_claim(state: Agent, install: str) -> None:
    """`NameClaimed` if another install has the name."""
    if install and state.install and state.install != install:
        since = f"{state.joined_at:%Y-%m-%d %H:%M} UTC" if state.joined_at else "its minting"
        raise NameClaimed(project=state.project, name=state.name, since=since)


def _minted(event: AgentMinted) -> Agent:
    return Agent(
        project=event.project,
        name=event.name,
        model=event.model,
        charter=event.charter,
        role=event.role,
        origin=event.origin,
        scopes=event.scopes,
        skills=event.skills,
        token_hash=event.token_hash,
        token_tail=event.token_tail,
        old_token_hash="",
        old_token_until=None,
        epoch=0,
        old_epoch=0,
        install=event.install,
        joined_at=None,
        state="active",
        minted_at=event.at,
    )


def _next_epoch(state: Agent) -> Agent:
    """Every credential given out so far is void, and no older token is taken any more."""
    epoch = state.epoch + 1
    return replace(state, epoch=epoch, old_epoch=epoch, old_token_hash="", old_token_until=None)


def _rotated(state: Agent, event: AgentRotated) -> Agent:
    after = replace(
        _next_epoch(state),
        token_hash=event.token_hash,
        token_tail=event.token_tail,
        install=event.install or state.install,
    )
    if event.old_token_until is None:
        return after
    return replace(after, old_token_hash=state.token_hash, old_token_until=event.old_token_until, old_epoch=state.epoch)


def _voided(state: Agent, event: AgentVoided) -> Agent:
    if event.token_hash == state.token_hash:
        return replace(_next_epoch(state), token_hash="", token_tail="")
    return replace(state, old_token_hash="", old_token_until=None, old_epoch=state.epoch)
