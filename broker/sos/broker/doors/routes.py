"""Every HTTP route: those about agents from `agent_routes`, and those of projects and of the operator."""

from http import HTTPStatus
from typing import Any

from sos.broker.control.audit import MAX_RECORDS
from sos.broker.control.bus import Bus
from sos.broker.control.tokens import Principal
from sos.broker.doors.agent_routes import AGENT_ROUTES
from sos.broker.doors.route import OPERATOR, OPERATOR_ONLY, Parameters, Query, Route
from sos.wire import api


async def _create_project(bus: Bus, who: Principal, _: Parameters, ask: api.CreateProject) -> api.ProjectCreated:
    return await bus.projects.create(who, ask)


async def _projects(bus: Bus, who: Principal, _: Parameters, __: None) -> tuple[api.Project, ...]:
    return await bus.projects.list(who)


async def _rotate_tenant(bus: Bus, who: Principal, path: Parameters, _: None) -> api.TenantRotated:
    return await bus.projects.rotate(who, path["slug"])


async def _escalate_project(bus: Bus, who: Principal, path: Parameters, ask: api.SetEscalation) -> api.Escalation:
    return await bus.escalations.set_projects(who, path["slug"], ask)


async def _escalate(bus: Bus, who: Principal, _: Parameters, ask: api.SetEscalation) -> api.Escalation:
    return await bus.escalations.set_operators(who, ask)


async def _create_squad(bus: Bus, who: Principal, path: Parameters, ask: api.CreateSquad) -> api.Squad:
    return await bus.squads.create(who, path["slug"], ask)


async def _squads(bus: Bus, who: Principal, path: Parameters, _: None) -> tuple[api.Squad, ...]:
    return await bus.squads.list(who, path["slug"])


async def _add_to_catalogue(bus: Bus, who: Principal, _: Parameters, ask: api.AddToCatalogue) -> api.CatalogueEntry:
    return await bus.catalogue.add(who, ask)


async def _catalogue(bus: Bus, who: Principal, _: Parameters, __: None) -> tuple[api.CatalogueEntry, ...]:
    return await bus.catalogue.list(who)


async def _remove_from_catalogue(bus: Bus, who: Principal, path: Parameters, _: None) -> api.CatalogueEntry:
    return await bus.catalogue.remove(who, path["name"])


async def _audit(bus: Bus, who: Principal, given: Any, _: None) -> api.Audit:
    return await bus.auditing.read(who, given["after"], given["limit"])


ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path="/api/projects",
        summary="Create a project; its owner's token is in the answer and nowhere else. Operator only.",
        request=api.CreateProject,
        answer=api.ProjectCreated,
        status=HTTPStatus.CREATED,
        token=OPERATOR_ONLY,
        call=_create_project,
    ),
    Route(
        method="GET",
        path="/api/projects",
        summary="The projects this token may see.",
        answer=tuple[api.Project, ...],
        token=OPERATOR,
        call=_projects,
    ),
    Route(
        method="POST",
        path="/api/projects/{slug}/rotate",
        summary="Another token for a project's owner; the old one opens nothing any more. Operator only.",
        answer=api.TenantRotated,
        token=OPERATOR_ONLY,
        call=_rotate_tenant,
    ),
    Route(
        method="POST",
        path="/api/projects/{slug}/escalation",
        summary="Where it is reported what somebody has to look at in a project.",
        request=api.SetEscalation,
        answer=api.Escalation,
        token=OPERATOR,
        call=_escalate_project,
    ),
    Route(
        method="POST",
        path="/api/escalation",
        summary="Where it is reported what the operator has to look at. Operator only.",
        request=api.SetEscalation,
        answer=api.Escalation,
        token=OPERATOR_ONLY,
        call=_escalate,
    ),
    Route(
        method="POST",
        path="/api/tenants/{slug}/squads",
        summary="Create a squad.",
        request=api.CreateSquad,
        answer=api.Squad,
        status=HTTPStatus.CREATED,
        token=OPERATOR,
        call=_create_squad,
    ),
    Route(
        method="GET",
        path="/api/tenants/{slug}/squads",
        summary="The squads of a project.",
        answer=tuple[api.Squad, ...],
        token=OPERATOR,
        call=_squads,
    ),
    Route(
        method="POST",
        path="/api/catalog",
        summary="Offer an agent that the platform runs, or offer it as it is now. Operator only.",
        request=api.AddToCatalogue,
        answer=api.CatalogueEntry,
        status=HTTPStatus.CREATED,
        token=OPERATOR_ONLY,
        call=_add_to_catalogue,
    ),
    Route(
        method="GET",
        path="/api/catalog",
        summary="The agents that the platform runs and projects may activate.",
        answer=tuple[api.CatalogueEntry, ...],
        token=OPERATOR,
        call=_catalogue,
    ),
    Route(
        method="DELETE",
        path="/api/catalog/{name}",
        summary="Offer an agent no more. Operator only.",
        answer=api.CatalogueEntry,
        token=OPERATOR_ONLY,
        call=_remove_from_catalogue,
    ),
    Route(
        method="GET",
        path="/api/audit",
        summary="The registry's records as they are stored, to verify its chain. Operator only.",
        answer=api.Audit,
        token=OPERATOR_ONLY,
        query=(
            Query(name="after", default=0, description="The sequence after which to begin."),
            Query(
                name="limit", default=MAX_RECORDS, least=1, most=MAX_RECORDS, description="At most this many records."
            ),
        ),
        call=_audit,
    ),
    *AGENT_ROUTES,
)
