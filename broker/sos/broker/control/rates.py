"""How many calls of the gateway a token may make: token buckets, in memory, of this gateway alone.

A bucket fills at `per_s` up to `burst`; a call takes one out. Who is known here has a bucket of its own, sized by the
tier of its project; tokens that are not known share one bucket per address, so that guessing tokens costs neither the
database nor anybody else. The operator is not limited.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping

from sos.broker.nats.tiers import Limits
from sos.broker.views import Views
from sos.wire.api import Tier
from sos.wire.errors import RateLimited

MAX_BUCKETS = 20_000
"""Of known callers, and again of addresses: about 5 MB. Past that the one that was used longest ago is forgotten, which
gives its owner at most one more burst."""
UNKNOWN_PER_S = 5.0
UNKNOWN_BURST = 100
"""For tokens that nobody knows, per address. A person who pastes an old token, or a fleet whose project is gone, makes
a few calls; at this rate 160 random bits are safe for ever."""
SETTLE_S = 1.0e-9
"""Below this a wait is rounding."""


class Bucket:
    """One caller's. `take` returns how long to wait for a call, in seconds, 0 if it may be made now."""

    __slots__ = ("_at", "_level", "burst", "per_s")

    def __init__(self, per_s: float, burst: int, now: float) -> None:
        self.per_s = per_s
        self.burst = burst
        self._level = float(burst)
        self._at = now

    def take(self, now: float, calls: int = 1) -> float:
        """Take `calls` out if they are in; with 0 only look whether one is."""
        self._level = min(self.burst, self._level + max(now - self._at, 0.0) * self.per_s)
        self._at = max(now, self._at)
        wait_s = (max(calls, 1) - self._level) / self.per_s
        if wait_s > SETTLE_S:
            return wait_s
        self._level -= calls
        return 0.0


class Buckets:
    """Buckets by caller, `most` of them."""

    def __init__(self, most: int = MAX_BUCKETS) -> None:
        self._most = most
        self._buckets: OrderedDict[Hashable, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def find(self, caller: Hashable) -> Bucket | None:
        """The caller's, now the one that was used last."""
        bucket = self._buckets.get(caller)
        if bucket is not None:
            self._buckets.move_to_end(caller)
        return bucket

    def add(self, caller: Hashable, bucket: Bucket) -> Bucket:
        """The caller's from now on, unless it has one."""
        bucket = self._buckets.setdefault(caller, bucket)
        self._buckets.move_to_end(caller)
        while len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return bucket


class Rates:
    """All callers of this gateway. `clock` is in seconds and never goes back."""

    def __init__(
        self,
        tiers: Mapping[Tier, Limits],
        views: Views,
        clock: Callable[[], float] = time.monotonic,
        most: int = MAX_BUCKETS,
    ) -> None:
        self._tiers = tiers
        self._views = views
        self._clock = clock
        self._known = Buckets(most)
        self._addresses = Buckets(most)

    def spend(self, token_hash: str) -> bool:
        """One call of a token, if it is known here; whether it is. `RateLimited`."""
        bucket = self._known.find(token_hash)
        if bucket is not None:
            self._take(bucket)
        return bucket is not None

    async def introduce(self, caller: Hashable, project: str) -> None:
        """The first call of a token or agent of `project`, known from now on. `RateLimited`."""
        found, _ = await self._views.project(project)
        limits = self._tiers[found.tier if found is not None else "starter"]
        self._take(self._known.add(caller, Bucket(limits.calls_per_s, limits.calls_burst, self._clock())))

    async def agent(self, project: str, agent: str) -> None:
        """One call of an agent over NATS, where the server says who it is. `RateLimited`."""
        bucket = self._known.find((project, agent))
        if bucket is None:
            await self.introduce((project, agent), project)
        else:
            self._take(bucket)

    def may_guess(self, address: str) -> None:
        """`RateLimited` if too many unknown tokens came from this address."""
        self._take(self._address(address), calls=0)

    def guessed(self, address: str) -> None:
        """One more unknown token came from this address. `RateLimited`."""
        self._take(self._address(address))

    def _address(self, address: str) -> Bucket:
        found = self._addresses.find(address)
        return found or self._addresses.add(address, Bucket(UNKNOWN_PER_S, UNKNOWN_BURST, self._clock()))

    def _take(self, bucket: Bucket, calls: int = 1) -> None:
        wait_s = bucket.take(self._clock(), calls)
        if wait_s:
            raise RateLimited(per_s=bucket.per_s, retry_after_s=round(wait_s, 3))
