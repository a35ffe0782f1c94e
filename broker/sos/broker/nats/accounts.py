"""Accounts on the running server: pushed, revoked, looked into. One project is one account.

The law: `push` returns when the servers said that they have it, and pushing the same again changes nothing.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec

from sos.broker.errors import ServerFailed
from sos.broker.nats.claims import account_jwt, decode_claims, user_jwt
from sos.broker.nats.connection import Connection
from sos.broker.nats.grants import GATEWAY
from sos.broker.nats.keys import AccountKeys, Keyring
from sos.broker.nats.nkeys import KeyPair
from sos.broker.nats.tiers import MIB, NO_LIMIT, Limits
from sos.wire.errors import NatsUnreachable, StorageExhausted
from sos.wire.home import write_secret
from sos.wire.nkeys import NkeyKind

PUSH_TIMEOUT_S = 5.0
LOOK_TIMEOUT_S = 4.0
"""Milliseconds, but 1.9 s for an account that was never pushed: the server asks its cluster for it [measured]."""
CONNECTIONS_PAGE = 256
"""Connections of one answer: each carries its JWT, about 1 KB."""
MAX_PAGES = 100
GONE_TIMEOUT_S = 5.0
GONE_POLL_S = 0.002
"""A revoked connection falls in a median of 3.2 ms [measured], mostly before the push is confirmed."""
OK = 200


class AccountSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a project's account is to be.

    `revocations`: public user nkey → Unix seconds; what was issued up to then is void.
    """

    project: str
    project_id: str
    limits: Limits
    revocations: Mapping[str, int] = {}
    replicas: int = 1


class _Connections(msgspec.Struct):
    """The part of CONNZ that is used."""

    num_connections: int = 0
    total: int = 0
    offset: int = 0
    connections: list[dict[str, Any]] | None = None


class Accounts:
    """The accounts of all projects, through a connection of the system account. `folder` is where the server beside
    this gateway keeps their JWTs, if there is one.

    `servers` is how many must confirm a push and are asked for their connections: the size of the cluster.
    """

    def __init__(self, system: Connection, keyring: Keyring, servers: int = 1, folder: Path | None = None) -> None:
        self._system = system
        self._keyring = keyring
        self._servers = servers
        self._folder = folder
        self._void: dict[str, dict[str, int]] = {}

    async def push(self, spec: AccountSpec) -> AccountKeys:
        """Make the account so, now. Connections that `revocations` names fall at once.

        Raises `NatsUnreachable` without an answer from every server, and `ServerFailed` when one refuses.
        """
        keys, jwt = self._jwt(spec)
        for answer in await self._ask("CLAIMS.UPDATE", jwt.encode(), PUSH_TIMEOUT_S):
            if answer.get("code") != OK:
                raise ServerFailed(why=f"it refused the account of {spec.project}: {answer}")
        return keys

    def prepare(self, spec: AccountSpec) -> None:
        """While the server beside this gateway is down: put the account where it reads it when it starts, so that what
        is void is void from its first moment on."""
        keys, jwt = self._jwt(spec)
        if self._folder is not None:
            write_secret(self._folder / f"{keys.identity.public}.jwt", jwt)

    def _jwt(self, spec: AccountSpec) -> tuple[AccountKeys, str]:
        keys = self._keyring.account(spec.project, spec.project_id)
        jwt = account_jwt(
            spec.project,
            keys.identity.public,
            keys.signing.public,
            spec.limits,
            self._remember_void(keys.identity.public, spec.revocations),
            self._keyring.operator_signing,
            replicas=spec.replicas,
        )
        return keys, jwt

    def _remember_void(self, account_public: str, revocations: Mapping[str, int]) -> dict[str, int]:
        """All that was ever void here and has not expired: an entry that is left out revives what it named."""
        now = int(time.time())
        known = {key: until for key, until in self._void.get(account_public, {}).items() if until >= now}
        self._void[account_public] = void = known | dict(revocations)
        return void

    async def recall_void(self, project: str, project_id: str) -> bool:
        """Take over what the account's JWT on the server says is void, so that no push revives it. Whether the server
        has the account; one that it never had takes it 1.9 s to say so [measured]."""
        public = self._keyring.account(project, project_id).identity.public
        reply = await self._system.request(f"$SYS.REQ.ACCOUNT.{public}.CLAIMS.LOOKUP", timeout_s=LOOK_TIMEOUT_S)
        if not reply.body:
            return False
        self._remember_void(public, decode_claims(reply.body.decode())["nats"].get("revocations") or {})
        return True

    async def wait_gone(self, account_public: str, users: Iterable[str]) -> None:
        """Return when none of these users is connected any more; `ServerFailed` if one still is at the end."""
        deadline = time.monotonic() + GONE_TIMEOUT_S
        for user in users:
            ask = msgspec.json.encode({"auth": True, "acc": account_public, "user": user, "limit": 1})
            while await self._connected(ask):
                if time.monotonic() >= deadline:
                    raise ServerFailed(why=f"a connection that was cut is still open after {GONE_TIMEOUT_S:g} s")
                await asyncio.sleep(GONE_POLL_S)

    async def _connected(self, ask: bytes) -> bool:
        """Whether anybody fits; `total` would count the whole account [measured]."""
        answers = await self._ask("SERVER.PING.CONNZ", ask, LOOK_TIMEOUT_S)
        return any(msgspec.convert(a, _Connections).num_connections for a in answers)

    async def check_room(self, limits: Limits, replicas: int = 1) -> None:
        """`StorageExhausted` unless `replicas` servers can set aside what an account with these limits may store.

        To be asked before a project is created: past its maximum a server confirms the account all the same and gives
        it no JetStream, which shows only as requests that nobody answers [measured].
        """
        answers = await self._ask("SERVER.PING.JSZ", b"", LOOK_TIMEOUT_S)
        rooms = [a["config"]["max_storage"] - a["reserved_storage"] for a in answers if a.get("config")]
        if sum(room >= limits.disk_storage for room in rooms) < replicas:
            left = f"{max(rooms, default=0) // MIB} MiB of the servers' max_file_store"
            raise StorageExhausted(what=f"NATS for a project of {limits.disk_storage // MIB} MiB: {left} are left")

    async def connected_users(self, account_public: str) -> set[str]:
        """The public nkeys of the users connected in the account now, on every server that answers in time."""
        users: set[str] = set()
        for page in range(MAX_PAGES):
            ask = {"auth": True, "acc": account_public, "limit": CONNECTIONS_PAGE, "offset": page * CONNECTIONS_PAGE}
            answers = await self._ask("SERVER.PING.CONNZ", msgspec.json.encode(ask), LOOK_TIMEOUT_S)
            pages = [msgspec.convert(a, _Connections) for a in answers]
            users |= {c["authorized_user"] for p in pages for c in p.connections or () if "authorized_user" in c}
            if all(p.offset + p.num_connections >= p.total for p in pages):
                break
        return users

    async def _ask(self, call: str, body: bytes, timeout_s: float) -> list[dict[str, Any]]:
        """The `data` (or `error`) of each server's answer."""
        answers: list[dict[str, Any]] = []
        async with aclosing(self._system.collect(f"$SYS.REQ.{call}", body, timeout_s=timeout_s)) as replies:
            async for reply in replies:
                answer = msgspec.json.decode(reply.body, type=dict[str, Any])
                answers.append(answer.get("data") or answer.get("error") or {})
                if len(answers) >= self._servers:
                    return answers
        raise NatsUnreachable(servers=self._system.servers, why=f"{len(answers)} of {self._servers} answered {call}")


def gateway_user(account: AccountKeys, name: str = "gateway") -> tuple[KeyPair, str]:
    """A new user that may do everything inside the account, and its JWT. The key lives in memory alone."""
    user = KeyPair.generate(NkeyKind.USER)
    jwt = user_jwt(
        name,
        user.public,
        account.identity.public,
        account.signing,
        GATEWAY,
        None,
        max_payload=NO_LIMIT,
        max_subs=NO_LIMIT,
    )
    return user, jwt
