"""Sessions: a token and a public key in, a credential out."""

import base64
from datetime import UTC, datetime, timedelta

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sos.broker.config import Config
from sos.broker.control.agents import Agents, own_stamp
from sos.broker.control.journal import Journal
from sos.broker.control.letters import find_message
from sos.broker.control.projects import Projects, Urls
from sos.broker.control.squads import Squads
from sos.broker.control.tenant import Tenant
from sos.broker.control.tokens import Bearer, Principal
from sos.broker.domain import sessions
from sos.broker.domain.agents import Agent
from sos.broker.nats.claims import user_jwt
from sos.broker.nats.grants import agent_grant
from sos.broker.nats.nkeys import check_public
from sos.broker.nats.tiers import AGENT_MAX_PAYLOAD_BYTES, AGENT_MAX_SUBS
from sos.broker.views import Run
from sos.wire import api
from sos.wire.envelope import MAX_ENCODED_BYTES
from sos.wire.errors import BadRequest, Contended, UnknownMessage, UnknownToken, WrongIdentity
from sos.wire.ids import is_uuid7
from sos.wire.names import normalise
from sos.wire.nkeys import NkeyKind, decode_public
from sos.wire.sessions import proof_of, short, stamp
from sos.wire.subjects import is_inbox_prefix
from sos.wire.tokens import digest, tail

MAX_RUNS = 500
"""The latest of an agent that are shown."""
CLOCK_SLACK_S = 5.0


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

    async def open(self, bearer: Bearer, ask: api.OpenSession) -> api.SessionOpened:
        """A credential for the key in `ask`, for the agent whose token this is, or a renewal for the same session."""
        token = bearer.token
        agent = await self._agents.of_token(token)
        epoch = _epoch(agent, token)
        check_public(ask.public_nkey, NkeyKind.USER)
        if not is_inbox_prefix(ask.inbox_prefix):
            raise BadRequest(why="inbox_prefix is not _INBOX_ and 32 characters of a-z and 0-9")
        check_proof(ask, digest(token))
        claimed = normalise(ask.name, "agent name") if ask.name else agent.name
        if claimed != agent.name:
            raise WrongIdentity(claimed=claimed, actual=agent.name)
        tenant = await self._projects.tenant(agent.project)
        if await self._views.key_holder(ask.public_nkey) is not None:
            raise BadRequest(why="public_nkey was used for a session before; make a new key for each")
        at = datetime.now(UTC)
        expires_at = at + timedelta(seconds=self._config.session_s)
        session = await self._stamp(agent, ask, at)
        command = sessions.OpenSession(
            **own_stamp(agent, token),
            project=agent.project,
            agent=agent.name,
            session=session,
            nkey=ask.public_nkey,
            expires_at=expires_at,
            client=ask.client,
            model=ask.model or agent.model,
            install=ask.install,
            epoch=epoch,
        )
        (opened,) = sessions.decide(None, command)
        await tenant.journal.record(sessions.subject(agent.project, agent.name), opened)
        # Asked of the registry's leader after the session is on record: whoever ends the agent meanwhile either sees
        # this session, and cuts it, or is seen here.
        await self._registry.catch_up()
        agent = await self._agents.of_token(token)
        if _epoch(agent, token) != epoch:
            raise Contended(subject=f"the rights of {agent.name}", tries=1)
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
        """The session to renew if it is one of this agent's that is open, else a new one."""
        if ask.session:
            known = await self._views.sessions(agent.project, at)
            if any(s.session == ask.session and s.agent == agent.name for s in known):
                return ask.session
        return stamp(agent.project, agent.name, ask.client, ask.model or agent.model, at)

    async def end(self, project: str, agent: str, ask: api.EndSession) -> api.Ended:
        """The agent says that a run of its own is over."""
        tenant = await self._projects.tenant(project)
        await tenant.end_session(agent, ask.session, "stopped")
        return api.Ended(session=ask.session)

    async def of_agent(self, who: Principal, project: str, name: str) -> tuple[api.Run, ...]:
        """The runs of an agent, the latest first, for the project's owner."""
        slug = self._projects.may_administer(who, project, "list sessions")
        return await self._runs(slug, normalise(name, "agent name"))

    async def own(self, bearer: Bearer) -> tuple[api.Run, ...]:
        """The runs of the agent that asks."""
        agent = await self._agents.of_token(bearer.token)
        return await self._runs(agent.project, agent.name)

    async def _runs(self, slug: str, name: str) -> tuple[api.Run, ...]:
        tenant = await self._projects.tenant(slug)
        live = await tenant.live_sessions()
        return tuple(shown_run(run, run.session in live) for run in await self._views.runs(slug, name, MAX_RUNS))

    async def of_message(self, who: Principal, project: str, id_: str) -> api.MessageOrigin:
        """Which session sent a message: as the message says, and whether that can be."""
        slug = self._projects.may_administer(who, project, "look up messages")
        if not is_uuid7(id_):
            raise BadRequest(why="a message's id is a UUIDv7, as a receipt shows it")
        tenant = await self._projects.tenant(slug)
        found = await find_message(tenant.connection, id_)
        if found is None:
            raise UnknownMessage(project=slug, id=id_)
        stored, sender, envelope = found
        run = await self._views.run(slug, envelope.session)
        return api.MessageOrigin(
            id=id_,
            seq=stored.seq,
            stored_at=stored.time,
            sender=sender,
            session=envelope.session,
            confirmed=run is not None and run.agent == sender and was_open(run, stored.time),
            run=shown_run(run, run.session in await tenant.live_sessions()) if run else None,
        )


def shown_run(run: Run, connected: bool) -> api.Run:
    """A run as the doors show it."""
    return api.Run(
        session=run.session,
        short=short(run.session, run.project, run.agent, run.client, run.model),
        client=run.client,
        model=run.model,
        install=run.install,
        opened_at=run.opened_at,
        ended_at=run.ended_at,
        reason=run.reason,
        connected=connected,
    )


def was_open(run: Run, at: datetime) -> bool:
    """Whether the run was open at that moment, by the gateway's clock and NATS', which may differ a little."""
    slack = timedelta(seconds=CLOCK_SLACK_S)
    return run.opened_at - slack <= at and (run.ended_at is None or at <= run.ended_at + slack)


def check_proof(ask: api.OpenSession, token_hash: str) -> None:
    """`BadRequest` unless the key itself has signed this request under this token."""
    signed = proof_of(token_hash, ask.public_nkey, ask.inbox_prefix)
    try:
        signature = base64.urlsafe_b64decode(ask.proof + "==")
        raw = decode_public(ask.public_nkey, NkeyKind.USER)
        Ed25519PublicKey.from_public_bytes(raw).verify(signature, signed)
    except (InvalidSignature, ValueError):
        raise BadRequest(why="proof is not public_nkey's signature of this request") from None


def _epoch(agent: Agent, token: str) -> int:
    """The epoch for which the token opens sessions; of_token has made sure that there is one."""
    epoch = agent.epoch_of(digest(token), datetime.now(UTC))
    if epoch is None:
        raise UnknownToken(tail=tail(token))
    return epoch
