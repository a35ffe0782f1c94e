"""A project: a tenant with a slug, a tier and an owner's token. Stream REGISTRY."""

import msgspec
from msgspec.structs import asdict, replace

from sos.broker.domain.event import Command, Event, broken
from sos.wire import names
from sos.wire.api import Tier
from sos.wire.envelope import Moment
from sos.wire.errors import NameTaken, UnknownProject
from sos.wire.subjects import RegistryFact


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """State. `tenant_token_hash` is SHA-256 in hex, `tenant_token_tail` the token's last four characters; both are
    empty while the owner has none."""

    slug: str
    project_id: str
    tier: Tier
    tenant_token_hash: str
    tenant_token_tail: str
    created_at: Moment


class CreateProject(Command, frozen=True, kw_only=True):
    """Make a project. The owner's token is made outside; only its hash and tail come in."""

    slug: str
    project_id: str
    tier: Tier
    tenant_token_hash: str
    tenant_token_tail: str


class RotateTenant(Command, frozen=True, kw_only=True):
    """Another token for the owner; the old one opens nothing any more."""

    slug: str
    tenant_token_hash: str
    tenant_token_tail: str


class VoidTenant(Command, frozen=True, kw_only=True):
    """The owner's token leaked: it opens nothing any more. The operator rotates it to give out another."""

    slug: str
    tenant_token_hash: str
    reason: str


class ProjectCreated(Event, frozen=True, kw_only=True, tag="project.created"):
    """There is a project."""

    slug: str
    project_id: str
    tier: Tier
    tenant_token_hash: str
    tenant_token_tail: str


class TenantRotated(Event, frozen=True, kw_only=True, tag="project.tenant_rotated"):
    """The owner holds another token."""

    slug: str
    tenant_token_hash: str
    tenant_token_tail: str


class TenantVoided(Event, frozen=True, kw_only=True, tag="project.tenant_voided"):
    """The owner's token opens nothing any more."""

    slug: str
    tenant_token_hash: str
    reason: str


ProjectCommand = CreateProject | RotateTenant | VoidTenant
ProjectEvent = ProjectCreated | TenantRotated | TenantVoided


def decide(state: Project | None, command: ProjectCommand) -> tuple[ProjectEvent, ...]:
    """`BadName` for a slug that is none, `NameTaken` if it exists, `UnknownProject`. Creating it again with the same
    token, or taking away a token that it does not have, is nothing."""
    slug = names.check(command.slug, "project slug")
    if isinstance(command, CreateProject):
        if state is None:
            return (ProjectCreated(**asdict(command)),)
        if state.tenant_token_hash == command.tenant_token_hash:
            return ()
        raise NameTaken(what="project", name=slug)
    if state is None:
        raise UnknownProject(project=slug)
    same = state.tenant_token_hash == command.tenant_token_hash
    if isinstance(command, RotateTenant):
        return () if same else (TenantRotated(**asdict(command)),)
    return (TenantVoided(**asdict(command)),) if same and command.tenant_token_hash else ()


def apply(state: Project | None, event: ProjectEvent) -> Project:
    """The project after `event`."""
    if isinstance(event, ProjectCreated):
        return Project(
            slug=event.slug,
            project_id=event.project_id,
            tier=event.tier,
            tenant_token_hash=event.tenant_token_hash,
            tenant_token_tail=event.tenant_token_tail,
            created_at=event.at,
        )
    if state is None:
        raise broken(subject(event.slug), event)
    if isinstance(event, TenantRotated):
        return replace(state, tenant_token_hash=event.tenant_token_hash, tenant_token_tail=event.tenant_token_tail)
    return replace(state, tenant_token_hash="", tenant_token_tail="")


def subject(slug: str) -> str:
    """Where a project's facts are: `registry.<slug>.project.<slug>`."""
    return str(RegistryFact(slug, "project", slug))
