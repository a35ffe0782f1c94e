"""What an agent asks of the gateway over NATS, and what it knows of its squads from the answers."""

import logging
from collections.abc import Callable

from sos.sdk.session import Session
from sos.wire import api, subjects
from sos.wire.errors import ErrorBody, GatewayUnreachable, NatsUnreachable, SosError, from_wire

log = logging.getLogger("sos.sdk")

CALL_TIMEOUT_S = 5.0
REFRESH_TIMEOUT_S = 2.0
"""For what only helps with something else: the closest names of a wrong one, a squad that is not known here."""


class Calls:
    """Requests as this agent; the gateway reads who asks from the subject."""

    def __init__(self, session: Callable[[], Session], gateway_url: str) -> None:
        self._session = session
        self._gateway_url = gateway_url

    async def call[T](self, verb: str, ask: api.Request, answer: type[T], timeout_s: float = CALL_TIMEOUT_S) -> T:
        """One request, one answer. What the gateway refuses with is raised here; `GatewayUnreachable` if it is away."""
        session = self._session()
        line = await session.line(timeout_s)
        subject = str(subjects.ApiCall(session.opened.project, session.opened.name, verb))
        try:
            reply = await line.request(subject, api.encode(ask), timeout_s=timeout_s)
        except NatsUnreachable as e:
            raise GatewayUnreachable(url=self._gateway_url, why=e.why) from None
        if reply.status == "503":
            raise GatewayUnreachable(url=self._gateway_url, why="no gateway serves this project")
        if "Nats-Service-Error" in reply.headers:
            raise from_wire(api.decode(reply.body, ErrorBody))
        return api.decode(reply.body, answer)

    async def directory(self) -> api.Directory:
        """Every address of the project, and this agent's squads."""
        return await self.call("directory", api.ListDirectory(), api.Directory, REFRESH_TIMEOUT_S)


class Memberships:
    """The squads this agent is in, and since when."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._known: dict[str, api.Membership] = {}
        self._now: set[str] = set()
        self._told: api.SessionOpened | None = None

    def __contains__(self, squad: str) -> bool:
        return squad in self._now

    def opened(self, opened: api.SessionOpened) -> None:
        """A session was opened or renewed; told twice of the same one, nothing changes."""
        if opened is not self._told:
            self._told = opened
            self.remember(opened.memberships)

    def remember(self, memberships: tuple[api.Membership, ...]) -> None:
        """All squads this agent is in now. What is known of those that were left stays, for what is on its way."""
        self._now = {m.squad for m in memberships}
        self._known |= {m.squad: m for m in memberships}

    async def of(self, squad: str) -> api.Membership | None:
        """This agent's membership. One that is not known here was made elsewhere: the gateway is asked, and if it is
        away the message counts as due, for better an old broadcast than none."""
        if squad not in self._known:
            try:
                self.remember((await self._calls.directory()).memberships)
            except SosError as e:
                log.warning("squad memberships could not be looked up: %s", e)
        return self._known.get(squad)
