"""`sos agent join`: one line a step while it goes on, then the answers to the four questions, then what is to mend."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sos.sdk.cli.admin import ProjectOption
from sos.sdk.cli.output import JsonOption, failing, show_json, text

if TYPE_CHECKING:
    from sos.sdk.joining import Joined, Step

_FIRST_COLUMN_CHARS = 9


def join_agent(
    name: Annotated[
        str, typer.Option("--name", help="Free text becomes a name: mumega.codecheck is mumega-codecheck.")
    ],
    project: ProjectOption = "",
    role: Annotated[str, typer.Option(help="A mesh role, or a label that means one: code-reviewer.")] = "",
    skill: Annotated[list[str] | None, typer.Option(help="What it can do, by name; repeat for more.")] = None,
    skill_file: Annotated[
        list[Path] | None, typer.Option(help="A JSON file with one full skill descriptor or a list; repeat for more.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="Holds the agent's own token, or its owner's to mint the agent with.")
    ] = None,
    model: Annotated[str, typer.Option(help="The model that acts under this name; else SOS_MODEL or what shows.")] = "",
    client: Annotated[str, typer.Option(help="The client that acts under it; else SOS_CLIENT or what shows.")] = "",
    url: Annotated[str, typer.Option(help="The gateway; else SOS_URL, the context, the bus of this home.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Join the bus as an agent: registered, tested, and with the way out when stuck. Repeat it as often as you like.

    The token comes from --token-file, SOS_TOKEN, SOS_ADMIN_TOKEN, or this home. An owner's token mints the agent first.
    """
    from sos.sdk import joining
    from sos.sdk.cli.commands import acting

    def told(step: "Step", what: str) -> None:
        if not as_json:
            text(f"{step:{_FIRST_COLUMN_CHARS}}{what}")

    with failing(as_json=as_json):
        wish = joining.Wish(
            name=name,
            project=project,
            role=role,
            skills=tuple(skill or ()),
            skill_files=tuple(skill_file or ()),
            token_file=token_file,
            client=client,
            model=model,
        )
        joined = acting(joining.join(wish, url, progress=told))
    if as_json:
        show_json(joined)
    else:
        _show(joined)


def _show(joined: "Joined") -> None:
    text()
    text(f"Who am I?                     {joined.answers.who_am_i}")
    text(f"Where is my inbox?            {joined.answers.where_is_my_inbox}")
    text(f"What can I do?                {joined.answers.what_can_i_do}")
    text(f"What do I do when stuck?      {joined.answers.what_do_i_do_when_stuck}")
    if joined.warnings:
        text()
        text("It can be reached. To be mended:")
    for warned in joined.warnings:
        text(f"  {warned.step}: {warned.detail} {warned.cure}")
