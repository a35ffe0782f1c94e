"""Checks of the token: its form, which service it is for, whether it is taken, and what it may do."""

import time
from time import monotonic

from sos.sdk import profile
from sos.sdk.doctor.check import Says, critical, in_thread, ok, refused, warning
from sos.sdk.doctor.patient import Patient
from sos.sdk.gateway import Gateway
from sos.wire import api
from sos.wire.errors import BadRequest, MalformedToken, MissingToken, UnknownToken, WrongIdentity
from sos.wire.scopes import ALL, Scope
from sos.wire.tokens import TokenKind, check, tail

ME = "/api/agent"
ME_TIMEOUT_S = 6.5
"""The gateway asks NATS about the inbox for this, and answers without it after 5 s."""

SERVICES: dict[TokenKind, str] = {
    TokenKind.AGENT: "an agent's token: the bus, its inbox, and the gateway as that agent",
    TokenKind.TENANT: "a project owner's token: minting and managing that project's agents",
    TokenKind.OPERATOR: "the operator's token: all projects",
}
OPENS: dict[Scope, str] = {
    Scope.SEND: "sending to agents",
    Scope.INBOX: "reading the inbox",
    Scope.BROADCAST: "broadcasting to squads",
    Scope.WORKSPACE_JOIN: "joining squads",
    Scope.RECALL: "recalling memories",
    Scope.REMEMBER: "keeping memories",
    Scope.TASKS: "tasks",
    Scope.GOALS: "goals",
}
_LIFELINE = (Scope.SEND, Scope.INBOX)
"""Without these an agent cannot ask for help, or cannot hear the answer."""


def form(patient: Patient) -> Says:
    """`token.format`: there is one, and its checksum fits."""
    local = patient.local
    if local.problem is not None:
        return _no_token(patient)
    try:
        kind = check(local.token)
    except MalformedToken as e:
        return critical(f"what {local.token_source} holds is no token: its form or its checksum is wrong", e.remedy)
    return ok(f"{kind}…{tail(local.token)}, from {local.token_source}")


def service(patient: Patient) -> Says:
    """`token.service`: it is an agent's."""
    local, kind = patient.local, check(patient.local.token)
    if kind is TokenKind.AGENT:
        return ok(SERVICES[kind])
    cure = (
        f"Put the agent's own token ({TokenKind.AGENT}…) in {local.token_source}; this one belongs in SOS_ADMIN_TOKEN."
    )
    return critical(f"this is {SERVICES[kind]}. It is not the agent's own and opens no inbox", cure)


async def valid(patient: Patient) -> Says:
    """`token.valid`: the gateway takes it, for this agent. Learns what the gateway knows, and its clock."""
    local = patient.local
    gateway = Gateway(local.url, local.token)
    asked_at, began = time.time(), monotonic()
    try:
        me = await in_thread(lambda: gateway.call_blocking("GET", ME, api.Me, None, ME_TIMEOUT_S), ME_TIMEOUT_S)
    except UnknownToken as e:
        return _unknown(patient, e)
    took_s = monotonic() - began
    patient.clock_s = me.now.timestamp() - (asked_at + took_s / 2)
    patient.clock_margin_s = took_s / 2
    claimed, actual = (local.project, local.name), (me.agent.project, me.agent.name)
    if local.token_path is None and claimed[1] in {"", actual[1]}:
        claimed = ("", "")  # SOS_TOKEN opens its own project, whatever SOS_PROJECT says for other commands
    if any(c and c != a for c, a in zip(claimed, actual, strict=True)):
        return refused(WrongIdentity(claimed="/".join(c or "any" for c in claimed), actual="/".join(actual)))
    patient.me = me
    says = _valid_says(me, local.token, took_s * 1e3)
    if says.verdict == "ok" and local.project not in {"", me.agent.project}:
        cure = f"Set SOS_PROJECT to {me.agent.project}, or give the token of an agent of {local.project}."
        return warning(f"{says.found}, while SOS_PROJECT or --project says {local.project}", cure, says.timing_ms)
    return says


def _valid_says(me: api.Me, token: str, timing_ms: float) -> Says:
    agent = me.agent
    who = f"{agent.name} of project {agent.project}, {agent.role}, {agent.state}"
    if agent.old_token_until is not None and agent.token_tail and agent.token_tail != tail(token):
        until = f"{agent.old_token_until:%Y-%m-%d %H:%M:%S} UTC"
        cure = f"Put the token that ends in {agent.token_tail} in its place before then."
        return warning(f"{who}; the token was rotated, this old one is taken until {until}", cure, timing_ms)
    return ok(who, timing_ms)


def scopes(patient: Patient) -> Says:
    """`token.scopes`: what it may do, and what it may not."""
    me = patient.known()
    return scopes_say(me.agent.scopes, me.agent.name, me.agent.project)


def scopes_say(held: tuple[Scope, ...], name: str, project: str) -> Says:
    """What holding just these scopes means."""
    missing = [s for s in ALL if s not in held]
    found = f"holds {', '.join(held) or 'none'}"
    if missing:
        found += "; without " + ", ".join(f"{s} no {OPENS[s]}" for s in missing)
    if needed := [s for s in _LIFELINE if s in missing]:
        adds = " ".join(f"--add {s}" for s in needed)
        return warning(found, f"The project's owner grants it: 'sos agent scopes {name} --project {project} {adds}'.")
    return ok(found)


def _unknown(patient: Patient, error: UnknownToken) -> Says:
    """A token that is good elsewhere is told from one that is good nowhere, where the agent's home says where."""
    local = patient.local
    try:
        own = profile.load(local.project, local.name, local.home) if local.agent_home is not None else None
    except BadRequest:
        return refused(error)  # a profile that cannot be read says nothing of this
    if own is None or not own.url or own.url.rstrip("/") == local.url.rstrip("/"):
        return refused(error)
    found = f"{error.detail} This is {local.url}, and the agent joined at {own.url}"
    return critical(found, f"Use that gateway: SOS_URL={own.url}, or 'sos context use' with its name.")


def _no_token(patient: Patient) -> Says:
    """Told with the command that gets one, for this agent where it is known which."""
    local, problem = patient.local, patient.local.problem
    if problem is None or not isinstance(problem, MissingToken):
        return refused(problem or MissingToken(expected="an agent's token (sk-bus-…)"))
    who = f"{local.name or 'NAME'} --project {local.project or 'SLUG'}"
    cure = f"Join with 'sos agent join --name {who}', or put the token in SOS_TOKEN."
    return critical(f"no token: neither SOS_TOKEN nor {local.home} holds one", cure)
