"""From a door's bytes back to the class that was raised behind it."""

from dataclasses import fields
from typing import get_type_hints

import msgspec

from sos.wire.error import ErrorBody, SosError
from sos.wire.errors.states import Internal


def from_wire(body: ErrorBody) -> SosError:
    """The error that a door sent, as the class it was; a code that is not known here becomes `Internal`."""
    unknown = Internal(what=f"a call ({body.code}: {body.detail})")
    cls = next((c for c in SosError.__subclasses__() if c.code == body.code), None)
    if cls is None:
        return unknown
    types, names = get_type_hints(cls), {f.name for f in fields(cls)}
    try:
        return cls(**{k: msgspec.convert(v, types[k]) for k, v in body.fields.items() if k in names})
    except (TypeError, msgspec.ValidationError):
        return unknown
