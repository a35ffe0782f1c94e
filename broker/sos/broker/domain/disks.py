"""How full a gateway's disk is: a fact at each crossing of a threshold. Stream REGISTRY, one aggregate a machine."""

from typing import Annotated, Literal

import msgspec
from msgspec.structs import asdict

from sos.broker.domain.event import Command, Event
from sos.wire.envelope import Moment
from sos.wire.subjects import SYSTEM, RegistryFact

DiskLevel = Literal["ok", "warning", "critical"]
RESET_PERCENT = 85.0
WARNING_PERCENT = 90.0
CRITICAL_PERCENT = 95.0


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """State: the level since the last crossing."""

    host: str
    level: DiskLevel
    used_percent: float
    crossed_at: Moment


class MeasureDisk(Command, frozen=True, kw_only=True):
    """So much of it is used, of 100 percent."""

    host: str
    used_percent: Annotated[float, msgspec.Meta(ge=0, le=100)]


class DiskCrossed(Event, frozen=True, kw_only=True, tag="disk.crossed"):
    """It is at another level now."""

    host: str
    level: DiskLevel
    used_percent: Annotated[float, msgspec.Meta(ge=0, le=100)]


def level_of(used_percent: float, before: DiskLevel) -> DiskLevel:
    """The level at that use. A warning ends only below the reset, so that it does not come and go around 90 %."""
    if used_percent >= CRITICAL_PERCENT:
        return "critical"
    if used_percent >= WARNING_PERCENT:
        return "warning"
    if used_percent < RESET_PERCENT:
        return "ok"
    return "warning" if before == "critical" else before


def decide(state: Disk | None, command: MeasureDisk) -> tuple[DiskCrossed, ...]:
    """A fact when the level changed. What is measured is brought into the bounds of the fact: one that says 100.1 or
    an integer could be written, but not be read again as the bytes that it is."""
    before = state.level if state else "ok"
    used_percent = min(max(float(command.used_percent), 0.0), 100.0)
    level = level_of(used_percent, before)
    if level == before:
        return ()
    return (DiskCrossed(**asdict(msgspec.structs.replace(command, used_percent=used_percent)), level=level),)


def apply(_: Disk | None, event: DiskCrossed) -> Disk:
    """The disk after `event`."""
    return Disk(host=event.host, level=event.level, used_percent=event.used_percent, crossed_at=event.at)


def subject(host: str) -> str:
    """Where a machine's disk is: `registry.sos.disk.<host>`."""
    return str(RegistryFact(SYSTEM, "disk", host))
