"""What this bus does not do: two tenants in one account, each agent with perfect subject permissions. The control."""

import itertools
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from tests.security.attacker import Attacker, connected

from sos.broker.nats.accounts import Accounts, AccountSpec, gateway_user
from sos.broker.nats.claims import user_jwt
from sos.broker.nats.connection import Connection, connect
from sos.broker.nats.grants import agent_grant
from sos.broker.nats.keys import AccountKeys, open_keyring
from sos.broker.nats.server import serve
from sos.broker.nats.streams import inbox_consumer, messages_stream
from sos.broker.nats.tiers import AGENT_MAX_PAYLOAD_BYTES, AGENT_MAX_SUBS, TIERS
from sos.sdk.credential import SessionKey
from sos.wire import subjects
from sos.wire.scopes import ALL

ATTACKERS, VICTIMS = "red", "blue"
LIMITS = TIERS["starter"]
ROOM = 1024 * 1024 * 1024
_serial = itertools.count(1)


class SharedAccount(msgspec.Struct, frozen=True):
    """The account; `seen` sees everything in it."""

    keys: AccountKeys
    seen: Connection

    @asynccontextmanager
    async def agent(self, slug: str, name: str) -> AsyncGenerator[Attacker]:
        """An agent of one tenant, with the very grant that it would have in an account of its own."""
        key = SessionKey()
        jwt = user_jwt(
            name,
            key.public,
            self.keys.identity.public,
            self.keys.signing,
            agent_grant(slug, name, ALL, key.inbox_prefix),
            datetime.now(UTC) + timedelta(minutes=5),
            max_payload=AGENT_MAX_PAYLOAD_BYTES,
            max_subs=AGENT_MAX_SUBS,
        )
        async with connected(slug, name, key, self.seen.servers, jwt) as agent:
            yield agent


@asynccontextmanager
async def shared_account(home: Path) -> AsyncGenerator[SharedAccount]:
    """A server of its own, with one account and one stream over the subjects of both tenants."""
    keyring = open_keyring(home)
    async with (
        serve(home, keyring=keyring, max_file_bytes=ROOM) as server,
        connect(server.urls, *gateway_user(keyring.system), "system") as system,
    ):
        spec = AccountSpec(project="shared", project_id=str(next(_serial)), limits=LIMITS)
        keys = await Accounts(system, keyring).push(spec)
        async with connect(server.urls, *gateway_user(keys), "control") as seen:
            both = [*subjects.messages_of(ATTACKERS), *subjects.messages_of(VICTIMS)]
            await seen.ensure_stream(messages_stream(ATTACKERS, LIMITS) | {"subjects": both})
            await seen.open_inbox(inbox_consumer(ATTACKERS, "mallory", (), 30.0))
            await seen.open_inbox(inbox_consumer(VICTIMS, "vera", (), 30.0))
            yield SharedAccount(keys, seen)
