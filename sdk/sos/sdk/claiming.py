"""From what is at hand to the agent's own token: one that is saved or given, or, with an owner's token, a new one.

The law: a token that this install holds already is used before a new one is made; an owner's token is never written
into the agent's home; and a name that another install has is never taken from it. What a mint or a rotation brings is
asked for through `sos.sdk.once`, so that dying before it is saved loses nothing.
"""

import hashlib
import os
from pathlib import Path
from typing import Literal, NamedTuple

from sos.sdk import contexts, identity, once, profile, rotating
from sos.sdk.gateway import Gateway
from sos.wire import api
from sos.wire.errors import (
    AgentDisabled,
    BadRequest,
    IdempotencyMismatch,
    Kind,
    MissingToken,
    NameClaimed,
    NameTaken,
    SosError,
    UnknownToken,
    WrongIdentity,
)
from sos.wire.home import agent_home, sos_home
from sos.wire.tokens import TokenKind, check, digest, id_of

Origin = Literal["given", "saved", "minted", "rotated"]
_AWAY = {Kind.UNREACHABLE, Kind.INTERNAL, Kind.THROTTLED}


class AtHand(NamedTuple):
    """Tokens that were found, empty for none: the agent's own and an owner's. Neither is ever shown."""

    own: str
    owner: str

    def __repr__(self) -> str:
        return "AtHand()"


class Claimed(NamedTuple):
    """The agent's own token. `me` is the gateway's word on whose it is, None if it could not be asked just now and the
    home vouches for it; then `trouble` says why."""

    token: str
    origin: Origin
    project: str
    me: api.Me | None
    trouble: SosError | None = None

    def __repr__(self) -> str:
        return f"Claimed({self.origin})"


def at_hand(token_file: Path | None, url: str, root: Path | None = None) -> AtHand:
    """The tokens of `token_file` alone if it is given; else those of SOS_TOKEN, of SOS_ADMIN_TOKEN, and the operator's
    if this is the operator's home and `url` its bus. `MalformedToken` for one that is none."""
    if token_file is not None:
        found = [_read(token_file)]
    else:
        found = [os.environ.get(name, "").strip() for name in ("SOS_TOKEN", "SOS_ADMIN_TOKEN")]
        operators = (root or sos_home()) / "operator.token"
        if not any(found) and operators.exists() and identity.is_own(url, root):
            found = [_read(operators)]
    kinds = [(check(token), token) for token in found if token]
    own = next((token for kind, token in kinds if kind is TokenKind.AGENT), "")
    return AtHand(own, next((token for kind, token in kinds if kind is not TokenKind.AGENT), ""))


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as e:
        raise BadRequest(why=f"the token file {path} cannot be read ({type(e).__name__})") from None


class Claim:
    """One install's way to one agent's token."""

    def __init__(self, url: str, name: str, project: str, hand: AtHand, model: str, root: Path | None) -> None:
        self._url, self._name, self._project = url, name, project
        self._hand, self._model, self._root = hand, model, root

    async def token(self) -> Claimed:
        """The token, not yet saved where it is new. Raises what the gateway refuses with, `MissingToken`,
        `WrongIdentity`, `NameTaken`, `NameClaimed`, `GatewayUnreachable` where there is no token yet."""
        if self._hand.own:
            me = await self._of(self._hand.own)
            return Claimed(self._hand.own, "given", me.agent.project, me)
        stale: UnknownToken | None = None
        if (path := await self._saved()) is not None:
            try:
                return await self._held(path)
            except UnknownToken as e:
                stale = e
        if not self._hand.owner:
            raise stale or MissingToken(
                expected="the agent's own token (sk-bus-…), or its owner's to mint it (sk-ten-…)"
            )
        return await self._new(stale)

    # ── a token that is there ────────────────────────────────────────────────────────────────────────────────────

    async def _saved(self) -> Path | None:
        """Where this home holds a token of that name; which project's is settled first."""
        if not self._project and self._hand.owner:
            try:
                self._project = await self._owners_project()
            except SosError as e:
                if e.kind not in _AWAY or not self._held_names():
                    raise
        if self._project:
            path = agent_home(self._project, self._name, self._root) / identity.TOKEN_FILE
            return path if path.exists() else None
        try:
            path = identity.saved_token(self._name, "", self._root)
        except SosError as e:
            if e.kind is Kind.NOT_FOUND:
                return None
            raise
        self._project = path.parent.parent.name
        return path

    def _held_names(self) -> bool:
        """Whether this home holds a token of that name in any project: then the gateway may be away."""
        return any((self._root or sos_home()).glob(f"agents/*/{self._name}/{identity.TOKEN_FILE}"))

    async def _held(self, path: Path) -> Claimed:
        trouble = None
        try:
            await rotating.complete(self._url, self._project, self._name, self._root)
            me = await self._of(_read(path))
        except SosError as e:
            if e.kind not in _AWAY:
                raise
            me, trouble = None, e
        token = _read(path)
        check(token, TokenKind.AGENT)
        return Claimed(token, "saved", self._project, me, trouble)

    async def _of(self, token: str) -> api.Me:
        """Whose token it is; `WrongIdentity` if that is somebody else."""
        check(token, TokenKind.AGENT)
        me = await once.patiently(lambda: Gateway(self._url, token).call("GET", "/api/agent", api.Me))
        wanted = f"{self._name} of project {self._project}" if self._project else self._name
        if me.agent.name != self._name or self._project not in {"", me.agent.project}:
            raise WrongIdentity(claimed=wanted, actual=f"{me.agent.name} of project {me.agent.project}")
        return me

    # ── a new one, with the owner's ──────────────────────────────────────────────────────────────────────────────

    async def _new(self, stale: UnknownToken | None) -> Claimed:
        """Minted for this install; or, where the name is this install's or nobody's, a new token for it."""
        try:
            token = await self._mint()
            return Claimed(token, "minted", self._project, await self._of(token))
        except (NameTaken, IdempotencyMismatch, UnknownToken) as e:  # or minted long ago, and its token is another now
            taken = NameTaken(what="agent", name=self._name)
            token = await self._take_over(stale or taken, e)
            try:
                return Claimed(token, "rotated", self._project, await self._of(token))
            except UnknownToken as later:  # another install took the free name a moment later: it is theirs
                raise taken from later

    async def _mint(self) -> str:
        install = identity.install_id(self._root)
        ask = api.MintAgent(agent_name=self._name, model=self._model, install=install)
        key = hashlib.sha256(f"sos agent join\n{install}\n{self._project}\n{self._name}".encode()).hexdigest()
        return (await self._ask(f"{self._agents}/mint", ask, api.AgentMinted, key)).raw_token

    async def _take_over(self, refusal: SosError, cause: SosError) -> str:
        path = f"{self._agents}/{self._name}/rotate"
        if once.kept(self._home, path, self._asker) is None:  # else it was found free, and taking it has begun
            await self._check_free(refusal, cause)
        ask = api.RotateToken(install=identity.install_id(self._root))
        return (await self._ask(path, ask, api.AgentRotated)).raw_token

    async def _check_free(self, refusal: SosError, cause: SosError) -> None:
        """Let go of by its owner, or joined from here: then nobody else loses it. Else the refusal that fits."""
        listed = await once.patiently(lambda: self._owner.call("GET", self._agents, tuple[api.Agent, ...]))
        agent = next((a for a in listed if a.name == self._name), None)
        if agent is None or agent.state == "revoked":
            raise refusal from cause
        if agent.state == "disabled":
            raise AgentDisabled(project=agent.project, name=agent.name)
        released = agent.joined_at is None and not agent.token_tail
        if not released and not self._joined_here(agent):
            if agent.joined_at is None:
                raise refusal from cause
            since = f"{agent.joined_at:%Y-%m-%d %H:%M} UTC"
            raise NameClaimed(project=agent.project, name=agent.name, since=since) from cause

    def _joined_here(self, agent: api.Agent) -> bool:
        """Whether the join on the gateway's record is the last one from this home: then its token is merely old."""
        try:
            last = profile.load(self._project, self._name, self._root)
        except BadRequest:
            return False
        return last is not None and last.joined_at is not None and last.joined_at == agent.joined_at

    async def _ask[T](self, path: str, ask: api.Request, answer: type[T], key: str = "") -> T:
        return await once.ask(self._owner, self._home, path, ask, answer, asker=self._asker, key=key)

    async def _owners_project(self) -> str:
        """The project of the owner's token; the operator's opens all, so there it must be the only one, or the context
        must name it."""
        found = await once.patiently(lambda: self._owner.call("GET", "/api/projects", tuple[api.Project, ...]))
        if len(found) == 1:
            return found[0].slug
        if not (project := contexts.chosen().project):
            raise BadRequest(why="which project? Give --project SLUG: this token opens more than one, or none")
        return project

    @property
    def _owner(self) -> Gateway:
        return Gateway(self._url, self._hand.owner)

    @property
    def _asker(self) -> str:
        return id_of(digest(self._hand.owner))

    @property
    def _home(self) -> Path:
        return agent_home(self._project, self._name, self._root)

    @property
    def _agents(self) -> str:
        return f"/api/tenants/{self._project}/agents"
