"""NATS JWTs, version 2: what operators, accounts and users may do, signed with nkeys.

Written by hand on msgspec because the shapes are few; each was accepted by nats-server 2.15 (design, section 6). A JWT
is `base64url(header).base64url(claims).base64url(signature)` without padding; the signature is over the first two.
"""

import base64
import hashlib
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from sos.broker.errors import EmptyGrant
from sos.broker.nats.grants import Grant
from sos.broker.nats.nkeys import KeyPair, check_public
from sos.broker.nats.tiers import NO_LIMIT, Limits
from sos.wire.nkeys import NkeyKind

VERSION = 2
ALL_TYPES = ("STANDARD",)
"""No WebSocket, no MQTT, no leafnode: those ports are closed, and a JWT that could use them outlives a config."""

_HEADER = b'{"typ":"JWT","alg":"ed25519-nkey"}'


class Permission(msgspec.Struct, frozen=True):
    """An allow list, never empty."""

    allow: tuple[str, ...]


class OperatorBody(msgspec.Struct, frozen=True, kw_only=True, tag="operator", tag_field="type"):
    """The operator's part of the claims."""

    version: int = VERSION
    system_account: str
    signing_keys: tuple[str, ...]


class AccountLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits as the server names them; -1 is no limit. Without the storage keys an account has no JetStream."""

    subs: int
    data: int = NO_LIMIT
    payload: int
    imports: int = 0
    exports: int = 0
    wildcards: bool = False
    conn: int
    leaf: int = 0
    mem_storage: int | msgspec.UnsetType = msgspec.UNSET
    disk_storage: int | msgspec.UnsetType = msgspec.UNSET
    streams: int | msgspec.UnsetType = msgspec.UNSET
    consumer: int | msgspec.UnsetType = msgspec.UNSET
    max_bytes_required: bool | msgspec.UnsetType = msgspec.UNSET


class AccountBody(msgspec.Struct, frozen=True, kw_only=True, tag="account", tag_field="type"):
    """An account's part of the claims.

    `revocations`: public user nkey → Unix seconds; what was issued up to then is void.
    """

    version: int = VERSION
    limits: AccountLimits
    signing_keys: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    revocations: Mapping[str, int] | msgspec.UnsetType = msgspec.UNSET


class UserBody(msgspec.Struct, frozen=True, kw_only=True, tag="user", tag_field="type"):
    """A user's part of the claims."""

    version: int = VERSION
    issuer_account: str | msgspec.UnsetType = msgspec.UNSET
    pub: Permission
    sub: Permission
    subs: int
    data: int = NO_LIMIT
    payload: int
    allowed_connection_types: tuple[str, ...] = ALL_TYPES


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What is signed. `iss` and `jti` are filled in by `encode_jwt`."""

    sub: str
    name: str
    nats: OperatorBody | AccountBody | UserBody
    iat: int
    exp: int | msgspec.UnsetType = msgspec.UNSET
    iss: str = ""
    jti: str = ""


def encode_jwt(claims: Claims, signer: KeyPair) -> str:
    """The signed JWT. Its `jti` is a hash of the claims, so equal claims give the same JWT."""
    unnamed = msgspec.structs.replace(claims, iss=signer.public, jti="")
    digest = hashlib.sha256(msgspec.json.encode(unnamed)).digest()
    named = msgspec.structs.replace(unnamed, jti=base64.b32encode(digest).decode().rstrip("="))
    signed = _b64(_HEADER) + "." + _b64(msgspec.json.encode(named))
    return signed + "." + _b64(signer.sign(signed.encode()))


def decode_claims(jwt: str) -> dict[str, Any]:
    """The claims of a JWT as JSON, its signature not checked. `ValueError` for what is no JWT."""
    _, claims, _ = jwt.split(".")
    return msgspec.json.decode(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)), type=dict[str, Any])


def operator_jwt(name: str, identity: KeyPair, signing_public: str, system_account: str, now: int | None = None) -> str:
    """The operator, signed by itself. From then on its signing key is enough: the identity may be taken offline."""
    body = OperatorBody(
        system_account=check_public(system_account, NkeyKind.ACCOUNT),
        signing_keys=(check_public(signing_public, NkeyKind.OPERATOR),),
    )
    return encode_jwt(Claims(sub=identity.public, name=name, nats=body, iat=_now(now)), identity)


def account_jwt(
    name: str,
    public: str,
    signing_public: str,
    limits: Limits | None,
    revocations: Mapping[str, int],
    operator_signing: KeyPair,
    *,
    replicas: int = 1,
    now: int | None = None,
) -> str:
    """An account, signed by the operator's signing key. `limits=None`: no JetStream, otherwise unlimited."""
    body = AccountBody(
        limits=_limits(limits, replicas),
        signing_keys=msgspec.UNSET if signing_public == public else (check_public(signing_public, NkeyKind.ACCOUNT),),
        revocations={check_public(key, NkeyKind.USER): at for key, at in sorted(revocations.items())} or msgspec.UNSET,
    )
    claims = Claims(sub=check_public(public, NkeyKind.ACCOUNT), name=name, nats=body, iat=_now(now))
    return encode_jwt(claims, operator_signing)


def user_jwt(
    name: str,
    public: str,
    account_public: str,
    signing: KeyPair,
    grant: Grant,
    expires_at: datetime | None,
    *,
    max_payload: int,
    max_subs: int,
    now: int | None = None,
) -> str:
    """A user of an account, signed by the account's signing key or identity. Never a bearer. Raises `EmptyGrant`."""
    if not all((grant.pub, grant.sub, *grant.pub, *grant.sub)):
        raise EmptyGrant(name=name)
    body = UserBody(
        issuer_account=msgspec.UNSET if signing.public == account_public else account_public,
        pub=Permission(grant.pub),
        sub=Permission(grant.sub),
        subs=max_subs,
        payload=max_payload,
    )
    exp = msgspec.UNSET if expires_at is None else int(expires_at.timestamp())
    claims = Claims(sub=check_public(public, NkeyKind.USER), name=name, nats=body, iat=_now(now), exp=exp)
    return encode_jwt(claims, signing)


def _limits(limits: Limits | None, replicas: int) -> AccountLimits:
    if limits is None:
        return AccountLimits(subs=NO_LIMIT, payload=NO_LIMIT, conn=NO_LIMIT)
    return AccountLimits(
        subs=limits.subs,
        payload=limits.payload,
        conn=limits.connections,
        mem_storage=limits.mem_storage * replicas,
        disk_storage=limits.disk_storage * replicas,
        streams=limits.streams,
        consumer=limits.consumers,
        max_bytes_required=True,
    )


def _now(now: int | None) -> int:
    return int(time.time()) if now is None else now


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
