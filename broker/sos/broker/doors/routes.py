"""Every HTTP route, as data: the server is made from it, and so is /openapi.json, so that they cannot disagree."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import msgspec

from sos.broker.control.bus import Bus
from sos.broker.control.tokens import Principal
from sos.wire import api

Parameters = dict[str, str]


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One operation. `token` says which bearer it takes; `call` gets (bus, caller, path parameters, request)."""

    method: str
    path: str
    summary: str
    answer: Any
    token: str
    request: Any = None
    status: int = HTTPStatus.OK
    call: Callable[[Bus, Any, Parameters, Any], Awaitable[Any]]


OPERATOR = "operator or tenant token"
AGENT = "agent token"


async def _create_project(bus: Bus, who: Principal, _: Parameters, ask: api.CreateProject) -> api.ProjectCreated:
    return await bus.projects.create(who, ask)


async def _projects(bus: Bus, who: Principal, _: Parameters, __: None) -> tuple[api.Project, ...]:
    return await bus.projects.list(who)


async def _mint(bus: Bus, who: Principal, path: Parameters, ask: api.MintAgent) -> api.AgentMinted:
    return await bus.agents.mint(who, path["slug"], ask)


async def _agents(bus: Bus, who: Principal, path: Parameters, _: None) -> tuple[api.Agent, ...]:
    return await bus.agents.list(who, path["slug"])


async def _create_squad(bus: Bus, who: Principal, path: Parameters, ask: api.CreateSquad) -> api.Squad:
    return await bus.squads.create(who, path["slug"], ask)


async def _squads(bus: Bus, who: Principal, path: Parameters, _: None) -> tuple[api.Squad, ...]:
    return await bus.squads.list(who, path["slug"])


async def _open_session(bus: Bus, token: str, _: Parameters, ask: api.OpenSession) -> api.SessionOpened:
    return await bus.sessions.open(token, ask)


ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path="/api/projects",
        summary="Create a project; its owner's token is in the answer and nowhere else. Operator only.",
        request=api.CreateProject,
        answer=api.ProjectCreated,
        status=HTTPStatus.CREATED,
        token=OPERATOR,
        call=_create_project,
    ),
    Route(
        method="GET",
        path="/api/projects",
        summary="The projects this token may see.",
        answer=tuple[api.Project, ...],
        token=OPERATOR,
        call=_projects,
    ),
    Route(
        method="POST",
        path="/api/tenants/{slug}/agents/mint",
        summary="Mint an agent; its token is in the answer and nowhere else.",
        request=api.MintAgent,
        answer=api.AgentMinted,
        status=HTTPStatus.CREATED,
        token=OPERATOR,
        call=_mint,
    ),
    Route(
        method="GET",
        path="/api/tenants/{slug}/agents",
        summary="The agents of a project.",
        answer=tuple[api.Agent, ...],
        token=OPERATOR,
        call=_agents,
    ),
    Route(
        method="POST",
        path="/api/tenants/{slug}/squads",
        summary="Create a squad.",
        request=api.CreateSquad,
        answer=api.Squad,
        status=HTTPStatus.CREATED,
        token=OPERATOR,
        call=_create_squad,
    ),
    Route(
        method="GET",
        path="/api/tenants/{slug}/squads",
        summary="The squads of a project.",
        answer=tuple[api.Squad, ...],
        token=OPERATOR,
        call=_squads,
    ),
    Route(
        method="POST",
        path="/api/session",
        summary="Open or renew a session: a NATS credential for the public key that is sent.",
        request=api.OpenSession,
        answer=api.SessionOpened,
        status=HTTPStatus.CREATED,
        token=AGENT,
        call=_open_session,
    ),
)
