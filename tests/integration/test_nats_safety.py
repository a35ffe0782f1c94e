"""What a running server says of itself is checked, whatever its configuration file was meant to say."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sos.broker.errors import UnsafeServer
from sos.broker.nats import process
from sos.broker.nats.accounts import gateway_user
from sos.broker.nats.binary import find_server
from sos.broker.nats.connection import Connection, connect
from sos.broker.nats.keys import open_keyring
from sos.broker.nats.safety import check
from sos.broker.nats.server import serve

ROOM = 64 * 1024 * 1024
WITHIN_S = 10.0


@asynccontextmanager
async def system(home: Path, durability: str = "always") -> AsyncGenerator[Connection]:
    keyring = open_keyring(home)
    async with (
        serve(home, keyring=keyring, max_file_bytes=ROOM, durability=durability) as server,
        connect(server.urls, *gateway_user(keyring.system), "test") as connection,
    ):
        yield connection


@asynccontextmanager
async def edited(home: Path, was: str, now: str) -> AsyncGenerator[Connection]:
    """A real server that runs with one line of our configuration changed."""
    keyring = open_keyring(home)
    async with serve(home, keyring=keyring, max_file_bytes=ROOM) as server:
        urls = server.urls
    config = home / "nats" / "server.conf"
    text = config.read_text()
    assert was in text
    config.write_text(text.replace(was, now))
    with (home / "out").open("wb") as output:
        child = await process.start([str(find_server()[0]), "-c", str(config)], output)
    try:
        async with connect(urls, *gateway_user(keyring.system), "test", timeout_s=WITHIN_S) as connection:
            yield connection
    finally:
        await process.stop(child)


async def test_the_configuration_that_we_write_is_safe_by_the_servers_own_word(tmp_path: Path):
    async with system(tmp_path) as connection:
        facts = await check(connection)
        assert (facts.sync_always, facts.strict, facts.monitor, facts.servers) == (True, True, "", 1)
        assert facts.version == find_server()[1]


async def test_an_interval_is_refused_unless_it_was_chosen(tmp_path: Path):
    async with system(tmp_path, durability="interval=2m") as connection:
        with pytest.raises(UnsafeServer) as refused:
            await check(connection)
        assert (refused.value.setting, refused.value.found) == ("jetstream.sync_interval", "120s")
        assert (await check(connection, allow_interval=True)).sync_always is False


async def test_a_jetstream_that_is_not_strict_is_refused(tmp_path: Path):
    async with edited(tmp_path, "strict: true", "strict: false") as connection:
        with pytest.raises(UnsafeServer) as refused:
            await check(connection)
        assert refused.value.setting == "jetstream.strict"


async def test_a_monitor_that_the_network_can_reach_is_refused(tmp_path: Path):
    async with edited(tmp_path, "max_payload:", "http: 0.0.0.0:-1\nmax_payload:") as connection:
        with pytest.raises(UnsafeServer) as refused:
            await check(connection)
        assert refused.value.setting == "the monitor port"
        assert refused.value.found.startswith("0.0.0.0:")


async def test_a_monitor_on_loopback_is_allowed_and_named(tmp_path: Path):
    async with edited(tmp_path, "max_payload:", "http: 127.0.0.1:-1\nmax_payload:") as connection:
        assert (await check(connection)).monitor.startswith("127.0.0.1:")


async def test_the_check_is_bounded_when_servers_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from sos.broker.nats import safety
    from sos.wire.errors import NatsUnreachable

    monkeypatch.setattr(safety, "CHECK_TIMEOUT_S", 0.2)
    async with system(tmp_path) as connection:
        with pytest.raises(NatsUnreachable):
            async with asyncio.timeout(WITHIN_S):
                await check(connection, servers=2)
