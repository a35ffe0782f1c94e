"""Tokens: `sk-bus-…` an agent's, `sk-ten-…` a project owner's, `sk-op-…` the operator's.

A token is its prefix, 27 random base62 characters (160.7 bits) and 6 characters of CRC32 over both, so that a scanner
tells one from noise without a database, and a mistyped one is refused before anything is looked up. Only the SHA-256
is ever stored: 160 random bits need no slow hash.
"""

import hashlib
import re
import secrets
import zlib
from enum import StrEnum

from sos.wire.errors import MalformedToken

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BODY_CHARS = 27
_CRC_CHARS = 6
SEED_BYTES = 32
TAIL_CHARS = 4
"""At most this much of a token may reach a log or a screen after it was shown once."""


class TokenKind(StrEnum):
    """What a token opens."""

    AGENT = "sk-bus-"
    TENANT = "sk-ten-"
    OPERATOR = "sk-op-"


_TOKEN = re.compile(rf"(sk-bus-|sk-ten-|sk-op-)([0-9A-Za-z]{{{_BODY_CHARS}}})([0-9A-Za-z]{{{_CRC_CHARS}}})")
_NATS_SEED = re.compile(r"(?<![A-Z2-7])S[UAONCX][A-Z2-7]{56}(?![A-Z2-7])")
_JWT = re.compile(
    # A run of words is begun once, and left at once if it has not the dots: else a text of many `eyJ` takes for ever.
    r"(?<![\w-])(?=[\w-]{13,}+\.[\w-]{10,}+\.[\w-]{20,})([\w-]*?)(eyJ[\w-]{10,}+\.[\w-]{10,}+\.[\w-]{20,}+)"
)
_TOKENS = re.compile(
    # A token may begin with the last letters of what only looks like one: neither is left over.
    _TOKEN.pattern + r"(?:(?:(?<=sk)-|(?<=s)k-)(?:bus|ten|op)-[0-9A-Za-z]{33})*"
)


def make(kind: TokenKind) -> str:
    """A new token."""
    return from_bytes(kind, secrets.token_bytes(SEED_BYTES))


def check(token: str, *kinds: TokenKind) -> TokenKind:
    """The kind of a well-formed token; `MalformedToken` for any other text, or for a kind not among `kinds`."""
    found = _TOKEN.fullmatch(token)
    if found is None or _crc(found[1] + found[2]) != found[3]:
        raise MalformedToken(expected=_kinds(kinds))
    kind = TokenKind(found[1])
    if kinds and kind not in kinds:
        raise MalformedToken(expected=_kinds(kinds))
    return kind


def digest(token: str) -> str:
    """The SHA-256 of a token in hex: what is stored instead of it."""
    return hashlib.sha256(token.encode()).hexdigest()


def id_of(token_digest: str) -> str:
    """How a token is named in facts: the first 12 hex characters of its SHA-256, which opens nothing."""
    return token_digest[:12]


def from_bytes(kind: TokenKind, seed: bytes) -> str:
    """The token that 32 random or derived bytes make: the same bytes, the same token."""
    number, body = int.from_bytes(seed, "big"), ""
    for _ in range(_BODY_CHARS):
        number, digit = divmod(number, len(_ALPHABET))
        body += _ALPHABET[digit]
    return f"{kind.value}{body}{_crc(kind.value + body)}"


def tail(token: str) -> str:
    """The last four characters, the most of a token that may be shown."""
    return token[-TAIL_CHARS:]


def redact(text: str) -> str:
    """`text` with every token, NATS seed and JWT in it replaced by its kind and last four characters."""
    text = _TOKENS.sub(lambda m: f"{m[1]}…{m[0][-TAIL_CHARS:]}", text)
    text = _NATS_SEED.sub(lambda m: f"{m[0][:2]}…{m[0][-TAIL_CHARS:]}", text)
    return _JWT.sub(lambda m: f"{m[1]}eyJ…{m[0][-TAIL_CHARS:]}", text)


def holds_secret(text: str) -> bool:
    """Whether `text` holds one of our tokens (by checksum), a NATS seed or a JWT."""
    if any(_crc(m[1] + m[2]) == m[3] for m in _TOKEN.finditer(text)):
        return True
    return _NATS_SEED.search(text) is not None or _JWT.search(text) is not None


def _crc(text: str) -> str:
    number, digits = zlib.crc32(text.encode()), ""
    for _ in range(_CRC_CHARS):
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits


def _kinds(kinds: tuple[TokenKind, ...]) -> str:
    return " or ".join(f"{k.value}…" for k in kinds or tuple(TokenKind))
