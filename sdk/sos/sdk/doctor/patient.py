"""The agent that is examined: what this machine knows of it, and what the checks have learned so far."""

import msgspec

from sos.sdk.doctor.local import Local
from sos.sdk.doctor.probe import Probe
from sos.wire import api


class Patient(msgspec.Struct, kw_only=True):
    """Filled by the checks in their order; a check names in `needs` the ones whose findings it stands on."""

    local: Local
    health: api.Health | None = None
    me: api.Me | None = None
    clock_s: float = 0.0
    """How far the gateway's clock is ahead of this machine's, by the middle of the round trip that asked."""
    clock_margin_s: float = 0.0
    nats_version: str = ""
    """The server's own word, from its first line."""
    probe: Probe | None = None
    """The agent's own connection, once there is one."""

    def known(self) -> api.Me:
        """What the gateway said of the agent; for checks that need `token.valid`."""
        if self.me is None:
            raise LookupError("the gateway has not said who this is")
        return self.me

    async def leave(self) -> None:
        """Disconnect."""
        if self.probe is not None:
            await self.probe.close()
