"""An agent: a durable name in one project, holding one token. Stream REGISTRY.

active ⇄ disabled, and from both → revoked, which is final: the name stays taken, so that nobody can later speak
under the name of an agent that others remember.
"""

from typing import Literal

import msgspec
from msgspec.structs import replace

from sos.broker.domain.event import Command, Event, broken
from sos.wire import names
from sos.wire.envelope import Moment
from sos.wire.errors import NameTaken, UnknownAgent
from sos.wire.scopes import Scope
from sos.wire.subjects import RegistryFact

AgentState = Literal["active", "disabled", "revoked"]


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    """State. `token_hash` is SHA-256 in hex, `token_tail` the token's last four characters."""

    project: str
    name: str
    model: str
    charter: str
    scopes: tuple[Scope, ...]
    token_hash: str
    token_tail: str
    state: AgentState
    minted_at: Moment


class MintAgent(Command, frozen=True, kw_only=True):
    """Give out a name. The token is made outside; only its hash and tail come in."""

    project: str
    name: str
    model: str
    charter: str
    scopes: tuple[Scope, ...]
    token_hash: str
    token_tail: str


class DisableAgent(Command, frozen=True, kw_only=True):
    """Suspend: no credential is given out, mail is kept."""

    project: str
    name: str


class EnableAgent(Command, frozen=True, kw_only=True):
    """Take a suspension back."""

    project: str
    name: str


class RevokeAgent(Command, frozen=True, kw_only=True):
    """End it for good."""

    project: str
    name: str


class AgentMinted(Event, frozen=True, kw_only=True, tag="agent.minted"):
    """There is an agent, active."""

    project: str
    name: str
    model: str
    charter: str
    scopes: tuple[Scope, ...]
    token_hash: str
    token_tail: str


class AgentDisabled(Event, frozen=True, kw_only=True, tag="agent.disabled"):
    """It is suspended."""

    project: str
    name: str


class AgentEnabled(Event, frozen=True, kw_only=True, tag="agent.enabled"):
    """It is active again."""

    project: str
    name: str


class AgentRevoked(Event, frozen=True, kw_only=True, tag="agent.revoked"):
    """It is gone for good, its name taken."""

    project: str
    name: str


AgentCommand = MintAgent | DisableAgent | EnableAgent | RevokeAgent
AgentEvent = AgentMinted | AgentDisabled | AgentEnabled | AgentRevoked


def decide(state: Agent | None, command: AgentCommand) -> tuple[AgentEvent, ...]:
    """`NameTaken` for a second mint, `UnknownAgent` for what is not there or is revoked; repeating is nothing."""
    if isinstance(command, MintAgent):
        return (_mint(state, command),)
    if state is None:
        raise UnknownAgent(project=command.project, name=command.name)
    if isinstance(command, RevokeAgent):
        return () if state.state == "revoked" else (AgentRevoked(**msgspec.structs.asdict(command)),)
    if state.state == "revoked":
        raise UnknownAgent(project=command.project, name=command.name)
    if isinstance(command, DisableAgent):
        return () if state.state == "disabled" else (AgentDisabled(**msgspec.structs.asdict(command)),)
    return () if state.state == "active" else (AgentEnabled(**msgspec.structs.asdict(command)),)


def apply(state: Agent | None, event: AgentEvent) -> Agent:
    """The agent after `event`."""
    if isinstance(event, AgentMinted):
        return _minted(event)
    if state is None:
        raise broken(subject(event.project, event.name), event)
    return replace(state, state=_AFTER[type(event)])


def subject(project: str, name: str) -> str:
    """Where an agent's facts are: `registry.<project>.agent.<name>`."""
    return str(RegistryFact(project, "agent", name))


_AFTER: dict[type[Event], AgentState] = {
    AgentDisabled: "disabled",
    AgentEnabled: "active",
    AgentRevoked: "revoked",
}


def _mint(state: Agent | None, command: MintAgent) -> AgentMinted:
    name = names.check(command.name, "agent name")
    if state is not None:
        raise NameTaken(what="agent", name=name)
    return AgentMinted(**msgspec.structs.asdict(command))


def _minted(event: AgentMinted) -> Agent:
    return Agent(
        project=event.project,
        name=event.name,
        model=event.model,
        charter=event.charter,
        scopes=event.scopes,
        token_hash=event.token_hash,
        token_tail=event.token_tail,
        state="active",
        minted_at=event.at,
    )
