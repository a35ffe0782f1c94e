"""Secrets in text: found for sure, so that a message may be refused or even erased for holding one.

`sos.wire.tokens.redact` hides whatever looks like a secret; this tells what *is* one: a token by its checksum, a NATS
seed by its own, a JWT by its header.
"""

import base64
import binascii
import re
from collections.abc import Iterator

import msgspec

from sos.wire import nkeys, tokens
from sos.wire.errors import MalformedToken, SecretInMessage

_WORD = "[A-Za-z0-9_-]"
# Tokens and seeds are looked for at every place, so that one that looks like a secret and is none hides no real one
# that begins inside it; their checksums tell. (A seed's third character holds the end of its kind, its last one two
# bits that are not used: neither can be any.) A JWT is looked for in runs of words with dots between them, each begun
# once, so that a text made of nothing but beginnings takes no longer to read than another.
_TOKEN = re.compile(r"(?=(sk-(?:bus|ten|op)-[0-9A-Za-z]{33}))")
_SEED = re.compile(r"(?=(S[UAONCX][A-D][A-Z2-7]{54}[AEIMQUY4]))")
_DOTTED = re.compile(rf"(?<!{_WORD}){_WORD}{{10,}}+(?:\.{_WORD}{{10,}}+){{2,}}+")
_MIN_SIGNATURE_CHARS = 20
MAX_JWT_HEADER_CHARS = 512
"""A JWT's header names an algorithm, a type and perhaps a key: none comes near this."""
_HINTS = ("sk-", "eyJ", "SU", "SA", "SO", "SN", "SC", "SX")
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})|\\(/)")
MAX_SHOWN = 4


class Secret(msgspec.Struct, frozen=True):
    """One secret. `text` is the secret itself, so this never leaves the function that looks at it; repr hides it."""

    kind: str
    """`agent_token`, `tenant_token`, `operator_token`, `nats_seed` or `jwt`."""
    text: str

    @property
    def tail(self) -> str:
        """The most of it that may be shown."""
        return tokens.tail(self.text)

    def __repr__(self) -> str:
        return f"Secret({self.kind}, …{self.tail})"


_KINDS = {
    tokens.TokenKind.AGENT: "agent_token",
    tokens.TokenKind.TENANT: "tenant_token",
    tokens.TokenKind.OPERATOR: "operator_token",
}


def find(text: str) -> tuple[Secret, ...]:
    """The secrets in `text`, each once, in the order in which they stand. JSON's `\\u` escapes hide none."""
    text = _unescaped(text)
    if not any(hint in text for hint in _HINTS):
        return ()
    return tuple(dict.fromkeys(secret for _, secret in sorted(_found(text), key=lambda found: found[0])))


def find_in(body: bytes) -> tuple[Secret, ...]:
    """The same for bytes, whatever they are."""
    return find(body.decode("utf-8", "replace"))


def check_no_secret(body: bytes) -> None:
    """`SecretInMessage`, which shows the kind and the last four characters, if `body` holds one."""
    if found := find_in(body):
        shown = ", ".join(f"{s.kind.replace('_', ' ')} ending in {s.tail}" for s in found[:MAX_SHOWN])
        raise SecretInMessage(what=shown)


def without_secrets(body: bytes) -> bytes:
    """`body`, or its text with each secret in it replaced by its last four characters."""
    found = find_in(body)
    if not found:
        return body
    text = body.decode("utf-8", "replace")
    if any(secret.text not in text for secret in found):  # escapes hide it
        text = _unescaped(text)
    for secret in found:
        text = text.replace(secret.text, f"…{secret.tail}")
    return tokens.redact(text).encode("utf-8", "replace")


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda m: m[2] or chr(int(m[1], 16)), text) if "\\" in text else text


def _found(text: str) -> Iterator[tuple[int, Secret]]:
    """Each secret with where it stands."""
    for match in _TOKEN.finditer(text):
        if kind := _token_kind(match[1]):
            yield match.start(), Secret(kind, match[1])
    for match in _SEED.finditer(text):
        if nkeys.is_seed(match[1]):
            yield match.start(), Secret("nats_seed", match[1])
    for match in _DOTTED.finditer(text):
        yield from _jwts(match.start(), match[0].split("."))


def _token_kind(suspect: str) -> str:
    try:
        return _KINDS[tokens.check(suspect)]
    except MalformedToken:
        return ""


def _jwts(start: int, words: list[str]) -> Iterator[tuple[int, Secret]]:
    """The JWTs among words that had a dot between each two: a header, which may end a longer word, and two more."""
    for word, payload, signature in zip(words, words[1:], words[2:], strict=False):
        at = (
            word.find("eyJ", max(len(word) - MAX_JWT_HEADER_CHARS, 0)) if len(signature) >= _MIN_SIGNATURE_CHARS else -1
        )
        while at >= 0:
            if _is_header(word[at:]):
                yield start + at, Secret("jwt", f"{word[at:]}.{payload}.{signature}")
                break
            at = word.find("eyJ", at + 1)
        start += len(word) + 1


def _is_header(text: str) -> bool:
    try:
        found = msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        return False
    return isinstance(found, dict) and "alg" in found
