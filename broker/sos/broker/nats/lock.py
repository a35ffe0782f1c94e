"""One gateway a home: an exclusive lock on `<home>/lock`, held as long as the process lives, however it dies."""

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from sos.broker.errors import HomeInUse
from sos.wire.home import private_dir


class Held:
    """The lock in hand."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.announce("not up yet")

    def announce(self, url: str) -> None:
        """Say where this process serves, for whoever comes second."""
        holder = Holder(os.getpid(), datetime.now(UTC).isoformat(timespec="seconds"), url)
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, msgspec.json.encode(holder), 0)


class Holder(msgspec.Struct, frozen=True):
    """Who holds a home; written into the lock file for whoever comes second."""

    pid: int = 0
    since: str = "unknown"
    url: str = "unknown"


@contextmanager
def hold(home: Path) -> Generator[Held]:
    """Hold `home` while inside. `HomeInUse` names the process that holds it already."""
    path = private_dir(home) / "lock"
    # Never unlinked: two processes would then hold two different files of one name.
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _lock(fd, home)
        yield Held(fd)
    finally:
        os.close(fd)


def _lock(fd: int, home: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        other = _holder(fd)
        raise HomeInUse(home=str(home), pid=other.pid, since=other.since, url=other.url) from None


def _holder(fd: int) -> Holder:
    try:
        return msgspec.json.decode(os.pread(fd, 4096, 0), type=Holder)
    except msgspec.MsgspecError:
        return Holder()  # it took the lock a moment ago and has not written yet
