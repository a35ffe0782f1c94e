"""Where things are on this machine: `$SOS_HOME`, `~/.sos` unless said otherwise. Folders 0700, secrets 0600."""

import os
import secrets
from pathlib import Path

from sos.wire.names import check

DEFAULT_URL = "http://127.0.0.1:6070"


def sos_home() -> Path:
    """`$SOS_HOME`, or `~/.sos`."""
    given = os.environ.get("SOS_HOME", "").strip()
    return Path(given).expanduser().absolute() if given else Path.home() / ".sos"


def agent_home(project: str, name: str, root: Path | None = None) -> Path:
    """An agent's own folder: `<home>/agents/<project>/<name>`."""
    return (root or sos_home()) / "agents" / check(project, "project slug") / check(name, "agent name")


def private_dir(path: Path) -> Path:
    """Make a folder, and those above it that are missing, that nobody else may enter."""
    missing = [p for p in (path, *path.parents) if not p.exists()]
    for p in reversed(missing):
        p.mkdir(mode=0o700, exist_ok=True)
    path.chmod(0o700)
    return path


def write_secret(path: Path, text: str) -> None:
    """Write a 0600 file as a whole: it is there complete or not at all, and never readable by others in between."""
    private_dir(path.parent)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(fd, "w") as f:
            f.write(text)
            f.flush()
            os.fsync(f.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
