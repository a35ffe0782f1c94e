"""Who holds which token: from a bearer to a principal, and the operator's own token on this machine."""

import hmac
from pathlib import Path

import msgspec

from sos.broker.views import Views
from sos.wire.errors import Forbidden, UnknownToken
from sos.wire.home import private_dir, write_secret
from sos.wire.tokens import TokenKind, check, digest, make, tail

OPERATOR_TOKEN_FILE = "operator.token"  # noqa: S105 - a file's name


class Principal(msgspec.Struct, frozen=True):
    """Who asks: the operator (`project` is None) or the owner of one project."""

    project: str | None

    @property
    def actor(self) -> str:
        """As it stands in facts."""
        return "operator" if self.project is None else f"tenant:{self.project}"

    def may_operate(self, what: str) -> None:
        """`Forbidden` unless this is the operator."""
        if self.project is not None:
            raise Forbidden(what=what, needs="the operator's token (sk-op-…)")

    def may_administer(self, project: str, what: str) -> None:
        """`Forbidden` unless this is the operator or the project's owner."""
        if self.project not in {None, project}:
            raise Forbidden(what=what, needs=f"the token of project {project} (sk-ten-…)")


class Doorkeeper:
    """Tells operators and tenants by their tokens. Only hashes are compared, in constant time or by index."""

    def __init__(self, views: Views, operator_hash: str) -> None:
        self._views = views
        self._operator_hash = operator_hash

    async def admit(self, token: str) -> Principal:
        """The principal behind a token; `MalformedToken` or `UnknownToken`, which shows its last four characters."""
        kind = check(token, TokenKind.OPERATOR, TokenKind.TENANT)
        hashed = digest(token)
        if kind is TokenKind.OPERATOR and hmac.compare_digest(hashed, self._operator_hash):
            return Principal(None)
        project = await self._views.project_by_tenant_token(hashed) if kind is TokenKind.TENANT else None
        if project is None:
            raise UnknownToken(tail=tail(token))
        return Principal(project.slug)


def operator_token(home: Path) -> str:
    """The operator's token of this home, made at the first start: `<home>/operator.token`, 0600."""
    path = private_dir(home) / OPERATOR_TOKEN_FILE
    if not path.exists():
        write_secret(path, make(TokenKind.OPERATOR) + "\n")
    token = path.read_text().strip()
    check(token, TokenKind.OPERATOR)
    return token
