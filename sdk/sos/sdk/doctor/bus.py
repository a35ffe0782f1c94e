"""Checks of NATS: it takes this agent's connection, its version, and a message to oneself comes back."""

import socket
from time import monotonic
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from sos.sdk.doctor.check import Says, critical, in_thread, ok, skipped, warning
from sos.sdk.doctor.patient import Patient
from sos.sdk.doctor.probe import CONNECT_TIMEOUT_S, Probe
from sos.sdk.gateway import Gateway
from sos.wire import api
from sos.wire.errors import NatsUnreachable, SosError
from sos.wire.scopes import Scope

HELLO_TIMEOUT_S = 1.5
"""A server writes its first line at once; longer is as good as away."""
MAX_SERVERS = 3
MAX_HELLO_BYTES = 32 * 1024
NATS_PORT = 4222
REACH_S = MAX_SERVERS * HELLO_TIMEOUT_S + CONNECT_TIMEOUT_S
ROUND_TRIP_S = 4.0
"""Milliseconds on a healthy bus; a person waits for the answer."""
ROUND_TRIP_BOUND_S = ROUND_TRIP_S + 1.5
MAX_AHEAD = 400
"""Mail that stands before the doctor's message is handed out and back: more of it is neither disturbed nor waited for,
and it stays below what `inbox.lag` warns of."""
RUNS_TIMEOUT_S = 1.0


class Advisory(NamedTuple):
    """What is wrong with servers before `fixed_in`."""

    fixed_in: tuple[int, int, int]
    what: str
    grave: bool


ADVISORIES: tuple[Advisory, ...] = (
    Advisory((2, 14, 0), "authorization can be bypassed", grave=True),
    Advisory((2, 14, 3), "anybody who reaches its port can crash it before authenticating", grave=False),
)
"""github.com/nats-io/advisories: those that matter to a bus in operator mode."""


async def reachable(patient: Patient) -> Says:
    """`nats.reachable`: a server answers, and takes a connection of this agent."""
    urls, began = patient.known().nats_urls[:MAX_SERVERS], monotonic()
    patient.nats_version = await in_thread(lambda: _first_hello(urls), MAX_SERVERS * HELLO_TIMEOUT_S)
    try:
        patient.probe = await Probe.open(patient.local)
    except ImportError as e:
        return critical(f"nats-py cannot be loaded: {e}", "Install it again: pip install --force-reinstall nats-py")
    return ok(f"connected to {', '.join(urls)}", (monotonic() - began) * 1e3)


def server_version(patient: Patient) -> Says:
    """`nats.version`: the server's own word, else the gateway's."""
    found = patient.nats_version or patient.known().nats_version
    return version_says(found) if found else skipped("neither NATS nor the gateway says its version")


def version_says(version: str) -> Says:
    """What this version of nats-server means, by the advisories."""
    numbers = _numbers(version)
    if numbers is None:
        return warning(f"nats-server says that it is {version!r}", "See that it is a released version.")
    known = [a for a in ADVISORIES if numbers < a.fixed_in]
    if not known:
        return ok(f"nats-server {version}")
    newest = ".".join(map(str, max(a.fixed_in for a in known)))
    found = f"nats-server {version}: {'; '.join(a.what for a in known)}"
    cure = (
        f"The operator installs nats-server {newest} or newer (SOS_NATS_SERVER names the binary) and restarts the bus."
    )
    return critical(found, cure) if any(a.grave for a in known) else warning(found, cure)


async def round_trip(patient: Patient) -> Says:
    """`inbox.round_trip`: a message to oneself, stored, handed out, and taken out of the inbox again."""
    me, probe = patient.known(), patient.probe
    if lacking := [s for s in (Scope.SEND, Scope.INBOX) if s not in me.agent.scopes]:
        return skipped(f"the token lacks {' and '.join(lacking)}")
    ahead = me.inbox.unread if me.inbox is not None else 0
    if ahead > MAX_AHEAD:
        return skipped(f"{ahead} unread messages stand before it", f"Read them: sos agent inbox --as {me.agent.name}")
    if probe is None:
        return skipped("it needs nats.reachable")
    began = await probe.send()
    where = await probe.returned(ROUND_TRIP_S)
    timing_ms = (monotonic() - began) * 1e3
    if where == "here":
        return ok("a message to oneself came back", timing_ms)
    if where == "another":
        return ok("a message to oneself was taken by another run of this agent in this home", timing_ms)
    return await _lost(patient)


async def _lost(patient: Patient) -> Says:
    """It was stored and did not come back. Another run of the agent, elsewhere, may have it."""
    name = patient.known().agent.name
    found = f"a message to oneself was stored and not handed out here in {ROUND_TRIP_S:g} s"
    if others := await _other_runs(patient):
        return warning(f"{found}; {others} other runs of {name} are connected, and one may have taken it", "Ask there.")
    cure = f"Look at the inbox with 'sos agent inbox --as {name}'; if it stays empty, the operator restarts the bus."
    return critical(found, cure)


async def _other_runs(patient: Patient) -> int:
    gateway = Gateway(patient.local.url, patient.local.token)
    try:
        runs = await in_thread(
            lambda: gateway.call_blocking("GET", "/api/agent/sessions", tuple[api.Run, ...], None, RUNS_TIMEOUT_S),
            RUNS_TIMEOUT_S,
        )
    except (SosError, TimeoutError):
        return 0  # then the finding is the graver one
    own = patient.probe.agent.session if patient.probe is not None else ""
    return sum(1 for r in runs if r.connected and r.session != own)


class _Info(msgspec.Struct):
    version: str


def _first_hello(urls: tuple[str, ...]) -> str:
    """The version of the first server that answers."""
    why = "the gateway names none"
    for url in urls:
        try:
            return _hello(url)
        except (OSError, ValueError, msgspec.MsgspecError) as e:
            why = "it did not answer in time" if isinstance(e, TimeoutError) else str(e) or type(e).__name__
    raise NatsUnreachable(servers=urls, why=why)


def _hello(url: str) -> str:
    """The version in the line that a NATS server writes first, to anybody (`INFO {…}`)."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or NATS_PORT), HELLO_TIMEOUT_S) as server:
        said, deadline = b"", monotonic() + HELLO_TIMEOUT_S
        while b"\r\n" not in said and len(said) < MAX_HELLO_BYTES and monotonic() < deadline:
            if not (more := server.recv(4096)):
                break
            said += more
    if not said.startswith(b"INFO "):
        raise ValueError("what answers there is not a NATS server")
    return msgspec.json.decode(said.partition(b"\r\n")[0][len(b"INFO ") :], type=_Info).version


def _numbers(version: str) -> tuple[int, ...] | None:
    """The three numbers of a version, without what stands behind a hyphen; None if it has none."""
    numbers = version.removeprefix("v").partition("-")[0].split(".")
    return tuple(map(int, numbers)) if len(numbers) == 3 and all(n.isdecimal() for n in numbers) else None
