"""What may be asked of an agent, and the facts that come of it. The rules are in `agents`."""

from typing import Annotated

import msgspec

from sos.broker.domain.event import Command, Event
from sos.wire.api.agents import AgentOrigin
from sos.wire.envelope import Moment
from sos.wire.roles import DEFAULT_ROLE, Role
from sos.wire.scopes import Scope
from sos.wire.skills import Skill

Epoch = Annotated[int, msgspec.Meta(ge=0)]


class MintAgent(Command, frozen=True, kw_only=True):
    """Give out a name. The token is made outside; only its hash and tail come in. `limit` is the tier's number of
    custom agents, None for no limit; `install` is set where the minting install takes the name at once."""

    project: str
    name: str
    model: str
    charter: str
    scopes: tuple[Scope, ...]
    token_hash: str
    token_tail: str
    role: Role = DEFAULT_ROLE
    origin: AgentOrigin = "custom"
    skills: tuple[Skill, ...] = ()
    install: str = ""
    limit: int | None = None


class DisableAgent(Command, frozen=True, kw_only=True):
    """Suspend: no credential is given out, those there are become void, mail is kept."""

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


class JoinAgent(Command, frozen=True, kw_only=True):
    """An install takes the name, and says what the agent is and can do."""

    project: str
    name: str
    install: str
    role: Role
    skills: tuple[Skill, ...]


class ReleaseAgent(Command, frozen=True, kw_only=True):
    """The install that has the name lets it go: its token and credentials are void, the name and its mail stay."""

    project: str
    name: str


class RotateToken(Command, frozen=True, kw_only=True):
    """Another token. The old one, and what it opened, is good until `old_token_until`; not at all if that is None. With
    `install` it is for that install alone, which takes the name if nobody has it."""

    project: str
    name: str
    token_hash: str
    token_tail: str
    old_token_until: Moment | None = None
    install: str = ""


class VoidToken(Command, frozen=True, kw_only=True):
    """This token leaked: it opens nothing any more. The agent stays, without a token until it is rotated."""

    project: str
    name: str
    token_hash: str
    reason: str


class RescopeAgent(Command, frozen=True, kw_only=True):
    """Other rights from now on."""

    project: str
    name: str
    scopes: tuple[Scope, ...]


class CutAgent(Command, frozen=True, kw_only=True):
    """Every credential of an epoch before `epoch` is void; the token may open new ones."""

    project: str
    name: str
    epoch: Epoch
    reason: str


class AgentMinted(Event, frozen=True, kw_only=True, tag="agent.minted"):
    """There is an agent, active."""

    project: str
    name: str
    model: str
    charter: str
    scopes: tuple[Scope, ...]
    token_hash: str
    token_tail: str
    role: Role = DEFAULT_ROLE
    origin: AgentOrigin = "custom"
    skills: tuple[Skill, ...] = ()
    install: str = ""


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


class AgentJoined(Event, frozen=True, kw_only=True, tag="agent.joined"):
    """An install has it, and it is and can do this."""

    project: str
    name: str
    install: str
    role: Role
    skills: tuple[Skill, ...]


class AgentReleased(Event, frozen=True, kw_only=True, tag="agent.released"):
    """No install has it, and it has no token."""

    project: str
    name: str


class AgentRotated(Event, frozen=True, kw_only=True, tag="agent.rotated"):
    """It holds another token; `install`, if set, has it from now on."""

    project: str
    name: str
    token_hash: str
    token_tail: str
    old_token_until: Moment | None = None
    install: str = ""


class AgentVoided(Event, frozen=True, kw_only=True, tag="agent.voided"):
    """A token of it opens nothing any more."""

    project: str
    name: str
    token_hash: str
    reason: str


class AgentRescoped(Event, frozen=True, kw_only=True, tag="agent.rescoped"):
    """It may do this from now on."""

    project: str
    name: str
    scopes: tuple[Scope, ...]


class AgentCut(Event, frozen=True, kw_only=True, tag="agent.cut"):
    """Credentials of an epoch before `epoch` are void."""

    project: str
    name: str
    epoch: Epoch
    reason: str


AgentCommand = (
    MintAgent
    | DisableAgent
    | EnableAgent
    | RevokeAgent
    | JoinAgent
    | ReleaseAgent
    | RotateToken
    | VoidToken
    | RescopeAgent
    | CutAgent
)
AgentEvent = (
    AgentMinted
    | AgentDisabled
    | AgentEnabled
    | AgentRevoked
    | AgentJoined
    | AgentReleased
    | AgentRotated
    | AgentVoided
    | AgentRescoped
    | AgentCut
)
