"""Who an agent is on this machine: its token and the gateway's address, from argument, environment or home."""

import os
import secrets
from pathlib import Path
from typing import NamedTuple

import msgspec

from sos.wire.errors import BadRequest, MissingToken, UnknownAgent
from sos.wire.home import DEFAULT_URL, agent_home, private_dir, sos_home, write_secret
from sos.wire.names import closest, normalise, recipient
from sos.wire.tokens import TokenKind, check

TOKEN_FILE = "token"  # noqa: S105 - a file's name


class Identity(NamedTuple):
    """What a session is opened with. `name` may be empty: then the token says it."""

    token: str
    name: str
    url: str

    def __repr__(self) -> str:
        return f"Identity(name={self.name!r}, url={self.url!r})"


class Context(msgspec.Struct):
    """`$SOS_HOME/context.json`: which bus this home belongs to. Written by `sos up`."""

    url: str


def find(token: str | None, name: str | None, project: str | None, url: str | None) -> Identity:
    """The identity to use. Token: argument, `SOS_TOKEN`, the home of the saved agent `name`. URL: see `find_url`.

    Raises `MissingToken`, `MalformedToken` before anything is sent anywhere, and `UnknownAgent`.
    """
    wanted = recipient(name) if name else ""
    found = token or os.environ.get("SOS_TOKEN", "").strip()
    if not found:
        found = _saved(wanted, normalise(project, "project slug") if project else "")
    check(found, TokenKind.AGENT)
    return Identity(found, wanted, find_url(url))


def find_url(url: str | None = None) -> str:
    """The gateway's address: argument, `SOS_URL`, the home's context file, `http://127.0.0.1:6070`."""
    given = url or os.environ.get("SOS_URL", "").strip()
    if given:
        return given
    try:
        return msgspec.json.decode((sos_home() / "context.json").read_bytes(), type=Context).url
    except FileNotFoundError:
        return DEFAULT_URL
    except (msgspec.MsgspecError, OSError) as e:
        raise BadRequest(why=f"{sos_home() / 'context.json'} is not valid: {e}") from None


def save(project: str, name: str, token: str) -> Path:
    """Keep an agent's token in its home, 0600."""
    path = agent_home(project, name) / TOKEN_FILE
    write_secret(path, token + "\n")
    return path


def install_id() -> str:
    """This installation's own random id, made once a home: tells two installs that claim one name apart."""
    path = private_dir(sos_home()) / "install"
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


def _saved(name: str, project: str) -> str:
    """The saved token of the agent `name`, or of the only saved agent."""
    saved = sorted(sos_home().glob(f"agents/{project or '*'}/{name or '*'}/{TOKEN_FILE}"))
    if len(saved) == 1:
        return saved[0].read_text().strip()
    if not saved and not name:
        raise MissingToken(expected="an agent's token (sk-bus-…)")
    if not saved:
        known = {p.parent.name for p in sos_home().glob(f"agents/*/*/{TOKEN_FILE}")}
        raise UnknownAgent(project=project or "any", name=name, close=closest(name, known))
    which = ", ".join(f"{p.parent.parent.name}/{p.parent.name}" for p in saved)
    raise BadRequest(why=f"more than one saved agent fits ({which}): say which with --as NAME and --project SLUG")
