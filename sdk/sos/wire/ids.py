"""UUIDv7 (RFC 9562): ids that sort by the millisecond they were made in.

Python 3.12 has none of its own. The 74 bits behind the timestamp are all random, fresh for each id, so that no
agent can guess another's next `Nats-Msg-Id` and have that message dropped as a duplicate.
"""

import re
import secrets
import time
from uuid import UUID

UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def uuid7(now_ms: int | None = None, random80: int | None = None) -> str:
    """A new UUIDv7 in its canonical text form. `random80`, 80 bits of a keyed hash, is for one to be made again."""
    ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    bits = (ms & (1 << 48) - 1) << 80 | (secrets.randbits(80) if random80 is None else random80)
    bits = bits & ~(0xF << 76) | 0x7 << 76  # version 7
    bits = bits & ~(0x3 << 62) | 0x2 << 62  # variant of RFC 9562
    return str(UUID(int=bits))


def is_uuid7(text: str) -> bool:
    """Whether `text` is a UUIDv7 in canonical form."""
    return UUID7.fullmatch(text) is not None
