"""The NATS API: `project.<slug>.api.<agent>.<verb>`, asked by agents."""

from typing import Literal

import msgspec

from sos.wire.api.sessions import Membership
from sos.wire.api.shared import FreeText, Request, Summary
from sos.wire.envelope import Moment
from sos.wire.roles import Role
from sos.wire.skills import Skill


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
    short: str
    """The same with client and model abbreviated: `acme-kasra-cldCdSnt46-…`."""
    client: str
    model: str
    opened_at: Moment
    connected: bool


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """Another agent of the project. `connected` is true if any session of it is."""

    name: str
    role: Role
    skills: tuple[str, ...]
    """The ids; `agent.card` tells the rest."""
    state: Literal["active", "disabled"]
    connected: bool
    squads: tuple[str, ...]
    sessions: tuple[PeerSession, ...]


class Peers(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `peers`, by name."""

    peers: tuple[Peer, ...]


class ShowCard(Request, frozen=True, kw_only=True):
    """`agent.card`."""

    name: FreeText


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `agent.card`: what an agent is and can do."""

    name: str
    role: Role
    model: str
    charter: str
    state: Literal["active", "disabled"]
    skills: tuple[Skill, ...]


class Directory(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `directory`: every address of the project, and the squads of the asker."""

    agents: tuple[str, ...]
    squads: tuple[str, ...]
    memberships: tuple[Membership, ...]


class AddressFact(msgspec.Struct, frozen=True, kw_only=True):
    """The data of an address's last fact. Holds nothing that every agent of the project may not know."""

    state: Literal["open", "suspended", "closed"]
    members: int | None = None
    """Of a squad: how many are in it."""
