"""The routes about agents: what owners do with them, and what they do themselves."""

from functools import partial
from http import HTTPStatus
from typing import Any

from sos.broker.control.bus import Bus
from sos.broker.control.tokens import Bearer, Principal
from sos.broker.doors.route import AGENT, OPERATOR, Parameters, Route
from sos.wire import api


async def _mint(bus: Bus, who: Principal, path: Parameters, ask: api.MintAgent) -> api.AgentMinted:
    return await bus.agents.mint(who, path["slug"], ask)


async def _activate(bus: Bus, who: Principal, path: Parameters, ask: api.ActivateAgent) -> api.AgentActivated:
    return await bus.agents.activate(who, path["slug"], ask)


async def _list(bus: Bus, who: Principal, path: Parameters, _: None) -> tuple[api.Agent, ...]:
    return await bus.agents.list(who, path["slug"])


async def _disable(bus: Bus, who: Principal, path: Parameters, _: None) -> api.AgentCut:
    return await bus.cutting.disable(who, path["slug"], path["id"])


async def _enable(bus: Bus, who: Principal, path: Parameters, _: None) -> api.Agent:
    return await bus.cutting.enable(who, path["slug"], path["id"])


async def _rotate(bus: Bus, who: Principal, path: Parameters, ask: api.RotateToken) -> api.AgentRotated:
    return await bus.cutting.rotate(who, path["slug"], path["id"], ask)


async def _rescope(bus: Bus, who: Principal, path: Parameters, ask: api.SetScopes) -> api.AgentCut:
    return await bus.cutting.rescope(who, path["slug"], path["id"], ask)


async def _release(bus: Bus, who: Principal, path: Parameters, _: None) -> api.AgentCut:
    return await bus.cutting.release(who, path["slug"], path["id"])


async def _revoke(bus: Bus, who: Principal, path: Parameters, _: None) -> api.AgentCut:
    return await bus.cutting.revoke(who, path["slug"], path["id"])


async def _sessions(bus: Bus, who: Principal, path: Parameters, _: None) -> tuple[api.Run, ...]:
    return await bus.sessions.of_agent(who, path["slug"], path["id"])


async def _origin(bus: Bus, who: Principal, path: Parameters, _: None) -> api.MessageOrigin:
    return await bus.sessions.of_message(who, path["slug"], path["id"])


async def _open_session(bus: Bus, bearer: Bearer, _: Parameters, ask: api.OpenSession) -> api.SessionOpened:
    return await bus.sessions.open(bearer, ask)


async def _me(bus: Bus, bearer: Bearer, _: Parameters, __: None) -> api.Me:
    return await bus.mirror.show(bearer)


async def _join(bus: Bus, bearer: Bearer, _: Parameters, ask: api.JoinAgent) -> api.Me:
    return await bus.mirror.join(bearer, ask)


async def _rotate_own(bus: Bus, bearer: Bearer, _: Parameters, ask: api.RotateToken) -> api.AgentRotated:
    return await bus.cutting.rotate_own(bearer, ask)


async def _own_sessions(bus: Bus, bearer: Bearer, _: Parameters, __: None) -> tuple[api.Run, ...]:
    return await bus.sessions.own(bearer)


_AGENTS = "/api/tenants/{slug}/agents"


def _route(token: str, method: str, path: str, summary: str, call: Any, *shapes: Any, **more: Any) -> Route:
    """`shapes` are the answer's and, where it has a body, the request's; `more` is what else a route may say."""
    answer, request = (*shapes, None)[:2]
    return Route(
        method=method,
        path=path,
        summary=summary,
        call=call,
        answer=answer,
        request=request,
        token=token,
        **more,
    )


_owners = partial(_route, OPERATOR)
_own = partial(_route, AGENT)


AGENT_ROUTES: tuple[Route, ...] = (
    _owners(
        "POST",
        f"{_AGENTS}/mint",
        "Mint an agent; its token is in the answer and nowhere else.",
        _mint,
        api.AgentMinted,
        api.MintAgent,
        status=HTTPStatus.CREATED,
    ),
    _owners(
        "POST",
        f"{_AGENTS}/activate",
        "Activate an agent of the operator's catalogue.",
        _activate,
        api.AgentActivated,
        api.ActivateAgent,
        status=HTTPStatus.CREATED,
    ),
    _owners("GET", _AGENTS, "The agents of a project.", _list, tuple[api.Agent, ...]),
    _owners(
        "POST",
        f"{_AGENTS}/{{id}}/disable",
        "Suspend an agent: cut off, its mail kept.",
        _disable,
        api.AgentCut,
        cuts=True,
    ),
    _owners("POST", f"{_AGENTS}/{{id}}/enable", "Take a suspension back.", _enable, api.Agent),
    _owners(
        "POST",
        f"{_AGENTS}/{{id}}/rotate",
        "Another token; the old one is good for a grace.",
        _rotate,
        api.AgentRotated,
        api.RotateToken,
    ),
    _owners(
        "POST",
        f"{_AGENTS}/{{id}}/scopes",
        "Other rights; live sessions are opened again with them.",
        _rescope,
        api.AgentCut,
        api.SetScopes,
    ),
    _owners("POST", f"{_AGENTS}/{{id}}/release", "The install that has the name lets it go.", _release, api.AgentCut),
    _owners("DELETE", f"{_AGENTS}/{{id}}", "Revoke an agent for good.", _revoke, api.AgentCut, cuts=True),
    _owners("GET", f"{_AGENTS}/{{id}}/sessions", "The runs of an agent.", _sessions, tuple[api.Run, ...]),
    _owners(
        "GET", "/api/tenants/{slug}/messages/{id}/session", "Which session sent a message.", _origin, api.MessageOrigin
    ),
    _own(
        "POST",
        "/api/session",
        "Open or renew a session: a NATS credential for the public key that is sent.",
        _open_session,
        api.SessionOpened,
        api.OpenSession,
        status=HTTPStatus.CREATED,
    ),
    _own("GET", "/api/agent", "What the gateway knows of the agent that asks.", _me, api.Me),
    _own(
        "POST", "/api/agent/join", "An install takes the name, and says what it can do.", _join, api.Me, api.JoinAgent
    ),
    _own(
        "POST",
        "/api/agent/rotate",
        "Another token for oneself.",
        _rotate_own,
        api.AgentRotated,
        api.RotateToken,
        outlives_token=True,
    ),
    _own("GET", "/api/agent/sessions", "One's own runs.", _own_sessions, tuple[api.Run, ...]),
)
