"""All checks in their order: the machine, the runtimes, the token, the gateway, NATS, the inbox.

The order is the recovery guide's: what stands further up makes everything below it lie.
"""

import contextlib
from collections.abc import Callable

from sos.sdk.doctor import bus, gateway, inbox, machine, runtimes, tokens
from sos.sdk.doctor.check import Check, Finding, run
from sos.sdk.doctor.local import Local
from sos.sdk.doctor.patient import Patient

TOTAL_S = 16.0
"""The whole examination, so that with starting and disconnecting the command answers within 20 s."""

CHECKS: tuple[Check[Patient], ...] = (
    Check(id="python.version", look=machine.python),
    Check(id="disk.home", look=machine.disk),
    Check(id="home.permissions", look=machine.permissions),
    *(Check(id=f"runtime.config.{r.key}", look=runtimes.config_of(r)) for r in runtimes.RUNTIMES),
    Check(id="token.format", look=tokens.form),
    Check(id="token.service", look=tokens.service, needs=("token.format",)),
    Check(id="gateway.reachable", look=gateway.reachable, bound_s=gateway.HEALTH_TIMEOUT_S + 0.5),
    Check(
        id="token.valid",
        look=tokens.valid,
        needs=("token.service", "gateway.reachable"),
        bound_s=tokens.ME_TIMEOUT_S + 0.5,
    ),
    Check(id="token.scopes", look=tokens.scopes, needs=("token.valid",)),
    Check(id="clock", look=gateway.clock, needs=("token.valid",)),
    Check(id="version.skew", look=gateway.skew, needs=("gateway.reachable",)),
    Check(id="inbox.lag", look=inbox.lag, needs=("token.valid",)),
    Check(id="inbox.unread", look=inbox.unread, needs=("token.valid",)),
    Check(id="nats.reachable", look=bus.reachable, needs=("token.valid",), bound_s=bus.REACH_S),
    Check(id="nats.version", look=bus.server_version, needs=("token.valid",)),
    Check(id="inbox.round_trip", look=bus.round_trip, needs=("nats.reachable",), bound_s=bus.ROUND_TRIP_BOUND_S),
)


def _nobody(_: Finding) -> None:
    """Who asks for the findings as a whole need not hear of each."""


async def examine(local: Local, told: Callable[[Finding], None] = _nobody) -> tuple[Finding, ...]:
    """Every check once, in order, within `TOTAL_S`; `told` hears of each finding as it is made."""
    patient = Patient(local=local)
    try:
        return await run(CHECKS, patient, TOTAL_S, told)
    finally:
        with contextlib.suppress(TimeoutError):  # the findings are made; the connection ends with the process
            await patient.leave()
