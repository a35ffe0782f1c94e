"""Asks the running servers, rather than any file of ours, whether they keep what this bus promises."""

import ipaddress
from contextlib import aclosing

import msgspec

from sos.broker.errors import UnsafeServer
from sos.broker.nats.binary import require
from sos.broker.nats.connection import Connection

CHECK_TIMEOUT_S = 5.0


class ServerFacts(msgspec.Struct, frozen=True):
    """What holds for all servers that were asked. `monitor`: `host:port` of an open one on loopback, or empty."""

    version: str
    sync_always: bool
    strict: bool
    monitor: str
    servers: int


class _StoreConfig(msgspec.Struct):
    sync_interval: int = 0  # nanoseconds
    sync_always: bool = False
    strict: bool = False


class _JetStream(msgspec.Struct):
    config: _StoreConfig = msgspec.field(default_factory=_StoreConfig)


class _Varz(msgspec.Struct):
    """The part of VARZ that is used; its names as nats-server 2.15 gives them [measured]."""

    version: str
    server_name: str = ""
    http_host: str = ""
    http_port: int = 0
    https_port: int = 0
    jetstream: _JetStream = msgspec.field(default_factory=_JetStream)


class _Answer(msgspec.Struct):
    data: _Varz


async def check(system: Connection, *, allow_interval: bool = False, servers: int = 1) -> ServerFacts:
    """Ask `servers` servers, through a connection of the system account.

    Raises `UnsafeServer` unless each syncs always (or an interval was chosen: `allow_interval`), has a strict JetStream
    API and keeps its monitor closed or on loopback; `ServerTooOld`; `NatsUnreachable` when too few answer.
    """
    found = [_checked(varz, allow_interval) for varz in await _ask(system, servers)]
    return ServerFacts(
        version=min((v.version for v in found), key=_by_number),
        sync_always=all(v.jetstream.config.sync_always for v in found),
        strict=True,
        monitor=", ".join(filter(None, map(_monitor, found))),
        servers=len(found),
    )


async def _ask(system: Connection, servers: int) -> list[_Varz]:
    found: list[_Varz] = []
    async with aclosing(system.collect("$SYS.REQ.SERVER.PING.VARZ", timeout_s=CHECK_TIMEOUT_S)) as replies:
        async for reply in replies:
            found.append(msgspec.json.decode(reply.body, type=_Answer).data)
            if len(found) >= servers:
                break
    return found


def _checked(varz: _Varz, allow_interval: bool) -> _Varz:
    require(f"the server {varz.server_name}", varz.version)
    config = varz.jetstream.config
    if not config.sync_always and not allow_interval:
        seconds = f"{config.sync_interval / 1e9:g}s"
        raise UnsafeServer(setting="jetstream.sync_interval", found=seconds, needed="always")
    if not config.strict:
        raise UnsafeServer(setting="jetstream.strict", found="false", needed="true")
    if _monitor(varz) and not _on_loopback(varz.http_host):
        raise UnsafeServer(setting="the monitor port", found=_monitor(varz), needed="it closed, or on 127.0.0.1")
    return varz


def _monitor(varz: _Varz) -> str:
    port = varz.http_port or varz.https_port
    return f"{varz.http_host}:{port}" if port else ""


def _on_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _by_number(version: str) -> list[int]:
    return [int(part) if part.isdigit() else 0 for part in version.replace("-", ".").split(".")]
