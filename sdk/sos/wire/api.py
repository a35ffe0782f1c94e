"""What the gateway and its callers say to each other, over HTTP and over NATS.

Requests refuse unknown fields. That is a safeguard, not pedantry: a JetStream reply can be made to land on an API
subject, and no such reply decodes as a request.
"""

from typing import Annotated, Any, Literal

import msgspec

from sos.wire.envelope import Moment
from sos.wire.errors import BadRequest
from sos.wire.scopes import Scope
from sos.wire.subjects import INBOX_ROOT

Tier = Literal["starter", "growth", "scale"]
MAX_SUMMARY_CHARS = 500
MAX_CHARTER_CHARS = 8_000

FreeText = Annotated[str, msgspec.Meta(max_length=256)]
Summary = Annotated[str, msgspec.Meta(max_length=MAX_SUMMARY_CHARS)]


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The root of all requests."""


# ── HTTP ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class CreateProject(Request, frozen=True, kw_only=True):
    """POST /api/projects, by the operator."""

    slug: FreeText
    tier: Tier = "scale"


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """A project as shown."""

    slug: str
    tier: Tier
    created_at: Moment
    agents: int
    squads: int


class ProjectCreated(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `CreateProject`. `tenant_token` is shown this once."""

    slug: str
    tier: Tier
    created_at: Moment
    tenant_token: str


class MintAgent(Request, frozen=True, kw_only=True):
    """POST /api/tenants/{slug}/agents/mint, by the project's owner or the operator."""

    agent_name: FreeText
    model: FreeText = ""
    charter: Annotated[str, msgspec.Meta(max_length=MAX_CHARTER_CHARS)] = ""
    scopes: tuple[Scope, ...] | None = None
    """None means all."""


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    """An agent as shown. `token_tail` is the last four characters of its token."""

    project: str
    name: str
    model: str
    charter: str
    scopes: tuple[Scope, ...]
    state: Literal["active", "disabled", "revoked"]
    token_tail: str
    minted_at: Moment


class AgentMinted(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `MintAgent`. `raw_token` is shown this once."""

    project: str
    name: str
    scopes: tuple[Scope, ...]
    minted_at: Moment
    raw_token: str


class CreateSquad(Request, frozen=True, kw_only=True):
    """POST /api/tenants/{slug}/squads."""

    squad: FreeText
    purpose: Summary = ""


class Squad(msgspec.Struct, frozen=True, kw_only=True):
    """A squad as shown."""

    project: str
    squad: str
    purpose: str
    members: int
    created_at: Moment


class OpenSession(Request, frozen=True, kw_only=True):
    """POST /api/session, by an agent: its own token as bearer, the public half of a key it has just made."""

    public_nkey: Annotated[str, msgspec.Meta(pattern="^U[A-Z2-7]{55}$")]
    inbox_prefix: Annotated[str, msgspec.Meta(pattern=f"^{INBOX_ROOT}[a-z0-9]{{32}}$")]
    name: FreeText = ""
    client: FreeText = ""
    model: FreeText = ""
    install: FreeText = ""
    session: Annotated[str, msgspec.Meta(max_length=256)] = ""
    """The session to go on with, when a credential is renewed; empty for a new one."""


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """One squad the agent is in. What is older than `from_seq` (a sequence of MESSAGES) was before its time."""

    squad: str
    from_seq: int


class SessionOpened(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `OpenSession`: a credential, and where everything is."""

    project: str
    name: str
    session: str
    jwt: str
    expires_at: Moment
    issued_at: Moment
    nats_urls: tuple[str, ...]
    scopes: tuple[Scope, ...]
    memberships: tuple[Membership, ...]
    max_message_bytes: int
    ack_wait_s: float
    """How long a delivered message may stay unacknowledged before the server gives it out again."""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """GET /healthz."""

    ok: bool
    version: str
    nats: Literal["connected", "disconnected"]
    nats_version: str
    projects: int
    behind: int
    """Facts stored in NATS that the views do not hold yet."""
    why: str = ""


# ── NATS API: project.<slug>.api.<agent>.<verb> ──────────────────────────────────────────────────────────────────


class JoinSquad(Request, frozen=True, kw_only=True):
    """`squad.join`."""

    squad: FreeText
    summary: Summary = ""


class LeaveSquad(Request, frozen=True, kw_only=True):
    """`squad.leave`."""

    squad: FreeText


class ListMembers(Request, frozen=True, kw_only=True):
    """`squad.members`."""

    squad: FreeText


class ListPeers(Request, frozen=True, kw_only=True):
    """`peers`."""


class ListDirectory(Request, frozen=True, kw_only=True):
    """`directory`."""


class Joined(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `squad.join` and `squad.leave`: every squad the agent is in now."""

    memberships: tuple[Membership, ...]


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A squad's member."""

    name: str
    summary: str
    joined_at: Moment


class Members(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `squad.members`."""

    squad: str
    members: tuple[Member, ...]


class PeerSession(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a peer. `connected` is NATS' own word at this moment, not the peer's."""

    session: str
    client: str
    model: str
    opened_at: Moment
    connected: bool


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """Another agent of the project. `connected` is true if any session of it is."""

    name: str
    state: Literal["active", "disabled"]
    connected: bool
    squads: tuple[str, ...]
    sessions: tuple[PeerSession, ...]


class Peers(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `peers`, by name."""

    peers: tuple[Peer, ...]


class Directory(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `directory`: every address of the project, and the squads of the asker."""

    agents: tuple[str, ...]
    squads: tuple[str, ...]
    memberships: tuple[Membership, ...]


# ── an address's fact, read by agents from NATS itself ───────────────────────────────────────────────────────────


class AddressFact(msgspec.Struct, frozen=True, kw_only=True):
    """The data of an address's last fact. Holds nothing that every agent of the project may not know."""

    state: Literal["open", "suspended", "closed"]
    members: int | None = None
    """Of a squad: how many are in it."""


def decode[T](body: bytes, as_type: type[T]) -> T:
    """`body` as a request or answer; `BadRequest` says which field does not fit."""
    try:
        return msgspec.json.decode(body or b"{}", type=as_type)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as e:
        why = str(e) if isinstance(e, msgspec.ValidationError) else "the body is not JSON"
        raise BadRequest(why=why) from e


def encode(answer: Any) -> bytes:
    """The JSON of a request or answer."""
    return msgspec.json.encode(answer)
