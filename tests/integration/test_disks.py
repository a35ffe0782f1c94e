"""The watch on the gateway's disk, driven with given measurements on a real bus."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.conftest import OPERATOR
from tests.leaking import Told, bus_with, letters, mint, report_to, until

from sos.broker.app import Running
from sos.broker.control.disks import DiskWatch, host_name, used_percent, watched
from sos.wire import api
from sos.wire.errors import Internal

LOGGER = "sos.broker.control.disks"
KEY = b"k" * 32


@pytest.fixture
async def own_bus(home: Path) -> AsyncIterator[Running]:
    """A bus whose operator's reports go to an agent."""
    async with bus_with(home / "bus") as bus:
        await mint(bus, "operator")
        await report_to(bus, "", "operator")
        yield bus


def watch(bus: Running, *measured: float, host: str = "box") -> DiskWatch:
    """A watch that measures these, one at each look."""
    values: Iterator[float] = iter(measured)
    return DiskWatch(
        bus.bus.registry, bus.bus.escalations, Path(bus.home), KEY, host=host, measure=lambda _: next(values)
    )


async def told(bus: Running, host: str = "box") -> list[str]:
    """The levels that were reported of one machine, in order."""
    found: list[Told] = await letters(bus, "acme")
    disks = [t.envelope.data["disk"] for t in found if t.envelope.data and "disk" in t.envelope.data]
    return [disk["level"] for disk in disks if disk["host"] == host]


async def test_each_crossing_is_told_once_and_a_warning_ends_only_below_the_reset(own_bus: Running):
    percents = (50.0, 84.9, 89.9, 90.0, 94.9, 88.0, 85.0, 95.0, 99.9, 91.0, 94.0, 86.0, 84.9, 89.0)
    disk = watch(own_bus, *percents)
    for _ in percents:
        await disk.look()
    assert await told(own_bus) == ["warning", "critical", "warning", "ok"]


async def test_a_fact_says_which_level_the_disk_is_at_and_what_was_measured(own_bus: Running):
    disk = watch(own_bus, 10.0, 96.25)
    assert await disk.look() is None
    found = await disk.look()
    assert found is not None
    assert (found.host, found.level, found.used_percent) == ("box", "critical", 96.2)
    records = [r async for r in own_bus.bus.registry.log.read(1) if r.subject == "registry.sos.disk.box"]
    assert [(r.event.actor, r.event.decision) for r in records] == [("gateway", "policy: the disk is measured")]


async def test_after_a_restart_a_level_that_was_told_is_not_told_again(home: Path):
    async with bus_with(home / "bus") as bus:
        await mint(bus, "operator")
        await report_to(bus, "", "operator")
        await watch(bus, 92.0).look()
    async with bus_with(home / "bus") as bus:
        again = watch(bus, 93.0, 91.0)
        await again.look()
        await again.look()
        assert await told(bus) == ["warning"]
        assert [p async for p in _facts(bus)] == ["disk.crossed"]


async def _facts(bus: Running) -> AsyncIterator[str]:
    async for record in bus.bus.registry.log.read(1):
        if record.subject == "registry.sos.disk.box":
            yield str(type(record.event).__struct_config__.tag)


async def test_a_crossing_that_a_gateway_recorded_and_did_not_live_to_tell_is_told_by_the_next(own_bus: Running):
    await own_bus.bus.escalations.set_operators(OPERATOR, api.SetEscalation(to=""))
    await watch(own_bus, 92.0).look()
    assert await told(own_bus) == []
    await report_to(own_bus, "", "operator")
    await watch(own_bus, 92.0).look()
    await watch(own_bus, 92.0).look()
    assert await told(own_bus) == ["warning"]


async def test_machines_have_levels_of_their_own(own_bus: Running):
    await watch(own_bus, 92.0, host="one").look()
    await watch(own_bus, 92.0, host="two").look()
    assert (await told(own_bus, "one"), await told(own_bus, "two")) == (["warning"], ["warning"])


@pytest.mark.parametrize(("percent", "level"), [(90.0, logging.WARNING), (95.0, logging.ERROR)])
async def test_the_log_says_so_even_if_nobody_is_to_be_told(
    home: Path, caplog: pytest.LogCaptureFixture, percent: float, level: int
):
    async with bus_with(home / "bus") as bus:
        await watch(bus, percent).look()
    (record,) = [r for r in caplog.records if r.name == LOGGER and "of box" in r.getMessage()]
    assert record.levelno == level
    assert f"{percent:.1f}%" in record.getMessage()


async def test_the_watch_goes_on_after_a_look_that_failed(own_bus: Running, caplog: pytest.LogCaptureFixture):
    percents = iter([OSError("the volume is gone"), Internal(what="a look"), KeyError("anything"), 96.0])

    def measure(_: Path) -> float:
        value = next(percents, 96.0)
        if isinstance(value, Exception):
            raise value
        return value

    disk = DiskWatch(own_bus.bus.registry, own_bus.bus.escalations, Path(own_bus.home), KEY, host="b", measure=measure)

    async def reported() -> bool | None:
        return await told(own_bus, "b") == ["critical"] or None

    async with watched(disk, every_s=0.01):
        await until(reported, "the crossing is told", within_s=10.0)
    assert "the volume is gone" in caplog.text


async def test_a_running_gateway_looks_at_its_own_disk_and_at_no_other(home: Path):
    measured: list[Path] = []

    def measure(path: Path) -> float:
        measured.append(path)
        return used_percent(path)

    before = _watches()
    async with bus_with(home / "bus") as bus:
        disk = DiskWatch(bus.bus.registry, bus.bus.escalations, Path(bus.home), KEY, host="b", measure=measure)
        await disk.look()
        assert len(_watches() - before) == 1
    assert measured == [home / "bus"]
    assert 0 < used_percent(home) <= 100
    assert _watches() <= before


def _watches() -> set[asyncio.Task[object]]:
    return {task for task in asyncio.all_tasks() if task.get_name() == "disk watch"}


@pytest.mark.parametrize(
    ("given", "name"), [("Box_1.example.COM", "box-1-example-com"), ("höst", "gateway"), ("-", "gateway")]
)
def test_a_machines_name_becomes_a_name_of_the_bus(given: str, name: str):
    assert host_name(given) == name
