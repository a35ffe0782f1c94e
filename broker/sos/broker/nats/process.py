"""The operating system's processes: one that was started here, and one that was found running.

A child is waited for; a found process belongs to another parent, so it can only be looked at. Both are told apart from
a stranger that got the same pid by the configuration file in their command line.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Protocol

POLL_S = 0.05
"""How often a found process is looked at."""
STOP_TIMEOUT_S = 10.0
"""nats-server flushes and stops within a second; past this it is killed."""
KILL_TIMEOUT_S = 5.0
PS_TIMEOUT_S = 5.0
OURS = "SOS_"
"""What the names of our environment variables start with."""


class Process(Protocol):
    """A process that can be waited for and signalled."""

    @property
    def pid(self) -> int: ...
    async def wait(self) -> None: ...
    def send(self, signum: signal.Signals) -> None: ...


class Child:
    """A process that was started here."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait(self) -> None:
        await self._process.wait()

    def send(self, signum: signal.Signals) -> None:
        if self._process.returncode is None:
            self._process.send_signal(signum)


class Found:
    """A process that somebody else started: its parent was killed, and it lived on."""

    def __init__(self, pid: int, marker: str) -> None:
        self.pid = pid
        self._marker = marker

    async def wait(self) -> None:
        while self._marker in await command_of(self.pid):  # noqa: ASYNC110 - no event tells of another's child
            await asyncio.sleep(POLL_S)

    def send(self, signum: signal.Signals) -> None:
        try:
            os.kill(self.pid, signum)
        except ProcessLookupError:
            return  # it ended by itself, which is what the signal is for


async def start(command: Sequence[str], output: IO[bytes]) -> Child:
    """Start it in a session of its own, so that Ctrl-C in a terminal reaches the gateway and not its server.

    It is given none of our variables: one of them may be a token, and an environment can be listed.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        env={name: value for name, value in os.environ.items() if not name.startswith(OURS)},
    )
    return Child(process)


async def stop(process: Process) -> None:
    """SIGTERM, and SIGKILL if that is not enough; returns when it is gone."""
    process.send(signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
    except TimeoutError:
        process.send(signal.SIGKILL)
        await asyncio.wait_for(process.wait(), KILL_TIMEOUT_S)


async def command_of(pid: int) -> str:
    """A running process' command line, its words joined by spaces; empty for no such process, or a zombie of it."""
    if sys.platform == "linux":
        return _from_proc(pid)
    ps = await asyncio.create_subprocess_exec(
        "ps", "-o", "stat=,command=", "-p", str(pid), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    out, _ = await asyncio.wait_for(ps.communicate(), PS_TIMEOUT_S)
    stat, _, command = out.decode(errors="replace").strip().partition(" ")
    return "" if stat.startswith("Z") else command.strip()


def _from_proc(pid: int) -> str:
    try:
        # A zombie's file is empty.
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ").strip()
    except OSError:
        return ""
