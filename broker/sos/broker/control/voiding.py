"""From a secret that was found to what makes it worthless: whose it is, what is done, and how.

The law: looking it up changes nothing, and what is done may be done again. The secret itself goes no further than its
hash, its public half or its last four characters.
"""

import base64
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec.structs import replace

from sos.broker.config import Config
from sos.broker.control.cutting import Cutting
from sos.broker.control.projects import Projects
from sos.broker.control.tokens import Doorkeeper, Minting, Stamp
from sos.broker.domain import agent_facts
from sos.broker.domain.agents import Agent, AgentCommand
from sos.broker.domain.leaks import LeakAction, Leaked, SecretKind
from sos.broker.domain.projects import VoidTenant
from sos.broker.nats.claims import decode_claims
from sos.broker.nats.keys import Keyring
from sos.broker.nats.nkeys import KeyPair
from sos.broker.views import KeyHolder, Views
from sos.wire.errors import BadRequest, UnknownAgent
from sos.wire.home import write_secret
from sos.wire.nkeys import NkeyKind, decode_public
from sos.wire.secrets import Secret
from sos.wire.subjects import GATEWAY
from sos.wire.tokens import TokenKind, digest, id_of, tail

ROTATED_FOLDER = "rotated"
OWN_KEY = "bus:"
"""What a key of the bus itself is told by: nothing can be done about it without people."""

Act = Callable[[], Awaitable[None]]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to do about one secret. `act` is None where nothing is; `token_id` is a token's name in facts."""

    leaked: Leaked
    act: Act | None = None
    token_id: str = ""


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """The message that held it."""

    project: str
    seq: int

    @property
    def decision(self) -> str:
        """By what right the gateway acts; stands in the facts."""
        return f"policy: leaked secret found in message {self.seq} of {self.project}"


class Voiding:
    """For secrets of all kinds and projects."""

    def __init__(
        self,
        config: Config,
        views: Views,
        projects: Projects,
        cutting: Cutting,
        minting: Minting,
        keyring: Keyring,
        doorkeeper: Doorkeeper,
    ) -> None:
        self._policy = config.leak_policy
        self._home = config.home
        self._views = views
        self._projects = projects
        self._cutting = cutting
        self._minting = minting
        self._keyring = keyring
        self._doorkeeper = doorkeeper

    async def judge(self, secret: Secret, where: Where) -> Verdict:
        """Whose it is and what is to be done, nothing done yet."""
        match secret.kind:
            case "agent_token":
                found = await self._agent_token(secret, where)
            case "tenant_token":
                found = await self._tenant_token(secret, where)
            case "operator_token":
                found = self._operator_token(secret)
            case "nats_seed":
                found = await self._seed(secret, where)
            case _:
                found = await self._jwt(secret, where)
        token_id = id_of(digest(secret.text)) if secret.kind.endswith("_token") else ""
        return replace(found or Verdict(leaked=_leaked(secret)), token_id=token_id)

    # ── tokens ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _agent_token(self, secret: Secret, where: Where) -> Verdict | None:
        hashed, at = digest(secret.text), datetime.now(UTC)
        for agent in await self._views.agents_by_token(hashed):
            if agent.state != "revoked" and agent.epoch_of(hashed, at) is not None:
                return self._policys(secret, agent, hashed, where)
        return None

    def _policys(self, secret: Secret, agent: Agent, hashed: str, where: Where) -> Verdict:
        """What the policy says of an agent's token that is good. One from before a rotation is only made void, whatever
        the policy: there is a newer one, which did not leak."""
        stamp, of = _stamp(where, id_of(hashed)), _whose(where, agent.project, agent.name)
        project, name = agent.project, agent.name
        newest = hashed == agent.token_hash
        if self._policy == "revoke" and newest:
            revoke = agent_facts.RevokeAgent(**stamp, project=project, name=name)
            return Verdict(leaked=_leaked(secret, of, "revoked"), act=lambda: self._carry_out(revoke))
        if self._policy == "rotate" and newest:
            token = self._minting.token(TokenKind.AGENT, f"leak:{project}:{name}:{hashed}")
            rotate = agent_facts.RotateToken(
                **stamp, project=project, name=name, token_hash=digest(token), token_tail=tail(token)
            )

            async def act() -> None:
                write_secret(self._rotated(project, name), token + "\n")  # first: nothing else ever shows it
                await self._carry_out(rotate)

            return Verdict(leaked=_leaked(secret, of, "rotated"), act=act)
        void = agent_facts.VoidToken(
            **stamp, project=project, name=name, token_hash=hashed, reason=f"leaked in a message of {where.project}"
        )
        return Verdict(leaked=_leaked(secret, of, "voided"), act=lambda: self._carry_out(void))

    def _rotated(self, project: str, name: str) -> Path:
        return self._home / ROTATED_FOLDER / f"{project}.{name}.token"

    async def _carry_out(self, command: AgentCommand) -> None:
        with suppress(UnknownAgent):  # revoked meanwhile, which is more than was wanted
            await self._cutting.carry_out(command)
        await (await self._projects.tenant(command.project)).settle_agent(command.name)

    async def _tenant_token(self, secret: Secret, where: Where) -> Verdict | None:
        hashed = digest(secret.text)
        project = await self._views.project_by_tenant_token(hashed)
        if project is None:
            return None
        command = VoidTenant(
            **_stamp(where, id_of(hashed)),
            slug=project.slug,
            tenant_token_hash=hashed,
            reason=f"leaked in a message of {where.project}",
        )
        return Verdict(
            leaked=_leaked(secret, f"tenant:{project.slug}", "voided"), act=lambda: self._projects.change(command)
        )

    def _operator_token(self, secret: Secret) -> Verdict | None:
        hashed = digest(secret.text)
        if not self._doorkeeper.is_operators(hashed):
            return None

        async def act() -> None:
            if self._doorkeeper.is_operators(hashed):
                self._doorkeeper.replace_operators()

        return Verdict(leaked=_leaked(secret, "operator", "rotated"), act=act)

    # ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _seed(self, secret: Secret, where: Where) -> Verdict | None:
        """Whoever has the seed of a session's key has the session."""
        try:
            key = KeyPair.from_seed(secret.text)
        except BadRequest:  # of a kind that this bus has no keys of
            return None
        if key.kind is not NkeyKind.USER:
            whose = self._own_key(key.public)
            return Verdict(leaked=_leaked(secret, OWN_KEY + whose)) if whose else None
        held = await self._views.key_holder(key.public)
        return await self._cut(secret, held, where) if held else None

    def _own_key(self, public: str) -> str:
        """Which key of the bus it is; empty if none."""
        keys = {
            self._keyring.operator_public: "operator.nk",
            self._keyring.operator_signing.public: "operator-signing.nk",
            self._keyring.system.identity.public: "system.nk",
            self._keyring.sos.identity.public: "sos.nk",
        }
        return keys.get(public) or self._projects.account_of(public)

    async def _jwt(self, secret: Secret, where: Where) -> Verdict | None:
        """Worthless without its key, which may have leaked with it. Only one that this bus has signed is believed:
        anybody can write another's public key into a JWT."""
        try:
            claims = decode_claims(secret.text)
        except (ValueError, msgspec.MsgspecError):
            return None
        subject = claims.get("sub")
        held = await self._views.key_holder(subject) if isinstance(subject, str) else None
        if held is None:
            return None
        signing = (await self._projects.tenant(held.project)).keys.signing.public
        return await self._cut(secret, held, where) if _signed_by(secret.text, claims, signing) else None

    async def _cut(self, secret: Secret, held: KeyHolder, where: Where) -> Verdict | None:
        """End the sessions of the agent; its token may open new ones, with keys that did not leak."""
        agent, _ = await self._views.agent(held.project, held.agent)
        at = datetime.now(UTC)
        if agent is None or held.expires_at <= at or not agent.honours(held.epoch, at):
            return None
        command = agent_facts.CutAgent(
            **_stamp(where, ""),
            project=agent.project,
            name=agent.name,
            epoch=agent.epoch + 1,
            reason=f"credential leaked in a message of {where.project}",
        )
        of = _whose(where, agent.project, agent.name)
        return Verdict(leaked=_leaked(secret, of, "cut"), act=lambda: self._carry_out(command))


def _leaked(secret: Secret, of: str = "", action: LeakAction = "none") -> Leaked:
    return Leaked(kind=cast("SecretKind", secret.kind), tail=secret.tail, of=of, action=action)


def failed(secret: Secret, of: str = "") -> Verdict:
    """For what could not be looked up or made worthless."""
    return Verdict(leaked=_leaked(secret, of, "failed"))


def _whose(where: Where, project: str, name: str) -> str:
    return f"agent:{name}" if project == where.project else f"agent:{name}@{project}"


def _stamp(where: Where, token_id: str) -> Stamp:
    return Stamp(at=datetime.now(UTC), actor=GATEWAY, token_id=token_id, decision=where.decision)


def _signed_by(jwt: str, claims: dict[str, Any], issuer: str) -> bool:
    """Whether this account has signed it."""
    signed, _, signature = jwt.rpartition(".")
    try:
        key = Ed25519PublicKey.from_public_bytes(decode_public(issuer, NkeyKind.ACCOUNT))
        key.verify(base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4)), signed.encode())
    except (InvalidSignature, ValueError):
        return False
    return claims.get("iss") == issuer
