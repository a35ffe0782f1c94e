"""Where the bus reports what somebody has to look at: a project's target, and the operator's own. Stream REGISTRY."""

import msgspec
from msgspec.structs import asdict

from sos.broker.domain.event import Command, Event
from sos.wire.subjects import SYSTEM, RegistryFact

OPERATOR = "operator"


class Escalation(msgspec.Struct, frozen=True, kw_only=True):
    """State. `of` is a project's slug, or empty for the operator; `to` reads `<slug>/agent:<name>` or
    `<slug>/squad:<id>`, empty for nobody."""

    of: str
    to: str


class SetEscalation(Command, frozen=True, kw_only=True):
    """Report there from now on. The target was looked up and written out in full."""

    of: str
    to: str


class EscalationSet(Event, frozen=True, kw_only=True, tag="escalation.set"):
    """It is reported there."""

    of: str
    to: str


def decide(state: Escalation | None, command: SetEscalation) -> tuple[EscalationSet, ...]:
    """Nothing if it is so already."""
    before = state.to if state else ""
    return () if before == command.to else (EscalationSet(**asdict(command)),)


def apply(_: Escalation | None, event: EscalationSet) -> Escalation:
    """The target after `event`."""
    return Escalation(of=event.of, to=event.to)


def subject(of: str) -> str:
    """`registry.<slug>.escalation.<slug>`, and `registry.sos.escalation_operator.operator` for the operator's."""
    return str(RegistryFact(of, "escalation", of)) if of else str(RegistryFact(SYSTEM, "escalation_operator", OPERATOR))
