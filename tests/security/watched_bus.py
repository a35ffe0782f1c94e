"""A bus as a process of its own, every word of which is kept: what it prints and logs, and what each command prints."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0
COMMAND_TIMEOUT_S = 60.0
PROC = Path("/proc")


class Up(msgspec.Struct):
    """What `sos up --json` prints when it serves."""

    url: str
    nats_pid: int


class Said(msgspec.Struct, frozen=True):
    """What one command printed. `words` tells which, without its secrets."""

    words: str
    code: int
    out: bytes
    err: bytes


class WatchedBus:
    """`sos up` on one home, and commands beside it."""

    def __init__(self, home: Path, kept: Path) -> None:
        self.home, self.kept = home, kept
        self.up: Up
        self.listings: list[tuple[str, bytes]] = []
        self._process: asyncio.subprocess.Process | None = None
        self._starts = 0

    @property
    def url(self) -> str:
        return self.up.url

    @property
    def pid(self) -> int:
        """The gateway's."""
        assert self._process is not None
        return self._process.pid

    async def start(self, environment: Mapping[str, str] | None = None) -> None:
        """Start it and wait until it serves. Its standard error goes to a file of each start's own."""
        self._starts += 1
        with (self.kept / f"gateway-{self._starts}.err").open("wb") as err:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "sos.broker", "up", "--port", "0", "--nats-port", "0", "--json", "--verbose"),
                stdout=asyncio.subprocess.PIPE,
                stderr=err,
                env=clean(self.home) | dict(environment or {}),
            )
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), START_TIMEOUT_S)
        (self.kept / f"gateway-{self._starts}.out").write_bytes(line)
        self.up = msgspec.json.decode(line, type=Up)

    def list_processes(self) -> None:
        """Keep what a listing of processes shows of the bus' own: arguments, and environments where /proc is there."""
        assert self._process is not None
        for pid in (self._process.pid, self.up.nats_pid):
            for what in ("cmdline", "environ"):
                path = PROC / str(pid) / what
                if path.exists():
                    self.listings.append((f"{what} of {pid}", path.read_bytes()))

    async def kill(self) -> None:
        """kill -9 of the gateway and of nats-server."""
        assert self._process is not None
        os.kill(self.up.nats_pid, signal.SIGKILL)
        self._process.kill()
        await self._process.wait()

    async def stop(self) -> None:
        """Stop both."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await asyncio.wait_for(self._process.wait(), STOP_TIMEOUT_S)

    async def command(self, *words: str, home: Path | None = None, **environment: str) -> Said:
        """One `sos …`, to its end."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sos.broker", *words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=clean(home or self.home) | {"SOS_URL": self.up.url} | environment,
        )
        out, err = await asyncio.wait_for(process.communicate(), COMMAND_TIMEOUT_S)
        return Said(" ".join(words[:3]), process.returncode or 0, out, err)


def clean(home: Path) -> dict[str, str]:
    """An environment without a variable of ours but the home."""
    return {k: v for k, v in os.environ.items() if not k.startswith("SOS_")} | {"SOS_HOME": str(home)}


@asynccontextmanager
async def watched_bus(folder: Path) -> AsyncGenerator[WatchedBus]:
    """A running one in `folder`, gone afterwards."""
    (folder / "kept").mkdir()
    bus = WatchedBus(folder / "home", folder / "kept")
    await bus.start()
    try:
        yield bus
    finally:
        await bus.stop()
