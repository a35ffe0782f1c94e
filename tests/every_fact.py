"""A registry with every kind of fact in it, made the way they are made: over HTTP, by leaks, by a disk that fills."""

import asyncio
from http import HTTPStatus
from pathlib import Path
from typing import Any, get_args

import msgspec
from tests.integration.raw_http import asking
from tests.security.attacker import attacking, envelope, open_session

from sos.broker.app import Running
from sos.broker.control.disks import DiskWatch
from sos.broker.domain import AnyEvent, projects, subject_of
from sos.broker.domain.agent_facts import AgentEvent
from sos.broker.domain.catalogue import CatalogueEvent
from sos.broker.domain.disks import DiskCrossed
from sos.broker.domain.escalations import EscalationSet
from sos.wire import api
from sos.wire.tokens import digest, id_of

KINDS: frozenset[str] = frozenset(
    str(cls.__struct_config__.tag)
    for cls in (
        *get_args(projects.ProjectEvent),
        *get_args(AgentEvent),
        *get_args(CatalogueEvent),
        EscalationSet,
        DiskCrossed,
    )
)
"""Every kind of fact of REGISTRY."""
ELSEWHERE = frozenset(
    {
        "squad.created",
        "squad.joined",
        "squad.left",
        "session.opened",
        "session.ended",
        "address.changed",
        "leak.found",
    }
)
"""The kinds of a project's own EVENTS."""
ACTED_WITHIN_S = 10.0
PAGE = 256


class Fact(msgspec.Struct, frozen=True):
    """What every fact must hold."""

    at: str
    actor: str
    type: str
    token_id: str = ""
    decision: str = ""


class _Body(msgspec.Struct, frozen=True):
    event: Fact


class Stored(msgspec.Struct, frozen=True):
    """One stored record, and what stands in it."""

    seq: int
    subject: str
    body: bytes

    @property
    def fact(self) -> Fact:
        return msgspec.json.decode(self.body, type=_Body).event


class Filled(msgspec.Struct, frozen=True):
    """What was recorded, and the ids of the tokens it was done with. `secrets` is every token that was handed out."""

    stored: list[Stored]
    token_ids: dict[str, set[str]]
    secrets: frozenset[str]


class _Doer:
    """Asks the gateway, and keeps the tokens it shows."""

    def __init__(self, bus: Running) -> None:
        self.bus = bus
        self.secrets = {bus.operator_token}

    async def ask(self, method: str, path: str, token: str, body: object = None) -> dict[str, Any]:
        answer = await asking(self.bus.url, method, path, token, body)
        assert answer.status in {HTTPStatus.OK, HTTPStatus.CREATED}, answer.body
        found: dict[str, Any] = msgspec.json.decode(answer.body)
        self.secrets |= {found[k] for k in ("raw_token", "tenant_token") if found.get(k)}
        return found

    async def operate(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        return await self.ask(method, path, self.bus.operator_token, body)


async def fill(bus: Running, slug: str) -> Filled:
    """Every kind of fact, in a project of its own."""
    do, agents = _Doer(bus), f"/api/tenants/{slug}/agents"
    first = (await do.operate("POST", "/api/projects", {"slug": slug, "tier": "starter"}))["tenant_token"]
    owner = (await do.operate("POST", f"/api/projects/{slug}/rotate"))["tenant_token"]
    minted = {
        name: (await do.ask("POST", f"{agents}/mint", owner, {"agent_name": name, "charter": "grüße, 你好"}))[
            "raw_token"
        ]
        for name in ("ann", "bob", "cy", "dee")
    }
    await do.ask("POST", "/api/agent/join", minted["ann"], {"install": "an-install", "role": "reviewer"})
    rotated = (await do.ask("POST", "/api/agent/rotate", minted["ann"], {"grace_s": 60}))["raw_token"]
    await do.ask("POST", f"{agents}/bob/disable", owner)
    await do.ask("POST", f"{agents}/bob/enable", owner)
    await do.ask("POST", f"{agents}/bob/scopes", owner, {"scopes": ["mcp:send"]})
    await do.ask("POST", f"{agents}/cy/release", owner)
    await do.ask("DELETE", f"{agents}/cy", owner)
    entry = f"{slug}-kasra"
    await do.operate("POST", "/api/catalog", {"name": entry, "role": "oracle"})
    await do.ask("POST", f"{agents}/activate", owner, {"agent_name": entry})
    await do.operate("DELETE", f"/api/catalog/{entry}")
    await do.ask("POST", f"/api/projects/{slug}/escalation", owner, {"to": "agent:bob"})
    await do.operate("POST", "/api/escalation", {"to": f"{slug}/agent:bob"})
    await _leak(bus, rotated, minted["dee"], owner)
    watch = DiskWatch(bus.bus.registry, bus.bus.escalations, Path(bus.home), b"k" * 32, host=slug, measure=_full)
    await watch.look()
    await do.operate("POST", "/api/escalation", {"to": ""})
    used = {"operator": {bus.operator_token}, f"tenant:{slug}": {first, owner}, "agent:ann": {minted["ann"], rotated}}
    ids = {who: {id_of(digest(token)) for token in tokens} for who, tokens in used.items()}
    return Filled(await stored(bus), ids, frozenset(do.secrets))


async def stored(bus: Running) -> list[Stored]:
    """The registry as it is stored, over HTTP."""
    found: list[Stored] = []
    while True:
        after = found[-1].seq if found else 0
        answer = await asking(bus.url, "GET", f"/api/audit?after={after}&limit={PAGE}", bus.operator_token)
        page = msgspec.json.decode(answer.body, type=api.Audit)
        if not page.records:
            assert page.head == after
            return found
        found += [Stored(r.seq, r.subject, r.record.encode()) for r in page.records]


def kinds_of(union: Any = AnyEvent) -> set[str]:
    """The tags of all facts there are, wherever they are stored."""
    return {str(cls.__struct_config__.tag) for cls in get_args(union)}


def belongs(record: Stored) -> bool:
    """Whether a record stands on its fact's own subject."""
    event = msgspec.json.decode(record.body, type=_Event).event
    return subject_of(event) == record.subject


class _Event(msgspec.Struct, frozen=True):
    event: AnyEvent


async def _leak(bus: Running, voided: str, cut: str, owner: str) -> None:
    """A token, a credential and the owner's token, each published raw; returns when the gateway has acted on each."""
    async with attacking(bus.url, voided) as ann:
        _, opened = await open_session(bus.url, cut)
        for secret in (owner, opened.jwt, voided):
            await ann.publish(ann.own_subject, envelope(f"here: {secret}"))
    kinds = {"agent.voided", "agent.cut", "project.tenant_voided"}
    async with asyncio.timeout(ACTED_WITHIN_S):
        while not kinds <= {s.fact.type for s in await stored(bus)}:
            await asyncio.sleep(0.05)


def _full(_: object) -> float:
    return 97.0
