"""nats-server as a child of the gateway: configured, started, watched, restarted, found again, stopped.

The laws:

- When `serve` is left, no server of this home runs. While it is inside, one does, or is being brought back.
- A server that outlived its gateway (kill -9) is taken over, not doubled: two on one store would corrupt it.
- The port is chosen once and kept in `<home>/nats/port`, so that clients find the bus where they left it.
"""

import asyncio
import logging
import shutil
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from sos.broker.errors import ServerFailed
from sos.broker.nats import process
from sos.broker.nats.binary import find_server
from sos.broker.nats.config import Settings, max_file_of, render, same_but_for_space, sync_interval
from sos.broker.nats.keys import Keyring
from sos.wire.home import private_dir, write_secret

log = logging.getLogger(__name__)

READY_TIMEOUT_S = 20.0
"""Recovering streams from disk takes up to 49 ms for small ones [measured]; large stores take seconds."""
READY_POLL_S = 0.01
DIAL_TIMEOUT_S = 1.0
FIRST_BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 5.0
STABLE_AFTER_S = 30.0
"""A server that ran this long is healthy: its next death is a new one, restarted without delay."""
LOG_TAIL_LINES = 5
LOG_TAIL_BYTES = 4096
SHARE_OF_FREE_SPACE = 0.8
"""A `max_file` below the volume's size gives publishers a clear error; a full disk gives timeouts [measured]."""
RANDOM_PORT = -1


class Server:
    """A supervised nats-server. Made by `serve`."""

    def __init__(self, binary: Path, settings: Settings) -> None:
        self.version = ""
        self._binary = binary
        self._settings = settings
        self._process: process.Process | None = None
        self._ready = asyncio.Event()
        self._why = ""

    @property
    def urls(self) -> tuple[str, ...]:
        """Where clients connect."""
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        return (f"nats://{host}:{self._settings.port}",)

    @property
    def pid(self) -> int:
        """Of the server that runs now; 0 between two."""
        return self._process.pid if self._process is not None else 0

    async def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Return when the server takes connections; `ServerFailed` if it does not in time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._ready.wait()
        except TimeoutError:
            raise ServerFailed(why=self._why or f"it was not ready within {timeout_s} s") from None

    # ── one life ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Take over the one that runs, or start one, and wait until it is ready."""
        self._process = await self._adopt() or await self._spawn()
        try:
            await self._until_ready(self._process)
        except BaseException:
            await self.stop()
            raise
        self._why = ""
        self._ready.set()

    async def stop(self) -> None:
        """End the server that runs, if one does."""
        self._ready.clear()
        running, self._process = self._process, None
        if running is not None:
            await process.stop(running)
        self._settings.pid_file.unlink(missing_ok=True)

    async def _adopt(self) -> process.Found | None:
        """The server that a killed gateway left behind; one with other settings is stopped instead."""
        wanted, path = render(self._settings), self._settings.path
        had = path.read_text() if path.exists() else ""
        pid = _read_int(self._settings.pid_file)
        command = await process.command_of(pid) if pid else ""
        marker = f"-c {path}"
        write_secret(path, wanted)
        if marker not in command:
            return None
        found = process.Found(pid, marker)
        if command.startswith(str(self._binary)) and same_but_for_space(had, wanted):
            log.info("took over nats-server %d, which outlived its gateway", pid)
            return found
        log.info("stopping nats-server %d, which outlived its gateway and has other settings", pid)
        await process.stop(found)
        return None

    async def _spawn(self) -> process.Child:
        for left_over in (self._settings.pid_file, *self._settings.folder.glob("*.ports")):
            left_over.unlink(missing_ok=True)
        with (self._settings.folder / "output.log").open("wb") as output:
            return await process.start([str(self._binary), "-c", str(self._settings.path)], output)

    async def _until_ready(self, running: process.Process) -> None:
        ended = asyncio.ensure_future(running.wait())
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                while not await self._answers(running.pid):
                    if ended.done():
                        raise ServerFailed(why=self._explain())
                    await asyncio.wait({ended}, timeout=READY_POLL_S)
        except TimeoutError:
            raise ServerFailed(why=f"not ready within {READY_TIMEOUT_S} s; {self._explain()}") from None
        finally:
            ended.cancel()
            with suppress(asyncio.CancelledError):
                await ended

    async def _answers(self, pid: int) -> bool:
        """Whether our server, and not somebody else's, greets at the port. Notes the port when it was a random one."""
        if self._settings.port == RANDOM_PORT:
            port = self._chosen_port(pid)
            if port is None:
                return False
            write_secret(self._settings.folder / "port", str(port))
            self._settings = msgspec.structs.replace(self._settings, port=port)
            # A later start and a takeover compare with this text.
            write_secret(self._settings.path, render(self._settings))
        greeting = await _greeting(self._settings.host, self._settings.port)
        if greeting.get("server_name") != self._settings.name:
            return False
        self.version = str(greeting["version"])
        return True

    def _chosen_port(self, pid: int) -> int | None:
        for file in self._settings.folder.glob(f"*_{pid}.ports"):
            with suppress(msgspec.MsgspecError):  # it is still being written
                urls = msgspec.json.decode(file.read_bytes(), type=dict[str, list[str]])["nats"]
                return int(urls[0].rpartition(":")[2])
        return None

    def _explain(self) -> str:
        tail = _tail(self._settings.log_file) or _tail(self._settings.folder / "output.log")
        if "address already in use" in tail:
            port = self._settings.port
            return (
                f"port {port} on {self._settings.host} is taken by another program; free it, or delete "
                f"{self._settings.folder / 'port'} to choose another (agents then need the new address)"
            )
        return f"its log ends: {tail}" if tail else "it left no log"

    # ── all its lives ────────────────────────────────────────────────────────────────────────────────────────────

    async def supervise(self) -> None:
        """Bring the server back each time it dies, for ever."""
        backoff_s = FIRST_BACKOFF_S
        while True:
            began = time.monotonic()
            if self._process is not None:
                await self._process.wait()
                log.warning("nats-server %d ended; its log is %s", self.pid, self._settings.log_file)
            self._ready.clear()
            self._process = None
            if time.monotonic() - began > STABLE_AFTER_S:
                backoff_s = FIRST_BACKOFF_S
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, LONGEST_BACKOFF_S)
            try:
                await self.start()
            except (ServerFailed, OSError) as e:  # OSError: the binary or the disk is away, perhaps for a moment
                self._why = e.why if isinstance(e, ServerFailed) else str(e)
                log.warning("nats-server did not come back: %s", self._why)


@asynccontextmanager
async def serve(
    home: Path,
    *,
    keyring: Keyring,
    host: str = "127.0.0.1",
    port: int = 0,
    durability: str = "always",
    max_file_bytes: int | None = None,
) -> AsyncGenerator[Server]:
    """A running nats-server for `home`, ready when this returns and gone when it is left.

    `port=0` chooses a free port at the first start and keeps it. `durability` is `always` or `interval=<duration>`.
    `max_file_bytes` bounds JetStream's disk use; by default four fifths of what the volume has left for it.
    Raises `NoServerBinary`, `ServerTooOld`, `ServerFailed`.
    """
    binary, _ = find_server()
    server = Server(binary, _settings(home, keyring, host, port, sync_interval(durability), max_file_bytes))
    await server.start()
    watching = asyncio.create_task(server.supervise(), name="nats-server supervisor")
    try:
        yield server
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        await server.stop()


def _settings(home: Path, keyring: Keyring, host: str, port: int, sync: str, max_file_bytes: int | None) -> Settings:
    folder = private_dir(home.absolute() / "nats")
    settings = Settings(
        folder=folder,
        name=f"sos-{keyring.operator_public[1:9].lower()}",
        host=host,
        port=port or _read_int(folder / "port") or RANDOM_PORT,
        operator_jwt=keyring.operator_jwt,
        system_account=keyring.system.identity.public,
        preload={
            keyring.system.identity.public: keyring.system_jwt(),
            keyring.sos.identity.public: keyring.sos_jwt(),
        },
        sync_interval=sync,
        max_file_bytes=1,
    )
    private_dir(settings.store)
    return msgspec.structs.replace(settings, max_file_bytes=max_file_bytes or _room_for(settings))


def _room_for(settings: Settings) -> int:
    """Four fifths of what the volume has left, and never less than before.

    Streams were promised their sizes against the earlier number; with a smaller one the server would start and leave
    whole accounts without JetStream [measured].
    """
    used = sum(f.stat().st_size for f in settings.store.rglob("*") if f.is_file())
    room = used + int(shutil.disk_usage(settings.store).free * SHARE_OF_FREE_SPACE)
    before = max_file_of(settings.path.read_text()) if settings.path.exists() else 0
    return max(room, before)


async def _greeting(host: str, port: int) -> dict[str, Any]:
    """The INFO with which a NATS server greets (NATS protocol); empty for anything else."""
    dialled = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - the wildcard is looked up, not bound
    try:
        async with asyncio.timeout(DIAL_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(dialled, port)
            try:
                line = await reader.readline()
            finally:
                writer.close()
                await writer.wait_closed()
        return msgspec.json.decode(line.removeprefix(b"INFO ").strip(), type=dict[str, Any])
    except (OSError, TimeoutError, msgspec.MsgspecError):
        return {}


def _read_int(path: Path) -> int:
    """The number in a small file of ours; 0 when there is none."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


def _tail(path: Path) -> str:
    """The last lines of a log, joined."""
    try:
        text = path.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
    except OSError:
        return ""
    return " | ".join(text.splitlines()[-LOG_TAIL_LINES:])
