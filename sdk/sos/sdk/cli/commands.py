"""The commands of an agent: `sos agent`, `sos squad`. What needs nats-py is imported when a command runs."""

import asyncio
import logging
import os
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from sos.sdk import surroundings
from sos.sdk.cli.admin import ProjectOption, create_squad, mint, projects
from sos.sdk.cli.catalog import catalogue, escalate, rotate_project
from sos.sdk.cli.contexts import contexts
from sos.sdk.cli.health import doctor, recover, whoami
from sos.sdk.cli.join import join_agent
from sos.sdk.cli.output import JsonOption, failing, show_json, table, text
from sos.sdk.cli.own import rotate, sessions
from sos.sdk.cli.owner import activate, disable, enable, list_agents, release, revoke, scopes
from sos.wire.envelope import AckClass
from sos.wire.errors import BadRequest

if TYPE_CHECKING:
    from sos.sdk import AsyncAgent, Message

CONNECT_TIMEOUT_S = 3.0
"""A person waits at the prompt: a bus that is down is told soon."""

AsOption = Annotated[str, typer.Option("--as", help="Which saved agent acts; not needed if there is only one.")]

app = typer.Typer(
    help="A message bus for fleets of AI agents, on NATS JetStream.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
agents = typer.Typer(help="Agents: mint them, and act as one.", no_args_is_help=True)
squads = typer.Typer(help="Squads: named channels whose broadcasts reach every member.", no_args_is_help=True)
app.add_typer(projects, name="project")
app.add_typer(agents, name="agent")
app.add_typer(squads, name="squad")
app.add_typer(contexts, name="context")
app.add_typer(catalogue, name="catalog")
projects.command("rotate")(rotate_project)
projects.command("escalate")(escalate)
agents.command("mint")(mint)
agents.command("join")(join_agent)
agents.command("activate")(activate)
agents.command("list")(list_agents)
agents.command("disable")(disable)
agents.command("enable")(enable)
agents.command("scopes")(scopes)
agents.command("rotate")(rotate)
agents.command("sessions")(sessions)
agents.command("release")(release)
agents.command("revoke")(revoke)
agents.command("doctor")(doctor)
agents.command("whoami")(whoami)
agents.command("recover")(recover)
squads.command("create")(create_squad)


def acting[T](work: "Coroutine[Any, Any, T]") -> T:
    """Run one command's work. It says itself what it has to say; the SDK's log would be noise between its lines."""
    logging.getLogger("sos").addHandler(logging.NullHandler())
    return asyncio.run(work)


def agent_as(name: str, project: str) -> "AsyncAgent":
    """The agent that acts, not connected yet."""
    from sos.sdk import AsyncAgent

    client, model = surroundings.detect(os.environ)
    return AsyncAgent(
        name=name or None,
        project=project or None,
        client=client or "sos-cli",
        model=model,
        connect_timeout_s=CONNECT_TIMEOUT_S,
        max_deliver=sys.maxsize,  # looking for a reply is no attempt at the other mail
    )


@app.command()
def demo(as_json: JsonOption = False) -> None:
    """Run the whole bus on a throw-away home: two projects, a squad, attackers, a killed server."""
    from sos.sdk.demo import tell

    with failing(as_json=as_json):
        outcome = acting(tell(text))
    if as_json:
        show_json(outcome)
    if not outcome.good:
        raise typer.Exit(1)


@agents.command()
def send(
    to: Annotated[str, typer.Argument(help="The recipient's name.")],
    message: Annotated[str, typer.Argument(help="The text.")],
    name: AsOption = "",
    project: ProjectOption = "",
    data: Annotated[str, typer.Option(help="A JSON object to send along.")] = "",
    ack: Annotated[str, typer.Option(help="Ask for an answer: critical (30 s) or routine (60 s).")] = "",
    wait: Annotated[float, typer.Option(help="Wait this many seconds for the reply and print it.")] = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Send a message to an agent; done when NATS has stored it."""
    with failing(as_json=as_json):
        payload, ack_class = _data(data), _ack(ack)
        from sos.sdk.cli.replies import send_and_wait

        receipt, answer = acting(send_and_wait(agent_as(name, project), to, message, payload, ack_class, wait))
    if as_json:
        show_json({"receipt": receipt, "reply": answer})
    else:
        suspended = "; the recipient is disabled, its mail is kept" if receipt.suspended else ""
        text(f"stored for {receipt.to} as message {receipt.id} (sequence {receipt.seq}){suspended}")
        if answer is not None:
            text(f"{answer.sender}: {answer.text}")
    if wait and answer is None:
        if not as_json:
            text(f"no reply within {wait:g} s; it will come to this agent's inbox")
        raise typer.Exit(1)


@agents.command()
def inbox(
    name: AsOption = "",
    project: ProjectOption = "",
    limit: Annotated[int, typer.Option(help="At most this many; the rest stays unread.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Take unread messages from the inbox, oldest first, and mark them read."""

    async def read() -> "list[Message]":
        async with agent_as(name, project) as agent:
            return await agent.inbox(limit)

    with failing(as_json=as_json):
        found = acting(read())
    if as_json:
        show_json(found)
        return
    for m in found:
        squad = f" in {m.squad}" if m.squad else ""
        text(f"{m.stored_at:%Y-%m-%d %H:%M:%S}  {m.sender}{squad}  {m.id}")
        text("\n".join(f"  {line}" for line in (m.text.splitlines() or [""])))
    if not found:
        text("No unread messages.")


@agents.command()
def peers(name: AsOption = "", project: ProjectOption = "", as_json: JsonOption = False) -> None:
    """The agents of this project, and which are connected to NATS now."""

    async def look() -> Any:
        async with agent_as(name, project) as agent:
            return await agent.peers()

    with failing(as_json=as_json):
        found = acting(look())
    if as_json:
        show_json(found)
        return
    rows = [
        (
            p.name,
            "connected" if p.connected else p.state if p.state != "active" else "away",
            ", ".join(s.model for s in p.sessions if s.connected and s.model) or "-",
            ", ".join(p.squads) or "-",
        )
        for p in found
    ]
    table(("AGENT", "STATE", "MODEL", "SQUADS"), rows, "No agents.")


@squads.command()
def join(
    squad: Annotated[str, typer.Argument(help="The squad's id.")],
    name: AsOption = "",
    project: ProjectOption = "",
    summary: Annotated[str, typer.Option(help="What this agent does in it.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Join a squad: from now on its broadcasts reach this agent's inbox."""

    async def work() -> str:
        async with agent_as(name, project) as agent:
            await agent.join(squad, summary)
            return agent.name

    with failing(as_json=as_json):
        who = acting(work())
    show_json({"squad": squad, "agent": who, "member": True}) if as_json else text(f"{who} is in {squad}.")


@squads.command()
def leave(
    squad: Annotated[str, typer.Argument(help="The squad's id.")],
    name: AsOption = "",
    project: ProjectOption = "",
    as_json: JsonOption = False,
) -> None:
    """Leave a squad."""

    async def work() -> str:
        async with agent_as(name, project) as agent:
            await agent.leave(squad)
            return agent.name

    with failing(as_json=as_json):
        who = acting(work())
    show_json({"squad": squad, "agent": who, "member": False}) if as_json else text(f"{who} left {squad}.")


@squads.command()
def members(
    squad: Annotated[str, typer.Argument(help="The squad's id.")],
    name: AsOption = "",
    project: ProjectOption = "",
    as_json: JsonOption = False,
) -> None:
    """Who is in a squad."""

    async def look() -> Any:
        async with agent_as(name, project) as agent:
            return await agent.members(squad)

    with failing(as_json=as_json):
        found = acting(look())
    if as_json:
        show_json(found)
        return
    rows = [(m.name, f"{m.joined_at:%Y-%m-%d %H:%M}", m.summary or "-") for m in found]
    table(("MEMBER", "JOINED", "SUMMARY"), rows, f"Nobody is in {squad}. Next:  sos squad join {squad} --as NAME")


@squads.command()
def broadcast(
    squad: Annotated[str, typer.Argument(help="The squad's id.")],
    message: Annotated[str, typer.Argument(help="The text.")],
    name: AsOption = "",
    project: ProjectOption = "",
    as_json: JsonOption = False,
) -> None:
    """Send a message to every member of a squad."""

    async def work() -> Any:
        async with agent_as(name, project) as agent:
            return await agent.broadcast(squad, message)

    with failing(as_json=as_json):
        receipt = acting(work())
    if as_json:
        show_json(receipt)
    elif receipt.members:
        them = "1 other member" if receipt.members == 1 else f"{receipt.members} other members"
        text(f"stored for {them} of {receipt.to} as message {receipt.id}")
    else:
        text(f"stored, but nobody else is in {receipt.to}: no inbox gets it")


def _data(text_: str) -> dict[str, Any] | None:
    if not text_:
        return None
    try:
        return msgspec.json.decode(text_.encode(), type=dict[str, Any])
    except msgspec.MsgspecError as e:
        raise BadRequest(why=f"--data is not a JSON object: {e}") from None


def _ack(text_: str) -> AckClass | None:
    match text_:
        case "":
            return None
        case "critical" | "routine":
            return text_
        case _:
            raise BadRequest(why=f"there is no ACK class {text_!r}: choose critical or routine")
