"""What all requests have in common, and their way in and out of bytes."""

from typing import Annotated, Any, Literal

import msgspec

from sos.wire.errors import BadRequest

Tier = Literal["starter", "growth", "scale"]
MAX_SUMMARY_CHARS = 500
MAX_CHARTER_CHARS = 8_000

FreeText = Annotated[str, msgspec.Meta(max_length=256)]
Summary = Annotated[str, msgspec.Meta(max_length=MAX_SUMMARY_CHARS)]
Charter = Annotated[str, msgspec.Meta(max_length=MAX_CHARTER_CHARS)]


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The root of all requests."""


def decode[T](body: bytes, as_type: type[T]) -> T:
    """`body` as a request or answer; `BadRequest` says which field does not fit."""
    try:
        return msgspec.json.decode(body or b"{}", type=as_type)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as e:
        why = str(e) if isinstance(e, msgspec.ValidationError) else "the body is not JSON"
        raise BadRequest(why=why) from e


def encode(answer: Any) -> bytes:
    """The JSON of a request or answer."""
    return msgspec.json.encode(answer)
