"""Projects and their squads, over HTTP: the operator and the project's owner."""

import msgspec

from sos.wire.api.shared import FreeText, Request, Summary, Tier
from sos.wire.envelope import Moment


class CreateProject(Request, frozen=True, kw_only=True):
    """POST /api/projects, by the operator."""

    slug: FreeText
    tier: Tier = "scale"


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """A project as shown."""

    slug: str
    tier: Tier
    created_at: Moment
    agents: int
    squads: int


class ProjectCreated(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `CreateProject`. `tenant_token` is shown this once."""

    slug: str
    tier: Tier
    created_at: Moment
    tenant_token: str


class CreateSquad(Request, frozen=True, kw_only=True):
    """POST /api/tenants/{slug}/squads."""

    squad: FreeText
    purpose: Summary = ""


class Squad(msgspec.Struct, frozen=True, kw_only=True):
    """A squad as shown."""

    project: str
    squad: str
    purpose: str
    members: int
    created_at: Moment


class TenantRotated(msgspec.Struct, frozen=True, kw_only=True):
    """POST /api/projects/{slug}/rotate: a new token for the project's owner, shown this once."""

    slug: str
    tenant_token: str


class SetEscalation(Request, frozen=True, kw_only=True):
    """POST /api/projects/{slug}/escalation and, for the operator's own, POST /api/escalation.

    `to` is `agent:NAME` or `squad:ID`; the operator's names the project too, `SLUG/agent:NAME`. Empty for none.
    """

    to: FreeText


class Escalation(msgspec.Struct, frozen=True, kw_only=True):
    """Where the bus reports what somebody has to look at."""

    to: str


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One fact of the registry as it is stored: `record` is the stored body, and `sha256`, in hex, that of its bytes:
    bytes that are no text cannot stand in `record` as they are."""

    seq: int
    subject: str
    stored_at: Moment
    record: str
    sha256: str


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """GET /api/audit?after=SEQ&limit=N: facts of the registry in order. `head` is its last sequence."""

    head: int
    records: tuple[AuditRecord, ...]
