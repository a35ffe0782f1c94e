"""Names and slugs: what may stand as one token of a NATS subject.

The law of this file: whatever `normalise` returns matches `NAME`, and whatever matches `NAME` holds no dot, no
wildcard, no white space and no upper case. Everything that builds subjects relies on it.
"""

import difflib
import re
from collections.abc import Iterable

from sos.wire.errors import BadName
from sos.wire.secrets import check_no_secret

NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
"""A project slug, an agent name or a squad id: 1 to 63 characters, a valid DNS label, one NATS token."""

MAX_FREE_TEXT_CHARS = 256
"""Longer input is refused unread: no name that a person types comes near it."""

_JOINERS = re.compile(r"[\s._/:\\-]+")


def is_name(text: str) -> bool:
    """Whether `text` already is a name, unchanged."""
    return NAME.fullmatch(text) is not None


def check(text: str, what: str = "name") -> str:
    """Return `text` if it is a name as it stands, else raise `BadName`."""
    if not is_name(text):
        raise BadName(what=what, given=text[:MAX_FREE_TEXT_CHARS])
    return text


def normalise(text: str, what: str = "name") -> str:
    """Turn free text into a name, always the same one: `Mumega.CodeCheck` → `mumega-codecheck`.

    Lower-cases ASCII, turns each run of white space and of ``. _ / : \\ -`` into one hyphen and trims hyphens at both
    ends. Everything else that is not a letter or digit of ASCII is refused with `BadName` rather than dropped, so
    that two different texts rarely meet in one name and a look-alike letter never does.

    A token in the place of a name is refused with `SecretInMessage`: in lower case it would pass for a name, be shown
    and stored, and be little harder to guess than it is to read.
    """
    if len(text) > MAX_FREE_TEXT_CHARS or not text.isascii():
        raise BadName(what=what, given=text[:MAX_FREE_TEXT_CHARS])
    check_no_secret(text.encode())
    return check(_JOINERS.sub("-", text.lower()).strip("-"), what)


def recipient(text: str) -> str:
    """The agent that `to` names: `kasra` and `agent:kasra` are the same one."""
    text = text.strip()
    return normalise(text[len("agent:") :] if text.lower().startswith("agent:") else text, "agent name")


def closest(wanted: str, known: Iterable[str], most: int = 3) -> tuple[str, ...]:
    """The names a person may have meant, best first."""
    return tuple(difflib.get_close_matches(wanted, list(known), n=most, cutoff=0.6))
