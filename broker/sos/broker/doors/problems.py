"""How a refusal leaves by HTTP: problem+json (RFC 9457), and the one table from a kind of error to a status."""

import logging
import traceback

import msgspec

from sos.wire.errors import ErrorBody, Internal, Kind, SosError
from sos.wire.tokens import redact

log = logging.getLogger(__name__)

STATUS: dict[Kind, int] = {
    Kind.INVALID: 422,
    Kind.UNAUTHENTICATED: 401,
    Kind.REFUSED: 403,
    Kind.NOT_FOUND: 404,
    Kind.CONFLICT: 409,
    Kind.EXHAUSTED: 507,
    Kind.THROTTLED: 429,
    Kind.UNREACHABLE: 503,
    Kind.INTERNAL: 500,
}
MEDIA_TYPE = "application/problem+json"


class Problem(ErrorBody, frozen=True, kw_only=True):
    """An error's body with the members of RFC 9457. `type` is a URN of the error's stable code."""

    type: str
    title: str
    status: int


def problem(error: SosError, status: int | None = None) -> Problem:
    """The problem for an error. `status` overrides the table where HTTP itself says more (405, 413)."""
    body = error.to_wire()
    return Problem(
        type=f"urn:sos:error:{body.code}",
        title=body.code.replace("_", " "),
        status=status or STATUS[error.kind],
        code=body.code,
        detail=body.detail,
        cure=body.cure,
        fields=body.fields,
    )


def encode_problem(error: SosError, status: int | None = None) -> tuple[int, bytes]:
    """Status and body."""
    shown = problem(error, status)
    return shown.status, msgspec.json.encode(shown)


def as_refusal(error: Exception, what: str) -> SosError:
    """The error to answer with. One that is not ours is a defect: it is logged here, redacted, and never sent."""
    if isinstance(error, SosError):
        return error
    log.error("while handling %s:\n%s", what, redact("".join(traceback.format_exception(error))))
    return Internal(what=what)
