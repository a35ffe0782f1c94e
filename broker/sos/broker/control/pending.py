"""Agents that are to be cut off and could not be yet, because NATS did not answer: one file each, on this disk.

The law: what is kept here is refused by this gateway from that moment on, and is carried out before the gateway serves
anything else once NATS is back, also after a crash of the gateway.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec

from sos.broker.errors import ServerFailed
from sos.wire.errors import NatsUnreachable, RevocationPending, UnknownAgent
from sos.wire.home import private_dir, write_secret

log = logging.getLogger(__name__)

Ending = Literal["disable", "revoke"]
CarryOut = Callable[["Intent"], Awaitable[None]]


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """What is to happen, as it was asked for."""

    ending: Ending
    project: str
    name: str
    at: datetime
    actor: str
    token_id: str
    decision: str


class Pending:
    """The intents of one home."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "pending"
        self._intents: dict[tuple[str, str], Intent] = {}
        self._carry_out: CarryOut | None = None
        self._available: Callable[[], bool] = bool
        self._lock = asyncio.Lock()
        for path in sorted(self._folder.glob("*.json")) if self._folder.exists() else ():
            try:
                intent = msgspec.json.decode(path.read_bytes(), type=Intent)
            except msgspec.MsgspecError as e:
                raise ServerFailed(why=f"{path} is not an intent to cut an agent off: {e}") from None
            self._intents[intent.project, intent.name] = intent

    def __bool__(self) -> bool:
        return bool(self._intents)

    def carry_out_with(self, carry_out: CarryOut, available: Callable[[], bool]) -> None:
        """Who carries them out, and whether NATS is there for it."""
        self._carry_out, self._available = carry_out, available

    @property
    def available(self) -> bool:
        """Whether anything can be carried out just now."""
        return self._available()

    def ends(self, project: str, name: str) -> Ending | None:
        """What is going to happen to this agent."""
        intent = self._intents.get((project, name))
        return intent.ending if intent else None

    def keep(self, intent: Intent) -> None:
        """On disk when this returns. A revocation is not weakened by a later suspension."""
        known = self._intents.get((intent.project, intent.name))
        if known is not None and known.ending == "revoke":
            return
        private_dir(self._folder)
        write_secret(self._path(intent), msgspec.json.encode(intent).decode())
        self._intents[intent.project, intent.name] = intent

    async def settle(self) -> None:
        """Carry out what there is. Nothing to do costs nothing; `RevocationPending` at once while NATS is away or it is
        being done, so that nobody is served before it is done and nobody waits for it in line."""
        if not self._intents or self._carry_out is None:
            return
        if self._lock.locked() or not self._available():
            first = next(iter(self._intents.values()))
            raise RevocationPending(project=first.project, name=first.name)
        async with self._lock:
            for intent in list(self._intents.values()):
                with suppress(UnknownAgent):  # revoked meanwhile, by another gateway
                    await self._carry_out(intent)
                self._path(intent).unlink(missing_ok=True)
                self._intents.pop((intent.project, intent.name), None)
                log.warning("agent %s of %s is cut off now (%s)", intent.name, intent.project, intent.ending)

    async def settle_if_possible(self) -> bool:
        """Whether nothing is left to be done."""
        try:
            await self.settle()
        except (NatsUnreachable, RevocationPending):
            return False
        return True

    def _path(self, intent: Intent) -> Path:
        return self._folder / f"{intent.project}.{intent.name}.json"
