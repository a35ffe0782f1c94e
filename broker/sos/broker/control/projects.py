"""Projects: made, listed, and open while the gateway runs."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import UTC, datetime

from sos.broker.config import Config
from sos.broker.control.journal import Journal
from sos.broker.control.pending import Pending
from sos.broker.control.tenant import Tenant, open_tenant
from sos.broker.control.tokens import Minting, Principal
from sos.broker.domain import projects
from sos.broker.domain.projects import Project
from sos.broker.errors import DataLoss
from sos.broker.nats.accounts import Accounts
from sos.wire import api
from sos.wire.errors import SosError, UnknownProject
from sos.wire.ids import uuid7
from sos.wire.names import closest, normalise
from sos.wire.tokens import TokenKind, digest, tail

log = logging.getLogger(__name__)

REOPEN_PAUSE_S = 1.0
OPEN_AT_ONCE = 8
"""Projects opened at a time at the start."""

Urls = Callable[[], tuple[str, ...]]
Serve = Callable[[Tenant], AbstractAsyncContextManager[None]]
"""What makes a project reachable once it is open: the NATS door."""


class Projects:
    """All projects. What it opens is closed by `close`."""

    def __init__(
        self, config: Config, registry: Journal, accounts: Accounts, urls: Urls, minting: Minting, serve: Serve
    ) -> None:
        self.pending = Pending(config.home)
        self._minting = minting
        self._config = config
        self._registry = registry
        self._views = registry.views
        self._accounts = accounts
        self._urls = urls
        self._serve = serve
        self._watching: set[asyncio.Task[None]] = set()
        self._tenants: dict[str, Tenant] = {}
        self._opening: dict[str, asyncio.Lock] = {}
        self._failed: dict[str, SosError] = {}

    async def create(self, who: Principal, ask: api.CreateProject) -> api.ProjectCreated:
        """A new project with an account of its own. `StorageExhausted`, and none is created, if NATS has no room."""
        who.may_operate("create projects")
        slug, at = normalise(ask.slug, "project slug"), datetime.now(UTC)
        token = self._minting.token(TokenKind.TENANT, who.repeat)
        await self._accounts.check_room(self._config.tiers[ask.tier], self._config.replicas)
        command = projects.CreateProject(
            **who.stamp(at),
            slug=slug,
            project_id=uuid7(),
            tier=ask.tier,
            tenant_token_hash=digest(token),
            tenant_token_tail=tail(token),
        )
        await self.change(command)
        try:
            await self.tenant(slug)
        except SosError as e:  # it is created, and its token is in no other answer; it is opened at its next use
            log.error("project %s could not be opened yet: %s", slug, e)  # noqa: TRY400 - no defect of ours
        return api.ProjectCreated(slug=slug, tier=ask.tier, created_at=at, tenant_token=token)

    async def rotate(self, who: Principal, project: str) -> api.TenantRotated:
        """Another token for a project's owner; the old one opens nothing any more."""
        who.may_operate("give out owners' tokens")
        slug = (await self.tenant(normalise(project, "project slug"))).slug
        token = self._minting.token(TokenKind.TENANT, who.repeat)
        command = projects.RotateTenant(
            **who.stamp(datetime.now(UTC)), slug=slug, tenant_token_hash=digest(token), tenant_token_tail=tail(token)
        )
        await self.change(command)
        return api.TenantRotated(slug=slug, tenant_token=token)

    async def change(self, command: projects.ProjectCommand) -> None:
        """One command on a project."""
        slug = command.slug
        await self._registry.execute(
            projects.subject(slug), lambda: self._views.project(slug), projects.decide, command
        )

    async def list(self, who: Principal) -> tuple[api.Project, ...]:
        """Every project that `who` may see."""
        shown = [p for p in await self._views.projects() if who.project in {None, p.slug}]
        return tuple([await self._shown(p) for p in shown])

    async def _shown(self, p: Project) -> api.Project:
        n = await self._views.counts(p.slug)
        return api.Project(slug=p.slug, tier=p.tier, created_at=p.created_at, agents=n.agents, squads=n.squads)

    async def tenant(self, slug: str) -> Tenant:
        """The open project; opened now if another gateway created it a moment ago. `UnknownProject`."""
        if slug not in self._tenants:
            await self._registry.catch_up()
            project, _ = await self._views.project(slug)
            if project is None:
                known = [p.slug for p in await self._views.projects()]
                raise UnknownProject(project=slug, close=closest(slug, known))
            await self._open(project)
        return self._tenants[slug]

    async def administered(self, who: Principal, project: str, what: str) -> Tenant:
        """The project, if `who` may do `what` in it; whether it exists is told to nobody else."""
        return await self.tenant(self.may_administer(who, project, what))

    def may_administer(self, who: Principal, project: str, what: str) -> str:
        """The project's slug, if `who` may do `what` in it."""
        slug = normalise(project, "project slug")
        who.may_administer(slug, f"{what} of {slug}")
        return slug

    async def settle_cuts(self) -> None:
        """Push what is void by the facts and was not pushed yet: another gateway recorded it, a grace ended, or NATS
        was away."""
        owed: dict[str, set[str]] = {}
        for project, nkey in await self._views.all_void_keys(datetime.now(UTC)):
            owed.setdefault(project, set()).add(nkey)
        for slug, nkeys in owed.items():
            tenant = self._tenants.get(slug)
            if tenant is not None and tenant.owes(nkeys):
                await tenant.cut()

    async def end_run_out(self) -> None:
        """Record the end of sessions whose credential ran out."""
        for slug, agent, session in await self._views.sessions_over(datetime.now(UTC)):
            tenant = self._tenants.get(slug)
            if tenant is not None:
                await tenant.end_session(agent, session, "expired")

    def account_of(self, public: str) -> str:
        """Which open project's account has this key; empty if none."""
        open_ = self._tenants.values()
        return next((t.slug for t in open_ if public in {t.keys.identity.public, t.keys.signing.public}), "")

    @property
    def count(self) -> int:
        """How many are open."""
        return len(self._tenants)

    def why_not_open(self) -> str:
        """Which projects are not open or not followed, and why; empty if all are."""
        following = {t.slug: t.journal.failure for t in self._tenants.values() if t.journal.failure is not None}
        return " ".join(f"{slug}: {e.detail}" for slug, e in sorted((self._failed | following).items()))

    async def open_all(self) -> None:
        """Open every project that is not open yet. Lost facts are raised, for then nothing may be served; a project
        that fails otherwise is reported by `why_not_open` and tried again when it is next used."""
        room = asyncio.Semaphore(OPEN_AT_ONCE)

        async def one(project: Project) -> None:
            async with room:
                try:
                    await self._open(project)
                except DataLoss:
                    raise
                except SosError as e:
                    log.error("project %s could not be opened: %s", project.slug, e)  # noqa: TRY400 - no defect of ours

        await asyncio.gather(*(one(p) for p in await self._views.projects() if p.slug not in self._tenants))

    async def _open(self, project: Project) -> None:
        async with self._opening.setdefault(project.slug, asyncio.Lock()):
            if project.slug in self._tenants:
                return
            try:
                self._tenants[project.slug] = await self._enter(project)
            except SosError as e:
                self._failed[project.slug] = e
                raise
            self._failed.pop(project.slug, None)

    async def _enter(self, project: Project) -> Tenant:
        async with AsyncExitStack() as opening:
            tenant = await opening.enter_async_context(
                open_tenant(project, self._accounts, self._urls, self._views, self._config)
            )
            await opening.enter_async_context(self._serve(tenant))
            watching = asyncio.create_task(self._watch(tenant, opening.pop_all()), name=f"keep {project.slug} open")
            self._watching.add(watching)
            watching.add_done_callback(self._watching.discard)
        return tenant

    async def _watch(self, tenant: Tenant, opened: AsyncExitStack) -> None:
        """Hold a project open until its connection is lost for good, or the gateway stops. Lost, it is opened again."""
        async with opened:
            await tenant.connection.lost.wait()
            log.error("project %s: NATS ended its connection for good; opening it again", tenant.slug)
            del self._tenants[tenant.slug]
        while tenant.slug not in self._tenants:
            try:
                await self._open(tenant.project)
            except SosError as e:
                log.error("project %s could not be opened again: %s", tenant.slug, e)  # noqa: TRY400 - no defect of ours
                await asyncio.sleep(REOPEN_PAUSE_S)

    async def close(self) -> None:
        """Close every project."""
        watching = list(self._watching)
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
