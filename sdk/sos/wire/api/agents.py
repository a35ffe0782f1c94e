"""Agents, over HTTP: minted, joined, changed, cut off."""

from typing import Annotated, Literal

import msgspec

from sos.wire.api.shared import Charter, FreeText, Request
from sos.wire.envelope import Moment
from sos.wire.roles import Role
from sos.wire.scopes import Scope
from sos.wire.skills import MAX_SKILLS, Skill

AgentState = Literal["active", "disabled", "revoked"]
AgentOrigin = Literal["custom", "platform"]
Skills = Annotated[tuple[Skill, ...], msgspec.Meta(max_length=MAX_SKILLS)]
MAX_GRACE_S = 7 * 24 * 3_600.0
"""A rotated token that went on for longer would be a second token."""


class MintAgent(Request, frozen=True, kw_only=True):
    """POST /api/tenants/{slug}/agents/mint, by the project's owner or the operator."""

    agent_name: FreeText
    model: FreeText = ""
    charter: Charter = ""
    role: FreeText = ""
    """A mesh role or a label that means one (`code-reviewer`); empty for a specialist."""
    scopes: tuple[Scope, ...] | None = None
    """None means all."""
    skills: Skills = ()
    install: FreeText = ""
    """The install that mints the agent for itself (`sos agent join`); empty if another one will join."""


class ActivateAgent(Request, frozen=True, kw_only=True):
    """POST /api/tenants/{slug}/agents/activate: an agent of the operator's catalogue, for this project."""

    agent_name: FreeText


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    """An agent as shown. `token_tail` is the last four characters of its token, empty if it has none just now."""

    project: str
    name: str
    model: str
    charter: str
    role: Role
    origin: AgentOrigin
    scopes: tuple[Scope, ...]
    skills: Skills
    state: AgentState
    token_tail: str
    minted_at: Moment
    joined_at: Moment | None = None
    old_token_until: Moment | None = None
    """Until when the token before the last rotation is still taken."""


class AgentMinted(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `MintAgent`. `raw_token` is shown this once; a repetition under the same Idempotency-Key shows it
    again."""

    project: str
    name: str
    role: Role
    scopes: tuple[Scope, ...]
    minted_at: Moment
    raw_token: str


class AgentActivated(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `ActivateAgent`. The platform runs the agent, so only the operator is shown its token."""

    project: str
    name: str
    role: Role
    scopes: tuple[Scope, ...]
    minted_at: Moment
    raw_token: str | None


class AgentCut(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to disable, revoke and a change of scopes: the server has confirmed that no connection is left.

    `credentials` is how many were made void, `took_ms` from the request to that confirmation.
    """

    project: str
    name: str
    state: AgentState
    scopes: tuple[Scope, ...]
    credentials: int
    took_ms: float


class SetScopes(Request, frozen=True, kw_only=True):
    """POST …/agents/{id}/scopes: what the agent may do from now on. Live sessions are opened again with it at once."""

    scopes: tuple[Scope, ...]


class RotateToken(Request, frozen=True, kw_only=True):
    """POST …/agents/{id}/rotate by the owner, POST /api/agent/rotate by the agent itself."""

    grace_s: Annotated[float, msgspec.Meta(ge=0, le=MAX_GRACE_S)] = 0.0
    """How long the old token, and what was opened with it, is still taken; it ends sooner if the agent's rights are
    changed meanwhile."""
    install: FreeText = ""
    """The install that the new token is for, if the owner asks on its behalf: it has the name from then on, or is
    refused because another one has it."""


class AgentRotated(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `RotateToken`. `raw_token` is shown this once."""

    project: str
    name: str
    raw_token: str
    old_token_until: Moment | None
    took_ms: float


class JoinAgent(Request, frozen=True, kw_only=True):
    """POST /api/agent/join, by the agent: this install takes the name, and says what it is and can do.

    Repeating it from the same install with the same content changes nothing.
    """

    install: Annotated[str, msgspec.Meta(min_length=8, max_length=256)]
    role: FreeText = ""
    skills: Skills = ()


class InboxState(msgspec.Struct, frozen=True, kw_only=True):
    """The agent's durable consumer, as the server knows it: messages that wait, are being worked on, came again."""

    unread: int
    in_flight: int
    redelivered: int
    stream_messages: int


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/agent, and the answer to `JoinAgent`: what the gateway knows of the agent that asks."""

    agent: Agent
    install: str
    """A digest of the install that joined, empty if none has."""
    inbox: InboxState | None
    """None while NATS does not answer."""
    squads: tuple[str, ...]
    gateway_version: str
    nats_version: str
    nats_urls: tuple[str, ...]
    now: Moment
    """The gateway's clock."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One session of an agent, from its first credential to its end. `reason` is `stopped`, `cut` or `expired`."""

    session: str
    short: str
    client: str
    model: str
    install: str
    opened_at: Moment
    ended_at: Moment | None
    reason: str
    connected: bool


class MessageOrigin(msgspec.Struct, frozen=True, kw_only=True):
    """GET …/messages/{id}/session: who stored a message, and the session that it says it came from.

    The sender is the server's word, the session the sender's own; `confirmed` says that this session was that
    agent's and open when the message was stored.
    """

    id: str
    seq: int
    stored_at: Moment
    sender: str
    session: str
    confirmed: bool
    run: Run | None


class AddToCatalogue(Request, frozen=True, kw_only=True):
    """POST /api/catalog, by the operator: an agent that projects may activate. Again, it replaces what was there."""

    name: FreeText
    model: FreeText = ""
    charter: Charter = ""
    role: FreeText = ""
    scopes: tuple[Scope, ...] | None = None
    skills: Skills = ()


class CatalogueEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A platform-managed agent as shown."""

    name: str
    model: str
    charter: str
    role: Role
    scopes: tuple[Scope, ...]
    skills: Skills
    added_at: Moment
