"""Who holds which token: from a bearer to a principal, and the operator's own token on this machine."""

import hmac
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TypedDict

import msgspec

from sos.broker.views import Views
from sos.wire.errors import Forbidden, UnknownToken
from sos.wire.home import private_dir, write_secret
from sos.wire.tokens import TokenKind, check, digest, from_bytes, id_of, make, tail

OPERATOR_TOKEN_FILE = "operator.token"  # noqa: S105 - a file's name


class Stamp(TypedDict):
    """What every command carries: when, who, with which token, by what right."""

    at: datetime
    actor: str
    token_id: str
    decision: str


class Principal(msgspec.Struct, frozen=True):
    """Who asks: the operator (`project` is None) or the owner of one project. `token_id` says with which token,
    `repeat` is the identity of a request that may be repeated (see `sos.broker.control.idempotency`)."""

    project: str | None
    token_id: str = ""
    repeat: str = ""

    @property
    def actor(self) -> str:
        """As it stands in facts."""
        return "operator" if self.project is None else f"tenant:{self.project}"

    def stamp(self, at: datetime) -> Stamp:
        """For a command."""
        right = "operator of the bus" if self.project is None else f"owner of {self.project}"
        return Stamp(at=at, actor=self.actor, token_id=self.token_id, decision=f"allowed: {right}")

    def may_operate(self, what: str) -> None:
        """`Forbidden` unless this is the operator."""
        if self.project is not None:
            raise Forbidden(what=what, needs="the operator's token (sk-op-…)")

    def may_administer(self, project: str, what: str) -> None:
        """`Forbidden` unless this is the operator or the project's owner."""
        if self.project not in {None, project}:
            raise Forbidden(what=what, needs=f"the token of project {project} (sk-ten-…)")


class Bearer(msgspec.Struct, frozen=True):
    """An agent's token as it was shown, and the identity of a request that may be repeated."""

    token: str
    repeat: str = ""

    def __repr__(self) -> str:
        return f"Bearer(…{tail(self.token)})"


class Minting:
    """Makes tokens: random ones, or for a request that may be repeated always the same one.

    So a repetition of a request whose answer was lost finds what the first one did and shows its token again, although
    nothing but a hash of it was ever stored.
    """

    def __init__(self, derive: Callable[[str, str], bytes]) -> None:
        self._derive = derive

    def token(self, kind: TokenKind, repeat: str) -> str:
        """A token for the request whose identity is `repeat`, or for one without."""
        return from_bytes(kind, self._derive(kind.value, repeat)) if repeat else make(kind)


class Doorkeeper:
    """Tells operators and tenants by their tokens. Only hashes are compared, in constant time or by index."""

    def __init__(self, views: Views, home: Path) -> None:
        self._views = views
        self._home = home
        self._operator_hash = digest(operator_token(home))

    async def admit(self, token: str) -> Principal:
        """The principal behind a token; `MalformedToken` or `UnknownToken`, which shows its last four characters."""
        kind = check(token, TokenKind.OPERATOR, TokenKind.TENANT)
        hashed = digest(token)
        if kind is TokenKind.OPERATOR and self.is_operators(hashed):
            return Principal(None, id_of(hashed))
        project = await self._views.project_by_tenant_token(hashed) if kind is TokenKind.TENANT else None
        if project is None:
            raise UnknownToken(tail=tail(token))
        return Principal(project.slug, id_of(hashed))

    def is_operators(self, token_hash: str) -> bool:
        """Whether this is the hash of the operator's token."""
        return hmac.compare_digest(token_hash, self._operator_hash)

    def replace_operators(self) -> None:
        """The operator's token leaked: another one lies in its file from now on, and the old one opens nothing."""
        token = make(TokenKind.OPERATOR)
        write_secret(self._home / OPERATOR_TOKEN_FILE, token + "\n")
        self._operator_hash = digest(token)


def operator_token(home: Path) -> str:
    """The operator's token of this home, made at the first start: `<home>/operator.token`, 0600."""
    path = private_dir(home) / OPERATOR_TOKEN_FILE
    if not path.exists():
        write_secret(path, make(TokenKind.OPERATOR) + "\n")
    token = path.read_text().strip()
    check(token, TokenKind.OPERATOR)
    return token
