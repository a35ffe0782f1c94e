"""Commands of an operator or a project's owner: `sos project`, `sos agent mint`, `sos squad create`. Over HTTP."""

import os
from typing import Annotated

import typer

from sos.sdk import contexts
from sos.sdk.cli.output import JsonOption, failing, show_json, table, text
from sos.sdk.gateway import Gateway, check_url
from sos.sdk.identity import find_url, is_own, save
from sos.wire import api
from sos.wire.errors import BadRequest, MissingToken
from sos.wire.home import sos_home
from sos.wire.names import normalise
from sos.wire.scopes import Scope
from sos.wire.tokens import TokenKind, check

ProjectOption = Annotated[str, typer.Option("--project", "-p", envvar="SOS_PROJECT", help="The project's slug.")]

projects = typer.Typer(help="Projects: each is an account of its own on NATS.", no_args_is_help=True)


def gateway() -> Gateway:
    """The gateway, with the token in SOS_ADMIN_TOKEN or the operator's token of this home, which goes to the bus of
    this home and to no other that a context or SOS_URL may name."""
    token, url = os.environ.get("SOS_ADMIN_TOKEN", "").strip(), check_url(find_url())
    path = sos_home() / "operator.token"
    if not token and path.exists():
        if not is_own(url):
            raise MissingToken(expected=f"a token for {url} in SOS_ADMIN_TOKEN: this home's operator is another bus'")
        token = path.read_text().strip()
    if not token:
        raise MissingToken(expected="an operator's or tenant's token in SOS_ADMIN_TOKEN, or the home of 'sos up'")
    check(token, TokenKind.OPERATOR, TokenKind.TENANT)
    return Gateway(url, token)


def slug_of(project: str) -> str:
    """The project's slug from the option or from the context in effect."""
    project = project or contexts.chosen().project
    if not project:
        raise BadRequest(why="which project? Give --project SLUG, set SOS_PROJECT, or use a context that names one")
    return normalise(project, "project slug")


@projects.command("create")
def create_project(
    slug: Annotated[str, typer.Argument(help="Free text becomes a slug: 'Acme Ltd' is acme-ltd.")],
    tier: Annotated[str, typer.Option(help="starter, growth or scale: the account's limits.")] = "scale",
    as_json: JsonOption = False,
) -> None:
    """Create a project. Its owner's token is shown this once."""
    with failing(as_json=as_json):
        if tier not in {"starter", "growth", "scale"}:
            raise BadRequest(why=f"there is no tier {tier!r}: choose starter, growth or scale")
        ask = {"slug": slug, "tier": tier}
        made = gateway().call_blocking("POST", "/api/projects", api.ProjectCreated, ask)
    if as_json:
        show_json(made)
        return
    text(f"Project {made.slug} is there.")
    text(f"  its owner's token, shown this once: {made.tenant_token}")
    text(f"Next:  sos agent mint NAME --project {made.slug} --save")


@projects.command("list")
def list_projects(as_json: JsonOption = False) -> None:
    """The projects there are."""
    with failing(as_json=as_json):
        found = gateway().call_blocking("GET", "/api/projects", tuple[api.Project, ...])
    if as_json:
        show_json(found)
        return
    rows = [(p.slug, p.tier, str(p.agents), str(p.squads), f"{p.created_at:%Y-%m-%d %H:%M}") for p in found]
    table(("PROJECT", "TIER", "AGENTS", "SQUADS", "CREATED"), rows, "No projects. Next:  sos project create NAME")


def mint(
    name: Annotated[str, typer.Argument(help="Free text becomes a name: Mumega.CodeCheck is mumega-codecheck.")],
    project: ProjectOption = "",
    model: Annotated[str, typer.Option(help="The model that will act under this name.")] = "",
    charter: Annotated[str, typer.Option(help="What the agent is for.")] = "",
    scope: Annotated[list[Scope] | None, typer.Option(help="A right; repeat for more. All if none is given.")] = None,
    save_: Annotated[bool, typer.Option("--save", help="Keep the token in this machine's home, mode 0600.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Mint an agent: a durable name, an inbox, a token that is shown this once."""
    with failing(as_json=as_json):
        slug = slug_of(project)
        ask = api.MintAgent(agent_name=name, model=model, charter=charter, scopes=tuple(scope) if scope else None)
        made = gateway().call_blocking("POST", f"/api/tenants/{slug}/agents/mint", api.AgentMinted, ask)
        saved = save(made.project, made.name, made.raw_token) if save_ else None
    if as_json:
        show_json(made)
        return
    text(f"Agent {made.name} of project {made.project} is there.")
    text(f"  its token, shown this once: {made.raw_token}")
    if saved is not None:
        text(f"  kept in {saved}")
        text(f"Next:  sos agent send OTHER 'hello' --as {made.name}")
    else:
        text(f'Next:  Agent(token="…", name="{made.name}") in Python; README shows the whole program')


def create_squad(
    squad: Annotated[str, typer.Argument(help="The squad's id.")],
    project: ProjectOption = "",
    purpose: Annotated[str, typer.Option(help="What it is for.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Create a squad: what is broadcast to it reaches every member's inbox."""
    with failing(as_json=as_json):
        ask = api.CreateSquad(squad=squad, purpose=purpose)
        made = gateway().call_blocking("POST", f"/api/tenants/{slug_of(project)}/squads", api.Squad, ask)
    if as_json:
        show_json(made)
        return
    text(f"Squad {made.squad} of project {made.project} is there, with no members yet.")
    text(f"Next:  sos squad join {made.squad} --as NAME")
