"""The configurations of streams and consumers, as the raw JSON of the JetStream API (NATS ADR-1 for the shapes).

What all streams share: files on disk, `discard: new` (a full stream refuses the publisher and never drops what is
stored), a size that JetStream reserves, and none of the features by which a publisher's header could remove messages.
`max_consumers` is always set: left alone, 2.15 refuses the 1,001st; and it may not exceed the account's own limit, so a
project that grows gets its new account limits first and its streams' afterwards [measured].
"""

from collections.abc import Iterable, Sequence
from typing import Any

from sos.broker.nats.tiers import (
    DAY_S,
    HEADER_ROOM_BYTES,
    IDEMPOTENCY_MAX_BYTES,
    MAX_MESSAGE_BYTES,
    REGISTRY_MAX_BYTES,
    SOS_LIMITS,
    Limits,
)
from sos.wire import subjects

MESSAGES_DUPLICATE_WINDOW_S = 120
"""An SDK's outbox retries for a minute or so; the window's ids are kept in the server's memory."""
EVENTS_DUPLICATE_WINDOW_S = 60 * 60
"""A command may be repeated by a person or a webhook minutes later; facts are few, so an hour of ids costs little."""
IDEMPOTENCY_MAX_AGE_S = DAY_S
"""How long an Idempotency-Key is remembered; who repeats a request does it within minutes."""
MAX_EVENT_CONSUMERS = 100
MAX_ACK_PENDING = 1_000
"""Also what one forged pull can set in motion."""
MAX_WAITING_PULLS = 64
MAX_PULL_BATCH = 1_000
MAX_PULL_EXPIRES_S = 60
"""The SDK's pulls expire after 30 s."""

_NS = 1_000_000_000


def messages_stream(project: str, limits: Limits, replicas: int = 1) -> dict[str, Any]:
    """MESSAGES of a project. One message may be deleted, so that a leaked secret can be erased; a purge is refused."""
    return _stream(
        subjects.MESSAGES,
        subjects.messages_of(project),
        max_bytes=limits.messages_max_bytes,
        max_age_s=limits.max_age_s,
        duplicate_window_s=MESSAGES_DUPLICATE_WINDOW_S,
        max_consumers=limits.consumers,
        replicas=replicas,
        deny_delete=False,
    )


def events_stream(project: str, limits: Limits, replicas: int = 1) -> dict[str, Any]:
    """EVENTS of a project: kept for ever, nothing can be taken out."""
    return _stream(
        subjects.EVENTS,
        subjects.facts_of(project),
        max_bytes=limits.events_max_bytes,
        max_age_s=0,
        duplicate_window_s=EVENTS_DUPLICATE_WINDOW_S,
        max_consumers=min(limits.consumers, MAX_EVENT_CONSUMERS),
        replicas=replicas,
        deny_delete=True,
    )


def registry_stream(replicas: int = 1) -> dict[str, Any]:
    """REGISTRY in the account SOS: kept for ever, nothing can be taken out."""
    return _stream(
        subjects.REGISTRY,
        (subjects.REGISTRY_FACTS,),
        max_bytes=REGISTRY_MAX_BYTES,
        max_age_s=0,
        duplicate_window_s=EVENTS_DUPLICATE_WINDOW_S,
        max_consumers=SOS_LIMITS.consumers,
        replicas=replicas,
        deny_delete=True,
    )


def idempotency_stream(replicas: int = 1) -> dict[str, Any]:
    """IDEMPOTENCY in the account SOS: of each repeatable request what was last said of it, for a day. What is replaced
    frees its room at once, and a request that was refused is taken out."""
    return _stream(
        subjects.IDEMPOTENCY,
        (subjects.REPEATS,),
        max_bytes=IDEMPOTENCY_MAX_BYTES,
        max_age_s=IDEMPOTENCY_MAX_AGE_S,
        duplicate_window_s=MESSAGES_DUPLICATE_WINDOW_S,
        max_consumers=SOS_LIMITS.consumers,
        replicas=replicas,
        deny_delete=False,
    ) | {"max_msgs_per_subject": 1}


def inbox_consumer(project: str, agent: str, squads: Iterable[str], ack_wait_s: float) -> dict[str, Any]:
    """An agent's durable on MESSAGES: its own address and its squads, in one order with one cursor."""
    filters = {subjects.inbox_filter(project, agent), *(subjects.squad_filter(project, s) for s in squads)}
    return {
        "name": agent,
        "durable_name": agent,
        "ack_policy": "explicit",
        "ack_wait": int(ack_wait_s * _NS),
        "deliver_policy": "all",
        "replay_policy": "instant",
        "filter_subjects": sorted(filters),
        "max_deliver": -1,
        "max_ack_pending": MAX_ACK_PENDING,
        "max_waiting": MAX_WAITING_PULLS,
        "max_batch": MAX_PULL_BATCH,
        "max_expires": MAX_PULL_EXPIRES_S * _NS,
    }


def _stream(
    name: str,
    stored: Sequence[str],
    *,
    max_bytes: int,
    max_age_s: int,
    duplicate_window_s: int,
    max_consumers: int,
    replicas: int,
    deny_delete: bool,
) -> dict[str, Any]:
    return {
        "name": name,
        "subjects": list(stored),
        "storage": "file",
        "retention": "limits",
        "discard": "new",
        "max_bytes": max_bytes,
        "max_age": max_age_s * _NS,
        "max_msgs": -1,
        "max_msgs_per_subject": -1,
        "max_msg_size": MAX_MESSAGE_BYTES + HEADER_ROOM_BYTES,
        "max_consumers": max_consumers,
        "duplicate_window": duplicate_window_s * _NS,
        "num_replicas": replicas,
        "allow_direct": True,
        "allow_rollup_hdrs": False,
        "deny_delete": deny_delete,
        "deny_purge": True,
    }
