"""`sos context`: the gateways this machine knows by name."""

from typing import Annotated

import typer

from sos.sdk import contexts as kept
from sos.sdk.cli.output import JsonOption, failing, show_json, table, text
from sos.wire.names import normalise

NameArgument = Annotated[str, typer.Argument(help="The context's name.")]

contexts = typer.Typer(help="Contexts: named gateways, one of them current.", no_args_is_help=True)


@contexts.command("add")
def add_context(
    name: NameArgument,
    url: Annotated[str, typer.Option("--url", help="The gateway's address, http://host:6070.")],
    project: Annotated[str, typer.Option("--project", "-p", help="Stands in for --project with this context.")] = "",
    agent: Annotated[str, typer.Option("--agent", help="Stands in for --as with this context.")] = "",
    use: Annotated[bool, typer.Option("--use", help="Make it the current one.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Keep a gateway's address under a name."""
    with failing(as_json=as_json):
        name = normalise(name, "context name")
        saved = kept.add(name, kept.Named(url=url, project=project, agent=agent), use_it=use)
    if as_json:
        show_json(saved)
        return
    text(f"Context {name} is kept." + (" It is the current one now." if use else ""))
    if not use:
        text(f"Next:  sos context use {name}")


@contexts.command("use")
def use_context(name: NameArgument, as_json: JsonOption = False) -> None:
    """Make a context the current one: commands and agents of this home go to its gateway."""
    with failing(as_json=as_json):
        saved = kept.use(name)
    show_json(saved) if as_json else text(f"{saved.current} is the current context: {_of(saved).url}")


@contexts.command("list")
def list_contexts(as_json: JsonOption = False) -> None:
    """The contexts there are; a star marks the current one."""
    with failing(as_json=as_json):
        saved = kept.load()
    if as_json:
        show_json(saved)
        return
    rows = [
        ("*" if name == saved.current else "", name, c.url, c.project or "-", c.agent or "-")
        for name, c in sorted(saved.contexts.items())
    ]
    table(("", "CONTEXT", "URL", "PROJECT", "AGENT"), rows, "No contexts. Next:  sos context add NAME --url URL")


@contexts.command("remove")
def remove_context(name: NameArgument, as_json: JsonOption = False) -> None:
    """Forget a context. Nothing else is removed."""
    with failing(as_json=as_json):
        name, was = normalise(name, "context name"), kept.load().current
        saved = kept.remove(name)
    if as_json:
        show_json(saved)
        return
    text(f"Context {name} is forgotten.")
    if was and not saved.current:
        text("No context is current now. Next:  sos context use NAME")


def _of(saved: kept.Contexts) -> kept.Named:
    return saved.contexts[saved.current]
