"""The NATS door: `project.<slug>.api.<agent>.<verb>`, a service in each project's account.

Who asks is in the subject, and the server let only that agent write it. But JetStream can be made to put other things
on such a subject: a PubAck (a publish that names it as its reply), a delivery or a status (a pull that does). So a
request counts only if its own subject parses as a call of this very endpoint, its body decodes as this verb's request
without an unknown field, and its reply subject is a session's; anything else is dropped without a word.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from sos.broker.control.bus import Bus
from sos.broker.control.tenant import Tenant
from sos.broker.doors.problems import as_refusal
from sos.broker.nats.micro import Answer, Endpoint
from sos.wire import api, subjects
from sos.wire.errors import BadSubject

SERVICE_NAME = "sos"
SERVICE_VERSION = "0.1.0"
ERROR_HEADER = "Nats-Service-Error"
ERROR_CODE_HEADER = "Nats-Service-Error-Code"
"""As NATS' services protocol has them (ADR-32). The body of such an answer is an `ErrorBody`."""


class Verb(msgspec.Struct, frozen=True):
    """One verb: what it takes, and who answers it: (project, agent, request) → answer."""

    request: Any
    call: Callable[[str, str, Any], Awaitable[object]]


def verbs(bus: Bus) -> dict[str, Verb]:
    """Every verb."""
    return {
        "squad.join": Verb(api.JoinSquad, bus.squads.join),
        "squad.leave": Verb(api.LeaveSquad, bus.squads.leave),
        "squad.members": Verb(api.ListMembers, bus.squads.members),
        "peers": Verb(api.ListPeers, bus.peers.peers),
        "directory": Verb(api.ListDirectory, bus.peers.directory),
        "agent.card": Verb(api.ShowCard, bus.peers.card),
        "session.end": Verb(api.EndSession, bus.sessions.end),
    }


@asynccontextmanager
async def serve_project(bus: Bus, tenant: Tenant) -> AsyncGenerator[None]:
    """The project's service, while inside. Gateways share the work."""
    endpoints = {
        name.replace(".", "-"): Endpoint(
            subjects.api_pattern(tenant.slug, name), _handler(bus, tenant.slug, name, verb)
        )
        for name, verb in verbs(bus).items()
    }
    async with tenant.connection.service(SERVICE_NAME, SERVICE_VERSION, endpoints):
        yield


def _handler(bus: Bus, slug: str, name: str, verb: Verb) -> Callable[[str, str, bytes], Awaitable[Answer | None]]:
    async def handle(subject: str, reply: str, body: bytes) -> Answer | None:
        agent = caller(slug, name, subject, reply)
        if agent is None:
            return None
        try:
            await bus.projects.pending.settle()
            answer = await verb.call(slug, agent, api.decode(body, verb.request))
        except Exception as e:  # noqa: BLE001 - the last line of defence: told to the log and, as a code, to the caller
            refusal = as_refusal(e, f"{name} of {agent}")
            headers = {ERROR_HEADER: refusal.code, ERROR_CODE_HEADER: "500"}
            return Answer(api.encode(refusal.to_wire()), headers)
        return Answer(api.encode(answer))

    return handle


def caller(slug: str, verb: str, subject: str, reply: str) -> str | None:
    """The agent that makes this call, or None if it is not one."""
    if not subjects.is_reply(reply):
        return None
    try:
        call = subjects.parse(subject)
    except BadSubject:
        return None
    if not isinstance(call, subjects.ApiCall) or call.project != slug or call.verb != verb:
        return None
    return call.agent
