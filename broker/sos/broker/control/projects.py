"""Projects: made, listed, and open while the gateway runs."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import UTC, datetime

from sos.broker.config import Config
from sos.broker.control.journal import Journal
from sos.broker.control.tenant import Tenant, open_tenant
from sos.broker.control.tokens import Principal
from sos.broker.domain import projects
from sos.broker.domain.projects import Project
from sos.broker.errors import DataLoss
from sos.broker.nats.accounts import Accounts
from sos.broker.nats.tiers import TIERS
from sos.wire import api
from sos.wire.errors import SosError, UnknownProject
from sos.wire.ids import uuid7
from sos.wire.names import closest, normalise
from sos.wire.tokens import TokenKind, digest, make, tail

log = logging.getLogger(__name__)

REOPEN_PAUSE_S = 1.0
OPEN_AT_ONCE = 8
"""Projects opened at a time at the start."""

Urls = Callable[[], tuple[str, ...]]
Serve = Callable[[Tenant], AbstractAsyncContextManager[None]]
"""What makes a project reachable once it is open: the NATS door."""


class Projects:
    """All projects. What it opens is closed by `close`."""

    def __init__(self, config: Config, registry: Journal, accounts: Accounts, urls: Urls, serve: Serve) -> None:
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
        slug, token, at = normalise(ask.slug, "project slug"), make(TokenKind.TENANT), datetime.now(UTC)
        await self._accounts.check_room(TIERS[ask.tier], self._config.replicas)
        command = projects.CreateProject(
            at=at,
            actor=who.actor,
            slug=slug,
            project_id=uuid7(),
            tier=ask.tier,
            tenant_token_hash=digest(token),
            tenant_token_tail=tail(token),
        )
        await self._registry.execute(
            projects.subject(slug), lambda: self._views.project(slug), projects.decide, command
        )
        try:
            await self.tenant(slug)
        except SosError as e:  # it is created, and its token is in no other answer; it is opened at its next use
            log.error("project %s could not be opened yet: %s", slug, e)  # noqa: TRY400 - no defect of ours
        return api.ProjectCreated(slug=slug, tier=ask.tier, created_at=at, tenant_token=token)

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
        slug = normalise(project, "project slug")
        who.may_administer(slug, f"{what} of {slug}")
        return await self.tenant(slug)

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
