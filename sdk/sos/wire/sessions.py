"""A session's identity: which run, of which client and model, acted under an agent's name; and the proof of its key."""

import hashlib
import re
import secrets
from datetime import datetime

RANDOM_CHARS = 8
MAX_LABEL_CHARS = 48
"""Of a client or a model in a stamp: with the longest project and agent (63 each) a stamp is 248 characters, and
wherever one is read 256 are allowed."""

CLIENTS: dict[str, str] = {
    "claude-code": "cldCd",
    "codex": "cdx",
    "gemini-cli": "gmnCl",
    "cursor": "crs",
    "sos-cli": "sosCl",
    "python": "py",
    "unknown": "unk",
}
"""Short forms of clients (docs/sessions.md shows this table)."""
MODELS: dict[str, str] = {
    "claude": "Cld",
    "sonnet": "Snt",
    "opus": "Ops",
    "haiku": "Hku",
    "gpt": "Gpt",
    "codex": "Cdx",
    "gemini": "Gmn",
    "flash": "Fls",
    "pro": "Pro",
    "mini": "Min",
    "llama": "Lma",
    "mistral": "Mst",
    "qwen": "Qwn",
    "deepseek": "Dsk",
    "unknown": "Unk",
}
"""Short forms of the words of a model's name. `claude` is left out where its family is named."""

_STAMP = re.compile(r"(.+)-(\d{8}-\d{4}-[0-9a-f]{8})")
_NO_WORD = re.compile(r"[^a-z0-9]+")
_FAMILIES = ("sonnet", "opus", "haiku")
_DATE = re.compile(r"\d{6,8}")


def stamp(project: str, agent: str, client: str, model: str, at: datetime) -> str:
    """`<project>-<agent>-<client>-<model>-<YYYYMMDD-HHMM>-<8 random hex>`, `at` in UTC."""
    parts = (project, agent, label(client), label(model), at.strftime("%Y%m%d-%H%M"))
    return "-".join((*parts, secrets.token_hex(RANDOM_CHARS // 2)))


def short(stamp_: str, project: str, agent: str, client: str, model: str) -> str:
    """The stamp with client and model in their short forms: `acme-kasra-cldCdSnt46-20260515-0942-1a2b3c4d`."""
    found = _STAMP.fullmatch(stamp_)
    return f"{project}-{agent}-{short_client(client)}{short_model(model)}-{found[2]}" if found else stamp_


def short_client(client: str) -> str:
    """A client's short form from the table. Of one that is not in it three letters of its first word and two of each
    other, five together at most: `my-own-tool` is `myOwTo`, cut to `myOwT`."""
    name = label(client)
    return CLIENTS.get(name) or _camel(name)


def short_model(model: str) -> str:
    """A model's short form: `claude-sonnet-4-6` is `Snt46`, `gpt-5.4` is `Gpt54`. A release date is left out."""
    words = [w for w in label(model).split("-") if not _DATE.fullmatch(w)]
    if any(family in words for family in _FAMILIES):
        words = [w for w in words if w != "claude"]
    return "".join(MODELS.get(w) or (w if w[0].isdigit() else w[:3].capitalize()) for w in words) or MODELS["unknown"]


def label(text: str) -> str:
    """A client's or model's free-form name as one word of a stamp; 'unknown' if nothing of it is a letter or digit.

    `claude-opus-4-6[1m]` is `claude-opus-4-6-1m`: this only describes, so nothing is refused.
    """
    return _NO_WORD.sub("-", text.lower()).strip("-")[:MAX_LABEL_CHARS].rstrip("-") or "unknown"


def proof_of(token_digest: str, public_nkey: str, inbox_prefix: str) -> bytes:
    """What a session's key signs when it is opened.

    The token's SHA-256 is in it, so that what one agent signed opens nothing under another's token: no agent can have
    somebody else's key put on record as its own, and cut with it.
    """
    return hashlib.sha256(f"sos session\n{token_digest}\n{public_nkey}\n{inbox_prefix}".encode()).digest()


def _camel(name: str) -> str:
    first, *rest = name.split("-")
    return (first[:3] + "".join(word[:2].capitalize() for word in rest))[:5]
