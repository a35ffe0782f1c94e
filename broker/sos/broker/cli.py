"""`sos`: what runs a bus, on top of the SDK's commands. The server's parts are imported when a command needs them."""

import asyncio
import importlib
import io
import logging
import signal
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from sos.broker.cli_admin import admin
from sos.broker.config import DEFAULT_HTTP_PORT, DEFAULT_NATS_PORT, Config, LeakPolicy
from sos.broker.errors import MissingExtra, NothingThere, ServerFailed
from sos.sdk.cli import JsonOption, app, fail, show_json, text
from sos.wire.errors import SosError
from sos.wire.home import sos_home
from sos.wire.tokens import redact

if TYPE_CHECKING:
    from types import ModuleType

    from sos.broker.app import Running

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

app.add_typer(admin, name="admin")


def main() -> None:
    """The entry point of the command `sos`. A wrong command line is shown back, but no secret that stood in it."""
    try:
        code = app(standalone_mode=False)
    except typer.Abort:
        sys.exit(1)
    except Exception as e:
        show = getattr(e, "show", None)  # what typer raises for a wrong command line; it does not export the class
        if show is None:
            raise
        said = io.StringIO()
        show(file=said)
        sys.stderr.write(redact(said.getvalue()))
        sys.exit(getattr(e, "exit_code", 2))
    sys.exit(code if isinstance(code, int) else 0)


@app.command()
def up(
    host: Annotated[str, typer.Option(help="Where HTTP and NATS listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="SOS_PORT", help="HTTP; 0 for any free one.")] = DEFAULT_HTTP_PORT,
    nats_port: Annotated[
        int, typer.Option(envvar="SOS_NATS_PORT", help="NATS; 0 for any free one.")
    ] = DEFAULT_NATS_PORT,
    durability: Annotated[
        str, typer.Option(help="'always' syncs every write; 'interval=100ms' may lose that much to a power cut.")
    ] = "always",
    advertise: Annotated[str, typer.Option(help="The host under which agents reach NATS, if not --host.")] = "",
    session_s: Annotated[float, typer.Option(help="Life of a session's credential in seconds.")] = 43_200.0,
    leak_policy: Annotated[
        LeakPolicy,
        typer.Option(
            help="An agent's token found in a message: 'void' it, 'rotate' it into a file of the operator's, or "
            "'revoke' the agent."
        ),
    ] = "void",
    verbose: Annotated[bool, typer.Option("--verbose", help="Log what the gateway does.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run the bus: nats-server and gateway, until Ctrl-C."""
    _log_to_stderr(logging.INFO if verbose else logging.WARNING)
    config = Config(
        home=sos_home(),
        host=host,
        http_port=port,
        nats_port=nats_port,
        durability=durability,
        session_s=session_s,
        advertise=advertise,
        leak_policy=leak_policy,
    )
    try:
        asyncio.run(_up(config, as_json=as_json))
    except SosError as e:
        fail(e, as_json=as_json)


async def _up(config: Config, *, as_json: bool) -> None:
    serving = asyncio.create_task(_serve(config, as_json=as_json))
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()

    def stop() -> None:
        if not stopping.is_set():  # a second signal would only interrupt the stopping, which is bounded
            stopping.set()
            serving.cancel()

    for sig in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(sig, stop)
    await asyncio.wait([serving])
    if not serving.cancelled():
        serving.result()


async def _serve(config: Config, *, as_json: bool) -> None:
    async with _assembly().run(config) as bus:
        _announce(bus, as_json=as_json)
        try:
            await bus.until_lost()
        finally:
            if not as_json:
                text("Stopping.")
        raise ServerFailed(why="it ended the gateway's own connection for good; start the bus again")


def _announce(bus: "Running", *, as_json: bool) -> None:
    if as_json:
        show_json(
            {
                "url": bus.url,
                "nats_urls": bus.nats_urls,
                "nats_pid": bus.nats_pid,
                "nats_version": bus.nats_version,
                "home": bus.home,
                "durability": bus.durability,
            }
        )
        return
    synced = "every write synced to disk" if bus.durability == "always" else f"durability {bus.durability}"
    text("The bus is up.")
    text(f"  gateway  {bus.url}")
    text(f"  NATS     {', '.join(bus.nats_urls)}  (nats-server {bus.nats_version}, {synced})")
    text(f"  data     {bus.home}")
    text("Next, in another shell:  sos project create acme")
    text("Ctrl-C stops it.")


@admin.command()
def rebuild(as_json: JsonOption = False) -> None:
    """Delete the views and fold every stream again. The bus of this home must be down."""
    _log_to_stderr(logging.WARNING)
    home = sos_home()
    try:
        if not (home / "nats").exists():
            raise NothingThere(home=str(home))
        if not as_json:
            text(f"Folding the streams of {home} again…")
        streams = asyncio.run(_assembly().rebuild(Config(home=home, nats_port=0)))
    except SosError as e:
        fail(e, as_json=as_json)
    if as_json:
        show_json({"home": str(home), "streams": streams})
    else:
        text(f"Done: {streams} streams.")


def _assembly() -> "ModuleType":
    """`sos.broker.app`, which the base install cannot import."""
    try:
        return importlib.import_module("sos.broker.app")
    except ModuleNotFoundError as e:
        raise MissingExtra(module=e.name or "unknown") from None


class RedactingFormatter(logging.Formatter):
    """Whatever reaches the log, tracebacks and other libraries' words too: no token, seed or JWT stands in it."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, redacted as a whole."""
        return redact(super().format(record))


def _log_to_stderr(level: int) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactingFormatter(LOG_FORMAT))
    logging.basicConfig(level=level, handlers=[handler])
