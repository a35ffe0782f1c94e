"""The disk under the gateway's home, looked at now and then: a fact and a message when it crosses a threshold.

The law: the state is the fold of the facts, so a crossing is told once, however often the gateway is started again.
"""

import asyncio
import logging
import shutil
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sos.broker.control.escalations import Escalations
from sos.broker.control.journal import Journal
from sos.broker.control.letters import derived_id
from sos.broker.domain import disks
from sos.broker.domain.disks import RESET_PERCENT, Disk, DiskLevel, MeasureDisk
from sos.wire.errors import BadName, SosError
from sos.wire.names import normalise
from sos.wire.subjects import GATEWAY

log = logging.getLogger(__name__)

RETRY_S = 10.0
"""Pause after a failure, if that is shorter than the pause between two looks: NATS is away, or the disk cannot be
measured."""
TELL_WITHIN = timedelta(seconds=60)
"""A crossing this young is told, even if it was recorded by a gateway that died before it told it. Below the 120 s for
which NATS remembers ids, so that what was told already is stored once."""

_LOG_LEVEL: dict[DiskLevel, int] = {"ok": logging.INFO, "warning": logging.WARNING, "critical": logging.ERROR}
_CURE: dict[DiskLevel, str] = {
    "ok": "Nothing is to be done any more.",
    "warning": f"Free space until less than {RESET_PERCENT:.0f}% is used.",
    "critical": "Free space before anything else: on a full disk no message and no fact can be stored.",
}

Measure = Callable[[Path], float]


def used_percent(path: Path) -> float:
    """How much of the volume of `path` is used, in per cent of what may be used, as `df` counts."""
    usage = shutil.disk_usage(path)
    return 100 * usage.used / max(usage.used + usage.free, 1)


def host_name(given: str = "") -> str:
    """This machine's name as a name of the bus; `gateway` if it cannot be one."""
    try:
        return normalise(given or socket.gethostname(), "host name")
    except BadName:
        return GATEWAY


class DiskWatch:
    """For one home. `key` is the bus' secret for the ids of its notices."""

    def __init__(
        self,
        registry: Journal,
        escalations: Escalations,
        home: Path,
        key: bytes,
        *,
        host: str = "",
        measure: Measure = used_percent,
    ) -> None:
        self._registry = registry
        self._views = registry.views
        self._escalations = escalations
        self._home = home
        self._key = key
        self._host = host_name(host)
        self._measure = measure

    async def look(self) -> Disk | None:
        """Measure, and record and tell a crossing. The disk as of its last crossing; None if there was none yet."""
        percent = round(await asyncio.to_thread(self._measure, self._home), 1)  # a network's file system may block
        command = MeasureDisk(
            at=datetime.now(UTC),
            actor=GATEWAY,
            decision="policy: the disk is measured",
            host=self._host,
            used_percent=min(max(percent, 0.0), 100.0),
        )
        await self._registry.execute(
            disks.subject(self._host), lambda: self._views.disk(self._host), disks.decide, command
        )
        disk, _ = await self._views.disk(self._host)
        if disk is not None and command.at - disk.crossed_at < TELL_WITHIN:
            await self._tell(disk)
        return disk

    async def _tell(self, disk: Disk) -> None:
        text = (
            f"The disk of {disk.host} is {disk.level}: {disk.used_percent:.1f}% of the volume of the gateway's home "
            f"is used. {_CURE[disk.level]}"
        )
        log.log(_LOG_LEVEL[disk.level], "%s", text)
        data = {"disk": {"host": disk.host, "level": disk.level, "used_percent": disk.used_percent}}
        id_ = derived_id(self._key, disk.crossed_at, "disk", disk.host, disk.level)
        await self._escalations.report("", text, data, id_)


@asynccontextmanager
async def watched(disk: DiskWatch, every_s: float) -> AsyncGenerator[None]:
    """While inside, the disk is looked at, the first time at once."""
    task = asyncio.create_task(_watch(disk, every_s), name="disk watch")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _watch(disk: DiskWatch, every_s: float) -> None:
    while True:
        pause_s = every_s
        try:
            await disk.look()
        except (SosError, OSError) as e:
            log.warning("the disk is looked at later: %s", e)
            pause_s = min(every_s, RETRY_S)
        except Exception:
            log.exception("looking at the disk failed")
        await asyncio.sleep(pause_s)
