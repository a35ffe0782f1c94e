"""What each tier of project may use. JetStream reserves a stream's `max_bytes` on disk, so these are kept small."""

import msgspec

from sos.wire.api import Tier

MIB = 1024 * 1024
DAY_S = 24 * 60 * 60

MAX_MESSAGE_BYTES = 256 * 1024
"""The largest stored body; the stream allows `HEADER_ROOM_BYTES` more, because JetStream counts headers too."""
HEADER_ROOM_BYTES = 4 * 1024
MAX_PAYLOAD_BYTES = MIB
"""The server's limit for anything on the wire: batched answers of the JetStream API are larger than messages."""
NO_LIMIT = -1
AGENT_MAX_SUBS = 16
"""An agent's session needs one subscription, its inbox; the rest is room for other clients' habits."""
AGENT_MAX_PAYLOAD_BYTES = MAX_MESSAGE_BYTES + HEADER_ROOM_BYTES


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one project of a tier may use. Bytes are per replica.

    `custom_agents` are those it mints itself (None for no limit); `calls_per_s` and `calls_burst` are of one token's
    calls of the gateway. The rest are limits of the account and the sizes of its streams.
    """

    custom_agents: int | None = None
    calls_per_s: float = 50.0
    calls_burst: int = 200
    connections: int
    subs: int
    """Subscriptions of one connection; the gateway's own need a few dozen."""
    streams: int
    consumers: int
    payload: int = MAX_PAYLOAD_BYTES
    mem_storage: int = 0
    """No stream lives in memory; memory-backed consumers need none of it. A server on its own sets what it promises to
    accounts aside, and once that exceeds its own maximum, a new account silently has no JetStream [measured]."""
    messages_max_bytes: int = 0
    events_max_bytes: int = 0
    max_age_s: int = 30 * DAY_S
    """Of messages. Facts are kept for ever: state is folded from them."""

    @property
    def disk_storage(self) -> int:
        """What the account's streams reserve together, one replica."""
        return self.messages_max_bytes + self.events_max_bytes


TIERS: dict[Tier, Limits] = {
    "starter": Limits(
        custom_agents=1,
        calls_per_s=10.0,
        calls_burst=50,
        connections=200,
        subs=1_000,
        streams=2,
        consumers=200,
        messages_max_bytes=64 * MIB,
        events_max_bytes=32 * MIB,
    ),
    "growth": Limits(
        custom_agents=5,
        calls_per_s=50.0,
        calls_burst=200,
        connections=2_000,
        subs=1_000,
        streams=2,
        consumers=2_000,
        messages_max_bytes=256 * MIB,
        events_max_bytes=64 * MIB,
    ),
    "scale": Limits(
        calls_per_s=200.0,
        calls_burst=1_000,
        connections=20_000,
        subs=1_000,
        streams=2,
        consumers=20_000,
        messages_max_bytes=1024 * MIB,
        events_max_bytes=256 * MIB,
    ),
}

REGISTRY_MAX_BYTES = 224 * MIB
IDEMPOTENCY_MAX_BYTES = 32 * MIB
"""A day of repeatable requests: an answer is about 1.5 KB, so some 20,000. Past that they are carried out without being
kept (`sos.broker.control.idempotency`)."""
SOS_LIMITS = Limits(
    connections=NO_LIMIT,
    subs=NO_LIMIT,
    streams=2,
    consumers=100,
    messages_max_bytes=IDEMPOTENCY_MAX_BYTES,
    events_max_bytes=REGISTRY_MAX_BYTES,
)
"""The account SOS: only gateways connect to it, and it holds REGISTRY and IDEMPOTENCY."""
