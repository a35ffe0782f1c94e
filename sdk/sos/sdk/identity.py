"""Who an agent is on this machine: its token and the gateway's address, from argument, environment or home."""

import os
import secrets
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from sos.sdk import contexts
from sos.sdk.holding import Holding
from sos.wire.errors import BadRequest, MissingToken, UnknownAgent
from sos.wire.home import DEFAULT_URL, agent_home, private_dir, sos_home, write_secret
from sos.wire.names import closest, normalise, recipient
from sos.wire.tokens import TokenKind, check

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
TOKEN_FILE = "token"  # noqa: S105 - a file's name


class Identity(NamedTuple):
    """What a session is opened with. `name` may be empty: then the token says it."""

    holding: Holding
    name: str
    url: str

    def __repr__(self) -> str:
        return f"Identity(name={self.name!r}, url={self.url!r})"


class Context(msgspec.Struct):
    """`$SOS_HOME/context.json`: which bus this home belongs to. Written by `sos up`."""

    url: str


def find(token: str | None, name: str | None, project: str | None, url: str | None) -> Identity:
    """The identity to use. Token: argument, `SOS_TOKEN`, the home of the saved agent `name`. URL: see `find_url`.

    Where a saved agent is looked for, the context in effect stands in for a name or project that is not given. Raises
    `MissingToken`, `MalformedToken` before anything is sent anywhere, `UnknownAgent`, and `UnknownContext`.
    """
    wanted = recipient(name) if name else ""
    found, path = token or os.environ.get("SOS_TOKEN", "").strip(), None
    if not found:
        wanted, project = contexts.who(wanted, project or "")
        path = saved_token(wanted, normalise(project, "project slug") if project else "")
        found = path.read_text().strip()
    check(found, TokenKind.AGENT)
    return Identity(Holding(found, path), wanted, find_url(url))


def find_url(url: str | None = None) -> str:
    """The gateway's address: argument, `SOS_URL`, the context in effect (`sos.sdk.contexts`), the bus of this home,
    `http://127.0.0.1:6070`."""
    given = url or os.environ.get("SOS_URL", "").strip() or contexts.chosen().url
    return given or own_url()


def own_url(root: Path | None = None) -> str:
    """The address of the bus of this home, whatever else is chosen."""
    path = (root or sos_home()) / "context.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Context).url
    except FileNotFoundError:
        return DEFAULT_URL
    except (msgspec.MsgspecError, OSError) as e:
        raise BadRequest(why=f"{path} is not valid: {e}") from None


def is_own(url: str, root: Path | None = None) -> bool:
    """Whether this address is the bus of this home: the one gateway that its operator's token is for."""
    return _place(url) == _place(own_url(root))


def _place(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url.rstrip("/"))
    host = parts.hostname or ""
    return parts.scheme, "loopback" if host in _LOOPBACK else host, parts.port


def save(project: str, name: str, token: str, root: Path | None = None) -> Path:
    """Keep an agent's token in its home, 0600. `root` is `$SOS_HOME` unless given."""
    path = agent_home(project, name, root) / TOKEN_FILE
    write_secret(path, token + "\n")
    return path


def install_id(root: Path | None = None) -> str:
    """This installation's own random id, made once a home: tells two installs that claim one name apart."""
    path = private_dir(root or sos_home()) / "install"
    if not path.exists():
        mine = path.with_name(f".install.{secrets.token_hex(8)}")
        write_secret(mine, os.urandom(16).hex())
        try:
            os.link(mine, path)  # the first one wins, and is complete when it appears
        except FileExistsError:
            return path.read_text().strip()
        finally:
            mine.unlink()
    return path.read_text().strip()


def saved_token(name: str, project: str, root: Path | None = None) -> Path:
    """Where the token of the saved agent `name` is, or of the only saved agent. Empty stands for any."""
    home = root or sos_home()
    saved = sorted(home.glob(f"agents/{project or '*'}/{name or '*'}/{TOKEN_FILE}"))
    if len(saved) == 1:
        return saved[0]
    if not saved and not name:
        raise MissingToken(expected="an agent's token (sk-bus-…)")
    if not saved:
        known = {p.parent.name for p in home.glob(f"agents/*/*/{TOKEN_FILE}")}
        raise UnknownAgent(project=project or "any", name=name, close=closest(name, known))
    which = ", ".join(f"{p.parent.parent.name}/{p.parent.name}" for p in saved)
    raise BadRequest(why=f"more than one saved agent fits ({which}): say which with --as NAME and --project SLUG")
