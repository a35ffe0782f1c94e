"""Sessions: a token and a public key in, a credential out."""

from datetime import UTC, datetime, timedelta

from sos.broker.config import Config
from sos.broker.control.agents import Agents
from sos.broker.control.journal import Journal
from sos.broker.control.projects import Projects, Urls
from sos.broker.control.squads import Squads
from sos.broker.control.tenant import Tenant
from sos.broker.domain import sessions
from sos.broker.domain.agents import Agent
from sos.broker.nats.claims import user_jwt
from sos.broker.nats.grants import agent_grant
from sos.broker.nats.nkeys import check_public
from sos.broker.nats.tiers import AGENT_MAX_PAYLOAD_BYTES, AGENT_MAX_SUBS
from sos.wire import api
from sos.wire.envelope import MAX_ENCODED_BYTES
from sos.wire.errors import BadRequest, WrongIdentity
from sos.wire.names import normalise
from sos.wire.nkeys import NkeyKind
from sos.wire.sessions import stamp
from sos.wire.subjects import is_inbox_prefix


class Sessions:
    """The sessions of all agents."""

    def __init__(
        self, config: Config, registry: Journal, urls: Urls, projects: Projects, agents: Agents, squads: Squads
    ) -> None:
        self._config = config
        self._registry = registry
        self._views = registry.views
        self._urls = urls
        self._projects = projects
        self._agents = agents
        self._squads = squads

    async def open(self, token: str, ask: api.OpenSession) -> api.SessionOpened:
        """A credential for the key in `ask`, for the agent whose token this is, or a renewal for the same session."""
        agent = await self._agents.of_token(token)
        check_public(ask.public_nkey, NkeyKind.USER)
        if not is_inbox_prefix(ask.inbox_prefix):
            raise BadRequest(why="inbox_prefix is not _INBOX_ and 32 characters of a-z and 0-9")
        claimed = normalise(ask.name, "agent name") if ask.name else agent.name
        if claimed != agent.name:
            raise WrongIdentity(claimed=claimed, actual=agent.name)
        tenant = await self._projects.tenant(agent.project)
        at = datetime.now(UTC)
        expires_at = at + timedelta(seconds=self._config.session_s)
        session = await self._stamp(agent, ask, at)
        command = sessions.OpenSession(
            at=at,
            actor=f"agent:{agent.name}",
            project=agent.project,
            agent=agent.name,
            session=session,
            nkey=ask.public_nkey,
            expires_at=expires_at,
            client=ask.client,
            model=ask.model or agent.model,
            install=ask.install,
        )
        (opened,) = sessions.decide(None, command)
        await tenant.journal.record(sessions.subject(agent.project, agent.name), opened)
        # Asked of the registry's leader after the session is on record: whoever ends the agent meanwhile either sees
        # this session, and cuts it, or is seen here.
        await self._registry.catch_up()
        agent = await self._agents.of_token(token)
        return await self._opened(tenant, agent, ask, session, at, expires_at)

    async def _opened(
        self, tenant: Tenant, agent: Agent, ask: api.OpenSession, session: str, at: datetime, expires_at: datetime
    ) -> api.SessionOpened:
        jwt = user_jwt(
            session,
            ask.public_nkey,
            tenant.keys.identity.public,
            tenant.keys.signing,
            agent_grant(agent.project, agent.name, agent.scopes, ask.inbox_prefix),
            expires_at,
            max_payload=AGENT_MAX_PAYLOAD_BYTES,
            max_subs=AGENT_MAX_SUBS,
        )
        return api.SessionOpened(
            project=agent.project,
            name=agent.name,
            session=session,
            jwt=jwt,
            issued_at=at,
            expires_at=expires_at,
            nats_urls=self._urls(),
            scopes=agent.scopes,
            memberships=await self._squads.memberships(agent.project, agent.name),
            max_message_bytes=MAX_ENCODED_BYTES,
            ack_wait_s=self._config.ack_wait_s,
        )

    async def _stamp(self, agent: Agent, ask: api.OpenSession, at: datetime) -> str:
        """The session to renew if it is one of this agent's, else a new one."""
        if ask.session:
            known = await self._views.sessions(agent.project, at)
            if any(s.session == ask.session and s.agent == agent.name for s in known):
                return ask.session
        return stamp(agent.project, agent.name, ask.client, ask.model or agent.model, at)
