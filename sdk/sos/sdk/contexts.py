"""Contexts: named gateways of this machine, in `<SOS_HOME>/contexts.json`, and which of them is meant just now.

The law of precedence, for the gateway's address, the project and the agent each: what a flag or argument says, then
`SOS_URL` and `SOS_PROJECT`, then the context that `SOS_CONTEXT` names, then the current one. The file is written whole
and one process at a time, so that two that add at once lose nothing; one that does not parse is never written over.
"""

import fcntl
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from sos.sdk import syntax
from sos.sdk.gateway import check_url
from sos.wire.errors import BadRequest, Contended, NameTaken, UnknownContext
from sos.wire.home import private_dir, sos_home, write_secret
from sos.wire.names import normalise, recipient

CONTEXTS_FILE = "contexts.json"
LOCK_FILE = ".contexts.lock"
LOCK_WAIT_S = 5.0
"""Another process holds the lock for one read and one synced write: milliseconds, on a slow disk a second."""
LOCK_PAUSE_S = 0.01


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """One context. `project` and `agent` stand in for --project and --as where those are not given; empty for none."""

    url: str
    project: str = ""
    agent: str = ""


class Contexts(msgspec.Struct, frozen=True, kw_only=True):
    """The file. `current` is the name of the context in use, empty for none."""

    current: str = ""
    contexts: dict[str, Named] = {}


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """The context in effect: no name and empty fields if there is none."""

    name: str = ""
    url: str = ""
    project: str = ""
    agent: str = ""


def load() -> Contexts:
    """The contexts of this home. `BadRequest` names the line and column where the file is broken."""
    return _read()[1]


def chosen() -> Chosen:
    """The context in effect: the one `SOS_CONTEXT` names, else the current one. `UnknownContext` if it is not there."""
    asked = os.environ.get("SOS_CONTEXT", "").strip()
    saved = load()
    name = normalise(asked, "context name") if asked else saved.current
    if not name:
        return Chosen()
    found = _checked(_find(saved, name))  # a person may have edited the file
    return Chosen(name=name, url=found.url, project=found.project, agent=found.agent)


def given(name: str, project: str) -> tuple[str, str]:
    """(agent, project) as names, the project from `SOS_PROJECT` if it is not given; no context is asked."""
    project = project or os.environ.get("SOS_PROJECT", "").strip()
    return recipient(name) if name else "", normalise(project, "project slug") if project else ""


def who(name: str, project: str) -> tuple[str, str]:
    """(agent, project) as they were given, with what the context in effect says in place of what was not.

    The context's agent stands for its own project alone: for another one it would be somebody else of that name.
    """
    name, project = given(name, project)
    if name and project:
        return name, project
    found = chosen()
    if not name and project in {"", found.project}:
        name = found.agent
    return name, project or found.project


def add(name: str, named: Named, *, use_it: bool = False) -> Contexts:
    """Keep a context. The same again changes nothing; `NameTaken` if the name stands for something else."""
    key = normalise(name, "context name")
    entry = _checked(named)
    with _changing() as (raw, saved):
        if saved.contexts.get(key, entry) != entry:
            raise NameTaken(what="context", name=key)
        if key not in saved.contexts:
            raw.setdefault("contexts", {})[key] = msgspec.to_builtins(entry)
        if use_it:
            raw["current"] = key
    return load()


def use(name: str) -> Contexts:
    """Make a context the current one; `UnknownContext` if it is not there."""
    key = normalise(name, "context name")
    with _changing() as (raw, saved):
        _find(saved, key)
        raw["current"] = key
    return load()


def remove(name: str) -> Contexts:
    """Forget a context; if it was the current one, none is current then. `UnknownContext` if it is not there."""
    key = normalise(name, "context name")
    with _changing() as (raw, saved):
        _find(saved, key)
        del raw["contexts"][key]
        if saved.current == key:
            raw["current"] = ""
    return load()


def _checked(named: Named) -> Named:
    return Named(
        url=check_url(named.url),
        project=normalise(named.project, "project slug") if named.project else "",
        agent=recipient(named.agent) if named.agent else "",
    )


def _find(saved: Contexts, name: str) -> Named:
    if name not in saved.contexts:
        raise UnknownContext(name=name, known=tuple(sorted(saved.contexts)))
    return saved.contexts[name]


def _path() -> Path:
    return sos_home() / CONTEXTS_FILE


def _read() -> tuple[dict[str, Any], Contexts]:
    """The file as it is, so that what a later version keeps in it survives a change by this one, and as its parts."""
    try:
        raw = syntax.parse(_path().read_bytes())
        return raw, msgspec.convert(raw, Contexts)
    except FileNotFoundError:
        return {}, Contexts()
    except syntax.Broken as e:
        raise BadRequest(why=f"{_path()} is not valid at {e}") from None
    except (msgspec.ValidationError, OSError) as e:
        raise BadRequest(why=f"{_path()} is not valid: {e}") from None


@contextmanager
def _changing() -> Generator[tuple[dict[str, Any], Contexts]]:
    """The file's content to change inside; written when that ends well. One process at a time."""
    with _locked():
        raw, saved = _read()
        before = msgspec.json.encode(raw)
        yield raw, saved
        if msgspec.json.encode(raw) != before:
            write_secret(_path(), msgspec.json.format(msgspec.json.encode(raw), indent=2).decode() + "\n")


@contextmanager
def _locked() -> Generator[None]:
    # Never unlinked: two processes would then hold two different files of one name.
    path = private_dir(sos_home()) / LOCK_FILE
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _lock(fd)
        yield
    finally:
        os.close(fd)


def _lock(fd: int) -> None:
    deadline, tries = time.monotonic() + LOCK_WAIT_S, 0
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tries += 1
            if time.monotonic() >= deadline:
                raise Contended(subject=str(_path()), tries=tries) from None
            time.sleep(LOCK_PAUSE_S)
        else:
            return
