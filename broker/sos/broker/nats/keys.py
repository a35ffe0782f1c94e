"""The keys of a bus: `<home>/keys`, made once, 0600.

`operator.nk` is the identity: it signs the operator's JWT once and may then be moved to a safe place.
`operator-signing.nk` signs accounts at run time. `system.nk` and `sos.nk` are the accounts of NATS' own API and of the
registry. `root.key` is 32 bytes from which every project's account keys are derived, so any gateway that holds the root
gets the same ones and creating a project twice is creating it once.

The law: a key file is created by linking a complete file into place. Whoever comes second reads what the first wrote.
"""

import hashlib
import json
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sos.broker.errors import BadKeyFile, UnsafeKeyFile
from sos.broker.nats.claims import account_jwt, decode_claims, operator_jwt
from sos.broker.nats.nkeys import RAW_BYTES, KeyPair
from sos.broker.nats.tiers import SOS_LIMITS
from sos.wire.errors import BadRequest
from sos.wire.home import private_dir, write_secret
from sos.wire.names import check
from sos.wire.nkeys import NkeyKind

SYSTEM = "SYS"
SOS = "SOS"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class AccountKeys(msgspec.Struct, frozen=True):
    """An account's two keys: `identity` names it, `signing` signs its users. For SYS and SOS they are the same."""

    identity: KeyPair
    signing: KeyPair


class Keyring:
    """The keys in memory. Its repr shows the public half of the operator's alone."""

    def __init__(
        self, *, folder: Path, operator_jwt: str, operator_signing: KeyPair, system: KeyPair, sos: KeyPair, root: bytes
    ) -> None:
        self.operator_jwt = operator_jwt
        self.operator_public: str = decode_claims(operator_jwt)["sub"]
        self.operator_signing = operator_signing
        self.system = AccountKeys(system, system)
        self.sos = AccountKeys(sos, sos)
        self._folder = folder
        self._root = root

    def account(self, project: str, project_id: str) -> AccountKeys:
        """The keys of a project's account. A slug used again under a new id is another account."""
        check(project, "project slug")
        return AccountKeys(
            self._derive("account identity", project, project_id), self._derive("account signing", project, project_id)
        )

    def system_jwt(self) -> str:
        """The JWT of the account SYS, the same text at every start."""
        return self._kept("system.jwt", lambda: self._account_jwt(SYSTEM, self.system.identity))

    def sos_jwt(self, replicas: int = 1) -> str:
        """The JWT of the account SOS, the same text at every start while its limits stay."""
        return self._kept("sos.jwt", lambda: self._account_jwt(SOS, self.sos.identity, replicas))

    def _account_jwt(self, name: str, key: KeyPair, replicas: int = 1) -> str:
        limits = SOS_LIMITS if name == SOS else None
        return account_jwt(name, key.public, key.public, limits, {}, self.operator_signing, replicas=replicas)

    def _kept(self, file: str, make: Callable[[], str]) -> str:
        """The JWT on disk if it says what a new one would, apart from when: the resolver keeps the newer of two."""
        path = self._folder / file
        wanted = make()
        if path.exists():
            kept = _read_secret(path)
            if _undated(kept) == _undated(wanted):
                return kept
        write_secret(path, wanted)
        return wanted

    def _derive(self, purpose: str, project: str, project_id: str) -> KeyPair:
        return KeyPair.from_raw(NkeyKind.ACCOUNT, self._expand("sos-bus nkey v1", purpose, project, project_id))

    def secret(self, purpose: str, *context: str) -> bytes:
        """32 bytes for one purpose and context, the same on every gateway that holds the root. A secret."""
        return self._expand("sos-bus secret v1", purpose, *context)

    def _expand(self, *info: str) -> bytes:
        # JSON keeps the parts apart whatever they hold.
        return HKDF(SHA256(), RAW_BYTES, salt=None, info=json.dumps(info).encode()).derive(self._root)

    def __repr__(self) -> str:
        return f"Keyring(operator={self.operator_public})"


def open_keyring(home: Path) -> Keyring:
    """The keys under `<home>/keys`, made where they are missing. Safe to call from several processes at once.

    Raises `UnsafeKeyFile` for a key file that others can read, `BadKeyFile` for one that holds no key.
    """
    folder = private_dir(home / "keys")
    signing = _key(folder / "operator-signing.nk", NkeyKind.OPERATOR)
    system = _key(folder / "system.nk", NkeyKind.ACCOUNT)
    return Keyring(
        folder=folder,
        operator_jwt=_operator_jwt(folder, signing.public, system.public),
        operator_signing=signing,
        system=system,
        sos=_key(folder / "sos.nk", NkeyKind.ACCOUNT),
        root=_root(folder / "root.key"),
    )


def _operator_jwt(folder: Path, signing_public: str, system_public: str) -> str:
    """Kept on disk, so that the identity is not needed after the first start."""
    path = folder / "operator.jwt"
    if not path.exists():
        identity = _key(folder / "operator.nk", NkeyKind.OPERATOR)
        _create_once(path, operator_jwt("sos", identity, signing_public, system_public))
    kept = _read_secret(path)
    claims = _claims(path, kept)["nats"]
    if claims.get("signing_keys") != [signing_public] or claims.get("system_account") != system_public:
        raise BadKeyFile(path=str(path), why="was made for other keys than those beside it")
    return kept


def _claims(path: Path, jwt: str) -> dict[str, Any]:
    try:
        return decode_claims(jwt)
    except ValueError as e:
        raise BadKeyFile(path=str(path), why="holds no JWT") from e


def _undated(jwt: str) -> dict[str, Any]:
    try:
        return {k: v for k, v in decode_claims(jwt).items() if k not in {"iat", "jti"}}
    except ValueError:
        return {}


def _key(path: Path, kind: NkeyKind) -> KeyPair:
    if not path.exists():
        _create_once(path, KeyPair.generate(kind).seed)
    try:
        key = KeyPair.from_seed(_read_secret(path))
    except BadRequest as e:
        raise BadKeyFile(path=str(path), why="holds no key") from e
    if key.kind is not kind:
        raise BadKeyFile(path=str(path), why="holds a key of another kind")
    return key


def _root(path: Path) -> bytes:
    if not path.exists():
        _create_once(path, secrets.token_hex(RAW_BYTES))
    text = _read_secret(path)
    try:
        root = bytes.fromhex(text)
    except ValueError:
        root = b""
    if len(root) != RAW_BYTES:
        raise BadKeyFile(path=str(path), why=f"does not hold {RAW_BYTES} bytes in hex")
    return root


def _create_once(path: Path, text: str) -> None:
    """Put a complete file in place unless there is one; of two that race, the first wins and both read its file."""
    unique = hashlib.sha256(secrets.token_bytes(16)).hexdigest()[:16]
    draft = path.with_name(f".{path.name}.{unique}")
    write_secret(draft, text)
    try:
        os.link(draft, path)
    except FileExistsError:
        return  # another process was first: its file is the one to read
    finally:
        draft.unlink()


def _read_secret(path: Path) -> str:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & _OTHERS:
        raise UnsafeKeyFile(path=str(path), mode=f"{mode:04o}")
    return path.read_text().strip()
