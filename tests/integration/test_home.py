"""A home over its lives: held once, rebuilt, moved, and refused when something in it was lost."""

import asyncio
import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.conftest import OPERATOR, ROOMY, Project, eventually

from sos.broker.app import Running, rebuild, run
from sos.broker.config import Config
from sos.broker.errors import DataLoss, HomeInUse, NoServerBinary, ServerTooOld, UnsafeServer
from sos.broker.views import open_views
from sos.sdk import AsyncAgent
from sos.wire import api
from sos.wire.errors import BadRequest, LimitReached


def config(home: Path) -> Config:
    """A gateway of the test's own."""
    return Config(home=home, http_port=0, nats_port=0, tiers=ROOMY)


async def _fill(bus: Running) -> Project:
    project = Project(bus, await bus.bus.projects.create(OPERATOR, api.CreateProject(slug="acme", tier="starter")))
    await project.squad("sales")
    async with await project.agent("bob") as bob:
        await bob.join("sales", "sells")
    return project


async def _dump(home: Path) -> bytes:
    async with open_views(home / "views.db") as views:
        return await views.dump()


async def test_a_second_gateway_on_the_same_home_is_told_who_holds_it_and_moves_nothing(home: Path):
    async with run(config(home)) as first:
        port = (home / "http_port").read_text()
        with pytest.raises(HomeInUse) as refused:
            async with run(config(home)):
                pass
        assert refused.value.url == first.url
        assert (home / "http_port").read_text() == port


async def test_everything_is_there_again_at_the_next_start_at_the_same_addresses(home: Path):
    async with run(config(home)) as bus:
        project = await _fill(bus)
        token = await project.mint("ann")
        async with await project.agent("ann", token) as ann:
            await ann.send("bob", "kept")
        first = (bus.url, bus.nats_urls)
        bob = (home / "agents" / "acme" / "bob").exists()
        assert bob
    async with run(config(home)) as bus:
        assert (bus.url, bus.nats_urls) == first
        async with AsyncAgent(token, "ann", url=bus.url) as ann:
            assert {p.name: p.squads for p in await ann.peers()} == {"ann": (), "bob": ("sales",)}
            assert (await ann.send("bob", "second")).seq == 2


async def test_the_views_are_rebuilt_to_the_same_bytes(home: Path):
    async with run(config(home)) as bus:
        await _fill(bus)
    before = await _dump(home)
    assert await rebuild(config(home)) == 2
    assert await _dump(home) == before
    (home / "views.db").unlink()
    assert await rebuild(config(home)) == 2
    assert await _dump(home) == before


async def test_views_that_cannot_be_read_are_rebuilt_too(home: Path):
    async with run(config(home)) as bus:
        await _fill(bus)
    before = await _dump(home)
    (home / "views.db").write_bytes(b"no database" * 1000)
    await rebuild(config(home))
    assert await _dump(home) == before


def _store(folder: Path, stream: str) -> Path:
    """Where nats-server keeps a stream."""
    (found,) = folder.rglob(f"streams/{stream}")
    return found


async def test_a_registry_that_lost_its_end_is_refused_and_a_rebuild_does_not_hide_it(home: Path):
    async with run(config(home)) as bus:
        await bus.bus.projects.create(OPERATOR, api.CreateProject(slug="acme", tier="starter"))
    shutil.copytree(home / "nats", home / "backup")
    async with run(config(home)) as bus:
        await bus.bus.projects.create(OPERATOR, api.CreateProject(slug="globex", tier="starter"))
    earlier, now = _store(home / "backup", "REGISTRY"), _store(home / "nats", "REGISTRY")
    shutil.rmtree(now)
    shutil.copytree(earlier, now)
    with pytest.raises(DataLoss, match="REGISTRY"):
        async with run(config(home)):
            pass
    before = (home / "views.db").read_bytes()
    with pytest.raises(DataLoss, match="REGISTRY"):
        await rebuild(config(home))
    assert (home / "views.db").read_bytes() == before


async def test_a_single_changed_byte_in_the_registry_is_refused(home: Path):
    async with run(config(home)) as bus:
        made = await bus.bus.projects.create(OPERATOR, api.CreateProject(slug="acme", tier="starter"))
        assert made.tier == "starter"
    with sqlite3.connect(home / "views.db") as db:
        db.execute("UPDATE cursors SET hash = ? WHERE stream = 'REGISTRY'", ("0" * 64,))
    db.close()
    with pytest.raises(DataLoss, match="not the record that was seen"):
        async with run(config(home)):
            pass


async def test_an_agent_finds_a_bus_whose_nats_moved_to_another_port(home: Path):
    async with run(config(home)) as bus:
        project = await _fill(bus)
        url, token = bus.url, await project.mint("ann")
        ann = AsyncAgent(token, "ann", url=url)
        await ann.start()
    (home / "nats" / "port").unlink()
    shutil.rmtree(home / "nats" / "ports", ignore_errors=True)
    async with run(config(home)) as bus:
        assert bus.url == url
        assert (await ann.send("bob", "found you")).seq == 1
        await ann.stop()


async def test_a_project_takes_no_more_agents_than_it_has_inboxes_for(home: Path):
    small = ROOMY | {"starter": replace(ROOMY["starter"], consumers=2)}
    async with run(replace(config(home), tiers=small)) as bus:
        project = Project(bus, await bus.bus.projects.create(OPERATOR, api.CreateProject(slug="a", tier="starter")))
        await project.mint("one")
        await project.mint("two")
        with pytest.raises(LimitReached):
            await project.mint("three")
        assert [a.name for a in await bus.bus.agents.list(OPERATOR, "a")] == ["one", "two"]


async def test_listening_on_all_addresses_needs_a_name_for_agents_to_dial(home: Path):
    with pytest.raises(BadRequest, match="--advertise"):
        async with run(Config(home=home, host="0.0.0.0", http_port=0, nats_port=0, tiers=ROOMY)):  # noqa: S104 - that is the test
            pass


async def test_a_durability_that_was_not_understood_serves_nothing(home: Path):
    with pytest.raises(UnsafeServer):
        async with run(Config(home=home, http_port=0, nats_port=0, tiers=ROOMY, durability="never")):
            pass


async def test_an_old_server_is_refused_by_name(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    old = tmp_path / "nats-server"
    old.write_text("#!/bin/sh\necho 'nats-server: v2.10.4'\n")
    old.chmod(0o755)
    monkeypatch.setenv("SOS_NATS_SERVER", str(old))
    with pytest.raises(ServerTooOld, match=r"2\.10\.4.*2\.12"):
        async with run(config(home)):
            pass
    monkeypatch.setenv("SOS_NATS_SERVER", str(tmp_path / "nowhere"))
    with pytest.raises(NoServerBinary):
        async with run(config(home)):
            pass


async def test_a_line_that_has_just_closed_is_waited_for_without_holding_up_the_loop(project: Project):
    agent = await project.agent("bob")
    await agent.start()
    session = agent._session  # pyright: ignore[reportPrivateUsage]
    assert session is not None
    first = await session.line(1.0)
    first.closed.set()  # as a connection does that is gone, a moment before the supervisor hears of it
    second = await asyncio.wait_for(session.line(5.0), 5.0)
    assert second is not first
    await eventually(lambda: session.current is second, "the new line is not in use")


async def test_the_health_of_a_bus_says_what_is_wrong(bus: Running):
    health = await bus.bus.behind()
    assert health == 0
    assert json.loads((Path(bus.home) / "context.json").read_text())["url"] == bus.url
