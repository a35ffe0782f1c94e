"""Credentials: only the project's own signature opens its account, for as long as it says and no longer."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.conftest import Project, eventually
from tests.security.attacker import LoginRefused, attacking, connected, envelope, open_session

from sos.broker.app import Running
from sos.broker.control.tenant import Tenant
from sos.broker.errors import EmptyGrant
from sos.broker.nats.accounts import Accounts, AccountSpec, gateway_user
from sos.broker.nats.claims import user_jwt
from sos.broker.nats.connection import connect
from sos.broker.nats.grants import GATEWAY, Grant, agent_grant
from sos.broker.nats.keys import open_keyring
from sos.broker.nats.nkeys import KeyPair
from sos.broker.nats.tiers import AGENT_MAX_SUBS, TIERS
from sos.sdk.credential import SessionKey
from sos.wire import subjects
from sos.wire.nkeys import NkeyKind
from sos.wire.scopes import ALL

CUT_WITHIN_S = 2.0


def signed(tenant: Tenant, key: SessionKey, signer: KeyPair, grant: Grant | None = None, *, account: str = "") -> str:
    grant = grant or agent_grant(tenant.slug, "vera", ALL, key.inbox_prefix)
    account = account or tenant.keys.identity.public
    expires = datetime.now(UTC) + timedelta(minutes=5)
    return user_jwt("vera", key.public, account, signer, grant, expires, max_payload=1024, max_subs=8)


async def lets_in(tenant: Tenant, key: SessionKey, jwt: str) -> bool:
    try:
        async with connected(tenant.slug, "vera", key, tenant.connection.servers, jwt) as agent:
            return agent.nats.is_connected
    except LoginRefused:
        return False


@pytest.fixture
async def tenant(project: Project) -> Tenant:
    await project.mint("vera")
    return await project.bus.bus.projects.tenant(project.slug)


@pytest.mark.parametrize(
    "grant", [Grant((), ("a",)), Grant(("a",), ()), Grant((), ()), Grant(("",), ("a",)), Grant(("a",), ("a", ""))]
)
def test_a_grant_with_an_empty_list_is_never_signed(grant: Grant):
    account, key = KeyPair.generate(NkeyKind.ACCOUNT), KeyPair.generate(NkeyKind.USER)
    with pytest.raises(EmptyGrant):
        user_jwt("x", key.public, account.public, account, grant, None, max_payload=1, max_subs=1)


async def test_what_the_projects_own_key_signed_is_let_in(tenant: Tenant):
    key = SessionKey()  # the control of the refusals below
    assert await lets_in(tenant, key, signed(tenant, key, tenant.keys.signing))


@pytest.mark.parametrize("grant", [None, GATEWAY], ids=["an agent's grant", "everything"])
async def test_a_jwt_signed_by_anybody_else_is_refused(tenant: Tenant, grant: Grant | None):
    key = SessionKey()
    for signer in (KeyPair.generate(NkeyKind.USER), KeyPair.generate(NkeyKind.ACCOUNT)):
        assert not await lets_in(tenant, key, signed(tenant, key, signer, grant))
        assert not await lets_in(tenant, key, signed(tenant, key, signer, grant, account=signer.public))


async def test_another_projects_signing_key_opens_nothing_here(tenant: Tenant, bus: Running):
    other = KeyPair.generate(NkeyKind.ACCOUNT)
    keyring = open_keyring(Path(bus.home))
    key = SessionKey()
    for signer in (keyring.sos.signing, keyring.account("elsewhere", "1").signing, other):
        assert not await lets_in(tenant, key, signed(tenant, key, signer))


async def test_a_jwt_without_the_private_key_that_it_names_is_refused(project: Project, tenant: Tenant):
    _, opened = await open_session(project.bus.url, await project.mint("boss"))
    assert not await lets_in(tenant, SessionKey(), opened.jwt)


async def test_a_jwt_that_was_changed_by_its_holder_is_refused(project: Project, tenant: Tenant):
    key, opened = await open_session(project.bus.url, await project.mint("boss"))
    head, claims, signature = opened.jwt.split(".")
    assert await lets_in(tenant, key, opened.jwt)
    wider = signed(tenant, key, KeyPair.generate(NkeyKind.ACCOUNT), GATEWAY).split(".")[1]
    assert not await lets_in(tenant, key, f"{head}.{wider}.{signature}")
    assert not await lets_in(tenant, key, f"{head}.{claims}.{signature[:-6]}AAAAAA")


async def test_a_revoked_key_is_cut_at_once_and_not_let_in_again_and_others_stay(project: Project, tenant: Tenant):
    token, boss_token = await project.mint("mallory"), await project.mint("boss")
    key, opened = await open_session(project.bus.url, token)
    keyring = open_keyring(Path(project.bus.home))
    spec = AccountSpec(
        project=project.slug,
        project_id=tenant.project.project_id,
        limits=TIERS[tenant.project.tier],
        revocations={key.public: int(time.time())},
    )
    async with (
        connect(project.bus.nats_urls, *gateway_user(keyring.system), "test SYS") as system,
        connected(project.slug, "mallory", key, opened.nats_urls, opened.jwt) as mallory,
        attacking(project.bus.url, boss_token) as boss,
    ):
        assert (await mallory.store())["seq"]
        began = time.monotonic()
        await Accounts(system, keyring).push(spec)
        async with asyncio.timeout(CUT_WITHIN_S):
            await mallory.closed.wait()
        assert time.monotonic() - began < CUT_WITHIN_S
        assert not await lets_in(tenant, key, opened.jwt)
        assert boss.nats.is_connected
        assert (await boss.store(f"project.{project.slug}.agent.vera.boss"))["seq"]
        assert tenant.connection.connected
        async with attacking(project.bus.url, token) as again:  # the token was not revoked, so a new key is let in
            assert (await again.store())["seq"]


async def test_a_connection_may_not_have_more_subscriptions_than_its_grant_says(project: Project):
    async with attacking(project.bus.url, await project.mint("mallory")) as mallory:
        for n in range(AGENT_MAX_SUBS - 1):  # one it has already
            await mallory.listen(f"{mallory.inbox}.{n}.x")
        assert not mallory.nats.is_closed
        await mallory.send_bytes(b"SUB %s.too.many 99\r\n" % mallory.inbox.encode())
        await eventually(lambda: not mallory.nats.is_connected, "the server let it go on", CUT_WITHIN_S)


async def test_a_payload_past_the_limit_costs_its_sender_the_connection_and_stores_nothing(
    project: Project, tenant: Tenant
):
    async with attacking(project.bus.url, await project.mint("mallory")) as mallory:
        whole = 300 * 1024
        command = b"PUB project.%s.agent.vera.mallory %d\r\n%s\r\n" % (project.slug.encode(), whole, b"x" * whole)
        await mallory.send_bytes(command)
        await eventually(lambda: not mallory.nats.is_connected, "the server let it go on", CUT_WITHIN_S)
    assert (await tenant.connection.js("STREAM.INFO.MESSAGES"))["state"]["messages"] == 0
    async with attacking(project.bus.url, await project.mint("boss")) as boss:
        assert (await boss.store(body=envelope()))["seq"] == 1
        pulled = await boss.take(await boss.call(subjects.pull("boss"), b'{"batch":1}'))
        assert pulled.subject == boss.own_subject
