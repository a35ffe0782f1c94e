"""nats-server as a child: started, killed, found again, stopped. Each test has its own home and server."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from sos.broker.errors import ServerFailed, ServerTooOld
from sos.broker.nats.accounts import gateway_user
from sos.broker.nats.connection import Connection, connect
from sos.broker.nats.keys import Keyring, open_keyring
from sos.broker.nats.process import command_of
from sos.broker.nats.server import Server, serve
from sos.broker.nats.streams import registry_stream
from sos.broker.nats.tiers import SOS_LIMITS

ROOM = 512 * 1024 * 1024
WITHIN_S = 10.0


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not true():
            await asyncio.sleep(0.005)


async def gone(pid: int) -> bool:
    async with asyncio.timeout(WITHIN_S):
        while await command_of(pid):
            await asyncio.sleep(0.005)
    return True


@asynccontextmanager
async def registry(server: Server, keyring: Keyring) -> AsyncGenerator[Connection]:
    async with connect(server.urls, *gateway_user(keyring.sos), "test") as connection:
        yield connection


async def test_a_server_is_ready_when_serve_returns_and_gone_when_it_is_left(tmp_path: Path):
    keyring = open_keyring(tmp_path)
    async with serve(tmp_path, keyring=keyring, max_file_bytes=ROOM) as server:
        pid = server.pid
        assert server.version
        async with registry(server, keyring) as connection:
            assert (await connection.js("INFO"))["limits"]["max_streams"] == SOS_LIMITS.streams
    assert await gone(pid)
    assert server.pid == 0


async def test_the_port_is_chosen_once_and_kept(tmp_path: Path):
    keyring = open_keyring(tmp_path)
    async with serve(tmp_path, keyring=keyring, max_file_bytes=ROOM) as server:
        first = server.urls
    async with serve(tmp_path, keyring=keyring, max_file_bytes=ROOM) as server:
        assert server.urls == first


async def test_what_was_stored_is_there_after_a_stop_and_a_start(tmp_path: Path):
    keyring = open_keyring(tmp_path)
    for expected in (0, 1):
        async with (
            serve(tmp_path, keyring=keyring, max_file_bytes=ROOM) as server,
            registry(server, keyring) as connection,
        ):
            await connection.ensure_stream(registry_stream())
            assert len(await connection.read_batch("REGISTRY", 1)) == expected
            await connection.store("REGISTRY", "registry.a.project.a", b"{}", msg_id="1", expected_subject_seq=0)


async def test_streams_are_made_again_on_a_server_that_has_no_room_for_a_second_one(tmp_path: Path):
    keyring = open_keyring(tmp_path)
    for _ in range(2):
        async with (
            serve(tmp_path, keyring=keyring, max_file_bytes=SOS_LIMITS.disk_storage) as server,
            registry(server, keyring) as connection,
        ):
            await connection.ensure_stream(registry_stream())
            await connection.ensure_stream(registry_stream())


async def test_the_room_that_streams_were_promised_does_not_shrink_with_the_disk(tmp_path: Path):
    keyring, vast = open_keyring(tmp_path), 2**60
    for given in (vast, None):
        async with (
            serve(tmp_path, keyring=keyring, max_file_bytes=given) as server,
            connect(server.urls, *gateway_user(keyring.system), "test") as system,
        ):
            answer = msgspec.json.decode((await system.request("$SYS.REQ.SERVER.PING.JSZ")).body)
            assert answer["data"]["config"]["max_storage"] == vast


async def test_the_files_of_a_server_are_for_its_owner_alone(tmp_path: Path):
    async with serve(tmp_path, keyring=open_keyring(tmp_path), max_file_bytes=ROOM):
        folder = tmp_path / "nats"
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (folder / "server.conf").stat().st_mode & 0o777 == 0o600


async def test_a_killed_server_comes_back_on_the_same_port_with_its_store(tmp_path: Path):
    keyring = open_keyring(tmp_path)
    async with serve(tmp_path, keyring=keyring, max_file_bytes=ROOM) as server, registry(server, keyring) as connection:
        await connection.ensure_stream(registry_stream())
        for n in range(3):
            urls, pid = server.urls, server.pid
            os.kill(pid, signal.SIGKILL)
            stored = await connection.store("REGISTRY", f"registry.a.project.{n}", b"{}", msg_id=str(n))
            assert stored.seq == n + 1
            await server.wait_ready()
            assert server.urls == urls
            assert server.pid not in {0, pid}
        bodies = [m.subject for m in await connection.read_batch("REGISTRY", 1)]
        assert bodies == [f"registry.a.project.{n}" for n in range(3)]
        pid = server.pid
    assert await gone(pid)


async def test_ctrl_c_in_a_terminal_reaches_the_gateway_and_not_its_server(tmp_path: Path):
    async with serve(tmp_path, keyring=open_keyring(tmp_path), max_file_bytes=ROOM) as server:
        assert os.getsid(server.pid) == server.pid
        assert os.getpgid(server.pid) != os.getpgid(0)


SERVE = """
import asyncio, sys
from pathlib import Path
from sos.broker.nats.keys import open_keyring
from sos.broker.nats.server import serve
async def main():
    home = Path(sys.argv[1])
    async with serve(home, keyring=open_keyring(home), max_file_bytes=int(sys.argv[2])) as server:
        print(server.pid, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


def orphan(home: Path) -> int:
    """The pid of a server whose gateway was killed with -9."""
    gateway = subprocess.Popen([sys.executable, "-c", SERVE, str(home), str(ROOM)], stdout=subprocess.PIPE, text=True)
    assert gateway.stdout is not None
    pid = int(gateway.stdout.readline())
    gateway.kill()
    gateway.communicate(timeout=10)
    return pid


async def test_a_server_that_outlived_its_gateway_is_taken_over(tmp_path: Path):
    pid = await asyncio.to_thread(orphan, tmp_path)
    keyring = open_keyring(tmp_path)
    # Free space is another one at every start, and must not count as another configuration.
    async with serve(tmp_path, keyring=keyring, max_file_bytes=ROOM + 1) as server, registry(server, keyring):
        assert server.pid == pid
        os.kill(pid, signal.SIGKILL)
        await until(lambda: server.pid not in {0, pid})
        await server.wait_ready()
        second = server.pid
    assert await gone(pid)
    assert await gone(second)


async def test_a_server_that_was_taken_over_is_stopped_at_the_end(tmp_path: Path):
    pid = await asyncio.to_thread(orphan, tmp_path)
    async with serve(tmp_path, keyring=open_keyring(tmp_path), max_file_bytes=ROOM) as server:
        assert server.pid == pid
    assert await gone(pid)


async def test_a_server_that_outlived_its_gateway_but_has_other_settings_is_replaced(tmp_path: Path):
    pid = await asyncio.to_thread(orphan, tmp_path)
    keyring = open_keyring(tmp_path)
    async with serve(tmp_path, keyring=keyring, max_file_bytes=ROOM, durability="interval=1s") as server:
        assert server.pid != pid
        assert await gone(pid)


async def test_a_stranger_with_the_pid_of_a_dead_server_is_left_alone(tmp_path: Path):
    keyring = open_keyring(tmp_path)
    async with serve(tmp_path, keyring=keyring, max_file_bytes=ROOM):
        pass
    (tmp_path / "nats" / "server.pid").write_text(str(os.getpid()))
    async with serve(tmp_path, keyring=keyring, max_file_bytes=ROOM) as server:
        assert server.pid != os.getpid()


async def test_a_port_that_somebody_else_has_is_said(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServerFailed, match=f"port {port} on 127.0.0.1 is taken"):
            async with serve(tmp_path, keyring=open_keyring(tmp_path), port=port, max_file_bytes=ROOM):
                raise AssertionError("served on a taken port")


async def test_a_server_that_cannot_start_says_the_last_of_its_log(tmp_path: Path):
    with pytest.raises(ServerFailed, match=r"its log ends: .*999\.999\.999\.999"):
        async with serve(tmp_path, keyring=open_keyring(tmp_path), host="999.999.999.999", max_file_bytes=ROOM):
            raise AssertionError("served nowhere")


async def test_a_binary_that_is_too_old_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    old = tmp_path / "nats-server"
    old.write_text("#!/bin/sh\necho 'nats-server: v2.10.0'\n")
    old.chmod(0o755)
    monkeypatch.setenv("SOS_NATS_SERVER", str(old))
    with pytest.raises(ServerTooOld):
        async with serve(tmp_path / "home", keyring=open_keyring(tmp_path), max_file_bytes=ROOM):
            raise AssertionError("served with an old server")
