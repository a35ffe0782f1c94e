"""Checks of the inbox by the server's own counts, as they were before the doctor's own message."""

from sos.sdk.doctor.check import Says, critical, ok, skipped, warning
from sos.sdk.doctor.patient import Patient
from sos.wire.api import InboxState

UNREAD_WARNING = 100
"""More than any agent takes in at once: nobody reads this inbox, or too slowly."""
MAX_IN_FLIGHT = 1_000
"""The gateway's `max_ack_pending`: with as many handed out and not settled the server gives out nothing more."""
IN_FLIGHT_WARNING = MAX_IN_FLIGHT // 2


def lag(patient: Patient) -> Says:
    """`inbox.lag`: how far the inbox is behind what is stored, and what was handed out and not settled."""
    me = patient.known()
    return lag_says(me.inbox, me.agent.name) if me.inbox is not None else skipped("NATS does not answer the gateway")


def unread(patient: Patient) -> Says:
    """`inbox.unread`: how many messages nobody has settled."""
    me = patient.known()
    return unread_says(me.inbox, me.agent.name) if me.inbox is not None else skipped("NATS does not answer the gateway")


def lag_says(inbox: InboxState, name: str) -> Says:
    """What these counts mean for the consumer."""
    behind = inbox.unread - inbox.in_flight  # what is handed out and not settled counts as unread too
    found = f"{behind} behind, {inbox.in_flight} handed out and not settled, {inbox.redelivered} of them before too"
    cure = f"A handler hangs or fails: look at the log of {name}, or restart it; what it has not settled comes again."
    if inbox.in_flight >= MAX_IN_FLIGHT:
        return critical(f"{found}; the server gives out nothing more", cure)
    return warning(found, cure) if inbox.in_flight >= IN_FLIGHT_WARNING else ok(found)


def unread_says(inbox: InboxState, name: str) -> Says:
    """What so much unread mail means."""
    found = f"{inbox.unread} unread"
    if inbox.unread > UNREAD_WARNING:
        return warning(found, f"Read it: sos agent inbox --as {name}, or see that the agent runs.")
    return ok(found)
