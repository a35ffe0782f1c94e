"""An address: whether mail to an agent or squad is taken. Stream EVENTS, on a subject that every agent may read.

So it holds nothing that every agent of the project may not know, and its fact reads as `sos.wire.api.AddressFact`.
"""

from typing import Literal

import msgspec

from sos.broker.domain.event import Command, Event
from sos.wire import subjects

AddressOf = Literal["agent", "squad"]
AddressState = Literal["open", "suspended", "closed"]


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """State. `members` is how many are in it, for a squad."""

    project: str
    of: AddressOf
    name: str
    state: AddressState
    members: int | None = None


class SetAddress(Command, frozen=True, kw_only=True):
    """Make it so."""

    project: str
    of: AddressOf
    name: str
    state: AddressState
    members: int | None = None


class AddressChanged(Event, frozen=True, kw_only=True, tag="address.changed"):
    """It is so now."""

    project: str
    of: AddressOf
    name: str
    state: AddressState
    members: int | None = None


def decide(state: Address | None, command: SetAddress) -> tuple[AddressChanged, ...]:
    """Nothing if it is so already; an address that never was is closed already. `BadName` for what is no name."""
    subject(command.project, command.of, command.name)
    if state is None and command.state == "closed":
        return ()
    if state is not None and (state.state, state.members) == (command.state, command.members):
        return ()
    return (AddressChanged(**msgspec.structs.asdict(command)),)


def apply(_: Address | None, event: AddressChanged) -> Address:
    """The address after `event`."""
    return Address(project=event.project, of=event.of, name=event.name, state=event.state, members=event.members)


def subject(project: str, of: AddressOf, name: str) -> str:
    """Where an address's facts are: `project.<project>.address.<of>.<name>`."""
    return str(subjects.Address(project, of, name))
