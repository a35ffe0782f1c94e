"""What an agent may do for itself and its owner for it: `sos agent rotate`, `sos agent sessions`.

The law: from a home that holds the agent's token that one is used, for it opens the least; the owner's only where the
home has none or the gateway does not know it any more.
"""

from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from sos.sdk import contexts, identity, once
from sos.sdk.cli.admin import ProjectOption, gateway
from sos.sdk.cli.output import JsonOption, failing, show_json, table, text
from sos.sdk.cli.owner import NameArgument, agents_path, project_of
from sos.sdk.gateway import Gateway
from sos.wire import api
from sos.wire.errors import BadRequest, Kind, MalformedToken, MissingToken, SosError, UnknownToken
from sos.wire.names import recipient
from sos.wire.tokens import TokenKind, check


class _Home(NamedTuple):
    project: str
    name: str
    path: Path


def rotate(
    name: NameArgument,
    project: ProjectOption = "",
    grace_s: Annotated[float, typer.Option(help="For how many seconds the old token is still taken.")] = 0.0,
    save_: Annotated[bool, typer.Option("--save", help="Keep an agent's new token in this machine's home.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Give an agent another token. From the home it joined from, the home holds it and running agents go on."""
    with failing(as_json=as_json):
        if not 0 <= grace_s <= api.MAX_GRACE_S:
            raise BadRequest(why=f"--grace-s is 0 to {api.MAX_GRACE_S:g} seconds")
        home = _home(name, project)
        rotated, kept = _rotate_own(home, grace_s) if home is not None else (None, None)
        if rotated is None:
            asked = gateway()
            path = agents_path(asked, project or (home.project if home else ""), name, "rotate")
            rotated = asked.call_blocking("POST", path, api.AgentRotated, api.RotateToken(grace_s=grace_s))
            if save_ or home is not None:
                kept = identity.save(rotated.project, rotated.name, rotated.raw_token)
                once.done(kept.parent)  # what was begun with the token before this one has nothing to bring any more
    _show_rotated(rotated, kept, as_json=as_json)


def _rotate_own(home: _Home, grace_s: float) -> tuple[api.AgentRotated | None, Path | None]:
    """With the home's own token; nothing if the gateway does not know that and an owner's token is at hand."""
    from sos.sdk import rotating
    from sos.sdk.cli.commands import acting

    try:
        url = identity.find_url()
        return acting(rotating.rotate(url, home.project, home.name, grace_s)), home.path
    except (MalformedToken, UnknownToken):
        if not _owner_at_hand():
            raise
        return None, None
    except OSError as e:
        raise BadRequest(why=f"the home {home.path.parent} cannot be written ({e.strerror})") from None


def _show_rotated(rotated: api.AgentRotated, kept: Path | None, *, as_json: bool) -> None:
    if as_json:
        # What is kept in the home need not pass through a program's output.
        hidden = api.AgentRotated(
            project=rotated.project,
            name=rotated.name,
            raw_token="",
            old_token_until=rotated.old_token_until,
            took_ms=rotated.took_ms,
        )
        show_json(rotated if kept is None else hidden)
        return
    text(f"{rotated.name} of project {rotated.project} has another token, after {rotated.took_ms:.1f} ms.")
    if rotated.old_token_until is not None:
        text(f"  the old one is taken until {rotated.old_token_until:%Y-%m-%d %H:%M:%S} UTC")
    else:
        text("  the old one opens nothing any more")
    text(f"  kept in {kept}" if kept is not None else f"  shown this once: {rotated.raw_token}")


def sessions(
    name: Annotated[str, typer.Argument(help="The agent's name; not needed with --message.")] = "",
    project: ProjectOption = "",
    message: Annotated[str, typer.Option(help="A message's id: which session sent it. Owner or operator.")] = "",
    as_json: JsonOption = False,
) -> None:
    """The runs of an agent, newest first; or which of them sent a message."""
    if message:
        _show_origin(message, project, as_json=as_json)
        return
    with failing(as_json=as_json):
        if not name:
            raise BadRequest(why="which agent? Give its NAME, or --message ID")
        found = _runs(name, project)
    if as_json:
        show_json(found)
        return
    rows = [
        (
            run.short,
            run.client or "-",
            run.model or "-",
            f"{run.opened_at:%Y-%m-%d %H:%M:%S}",
            f"{run.ended_at:%Y-%m-%d %H:%M:%S}" if run.ended_at else "-",
            run.reason or ("connected" if run.connected else "away"),
        )
        for run in found
    ]
    table(("SESSION", "CLIENT", "MODEL", "OPENED", "ENDED", "STATE"), rows, f"{name} has had no session yet.")


def _runs(name: str, project: str) -> tuple[api.Run, ...]:
    home = _home(name, project)
    if home is not None:
        try:
            token = home.path.read_text().strip()
            check(token, TokenKind.AGENT)
            own = Gateway(identity.find_url(), token)
            return own.call_blocking("GET", "/api/agent/sessions", tuple[api.Run, ...])
        except SosError as e:
            if e.kind not in {Kind.UNAUTHENTICATED, Kind.REFUSED} or not _owner_at_hand():
                raise
    asked = gateway()
    return asked.call_blocking("GET", agents_path(asked, project, name, "sessions"), tuple[api.Run, ...])


def _show_origin(id_: str, project: str, *, as_json: bool) -> None:
    with failing(as_json=as_json):
        if not id_.replace("-", "").isalnum() or not id_.isascii():
            raise BadRequest(why="a message's id is a UUIDv7, as its receipt shows it")
        asked = gateway()
        path = f"/api/tenants/{project_of(asked, project)}/messages/{id_}/session"
        origin = asked.call_blocking("GET", path, api.MessageOrigin)
    if as_json:
        show_json(origin)
        return
    text(f"{origin.id}  {origin.stored_at:%Y-%m-%d %H:%M:%S} UTC, sequence {origin.seq}")
    text(f"  sender   {origin.sender}, by the server's word")
    known = "and was open when the message was stored" if origin.confirmed else "which is not confirmed"
    text(f"  session  {origin.session or 'none given'}, by the sender's word, {known}")
    if (run := origin.run) is not None:
        text(f"  run      {run.short}, client {run.client or 'unknown'}, model {run.model or 'unknown'}")


def _home(name: str, project: str) -> _Home | None:
    """Where this machine holds the agent's token, if it does."""
    wanted, slug = contexts.who(recipient(name), project)
    try:
        path = identity.saved_token(wanted, slug)
    except SosError as e:
        if e.kind is Kind.NOT_FOUND:
            return None
        raise
    return _Home(path.parent.parent.name, path.parent.name, path)


def _owner_at_hand() -> bool:
    try:
        gateway()
    except MissingToken:
        return False
    return True
