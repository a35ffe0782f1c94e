"""`sos agent doctor`, `whoami`, `recover`: what an agent asks when something is wrong. Each works with no network."""

import asyncio
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from sos.sdk import guide, profile
from sos.sdk.cli.admin import ProjectOption
from sos.sdk.cli.output import EXIT_CODES, JsonOption, failing, show_json, text
from sos.sdk.doctor.local import Local, look
from sos.sdk.gateway import Gateway
from sos.wire import api
from sos.wire.errors import BadRequest, ErrorBody, GatewayUnreachable, SosError
from sos.wire.tokens import TokenKind, check, redact, tail

if TYPE_CHECKING:
    from sos.sdk.doctor import Finding

WHOAMI_TIMEOUT_S = 6.0
"""A gateway whose NATS hangs answers after 5 s; without an answer the command tells what it knows itself."""
_ID_CHARS = 22

AsOption = Annotated[str, typer.Option("--as", help="Which saved agent; not needed if there is only one.")]


class WhoAmI(msgspec.Struct, frozen=True, kw_only=True):
    """What `sos agent whoami --json` prints. `me` is the gateway's word; None if it is offline or refuses."""

    project: str
    name: str
    home: str
    agent_home: str
    context: str
    url: str
    token_tail: str
    token_source: str
    profile: profile.Profile | None
    online: bool
    """The gateway answered, be it with a refusal."""
    me: api.Me | None
    problem: ErrorBody | None
    """Why there is no answer, or a refusal."""
    notes: tuple[str, ...]


def doctor(name: AsOption = "", project: ProjectOption = "", as_json: JsonOption = False) -> None:
    """Find what is wrong with an agent's place on the bus, and the cure. Exit code 1 if anything is critical."""
    from sos.sdk.doctor import examine

    logging.getLogger("sos").addHandler(logging.NullHandler())  # the findings say it; the SDK's log would be noise
    local = look(name, project)
    findings = asyncio.run(examine(local, _ignore if as_json else _tell))
    if as_json:
        show_json(findings)
    if any(f.verdict == "critical" for f in findings):
        raise typer.Exit(1)


def whoami(name: AsOption = "", project: ProjectOption = "", as_json: JsonOption = False) -> None:
    """Who this agent is: what this machine knows, and what the gateway says if it answers."""
    found, error = _who(look(name, project))
    if as_json:
        show_json(found)
    else:
        _show_who(found)
    if error is not None and found.me is None and not isinstance(error, GatewayUnreachable):
        raise typer.Exit(EXIT_CODES[error.kind])


def recover(
    name: AsOption = "",
    project: ProjectOption = "",
    path_only: Annotated[bool, typer.Option("--path", help="Print only where the guide is.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the recovery guide, and leave it in the agent's home if it is not there."""
    local = look(name, project)
    with failing(as_json=as_json):
        if path_only and local.agent_home is None:
            raise local.problem or BadRequest(why="it is not known whose guide: say --as NAME and --project SLUG")
    shown, path, trouble = _guide(local)
    if as_json:
        show_json(
            {"path": str(path or ""), "written": not trouble and path is not None, "trouble": trouble, "guide": shown}
        )
        return
    text(str(path) if path_only else shown.rstrip("\n"))
    if trouble:
        sys.stderr.write(trouble + "\n")


# ── doctor ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _ignore(_: "Finding") -> None:
    """JSON is printed as a whole."""


def _tell(finding: "Finding") -> None:
    timing = f"  ({finding.timing_ms:.1f} ms)" if finding.timing_ms is not None else ""
    text(f"{finding.verdict:<8}  {finding.id:<{_ID_CHARS}}  {finding.found}{timing}")
    if finding.verdict != "ok" and finding.cure:
        text(f"{'':<10}{finding.cure}")


# ── whoami ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _who(local: Local) -> tuple[WhoAmI, SosError | None]:
    """What is known, and what kept the gateway from being asked or from answering."""
    me, online, error = None, False, local.problem or local.url_problem
    tail_ = ""
    try:
        if error is None:
            check(local.token, TokenKind.AGENT)
            tail_ = tail(local.token)
            me = Gateway(local.url, local.token).call_blocking("GET", "/api/agent", api.Me, None, WHOAMI_TIMEOUT_S)
            online = True
    except SosError as e:
        online, error = tail_ != "" and not isinstance(e, GatewayUnreachable), e
    notes: list[str] = []
    if me is not None:
        actual = (me.agent.project, me.agent.name)
        if local.token_path is not None and (local.project, local.name) != actual:
            notes.append(f"{local.token_path} holds the token of {actual[1]} of project {actual[0]}")
        local.project, local.name = actual
    own, trouble = _profile(local)
    notes += [trouble] if trouble else []
    found = WhoAmI(
        project=local.project,
        name=local.name,
        home=str(local.home),
        agent_home=str(local.agent_home or ""),
        context=local.context,
        url=local.url,
        token_tail=tail_,
        token_source=local.token_source if local.token else "",
        profile=own,
        online=online,
        me=me,
        problem=error.to_wire() if error is not None else None,
        notes=tuple(redact(n) for n in notes),
    )
    return found, error


def _show_who(found: WhoAmI) -> None:
    text(f"{found.name or 'unknown'} of project {found.project or 'unknown'}")
    rows: list[tuple[str, str]] = [
        ("home", found.agent_home or found.home),
        ("token", f"ends in {found.token_tail}, from {found.token_source}" if found.token_tail else ""),
        ("gateway", found.url),
        ("context", found.context),
    ]
    if (own := found.profile) is not None:
        when = f"{own.joined_at:%Y-%m-%d %H:%M} UTC, " if own.joined_at is not None else ""
        rows.append(("joined", f"{when}{own.role}, skills {', '.join(own.skills) or 'none'}, at {own.url}"))
    if (me := found.me) is not None:
        agent, inbox = me.agent, me.inbox
        rows += [
            ("state", f"{agent.state}, {agent.role}{f', {agent.model}' if agent.model else ''}"),
            ("scopes", ", ".join(agent.scopes) or "none"),
            ("skills", ", ".join(s.id for s in agent.skills) or "none"),
            ("squads", ", ".join(me.squads) or "none"),
            ("inbox", f"{inbox.unread} unread" if inbox is not None else "NATS does not answer the gateway"),
        ]
    for label, value in rows:
        if value:
            text(f"  {label:<8} {value}")
    for note in found.notes:
        text(f"  note     {note}")
    if (problem := found.problem) is not None:
        offline = problem.code == GatewayUnreachable.code
        label = "Offline" if offline else "Refused" if found.online else "Not asked"
        text(f"{label}: {problem.detail} {problem.cure}")


def _profile(local: Local) -> tuple[profile.Profile | None, str]:
    """The profile in the agent's home, if there is one, and what is wrong with it, if something is."""
    if local.agent_home is None:
        return None, ""
    try:
        return profile.load(local.project, local.name, local.home), ""
    except BadRequest as e:
        return None, e.why


# ── recover ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _guide(local: Local) -> tuple[str, Path | None, str]:
    """The guide, where it is or would be, and why it could not be left there, if it could not."""
    subject = guide.Subject(project=local.project, name=local.name, home=local.home, url=local.url)
    if local.agent_home is None:
        return guide.text(subject), None, ""
    path = guide.path_in(local.agent_home)
    try:
        return path.read_text(), path, ""
    except (OSError, UnicodeDecodeError):
        shown = guide.text(subject)  # it is not there, or cannot be read: then it is built anew
    if not local.agent_home.is_dir():  # a name that was mistyped gets no folder of its own
        return shown, path, f"The guide was not left in {path}: no agent of that name has its home here."
    try:
        guide.leave(local.agent_home, subject)
    except OSError as e:
        return shown, path, f"The guide could not be left in {path}: {e.strerror}. See 'sos agent doctor'."
    return shown, path, ""
