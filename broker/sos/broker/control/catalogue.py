"""The catalogue of platform-managed agents, kept by the operator."""

from datetime import UTC, datetime

from sos.broker.control.agents import ordered
from sos.broker.control.journal import Journal
from sos.broker.control.tokens import Principal
from sos.broker.domain import catalogue
from sos.broker.domain.catalogue import CatalogueCommand, Entry
from sos.wire import api
from sos.wire.errors import NotInCatalogue
from sos.wire.names import closest, normalise
from sos.wire.roles import mesh_role
from sos.wire.skills import checked


class Catalogue:
    """What projects may activate."""

    def __init__(self, registry: Journal) -> None:
        self._registry = registry
        self._views = registry.views

    async def add(self, who: Principal, ask: api.AddToCatalogue) -> api.CatalogueEntry:
        """Offer an agent, or offer it as it is now. Those that were activated before stay as they are."""
        who.may_operate("change the catalogue")
        name = normalise(ask.name, "agent name")
        await self._change(
            catalogue.AddEntry(
                **who.stamp(datetime.now(UTC)),
                name=name,
                model=ask.model,
                charter=ask.charter,
                role=mesh_role(ask.role)[0],
                scopes=ordered(ask.scopes),
                skills=checked(ask.skills),
            )
        )
        return await self._entry(name)

    async def list(self, _: Principal) -> tuple[api.CatalogueEntry, ...]:
        """What there is, for every owner."""
        return tuple([_shown(e) for e in await self._views.catalogue()])

    async def remove(self, who: Principal, name: str) -> api.CatalogueEntry:
        """Offer it no more."""
        who.may_operate("change the catalogue")
        name = normalise(name, "agent name")
        entry = await self._entry(name)
        await self._change(catalogue.RemoveEntry(**who.stamp(datetime.now(UTC)), name=name))
        return entry

    async def _change(self, command: CatalogueCommand) -> None:
        await self._registry.execute(
            catalogue.subject(command.name),
            lambda: self._views.catalogue_entry(command.name),
            catalogue.decide,
            command,
        )

    async def _entry(self, name: str) -> api.CatalogueEntry:
        entry, _ = await self._views.catalogue_entry(name)
        if entry is None or not entry.listed:
            raise NotInCatalogue(name=name, close=closest(name, [e.name for e in await self._views.catalogue()]))
        return _shown(entry)


def _shown(e: Entry) -> api.CatalogueEntry:
    return api.CatalogueEntry(
        name=e.name,
        model=e.model,
        charter=e.charter,
        role=e.role,
        scopes=e.scopes,
        skills=e.skills,
        added_at=e.added_at,
    )
