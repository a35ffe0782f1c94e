"""Sessions: the runs of an agent, by the key each holds. Stream EVENTS of the project, one aggregate an agent.

A renewal is another `SessionOpened` with the same `session` and a new key. The state holds the keys of sessions that
have not ended. What the tables keep beyond that, every key there was and every run, is fed by `news`, in order: a key
of a session that ended is still a key that a revocation must reach.
"""

from typing import Annotated, Literal

import msgspec
from msgspec.structs import asdict, replace

from sos.broker.domain.event import Command, Event
from sos.wire import names
from sos.wire.envelope import Moment
from sos.wire.subjects import Fact

EndReason = Literal["stopped", "cut", "expired"]
"""The agent said so; its rights were taken away; its credential ran out and nobody renewed it."""


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One key of one run. `opened_at` is when the run began, `expires_at` when this key's credential ends; `epoch` is
    the agent's when it was signed."""

    session: str
    agent: str
    nkey: str
    client: str
    model: str
    install: str
    opened_at: Moment
    expires_at: Moment
    epoch: int


class End(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended, and the keys it had."""

    session: str
    nkeys: tuple[str, ...]
    ended_at: Moment
    reason: EndReason


class Sessions(msgspec.Struct, frozen=True, kw_only=True):
    """State: the keys of an agent's open sessions. `news` is what this fold adds to the tables."""

    project: str
    agent: str
    by_nkey: dict[str, Session]
    news: tuple[Session | End, ...] = ()


class OpenSession(Command, frozen=True, kw_only=True):
    """Open or renew: the same `session` with a new key."""

    project: str
    agent: str
    session: str
    nkey: str
    expires_at: Moment
    client: str = ""
    model: str = ""
    install: str = ""
    epoch: Annotated[int, msgspec.Meta(ge=0)] = 0


class EndSession(Command, frozen=True, kw_only=True):
    """The run is over."""

    project: str
    agent: str
    session: str
    reason: EndReason


class SessionOpened(Event, frozen=True, kw_only=True, tag="session.opened"):
    """A credential was given to `nkey` until `expires_at`."""

    project: str
    agent: str
    session: str
    nkey: str
    expires_at: Moment
    client: str = ""
    model: str = ""
    install: str = ""
    epoch: Annotated[int, msgspec.Meta(ge=0)] = 0


class SessionEnded(Event, frozen=True, kw_only=True, tag="session.ended"):
    """The run is over, and nothing of it is renewed."""

    project: str
    agent: str
    session: str
    reason: EndReason


SessionCommand = OpenSession | EndSession
SessionEvent = SessionOpened | SessionEnded


def decide(state: Sessions | None, command: SessionCommand) -> tuple[SessionEvent, ...]:
    """Opening is always allowed: who may was checked against the agent. Ending what is not there is nothing.
    `BadName` for an agent that is no name."""
    names.check(command.agent, "agent name")
    if isinstance(command, OpenSession):
        return (SessionOpened(**asdict(command)),)
    there = state is not None and any(s.session == command.session for s in state.by_nkey.values())
    return (SessionEnded(**asdict(command)),) if there else ()


def apply(state: Sessions | None, event: SessionEvent) -> Sessions:
    """The agent's sessions after `event`."""
    state = state or Sessions(project=event.project, agent=event.agent, by_nkey={})
    if isinstance(event, SessionEnded):
        gone = tuple(nkey for nkey, s in state.by_nkey.items() if s.session == event.session)
        left = {nkey: s for nkey, s in state.by_nkey.items() if nkey not in gone}
        end = End(session=event.session, nkeys=gone, ended_at=event.at, reason=event.reason)
        return replace(state, by_nkey=left, news=(*state.news, end))
    began = min((s.opened_at for s in state.by_nkey.values() if s.session == event.session), default=event.at)
    opened = Session(
        session=event.session,
        agent=event.agent,
        nkey=event.nkey,
        client=event.client,
        model=event.model,
        install=event.install,
        opened_at=began,
        expires_at=event.expires_at,
        epoch=event.epoch,
    )
    return replace(state, by_nkey=state.by_nkey | {event.nkey: opened}, news=(*state.news, opened))


def subject(project: str, agent: str) -> str:
    """Where an agent's sessions are: `project.<project>.event.session.<agent>`."""
    return str(Fact(project, "session", agent))
