"""One project at run time: its account, its connection, its two streams, and NATS made to look as the facts say.

`settle_*` are level-triggered: they compare what NATS has with what the views say and change what differs. They may run
at any time, any number of times, by any number of gateways; a gateway that died between a fact and its consequence
leaves nothing behind that the next start does not settle.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from sos.broker.config import Config
from sos.broker.control.journal import Journal
from sos.broker.domain import addresses, sessions
from sos.broker.domain.addresses import AddressOf, AddressState, SetAddress
from sos.broker.domain.agents import Agent, AgentState
from sos.broker.domain.projects import Project
from sos.broker.log.jetstream import JetStreamLog
from sos.broker.nats.accounts import Accounts, AccountSpec, gateway_user
from sos.broker.nats.connection import Connection, connect
from sos.broker.nats.keys import AccountKeys
from sos.broker.nats.streams import events_stream, inbox_consumer, messages_stream
from sos.broker.views import Views, check_not_behind, events_key
from sos.wire import api
from sos.wire.errors import NatsUnreachable, SosError
from sos.wire.subjects import EVENTS, MESSAGES

log = logging.getLogger(__name__)

GATEWAY = "gateway"
SETTLE_AT_ONCE = 16
"""Addresses and inboxes settled at a time when a project is opened."""

SETTLE_AGAIN_S = 0.5

_ADDRESS: dict[AgentState, AddressState] = {"active": "open", "disabled": "suspended", "revoked": "closed"}


class Tenant:
    """An open project. Made by `open_tenant`."""

    def __init__(
        self,
        project: Project,
        keys: AccountKeys,
        connection: Connection,
        journal: Journal,
        accounts: Accounts,
        config: Config,
    ) -> None:
        self._accounts = accounts
        self.slug = project.slug
        self.project = project
        self.keys = keys
        self.connection = connection
        self.journal = journal
        self._views = journal.views
        self._config = config
        self._settling = asyncio.Lock()
        self._cutting = asyncio.Lock()
        self._owed: set[asyncio.Task[None]] = set()
        self._void: dict[str, int] = {}

    async def messages_head(self) -> int:
        """The last sequence of MESSAGES, as its leader knows it."""
        info = await self.connection.js(f"STREAM.INFO.{MESSAGES}")
        return int(info["state"]["last_seq"])

    async def live_sessions(self) -> set[str]:
        """The sessions that are connected at this moment, asked of NATS."""
        connected = await self._accounts.connected_users(self.keys.identity.public)
        return {s.session for s in await self._views.sessions(self.slug, datetime.now(UTC)) if s.nkey in connected}

    async def inbox_state(self, name: str) -> api.InboxState:
        """An agent's durable, as the server knows it."""
        info = await self.connection.js(f"CONSUMER.INFO.{MESSAGES}.{name}")
        return api.InboxState(
            unread=info["num_pending"] + info["num_ack_pending"],
            in_flight=info["num_ack_pending"],
            redelivered=info["num_redelivered"],
            stream_messages=(await self.connection.js(f"STREAM.INFO.{MESSAGES}"))["state"]["messages"],
        )

    # ── making NATS as the facts say ─────────────────────────────────────────────────────────────────────────────

    async def settle_agent(self, name: str) -> None:
        """The agent's inbox and address."""
        agent, _ = await self._views.agent(self.slug, name)
        if agent is None:
            return
        async with self._settling:
            if agent.state != "revoked":
                await self.connection.open_inbox(await self._inbox(name))
            await self._set_address("agent", name, _ADDRESS[agent.state])

    async def settle_minted(self, name: str) -> None:
        """As `settle_agent`; if NATS goes away meanwhile it is made up for as soon as NATS is back. The agent is on
        record and its token is in no other answer, so the mint itself must not fail any more."""
        try:
            await self.settle_agent(name)
        except NatsUnreachable as e:
            log.warning("agent %s of %s gets its inbox when NATS is back: %s", name, self.slug, e)
            task = asyncio.create_task(self._settle_until_done(name), name=f"settle {self.slug} {name}")
            self._owed.add(task)
            task.add_done_callback(self._owed.discard)

    async def _settle_until_done(self, name: str) -> None:
        while True:
            await asyncio.sleep(SETTLE_AGAIN_S)
            try:
                return await self.settle_agent(name)
            except NatsUnreachable:
                continue

    async def close(self) -> None:
        """End what is still owed; the next start of the gateway settles it."""
        owed = list(self._owed)
        for task in owed:
            task.cancel()
        await asyncio.gather(*owed, return_exceptions=True)

    async def cut(self, agent: str = "", confirmed: Callable[[], None] | None = None) -> int:
        """Make void on the servers what the facts say is void, and return when nobody is connected with it and the end
        of its sessions is on record; `confirmed` is called as soon as nobody is.

        With an agent's name: how many of its keys are void. Sessions that other gateways opened meanwhile are seen,
        because the journal is read first.
        """
        async with self._cutting:
            await self.journal.catch_up()
            void = await self._views.void_keys(self.slug, datetime.now(UTC))
            revocations = {key.nkey: int(key.expires_at.timestamp()) + 1 for key in void}
            new = revocations.keys() - self._void.keys()
            if new:
                await self._accounts.push(account_spec(self.project, self._config, revocations))
                await self._accounts.wait_gone(self.keys.identity.public, new)
                self._void |= revocations
        if confirmed is not None:
            confirmed()
        for key in void:
            if key.nkey in new and not key.ended:
                await self.end_session(key.agent, key.session, "cut")
        return sum(key.agent == agent for key in void)

    async def prepare_cut(self, agent: str) -> None:
        """While NATS is away: have its server find every key of this agent void when it comes back."""
        held = await self._views.keys_of(self.slug, agent, datetime.now(UTC))
        revocations = {nkey: int(expires_at.timestamp()) + 1 for nkey, expires_at in held}
        self._accounts.prepare(account_spec(self.project, self._config, revocations))

    async def end_session(self, agent: str, session: str, reason: sessions.EndReason) -> None:
        """Record the end of a run; one that has ended is left as it is."""
        command = sessions.EndSession(
            at=datetime.now(UTC), actor=GATEWAY, project=self.slug, agent=agent, session=session, reason=reason
        )
        state, _ = await self._views.session_keys(self.slug, agent)
        for event in sessions.decide(state, command):
            await self.journal.record(sessions.subject(self.slug, agent), event)

    def owes(self, nkeys: Iterable[str]) -> bool:
        """Whether any of these keys, which are void, was not pushed as such yet."""
        return not self._void.keys() >= set(nkeys)

    async def settle_squad(self, squad: str, *agents: str) -> None:
        """The squad's address, and the inboxes of those who joined or left it."""
        async with self._settling:
            for name in agents:
                await self.connection.open_inbox(await self._inbox(name))
        state, _ = await self._views.squad(self.slug, squad)
        if state is not None:
            await self._set_address("squad", squad, "open", len(state.members))

    async def settle_all(self) -> None:
        """Everything of the project that is not as it should be."""
        inboxes = await self._inboxes()
        room = asyncio.Semaphore(SETTLE_AT_ONCE)

        async def one(agent: Agent) -> None:
            async with room:
                address, _ = await self._views.address(self.slug, "agent", agent.name)
                settled = address is not None and address.state == _ADDRESS[agent.state]
                wanted = (await self._inbox(agent.name))["filter_subjects"]
                if not settled or (agent.state != "revoked" and inboxes.get(agent.name) != wanted):
                    await self._try_to_settle(agent.name)

        await asyncio.gather(*(one(agent) for agent in await self._views.agents(self.slug)))
        for squad in await self._views.squads(self.slug):
            await self.settle_squad(squad.squad)

    async def _try_to_settle(self, name: str) -> None:
        """One agent that cannot be settled keeps nobody else of the project from being served."""
        try:
            await self.settle_agent(name)
        except NatsUnreachable:
            raise
        except SosError as e:
            log.error("agent %s of %s has no inbox: %s", name, self.slug, e)  # noqa: TRY400 - no defect of ours

    async def _inbox(self, name: str) -> dict[str, Any]:
        squads = [squad for squad, _ in await self._views.memberships_of(self.slug, name)]
        return inbox_consumer(self.slug, name, squads, self._config.ack_wait_s)

    async def _inboxes(self) -> dict[str, list[str]]:
        """The filters of every durable there is, sorted, by name."""
        found: dict[str, list[str]] = {}
        while True:
            page = await self.connection.js(f"CONSUMER.LIST.{MESSAGES}", {"offset": len(found)})
            consumers: list[dict[str, Any]] = page.get("consumers") or []
            found |= {c["name"]: _filters(c["config"]) for c in consumers}
            if not consumers or len(found) >= page["total"]:
                return found

    async def _set_address(self, of: AddressOf, name: str, state: AddressState, members: int | None = None) -> None:
        command = SetAddress(
            at=datetime.now(UTC), actor=GATEWAY, project=self.slug, of=of, name=name, state=state, members=members
        )
        subject = addresses.subject(self.slug, of, name)
        await self.journal.execute(subject, lambda: self._views.address(self.slug, of, name), addresses.decide, command)


def _filters(config: dict[str, Any]) -> list[str]:
    one = config.get("filter_subject")
    return sorted(config.get("filter_subjects") or ([one] if one else []))


def account_spec(project: Project, config: Config, revocations: Mapping[str, int]) -> AccountSpec:
    """What the project's account is to be."""
    return AccountSpec(
        project=project.slug,
        project_id=project.project_id,
        limits=config.tiers[project.tier],
        revocations=revocations,
        replicas=config.replicas,
    )


@asynccontextmanager
async def open_tenant(
    project: Project, accounts: Accounts, urls: Callable[[], tuple[str, ...]], views: Views, config: Config
) -> AsyncGenerator[Tenant]:
    """The project's account pushed, its streams made, its views caught up and NATS settled. `DataLoss` if its facts
    end before what the views have seen."""
    limits = config.tiers[project.tier]
    void = await views.void_keys(project.slug, datetime.now(UTC))
    if void or await views.has_sessions(project.slug):  # not for a new project: the server would look for it for 1.9 s
        await accounts.recall_void(project.slug, project.project_id)
    revocations = {key.nkey: int(key.expires_at.timestamp()) + 1 for key in void}
    keys = await accounts.push(account_spec(project, config, revocations))
    user, jwt = gateway_user(keys)
    async with connect(urls(), user, jwt, f"gateway {project.slug}") as connection:
        await connection.ensure_stream(messages_stream(project.slug, limits, config.replicas))
        await connection.ensure_stream(events_stream(project.slug, limits, config.replicas))
        journal = Journal(events_key(project.slug), JetStreamLog(connection, EVENTS, chained=False), views)
        cursor = await views.cursor(journal.key)
        check_not_behind(journal.key, cursor, await journal.log.head(), "")
        await journal.catch_up()
        tenant = Tenant(project, keys, connection, journal, accounts, config)
        await tenant.cut()
        await tenant.settle_all()
        async with journal.followed():
            try:
                yield tenant
            finally:
                await tenant.close()
