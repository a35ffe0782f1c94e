"""Everything about a gateway that may be chosen, with the reason for each default beside it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from sos.broker.nats.tiers import TIERS, Limits
from sos.wire.api import Tier
from sos.wire.home import sos_home

DEFAULT_HTTP_PORT = 6070
DEFAULT_NATS_PORT = 4222
RANDOM = 0

LeakPolicy = Literal["void", "rotate", "revoke"]


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """One gateway. Ports of 0 mean: any free one, and the same again at the next start."""

    home: Path = msgspec.field(default_factory=sos_home)
    host: str = "127.0.0.1"
    """Where HTTP and NATS listen. Anything but loopback needs a TLS terminator in front."""
    http_port: int = DEFAULT_HTTP_PORT
    nats_port: int = DEFAULT_NATS_PORT
    durability: str = "always"
    """`always`: every acknowledged message was synced to disk. `interval=100ms`: a power cut may take that much."""
    replicas: int = 1
    max_file_bytes: int | None = None
    """JetStream's disk; None for four fifths of what is free."""
    session_s: float = 12 * 3_600.0
    """A credential's life. A revocation does not wait for it; it bounds what a stolen one is worth unnoticed. Each
    renewal is a fact of about 600 bytes in EVENTS, which is kept for ever: an hour would fill a small project's stream
    within weeks."""
    advertise: str = ""
    """The host name that agents are given for NATS, where it is not the one that is listened on."""
    ack_wait_s: float = 10.0
    """How long a delivery may stay unacknowledged before it is given out again. The SDK says every third of it that it
    is still working, so this is only how soon the mail of an agent that died goes on, and how long its successor may
    have to hold newer mail back to keep the order."""
    tiers: Mapping[Tier, Limits] = msgspec.field(default_factory=lambda: TIERS)
    """The one table of what each tier may use: agents, account limits, calls a second."""
    leak_policy: LeakPolicy = "void"
    """What becomes of an agent whose token was found in a message. `void`: the token opens nothing any more, the agent
    waits for a rotation. `rotate`: a new one lies in `<home>/rotated/` for the operator to hand over. `revoke`: the
    agent is gone for good."""
    sweep_s: float = 1.0
    """How often it is looked for what time alone changes: ended graces, sessions that ran out."""
    disk_watch_s: float = 15 * 60.0
