"""A gateway as a process of its own, that can be killed and started again on the same home."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0


class Up(msgspec.Struct):
    """What `sos up --json` prints when it serves."""

    url: str
    nats_pid: int


class GatewayProcess:
    """`sos up` on one home."""

    def __init__(self, home: Path, *options: str) -> None:
        self.home = home
        self.up: Up
        self._options = options
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it and wait until it serves."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "sos.broker", "up", "--port", "0", "--nats-port", "0", "--json", *self._options),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=os.environ | {"SOS_HOME": str(self.home)},
        )
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), START_TIMEOUT_S)
        self.up = msgspec.json.decode(line, type=Up)

    async def kill(self) -> None:
        """kill -9 of the gateway alone; its nats-server lives on."""
        assert self._process is not None
        self._process.kill()
        await self._process.wait()

    def nats_pid(self) -> int:
        """Of the server that runs now, by its own pid file; 0 if there is none."""
        try:
            pid = int((self.home / "nats" / "server.pid").read_text())
            os.kill(pid, 0)
        except (OSError, ValueError):
            return 0
        return pid

    def kill_nats(self) -> int:
        """kill -9 of nats-server; returns whose."""
        pid = self.nats_pid()
        if pid:
            os.kill(pid, signal.SIGKILL)
        return pid

    async def stop(self) -> None:
        """Stop it and its server."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.terminate()
            await asyncio.wait_for(self._process.wait(), STOP_TIMEOUT_S)


@asynccontextmanager
async def gateway_process(home: Path, *options: str) -> AsyncGenerator[GatewayProcess]:
    """A running one, gone afterwards, with its server."""
    process = GatewayProcess(home, *options)
    await process.start()
    try:
        yield process
    finally:
        await process.stop()
        process.kill_nats()
