"""The operator's catalogue, `sos catalog`, and what concerns a whole project: its owner's token, its escalations."""

from pathlib import Path
from typing import Annotated

import typer

from sos.sdk.cli.admin import ProjectOption, gateway
from sos.sdk.cli.output import JsonOption, failing, show_json, table, text
from sos.sdk.cli.owner import project_of
from sos.wire import api
from sos.wire.errors import BadRequest
from sos.wire.names import normalise, recipient
from sos.wire.scopes import Scope
from sos.wire.skills import checked, named

EntryArgument = Annotated[str, typer.Argument(help="The agent's name.")]

catalogue = typer.Typer(help="Agents that the platform runs and projects may activate.", no_args_is_help=True)


@catalogue.command("add")
def add_entry(
    name: EntryArgument,
    model: Annotated[str, typer.Option(help="The model that acts under this name.")] = "",
    charter: Annotated[str, typer.Option(help="What the agent is for.")] = "",
    role: Annotated[str, typer.Option(help="A mesh role, or a label that means one.")] = "",
    scope: Annotated[list[Scope] | None, typer.Option(help="A right; repeat for more. All if none is given.")] = None,
    skill: Annotated[list[str] | None, typer.Option(help="What it can do, by name; repeat for more.")] = None,
    skill_file: Annotated[list[Path] | None, typer.Option(help="Full skill descriptors; repeat for more.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Offer an agent. Again, it is offered as it is now; those that were activated before stay as they are."""
    with failing(as_json=as_json):
        from sos.sdk.joining import skills_of

        given = tuple(s for path in skill_file or () for s in skills_of(path))
        skills = checked((*(named(s) for s in skill or ()), *given))
        ask = api.AddToCatalogue(
            name=name,
            model=model,
            charter=charter,
            role=role,
            scopes=tuple(scope) if scope else None,
            skills=skills,
        )
        entry = gateway().call_blocking("POST", "/api/catalog", api.CatalogueEntry, ask)
    if as_json:
        show_json(entry)
        return
    text(f"{entry.name}, a {entry.role}, is in the catalogue.")
    text(f"Next:  sos agent activate {entry.name} --project PROJECT")


@catalogue.command("list")
def list_entries(as_json: JsonOption = False) -> None:
    """What projects may activate."""
    with failing(as_json=as_json):
        found = gateway().call_blocking("GET", "/api/catalog", tuple[api.CatalogueEntry, ...])
    if as_json:
        show_json(found)
        return
    rows = [(e.name, e.role, e.model or "-", ", ".join(s.id for s in e.skills) or "-", e.charter or "-") for e in found]
    table(("AGENT", "ROLE", "MODEL", "SKILLS", "CHARTER"), rows, "The catalogue is empty. Next:  sos catalog add NAME")


@catalogue.command("remove")
def remove_entry(name: EntryArgument, as_json: JsonOption = False) -> None:
    """Offer an agent no more. Those that were activated before stay as they are."""
    with failing(as_json=as_json):
        entry = gateway().call_blocking("DELETE", f"/api/catalog/{recipient(name)}", api.CatalogueEntry)
    show_json(entry) if as_json else text(f"{entry.name} is not in the catalogue any more.")


def rotate_project(
    slug: Annotated[str, typer.Argument(help="The project's slug.")], as_json: JsonOption = False
) -> None:
    """Give a project's owner another token, shown this once; the old one opens nothing any more. Operator only."""
    with failing(as_json=as_json):
        path = f"/api/projects/{normalise(slug, 'project slug')}/rotate"
        rotated = gateway().call_blocking("POST", path, api.TenantRotated)
    if as_json:
        show_json(rotated)
        return
    text(f"The owner of project {rotated.slug} has another token; the old one opens nothing any more.")
    text(f"  shown this once: {rotated.tenant_token}")


def escalate(
    to: Annotated[str, typer.Argument(help="agent:NAME or squad:ID; with --operator SLUG/agent:NAME.")] = "",
    project: ProjectOption = "",
    operator: Annotated[bool, typer.Option("--operator", help="The operator's own, for the whole bus.")] = False,
    none: Annotated[bool, typer.Option("--none", help="To nobody.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say where the bus reports what somebody has to look at."""
    with failing(as_json=as_json):
        if bool(to) == none:
            raise BadRequest(why="say where: agent:NAME or squad:ID, or --none")
        asked = gateway()
        path = "/api/escalation" if operator else f"/api/projects/{project_of(asked, project)}/escalation"
        set_ = asked.call_blocking("POST", path, api.Escalation, api.SetEscalation(to=to))
    show_json(set_) if as_json else text(f"Reported to: {set_.to or 'nobody'}.")
