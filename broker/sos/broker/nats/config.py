"""The nats-server configuration of a home, as text. Pure: what is asked of the machine comes in as arguments."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from sos.broker.errors import UnsafeServer
from sos.broker.nats.tiers import MAX_PAYLOAD_BYTES, MIB

ALWAYS = "always"
ACCOUNTS_FOLDER = "nats/accounts"
"""In a home: where the server's resolver keeps the accounts' JWTs."""
MAX_MEMORY_BYTES = 256 * MIB
LOG_FILE_BYTES = 32 * MIB
LOG_FILES = 3
RESOLVER_INTERVAL = "2m"
"""How often cluster members compare their accounts; a missed push is healed by then."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a configuration is made from."""

    folder: Path
    name: str
    host: str
    port: int
    """-1: the server chooses one and writes it into its ports file."""
    operator_jwt: str
    system_account: str
    preload: Mapping[str, str]
    """Account's public nkey → its JWT, known to the server before anybody can push."""
    sync_interval: str
    max_file_bytes: int

    @property
    def path(self) -> Path:
        """The configuration file."""
        return self.folder / "server.conf"

    @property
    def log_file(self) -> Path:
        """The server's own log."""
        return self.folder / "server.log"

    @property
    def pid_file(self) -> Path:
        """Where the server writes its pid."""
        return self.folder / "server.pid"

    @property
    def store(self) -> Path:
        """JetStream's files."""
        return self.folder / "jetstream"


def sync_interval(durability: str) -> str:
    """`always`, or the duration of `interval=<duration>`; what loses acknowledged messages unasked is refused."""
    kind, _, duration = durability.partition("=")
    if durability == ALWAYS:
        return ALWAYS
    if kind == "interval" and duration and duration.isalnum():
        return duration
    raise UnsafeServer(
        setting="durability", found=durability, needed="always, or interval=<duration> such as interval=100ms"
    )


def render(s: Settings) -> str:
    """The file. No monitor, WebSocket, MQTT, leafnode or gateway port is opened."""
    preload = "\n".join(f"  {key}: {json.dumps(jwt)}" for key, jwt in sorted(s.preload.items()))
    return f"""# Written by the gateway at each start; changes here are lost.
server_name: {json.dumps(s.name)}
listen: {json.dumps(f"{s.host}:{s.port}")}
max_payload: {MAX_PAYLOAD_BYTES}
pid_file: {_path(s.pid_file)}
ports_file_dir: {_path(s.folder)}
log_file: {_path(s.log_file)}
logfile_size_limit: {LOG_FILE_BYTES}
logfile_max_num: {LOG_FILES}

operator: {json.dumps(s.operator_jwt)}
system_account: {s.system_account}
resolver: {{
  type: full
  dir: {_path(s.folder / "accounts")}
  allow_delete: true
  interval: "{RESOLVER_INTERVAL}"
}}
resolver_preload: {{
{preload}
}}

jetstream: {{
  store_dir: {_path(s.store)}
  sync_interval: {s.sync_interval if s.sync_interval == ALWAYS else json.dumps(s.sync_interval)}
  strict: true
  max_memory_store: {MAX_MEMORY_BYTES}
  max_file_store: {s.max_file_bytes}
}}
"""


def same_but_for_space(one: str, other: str) -> bool:
    """Whether two files ask for the same server; the disk's free space differs at every start."""
    return _without_space(one) == _without_space(other)


def max_file_of(text: str) -> int:
    """The `max_file_store` of a configuration; 0 when it has none."""
    found = re.search(r"^\s*max_file_store: (\d+)$", text, re.MULTILINE)
    return int(found.group(1)) if found else 0


def _without_space(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.strip().startswith("max_file_store:")]


def _path(path: Path) -> str:
    return json.dumps(str(path))
