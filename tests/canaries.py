"""Canaries: secrets that were handed out or planted, in every form in which they could be written, looked for in what a
bus leaves behind."""

import base64
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

from sos.wire.secrets import find_in

MAY_HOLD_SECRETS = (
    "operator.token",
    "agents/*/*/token",
    "keys/*",
    "rotated/*.token",
    "nats/accounts/*.jwt",
    "nats/server.conf",
)
"""Files of a home that are made to hold a secret, or an account's JWT, which is signed and none."""


class Canaries:
    """Secrets by a name that may be shown. Nothing here prints one."""

    def __init__(self) -> None:
        self._forms: dict[str, tuple[bytes, ...]] = {}

    def __len__(self) -> int:
        return len(self._forms)

    def __contains__(self, name: str) -> bool:
        return name in self._forms

    def plant(self, name: str, secret: str) -> str:
        """Remember it, and return it for use."""
        assert len(secret) > 20, name
        assert name not in self._forms, name
        self._forms[name] = tuple(dict.fromkeys(forms(secret)))
        return secret

    def found_in(self, content: bytes, but: Iterable[str] = ()) -> list[str]:
        """The names of those that stand in `content`, in any form; `but` not these."""
        folded, excused = content.lower(), set(but)
        return [
            name
            for name, written in self._forms.items()
            if (name not in excused and any(form in content for form in written))
            or (name not in excused and written[0].lower() in folded)
        ]


def forms(secret: str) -> Iterator[bytes]:
    """A secret as it is, and in base64 at each of its three places, URL-encoded, and escaped as JSON."""
    raw = secret.encode()
    yield raw
    for shift in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            # The first and last characters depend on what stands around it: they are left out.
            written = encode(b"\0" * shift + raw)
            yield written[4 if shift else 0 : -4]
    yield base64.b32encode(raw).rstrip(b"=")[:-1]
    yield raw.hex().encode()
    yield quote(secret, safe="").encode()
    yield "".join(f"%{byte:02X}" for byte in raw).encode()
    yield secret.replace("-", "%2D").encode()
    yield secret.replace("-", "\\u002d").encode()
    yield "".join(f"\\u{ord(char):04x}" for char in secret).encode()
    yield json.dumps(secret).encode()
    yield secret[::-1].encode()


def files(home: Path, but: Iterable[str] = ()) -> Iterator[tuple[str, bytes]]:
    """Every file below a home by its path there, but those that fit a pattern. One that is gone meanwhile is none."""
    patterns = tuple(but)
    for path in sorted(home.rglob("*")):
        relative = path.relative_to(home)
        if path.is_file() and not any((Path("/") / relative).match(f"/{pattern}") for pattern in patterns):
            try:
                yield str(relative), path.read_bytes()
            except FileNotFoundError:
                continue


def held_secrets(home: Path) -> dict[str, list[str]]:
    """By file of a home that may hold none, the kinds and last four characters of the secrets in it."""
    found = {name: find_in(content) for name, content in files(home, MAY_HOLD_SECRETS)}
    return {name: [f"{s.kind} …{s.tail}" for s in secrets] for name, secrets in found.items() if secrets}
