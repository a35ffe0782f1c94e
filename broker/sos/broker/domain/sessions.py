"""Sessions: the runs of an agent, by the key each holds. Stream EVENTS of the project, one aggregate an agent.

A renewal is another `SessionOpened` with the same `session` and a new key. A key whose credential has expired opens
nothing, so the fold forgets it at the next opening: the state is bounded by what is alive, not by all that ever was.
"""

import msgspec

from sos.broker.domain.event import Command, Event
from sos.wire import names
from sos.wire.envelope import Moment
from sos.wire.subjects import Fact


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One key of one run. `opened_at` is when the run began, `expires_at` when this key's credential ends."""

    session: str
    agent: str
    nkey: str
    client: str
    model: str
    install: str
    opened_at: Moment
    expires_at: Moment


class Sessions(msgspec.Struct, frozen=True, kw_only=True):
    """State: an agent's sessions by public nkey."""

    project: str
    agent: str
    by_nkey: dict[str, Session]


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


def decide(_: Sessions | None, command: OpenSession) -> tuple[SessionOpened, ...]:
    """Always allowed: who may open one was checked against the agent. `BadName` for an agent that is no name."""
    names.check(command.agent, "agent name")
    return (SessionOpened(**msgspec.structs.asdict(command)),)


def apply(state: Sessions | None, event: SessionOpened) -> Sessions:
    """The agent's sessions after `event`, without those that had expired by then."""
    known = state.by_nkey if state else {}
    alive = {nkey: s for nkey, s in known.items() if s.expires_at > event.at}
    began = min((s.opened_at for s in known.values() if s.session == event.session), default=event.at)
    opened = Session(
        session=event.session,
        agent=event.agent,
        nkey=event.nkey,
        client=event.client,
        model=event.model,
        install=event.install,
        opened_at=began,
        expires_at=event.expires_at,
    )
    return Sessions(project=event.project, agent=event.agent, by_nkey=alive | {event.nkey: opened})


def subject(project: str, agent: str) -> str:
    """Where an agent's sessions are: `project.<project>.event.session.<agent>`."""
    return str(Fact(project, "session", agent))
