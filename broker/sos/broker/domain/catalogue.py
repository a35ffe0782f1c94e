"""The catalogue: agents that the platform runs, which projects may activate. Stream REGISTRY."""

import msgspec
from msgspec.structs import asdict

from sos.broker.domain.event import Command, Event, broken
from sos.wire import names
from sos.wire.envelope import Moment
from sos.wire.errors import NotInCatalogue
from sos.wire.roles import Role
from sos.wire.scopes import Scope
from sos.wire.skills import Skill
from sos.wire.subjects import SYSTEM, RegistryFact


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """State. One that was removed stays, `listed` false, so that it can be added again."""

    name: str
    model: str
    charter: str
    role: Role
    scopes: tuple[Scope, ...]
    skills: tuple[Skill, ...]
    added_at: Moment
    listed: bool


class AddEntry(Command, frozen=True, kw_only=True):
    """Offer an agent, or offer it as it is now."""

    name: str
    model: str
    charter: str
    role: Role
    scopes: tuple[Scope, ...]
    skills: tuple[Skill, ...]


class RemoveEntry(Command, frozen=True, kw_only=True):
    """Offer it no more. Those that were activated stay."""

    name: str


class EntryAdded(Event, frozen=True, kw_only=True, tag="catalogue.added"):
    """Projects may activate it."""

    name: str
    model: str
    charter: str
    role: Role
    scopes: tuple[Scope, ...]
    skills: tuple[Skill, ...]


class EntryRemoved(Event, frozen=True, kw_only=True, tag="catalogue.removed"):
    """It is offered no more."""

    name: str


CatalogueCommand = AddEntry | RemoveEntry
CatalogueEvent = EntryAdded | EntryRemoved


def decide(state: Entry | None, command: CatalogueCommand) -> tuple[CatalogueEvent, ...]:
    """`BadName`; `NotInCatalogue` for removing what was never there. What is so already is nothing."""
    names.check(command.name, "agent name")
    if isinstance(command, AddEntry):
        added = EntryAdded(**asdict(command))
        same = state is not None and msgspec.structs.replace(apply(None, added), added_at=state.added_at) == state
        return () if same else (added,)
    if state is None:
        raise NotInCatalogue(name=command.name)
    return (EntryRemoved(**asdict(command)),) if state.listed else ()


def apply(state: Entry | None, event: CatalogueEvent) -> Entry:
    """The entry after `event`."""
    if isinstance(event, EntryAdded):
        return Entry(
            name=event.name,
            model=event.model,
            charter=event.charter,
            role=event.role,
            scopes=event.scopes,
            skills=event.skills,
            added_at=event.at,
            listed=True,
        )
    if state is None:
        raise broken(subject(event.name), event)
    return msgspec.structs.replace(state, listed=False)


def subject(name: str) -> str:
    """Where an entry's facts are: `registry.sos.catalogue.<name>`."""
    return str(RegistryFact(SYSTEM, "catalogue", name))
