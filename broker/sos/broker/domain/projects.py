"""A project: a tenant with a slug, a tier and an owner's token. Stream REGISTRY, one fact each."""

import msgspec

from sos.broker.domain.event import Command, Event
from sos.wire import names
from sos.wire.api import Tier
from sos.wire.envelope import Moment
from sos.wire.errors import NameTaken
from sos.wire.subjects import RegistryFact


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """State. `tenant_token_hash` is SHA-256 in hex, `tenant_token_tail` the token's last four characters."""

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


class ProjectCreated(Event, frozen=True, kw_only=True, tag="project.created"):
    """There is a project."""

    slug: str
    project_id: str
    tier: Tier
    tenant_token_hash: str
    tenant_token_tail: str


def decide(state: Project | None, command: CreateProject) -> tuple[ProjectCreated, ...]:
    """`BadName` for a slug that is none, `NameTaken` if it exists."""
    slug = names.check(command.slug, "project slug")
    if state is not None:
        raise NameTaken(what="project", name=slug)
    return (ProjectCreated(**msgspec.structs.asdict(command)),)


def apply(_: Project | None, event: ProjectCreated) -> Project:
    """The project after `event`."""
    return Project(
        slug=event.slug,
        project_id=event.project_id,
        tier=event.tier,
        tenant_token_hash=event.tenant_token_hash,
        tenant_token_tail=event.tenant_token_tail,
        created_at=event.at,
    )


def subject(slug: str) -> str:
    """Where a project's facts are: `registry.<slug>.project.<slug>`."""
    return str(RegistryFact(slug, "project", slug))
