"""Taking rights away, at once: disable, revoke, rotate, other scopes, release, a leaked token.

In this order: the fact is appended; the account is pushed with what is void now; the servers confirm that nobody is
connected with it; the address says so; then the caller is answered. While NATS does not answer, the intent is kept on
this gateway's disk (`sos.broker.control.pending`) and nothing is served before it was carried out.
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import monotonic

from sos.broker.control.agents import Agents, ordered, own_stamp, shown
from sos.broker.control.journal import Journal
from sos.broker.control.pending import Ending, Intent
from sos.broker.control.projects import Projects
from sos.broker.control.tokens import Bearer, Minting, Principal, Stamp
from sos.broker.domain import agent_facts, agents
from sos.broker.domain.agents import Agent
from sos.wire import api
from sos.wire.errors import NatsUnreachable, RevocationPending, UnknownAgent
from sos.wire.names import closest, normalise
from sos.wire.tokens import TokenKind, digest, tail

log = logging.getLogger(__name__)


class Cutting:
    """For agents of all projects."""

    def __init__(
        self,
        registry: Journal,
        projects: Projects,
        agents_: Agents,
        minting: Minting,
        available: Callable[[], bool],
    ) -> None:
        self._registry = registry
        self._views = registry.views
        self._projects = projects
        self._agents = agents_
        self._minting = minting
        projects.pending.carry_out_with(self._carry_out, available)

    # ── the owner's ──────────────────────────────────────────────────────────────────────────────────────────────

    async def disable(self, who: Principal, project: str, name: str) -> api.AgentCut:
        """Suspend: every connection falls, mail is kept."""
        return await self._end(who, project, name, "disable")

    async def revoke(self, who: Principal, project: str, name: str) -> api.AgentCut:
        """For good."""
        return await self._end(who, project, name, "revoke")

    async def enable(self, who: Principal, project: str, name: str) -> api.Agent:
        """Take a suspension back."""
        slug, name = await self._named(who, project, name, "enable agents")
        command = agent_facts.EnableAgent(**who.stamp(datetime.now(UTC)), project=slug, name=name)
        await self.carry_out(command)
        return shown(await self._agent(slug, name))

    async def rescope(self, who: Principal, project: str, name: str, ask: api.SetScopes) -> api.AgentCut:
        """Other rights. Live sessions fall and are opened again with them."""
        began = monotonic()
        slug, name = await self._named(who, project, name, "change scopes")
        command = agent_facts.RescopeAgent(
            **who.stamp(datetime.now(UTC)), project=slug, name=name, scopes=ordered(ask.scopes)
        )
        return await self._cut(command, began)

    async def release(self, who: Principal, project: str, name: str) -> api.AgentCut:
        """The install that has the name lets it go; what it holds opens nothing any more."""
        began = monotonic()
        slug, name = await self._named(who, project, name, "release agents")
        return await self._cut(agent_facts.ReleaseAgent(**who.stamp(datetime.now(UTC)), project=slug, name=name), began)

    async def rotate(self, who: Principal, project: str, name: str, ask: api.RotateToken) -> api.AgentRotated:
        """Another token, by the owner."""
        slug, name = await self._named(who, project, name, "rotate tokens")
        return await self._rotate(slug, name, who.stamp(datetime.now(UTC)), ask, who.repeat)

    async def rotate_own(self, bearer: Bearer, ask: api.RotateToken) -> api.AgentRotated:
        """Another token, by the agent itself. A repetition comes with a token that is not good any more."""
        agent = await self.rotated_by(bearer) or await self._agents.of_token(bearer.token)
        return await self._rotate(agent.project, agent.name, own_stamp(agent, bearer.token), ask, bearer.repeat)

    # ── carrying out ─────────────────────────────────────────────────────────────────────────────────────────────

    async def carry_out(self, command: agents.AgentCommand, confirmed: Callable[[], None] | None = None) -> int:
        """One command on an agent, and NATS as it says. Returns how many of its credentials are void; `confirmed` is
        called when the servers have confirmed that nobody is connected with one."""
        slug, name = command.project, command.name
        tenant = await self._projects.tenant(slug)
        await self._registry.execute(
            agents.subject(slug, name), lambda: self._views.agent(slug, name), agents.decide, command
        )
        return await tenant.cut(name, confirmed)

    async def _end(self, who: Principal, project: str, name: str, ending: Ending) -> api.AgentCut:
        began = monotonic()
        slug, name = await self._named(who, project, name, f"{ending} agents")
        command = _ENDING[ending](**who.stamp(datetime.now(UTC)), project=slug, name=name)
        if self._projects.pending.available:
            try:
                return await self._cut(command, began)
            except NatsUnreachable as e:
                log.warning("%s of %s cannot be cut off yet: %s", name, slug, e)
        else:
            await (await self._projects.tenant(slug)).prepare_cut(name)
        self._projects.pending.keep(Intent(ending=ending, project=slug, name=name, **who.stamp(command.at)))
        raise RevocationPending(project=slug, name=name)

    async def _carry_out(self, intent: Intent) -> None:
        stamp = Stamp(at=intent.at, actor=intent.actor, token_id=intent.token_id, decision=intent.decision)
        await self.carry_out(_ENDING[intent.ending](**stamp, project=intent.project, name=intent.name))
        await (await self._projects.tenant(intent.project)).settle_agent(intent.name)

    async def _cut(self, command: agents.AgentCommand, began: float) -> api.AgentCut:
        took_ms: list[float] = []
        void = await self.carry_out(command, lambda: took_ms.append((monotonic() - began) * 1_000))
        await (await self._projects.tenant(command.project)).settle_agent(command.name)
        agent = await self._agent(command.project, command.name)
        return api.AgentCut(
            project=agent.project,
            name=agent.name,
            state=agent.state,
            scopes=agent.scopes,
            credentials=void,
            took_ms=round(took_ms[0], 3),
        )

    async def _rotate(self, slug: str, name: str, stamp: Stamp, ask: api.RotateToken, repeat: str) -> api.AgentRotated:
        began = monotonic()
        token = self._minting.token(TokenKind.AGENT, repeat)
        until = stamp["at"] + timedelta(seconds=ask.grace_s) if ask.grace_s > 0 else None
        command = agent_facts.RotateToken(
            **stamp,
            project=slug,
            name=name,
            token_hash=digest(token),
            token_tail=tail(token),
            old_token_until=until,
            install=ask.install,
        )
        times: list[float] = []
        await self.carry_out(command, lambda: times.append((monotonic() - began) * 1_000))
        took_ms = round(times[0], 3)
        agent = await self._agent(slug, name)
        return api.AgentRotated(
            project=slug, name=name, raw_token=token, old_token_until=agent.old_token_until, took_ms=took_ms
        )

    async def rotated_by(self, bearer: Bearer) -> Agent | None:
        """The agent whose token this very request has rotated already, if it has."""
        if not bearer.repeat:
            return None
        token = self._minting.token(TokenKind.AGENT, bearer.repeat)
        return next((a for a in await self._views.agents_by_token(digest(token)) if a.state == "active"), None)

    async def _named(self, who: Principal, project: str, name: str, what: str) -> tuple[str, str]:
        """The project's slug and the agent's name, if `who` may do `what` and the agent is there."""
        slug, name = self._projects.may_administer(who, project, what), normalise(name, "agent name")
        await self._agent(slug, name)
        return slug, name

    async def _agent(self, slug: str, name: str) -> Agent:
        agent, _ = await self._views.agent(slug, name)
        if agent is None:
            known = [a.name for a in await self._views.agents(slug)]
            raise UnknownAgent(project=slug, name=name, close=closest(name, known))
        return agent


_ENDING: dict[Ending, Callable[..., agent_facts.DisableAgent | agent_facts.RevokeAgent]] = {
    "disable": agent_facts.DisableAgent,
    "revoke": agent_facts.RevokeAgent,
}
