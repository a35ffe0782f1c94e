"""The agent's own connection to NATS, and one message that it sends to itself and takes out again, alone.

Other mail that is handed out meanwhile is handed back unread. Importing this loads nothing of NATS; opening does.
"""

import asyncio
import contextlib
import sys
from time import monotonic
from typing import TYPE_CHECKING

from sos.sdk.doctor.local import Local
from sos.wire.home import agent_home
from sos.wire.ids import uuid7

if TYPE_CHECKING:
    from sos.sdk import AsyncAgent, Message

CONNECT_TIMEOUT_S = 4.0
HAND_BACK_S = 2.0
"""Mail handed back stays away this long: longer than a round trip takes, so that it does not come again meanwhile, and
soon enough for the agent that it is for."""
LOOK_EVERY_S = 0.05
STOP_S = 2.0
"""For handing back and saying goodbye."""
DATA = {"sos": "doctor"}
"""By this an agent's handler may tell the doctor's messages."""
TEXT = "sos agent doctor: a message to myself, to see that it comes back. Nothing is asked."


class Probe:
    """One session of the agent. `id` is the id of the message that makes the round trip."""

    def __init__(self, agent: "AsyncAgent") -> None:
        self.id = uuid7()
        self.agent = agent
        self._arrived = asyncio.Event()
        agent.on_message(self._take)

    @classmethod
    async def open(cls, local: Local) -> "Probe":
        """Connect; raises what the gateway or NATS refused with."""
        from sos.sdk import AsyncAgent

        agent = AsyncAgent(
            local.token,
            local.name or None,
            url=local.url,
            client="sos-cli",
            max_deliver=sys.maxsize,  # what the agent's own handler failed at is not parked on its behalf
            connect_timeout_s=CONNECT_TIMEOUT_S,
        )
        probe = cls(agent)
        try:
            await agent.connect()
        except BaseException:
            await agent.stop(drain_s=0.0)
            raise
        return probe

    async def close(self) -> None:
        """Disconnect, within `STOP_S`."""
        async with asyncio.timeout(STOP_S):
            await self.agent.stop(drain_s=STOP_S / 2)

    async def send(self) -> float:
        """Read the inbox from now on and send the message; when it was sent, by `monotonic`."""
        await self.agent.start()
        began = monotonic()
        await self.agent.send(self.agent.name, TEXT, data=DATA, id=self.id)
        return began

    async def returned(self, timeout_s: float) -> str:
        """Where the message came back within the time: `here`, to `another` run of the agent in this home, or ``."""
        from sos.sdk.seen import Seen

        record, deadline = Seen(agent_home(self.agent.project, self.agent.name)), monotonic() + timeout_s
        try:
            while not await self._arrives(LOOK_EVERY_S):
                if record.handled(self.agent.name, self.id):
                    return "here" if self._arrived.is_set() else "another"
                if monotonic() >= deadline:
                    return ""
        finally:
            record.close()
        return "here"

    async def _arrives(self, within_s: float) -> bool:
        with contextlib.suppress(TimeoutError):  # the caller looks elsewhere too before it waits again
            await asyncio.wait_for(self._arrived.wait(), within_s)
        return self._arrived.is_set()

    async def _take(self, message: "Message") -> None:
        from sos.sdk import HandBack

        if message.sender != self.agent.name or message.data != DATA:
            raise HandBack(HAND_BACK_S)
        if message.id == self.id:  # else one that an interrupted visit left behind
            self._arrived.set()
