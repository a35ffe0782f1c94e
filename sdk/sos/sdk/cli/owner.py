"""What an owner does with agents that are there: activate, list, disable, enable, scopes, release, revoke.

The law: what takes rights away answers when the server has confirmed the cut, and tells in how many milliseconds; what
is for good is not done on a slip of the finger. `rotate` and `sessions`, which agents may do for themselves: `own`.
"""

from typing import Annotated

import typer

from sos.sdk import contexts
from sos.sdk.cli.admin import ProjectOption, gateway, slug_of
from sos.sdk.cli.output import JsonOption, failing, show_json, table, text
from sos.sdk.gateway import Gateway
from sos.sdk.identity import save
from sos.wire import api
from sos.wire.errors import BadRequest, UnknownAgent
from sos.wire.names import closest, recipient
from sos.wire.scopes import Scope

NameArgument = Annotated[str, typer.Argument(help="The agent's name.")]
ScopesOption = Annotated[list[Scope] | None, typer.Option(help="A right; repeat for more.")]


def project_of(asked: Gateway, project: str) -> str:
    """The slug: what is given, the context's, or the only project that the token opens."""
    if not project and not contexts.chosen().project:
        found = asked.call_blocking("GET", "/api/projects", tuple[api.Project, ...])
        if len(found) == 1:
            return found[0].slug
    return slug_of(project)


def agents_path(asked: Gateway, project: str, name: str = "", what: str = "") -> str:
    """`/api/tenants/<slug>/agents[/<name>[/<what>]]`."""
    path = f"/api/tenants/{project_of(asked, project)}/agents"
    return "/".join(part for part in (path, recipient(name) if name else "", what) if part)


def activate(
    name: Annotated[str, typer.Argument(help="An agent of the catalogue: 'sos catalog list' shows them.")],
    project: ProjectOption = "",
    save_: Annotated[bool, typer.Option("--save", help="Keep the token, if it is shown, in this home.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Activate an agent that the platform runs. Its token is shown to the operator alone, this once."""
    with failing(as_json=as_json):
        asked = gateway()
        path = agents_path(asked, project, what="activate")
        made = asked.call_blocking("POST", path, api.AgentActivated, api.ActivateAgent(agent_name=name))
        kept = save(made.project, made.name, made.raw_token) if save_ and made.raw_token else None
    if as_json:
        show_json(made)
        return
    text(f"Agent {made.name} of the platform is active in project {made.project}, a {made.role}.")
    if made.raw_token:
        text(f"  its token, shown this once: {made.raw_token}")
    if kept is not None:
        text(f"  kept in {kept}")
    text(f"Next:  sos agent send {made.name} 'hello' --as NAME")


def list_agents(project: ProjectOption = "", as_json: JsonOption = False) -> None:
    """The agents of a project, with their state and the last characters of their tokens."""
    with failing(as_json=as_json):
        asked = gateway()
        found = asked.call_blocking("GET", agents_path(asked, project), tuple[api.Agent, ...])
    if as_json:
        show_json(found)
        return
    rows = [
        (
            a.name,
            a.state,
            a.role,
            a.origin,
            f"…{a.token_tail}" if a.token_tail else "none",
            f"{a.joined_at:%Y-%m-%d %H:%M}" if a.joined_at else "-",
        )
        for a in found
    ]
    table(("AGENT", "STATE", "ROLE", "ORIGIN", "TOKEN", "JOINED"), rows, "No agents. Next:  sos agent mint NAME")


def disable(name: NameArgument, project: ProjectOption = "", as_json: JsonOption = False) -> None:
    """Suspend an agent: it is cut off at once, and its mail is kept."""
    with failing(as_json=as_json):
        asked = gateway()
        cut = asked.call_blocking("POST", agents_path(asked, project, name, "disable"), api.AgentCut)
    _show_cut(cut, "is disabled; its mail is kept", as_json=as_json)
    if not as_json:
        text(f"Next:  sos agent enable {cut.name} --project {cut.project}")


def enable(name: NameArgument, project: ProjectOption = "", as_json: JsonOption = False) -> None:
    """Take a suspension back: the agent's token opens sessions again, and its mail waits for it."""
    with failing(as_json=as_json):
        asked = gateway()
        agent = asked.call_blocking("POST", agents_path(asked, project, name, "enable"), api.Agent)
    show_json(agent) if as_json else text(f"{agent.name} of project {agent.project} is {agent.state}.")


def release(name: NameArgument, project: ProjectOption = "", as_json: JsonOption = False) -> None:
    """Have the install that joined under the name let it go. The name and its mail stay for who joins next."""
    with failing(as_json=as_json):
        asked = gateway()
        cut = asked.call_blocking("POST", agents_path(asked, project, name, "release"), api.AgentCut)
    _show_cut(cut, "is free to be joined from another install; its mail is kept", as_json=as_json)
    if not as_json:
        text(f"Next, on the other install, with an owner's token:  sos agent join --name {cut.name}")


def revoke(
    name: NameArgument,
    project: ProjectOption = "",
    yes: Annotated[bool, typer.Option("--yes", help="Yes, for good.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Revoke an agent for good: cut off at once, never to come back, its name never given out again."""
    with failing(as_json=as_json):
        if not (yes or as_json):
            raise BadRequest(why="revoking is for good and the name is never given out again: add --yes to do it")
        asked = gateway()
        cut = asked.call_blocking("DELETE", agents_path(asked, project, name), api.AgentCut)
    _show_cut(cut, "is revoked for good", as_json=as_json)


def scopes(
    name: NameArgument,
    project: ProjectOption = "",
    add: ScopesOption = None,
    remove: ScopesOption = None,
    set_: Annotated[list[Scope] | None, typer.Option("--set", help="These and no others; repeat for more.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Change what an agent may do, or show it if nothing is to be changed. Live sessions change at once."""
    with failing(as_json=as_json):
        if set_ and (add or remove):
            raise BadRequest(why="--set says all of them; with it, --add and --remove have nothing to say")
        asked = gateway()
        agent = _find(asked, project, name)
        wanted = (set(set_) if set_ else set(agent.scopes) | set(add or ())) - set(remove or ())
        if not (set_ or add or remove):
            _show_scopes(agent, as_json=as_json)
            return
        ask = api.SetScopes(scopes=tuple(s for s in Scope if s in wanted))
        cut = asked.call_blocking("POST", agents_path(asked, agent.project, name, "scopes"), api.AgentCut, ask)
    _show_cut(cut, f"may now: {_words(cut.scopes)}", as_json=as_json)


def _find(asked: Gateway, project: str, name: str) -> api.Agent:
    slug, wanted = project_of(asked, project), recipient(name)
    found = asked.call_blocking("GET", agents_path(asked, slug), tuple[api.Agent, ...])
    agent = next((a for a in found if a.name == wanted), None)
    if agent is None:
        raise UnknownAgent(project=slug, name=wanted, close=closest(wanted, [a.name for a in found]))
    return agent


def _show_scopes(agent: api.Agent, *, as_json: bool) -> None:
    if as_json:
        show_json({"project": agent.project, "name": agent.name, "scopes": agent.scopes})
    else:
        text(f"{agent.name} of project {agent.project} may: {_words(agent.scopes)}")


def _show_cut(cut: api.AgentCut, is_now: str, *, as_json: bool) -> None:
    if as_json:
        show_json(cut)
        return
    void = "1 credential was" if cut.credentials == 1 else f"{cut.credentials} credentials were"
    text(f"{cut.name} of project {cut.project} {is_now}.")
    text(f"  {void} made void; the server confirmed that nothing is connected with them after {cut.took_ms:.1f} ms")


def _words(found: tuple[Scope, ...]) -> str:
    return ", ".join(s.value for s in found) or "nothing"
