"""The NATS door: `project.<slug>.api.<agent>.<verb>`, a service in each project's account.

Who asks is in the subject, and the server let only that agent write it. But JetStream can be made to put other things
on such a subject: a PubAck (a publish that names it as its reply), a delivery or a status (a pull that does). So a
request counts only if its own subject parses as a call in this very project and its reply subject is a session's;
anything else is dropped without a word. A body that does not decode as its verb's request, or has an unknown field, is
refused.

One subscription takes every verb, those that nobody serves too, and a table tells them apart: of several subscriptions
in one queue group that fit a subject the server chooses one, so that a second one for what is left over would take
served calls away from the first. Who asks for what is not served is told so, and does not wait.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from sos.broker.control.bus import Bus
from sos.broker.control.tenant import Tenant
from sos.broker.doors.problems import as_refusal
from sos.broker.nats.micro import Answer, Endpoint
from sos.wire import api, subjects
from sos.wire.errors import BadSubject, UnknownVerb
from sos.wire.scopes import RESERVED
from sos.wire.secrets import check_no_secret
from sos.wire.tokens import redact

SERVICE_NAME = "sos"
SERVICE_VERSION = "0.1.0"
ERROR_HEADER = "Nats-Service-Error"
ERROR_CODE_HEADER = "Nats-Service-Error-Code"
"""As NATS' services protocol has them (ADR-32). The body of such an answer is an `ErrorBody`."""
ENDPOINT = "api"
MAX_SHOWN_VERB_CHARS = 64
"""A subject may be as long as the server takes; an error shows this much of a verb that is none."""


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
    endpoint = Endpoint(subjects.api_pattern(tenant.slug), _handler(bus, tenant.slug, verbs(bus)))
    async with tenant.connection.service(SERVICE_NAME, SERVICE_VERSION, {ENDPOINT: endpoint}):
        yield


def _handler(bus: Bus, slug: str, table: Mapping[str, Verb]) -> Callable[[str, str, bytes], Awaitable[Answer | None]]:
    async def handle(subject: str, reply: str, body: bytes) -> Answer | None:
        call = call_of(slug, subject, reply)
        if call is None:
            return None
        try:
            await bus.rates.agent(slug, call.agent)
            check_no_secret(body)
            await bus.projects.pending.settle()
            answer = await _carry_out(bus, call, table, body)
        except Exception as e:  # noqa: BLE001 - the last line of defence: told to the log and, as a code, to the caller
            refusal = as_refusal(e, f"{_shown(call.verb)} of {call.agent}")
            headers = {ERROR_HEADER: refusal.code, ERROR_CODE_HEADER: "500"}
            return Answer(api.encode(refusal.to_wire()), headers)
        return Answer(api.encode(answer))

    return handle


async def _carry_out(bus: Bus, call: subjects.ApiCall, table: Mapping[str, Verb], body: bytes) -> object:
    """What the verb answers. One that nobody serves asks for its right first: who lacks it is told that, not what else
    there may be."""
    verb = table.get(call.verb)
    if verb is None:
        await bus.agents.active(call.project, call.agent, RESERVED.get(call.verb.partition(".")[0]))
        raise UnknownVerb(verb=_shown(call.verb), known=tuple(sorted(table)))
    return await verb.call(call.project, call.agent, api.decode(body, verb.request))


def _shown(verb: str) -> str:
    return redact(verb)[:MAX_SHOWN_VERB_CHARS]


def call_of(slug: str, subject: str, reply: str) -> subjects.ApiCall | None:
    """The call that this is, by whom and of which verb, or None if it is none."""
    if not subjects.is_reply(reply):
        return None
    try:
        call = subjects.parse_call(subject)
    except BadSubject:
        return None
    return call if call.project == slug else None
