"""What the gateway says of itself."""

from typing import Literal

import msgspec


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
