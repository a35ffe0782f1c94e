"""Where the bus reports what somebody has to look at, and the reporting itself."""

import logging
from datetime import UTC, datetime
from typing import Any

from sos.broker.control.journal import Journal
from sos.broker.control.letters import tell
from sos.broker.control.projects import Projects
from sos.broker.control.tokens import Principal
from sos.broker.domain import escalations
from sos.wire import api, subjects
from sos.wire.errors import BadRequest, SosError, UnknownRecipient, UnknownSquad
from sos.wire.names import closest, normalise
from sos.wire.subjects import GATEWAY

log = logging.getLogger(__name__)


class Escalations:
    """The targets, by project; the empty slug is the operator's own."""

    def __init__(self, registry: Journal, projects: Projects) -> None:
        self._registry = registry
        self._views = registry.views
        self._projects = projects

    async def set_projects(self, who: Principal, project: str, ask: api.SetEscalation) -> api.Escalation:
        """Where what concerns a project is reported."""
        slug = (await self._projects.administered(who, project, "set the escalation target")).slug
        return await self._set(who, slug, await self._target(slug, ask.to) if ask.to else "")

    async def set_operators(self, who: Principal, ask: api.SetEscalation) -> api.Escalation:
        """Where what concerns the whole bus is reported."""
        who.may_operate("set the operator's escalation target")
        slug, slash, to = ask.to.partition("/")
        if ask.to and not slash:
            raise BadRequest(why="the operator's target names its project: SLUG/agent:NAME or SLUG/squad:ID")
        return await self._set(who, "", await self._target(normalise(slug, "project slug"), to) if ask.to else "")

    async def report(self, of: str, text: str, data: dict[str, Any], id_: str = "") -> bool:
        """Send it to the target of `of`, or to the operator's if it has none. Whether there was one to send it to; if
        it could not be sent, the log says so."""
        target = await self._of(of) or await self._of("")
        if not target:
            return False
        slug, _, rest = target.partition("/")
        kind, _, name = rest.partition(":")
        to = subjects.ToAgent(slug, name, GATEWAY) if kind == "agent" else subjects.ToSquad(slug, name, GATEWAY)
        try:
            await tell((await self._projects.tenant(slug)).connection, to, text, data, id_)
        except SosError as e:
            log.error("could not report to %s: %s", target, e)  # noqa: TRY400 - no defect of ours
            return False
        return True

    async def _of(self, of: str) -> str:
        found, _ = await self._views.escalation(of)
        return found.to if found else ""

    async def _set(self, who: Principal, of: str, to: str) -> api.Escalation:
        command = escalations.SetEscalation(**who.stamp(datetime.now(UTC)), of=of, to=to)
        await self._registry.execute(
            escalations.subject(of), lambda: self._views.escalation(of), escalations.decide, command
        )
        return api.Escalation(to=to)

    async def _target(self, slug: str, to: str) -> str:
        """`<slug>/agent:<name>` or `<slug>/squad:<id>`, if it is there."""
        kind, colon, rest = to.partition(":")
        if not colon or kind not in {"agent", "squad"}:
            raise BadRequest(why="a target is agent:NAME or squad:ID")
        await self._projects.tenant(slug)
        if kind == "squad":
            return f"{slug}/squad:{await self._squad(slug, normalise(rest, 'squad id'))}"
        name = normalise(rest, "agent name")
        agent, _ = await self._views.agent(slug, name)
        if agent is None or agent.state == "revoked":
            there = [a.name for a in await self._views.agents(slug) if a.state != "revoked"]
            raise UnknownRecipient(project=slug, name=name, close=closest(name, there))
        return f"{slug}/agent:{name}"

    async def _squad(self, slug: str, squad: str) -> str:
        found, _ = await self._views.squad(slug, squad)
        if found is None:
            known = [s.squad for s in await self._views.squads(slug)]
            raise UnknownSquad(project=slug, squad=squad, close=closest(squad, known))
        return squad
