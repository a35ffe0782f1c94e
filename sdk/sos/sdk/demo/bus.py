"""A bus of its own for the demo: `sos up` as a process, in a folder that is deleted afterwards."""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from sos.sdk.gateway import Gateway
from sos.wire import api
from sos.wire.errors import GatewayUnreachable, UnknownToken
from sos.wire.tokens import redact

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0


class Up(msgspec.Struct):
    """The line that `sos up --json` prints when it serves."""

    url: str
    nats_urls: tuple[str, ...]
    nats_pid: int
    nats_version: str
    home: str


class DemoBus:
    """The running bus, and its operator's view of it."""

    def __init__(self, up: Up) -> None:
        self.up = up
        self._gateway = Gateway(up.url, (Path(up.home) / "operator.token").read_text().strip())

    async def project(self, slug: str) -> None:
        """A project."""
        await self._gateway.call("POST", "/api/projects", api.ProjectCreated, {"slug": slug})

    async def mint(self, project: str, name: str) -> str:
        """An agent's token."""
        ask = {"agent_name": name}
        path = f"/api/tenants/{project}/agents/mint"
        return (await self._gateway.call("POST", path, api.AgentMinted, ask)).raw_token

    async def squad(self, project: str, squad: str) -> None:
        """A squad."""
        await self._gateway.call("POST", f"/api/tenants/{project}/squads", api.Squad, {"squad": squad})

    async def revoke(self, project: str, name: str) -> api.AgentCut:
        """Cut an agent off for good."""
        return await self._gateway.call("DELETE", f"/api/tenants/{project}/agents/{name}", api.AgentCut)

    async def is_void(self, token: str) -> bool:
        """Whether an agent's token opens nothing any more."""
        try:
            await Gateway(self.up.url, token).call("GET", "/api/agent", api.Me)
        except UnknownToken:
            return True
        return False

    def kill_nats(self) -> None:
        """End nats-server as a power cut would, without warning."""
        os.kill(self.up.nats_pid, signal.SIGKILL)


@asynccontextmanager
async def throw_away_bus() -> AsyncGenerator[DemoBus]:
    """A bus in a temporary home, gone afterwards. While inside, this process's `SOS_HOME` is that home."""
    before = os.environ.get("SOS_HOME")
    with tempfile.TemporaryDirectory(prefix="sos-demo-") as home:
        os.environ["SOS_HOME"] = home
        with (Path(home) / "gateway.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "sos.broker", "up", "--port", "0", "--nats-port", "0", "--json"),
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=os.environ | {"SOS_HOME": home},
            )
        try:
            yield DemoBus(await _announced(process, Path(home) / "gateway.log"))
        finally:
            await _end(process)
            if before is None:
                del os.environ["SOS_HOME"]
            else:
                os.environ["SOS_HOME"] = before


async def _announced(process: asyncio.subprocess.Process, log: Path) -> Up:
    if process.stdout is None:
        raise RuntimeError("the process was started without a pipe")
    try:
        line = await asyncio.wait_for(process.stdout.readline(), START_TIMEOUT_S)
        return msgspec.json.decode(line, type=Up)
    except (TimeoutError, msgspec.MsgspecError):
        raise GatewayUnreachable(url="the demo's own bus", why=_reason(log)) from None


def _reason(log: Path) -> str:
    """The last line of the gateway's log, redacted: it is deleted with its home."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return redact(lines[-1]) if lines else f"it did not start within {START_TIMEOUT_S:g} s"


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
