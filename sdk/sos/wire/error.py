"""The root of every refusal and failure of the bus: a code, fields, and the cure in the text.

A `SosError` crosses every door: `to_wire` on one side, `from_wire` on the other give the same class with the same
fields. `kind` sorts errors for the doors' tables (HTTP status, exit code…); `code` is stable and is
what programs match.
Nothing secret may be put into a field: fields reach logs and screens.
"""

import re
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, ClassVar, cast

import msgspec


class Kind(StrEnum):
    """What sort of failure it is; each door has one table from these."""

    INVALID = "invalid"
    UNAUTHENTICATED = "unauthenticated"
    REFUSED = "refused"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    EXHAUSTED = "exhausted"
    THROTTLED = "throttled"
    UNREACHABLE = "unreachable"
    INTERNAL = "internal"


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """An error as it travels: inside problem+json over HTTP, as the reply of a NATS API call."""

    code: str
    detail: str
    cure: str
    fields: dict[str, Any] = {}


@dataclass(eq=False)
class SosError(Exception):
    """The root. `says` and `cure` are format strings over the fields."""

    code: ClassVar[str] = "sos_error"
    kind: ClassVar[Kind] = Kind.INTERNAL
    says: ClassVar[str] = "The bus failed."
    cure: ClassVar[str] = "See the gateway's log."

    def __init_subclass__(cls, kind: Kind, says: str, cure: str) -> None:
        """`code` is the class's name in snake case, and as stable as that name."""
        super().__init_subclass__()
        cls.code = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()
        cls.kind, cls.says, cls.cure = kind, says, cure

    def shown(self) -> dict[str, Any]:
        """The fields by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @property
    def detail(self) -> str:
        """What happened, one sentence."""
        return self.says.format_map(_Readable(self.shown()))

    @property
    def remedy(self) -> str:
        """What to do about it, one sentence."""
        return self.cure.format_map(_Readable(self.shown()))

    def __str__(self) -> str:
        return f"{self.detail} {self.remedy}".strip()

    def __reduce__(self) -> tuple[type["SosError"], tuple[Any, ...]]:
        return (type(self), tuple(self.shown().values()))

    def to_wire(self) -> ErrorBody:
        """The body that a door sends."""
        shown = {k: _printable(v) if isinstance(v, str) else v for k, v in self.shown().items()}
        return ErrorBody(code=self.code, detail=_printable(self.detail), cure=_printable(self.remedy), fields=shown)


def _printable(text: str) -> str:
    """`text` as UTF-8 can write it: argv holds a lone surrogate for each byte that is none."""
    return text.encode(errors="backslashreplace").decode()


class _Readable(dict[str, Any]):
    """Formats tuples as a list of words, and an empty one as 'none'."""

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        return ", ".join(map(str, cast("list[object]", value))) or "none" if isinstance(value, list | tuple) else value
