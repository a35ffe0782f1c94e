"""Grants and the JWTs that carry them, without a server."""

from datetime import UTC, datetime

import pytest

from sos.broker.errors import EmptyGrant
from sos.broker.nats.claims import account_jwt, decode_claims, operator_jwt, user_jwt
from sos.broker.nats.grants import GATEWAY, Grant, agent_grant
from sos.broker.nats.nkeys import KeyPair
from sos.broker.nats.streams import events_stream, inbox_consumer, messages_stream, registry_stream
from sos.broker.nats.tiers import TIERS
from sos.wire.errors import BadName, BadRequest, BadSubject
from sos.wire.nkeys import NkeyKind
from sos.wire.scopes import ALL, Scope

PREFIX = "_INBOX_" + "0" * 32
ACCOUNT, SIGNING = KeyPair.generate(NkeyKind.ACCOUNT), KeyPair.generate(NkeyKind.ACCOUNT)
USER = KeyPair.generate(NkeyKind.USER)


def user(grant: Grant, expires_at: datetime | None = None) -> str:
    return user_jwt(
        "bob", USER.public, ACCOUNT.public, SIGNING, grant, expires_at, max_payload=1024, max_subs=4, now=1_700_000_000
    )


def test_the_whole_grant_of_an_agent_is_what_the_design_says():
    assert agent_grant("acme", "bob", ALL, PREFIX) == Grant(
        pub=(
            "project.acme.beat.bob",
            "project.acme.api.bob.>",
            "$JS.API.DIRECT.GET.EVENTS.project.acme.address.*.*",
            "project.acme.agent.*.bob",
            "project.acme.squad.*.bob",
            "$JS.API.CONSUMER.MSG.NEXT.MESSAGES.bob",
            "$JS.ACK.MESSAGES.bob.>",
        ),
        sub=(PREFIX + ".>",),
    )


def test_an_agent_without_scopes_can_still_beat_ask_and_resolve():
    assert len(agent_grant("acme", "bob", (), PREFIX).pub) == 3


@pytest.mark.parametrize(
    ("scope", "subject"),
    [
        (Scope.SEND, "project.acme.agent.*.bob"),
        (Scope.BROADCAST, "project.acme.squad.*.bob"),
        (Scope.INBOX, "$JS.ACK.MESSAGES.bob.>"),
    ],
)
def test_a_scope_adds_its_own_subjects_and_no_others(scope: Scope, subject: str):
    without, with_it = agent_grant("acme", "bob", (), PREFIX), agent_grant("acme", "bob", (scope,), PREFIX)
    assert subject in set(with_it.pub) - set(without.pub)
    assert with_it.sub == without.sub


@pytest.mark.parametrize("name", ["*", ">", "bob.eve", "", "BOB", "b b"])
def test_a_hostile_name_never_reaches_a_grant(name: str):
    with pytest.raises(BadName):
        agent_grant("acme", name, ALL, PREFIX)
    with pytest.raises(BadName):
        agent_grant(name, "bob", ALL, PREFIX)


@pytest.mark.parametrize("prefix", ["", ">", "_INBOX", "_INBOX_" + "*" * 32, PREFIX + ".x"])
def test_an_inbox_that_is_not_random_and_private_is_refused(prefix: str):
    with pytest.raises(BadSubject):
        agent_grant("acme", "bob", ALL, prefix)


@pytest.mark.parametrize("grant", [Grant((), (">",)), Grant((">",), ()), Grant(("",), (">",)), Grant((">",), ("",))])
def test_an_empty_list_is_never_signed_because_nats_reads_it_as_everything(grant: Grant):
    with pytest.raises(EmptyGrant):
        user(grant)


def test_a_users_jwt_says_who_signed_it_for_which_account_and_until_when():
    claims = decode_claims(user(Grant(("a.b",), ("c.>",)), datetime(2030, 1, 1, tzinfo=UTC)))
    assert claims["iss"] == SIGNING.public
    assert claims["sub"] == USER.public
    assert claims["exp"] == 1893456000
    assert claims["nats"] == {
        "type": "user",
        "version": 2,
        "issuer_account": ACCOUNT.public,
        "pub": {"allow": ["a.b"]},
        "sub": {"allow": ["c.>"]},
        "subs": 4,
        "data": -1,
        "payload": 1024,
        "allowed_connection_types": ["STANDARD"],
    }


def test_a_jwt_without_expiry_names_none():
    assert "exp" not in decode_claims(user(GATEWAY))


def test_equal_claims_give_the_same_jwt():
    assert user(GATEWAY) == user(GATEWAY)


def test_an_account_carries_its_tiers_limits_times_its_replicas():
    operator = KeyPair.generate(NkeyKind.OPERATOR)
    limits = TIERS["starter"]
    jwt = account_jwt("acme", ACCOUNT.public, SIGNING.public, limits, {USER.public: 7}, operator, replicas=3)
    body = decode_claims(jwt)["nats"]
    assert body["limits"]["disk_storage"] == 3 * limits.disk_storage
    assert body["limits"]["max_bytes_required"] is True
    assert body["limits"]["leaf"] == 0
    assert body["signing_keys"] == [SIGNING.public]
    assert body["revocations"] == {USER.public: 7}


def test_a_wildcard_revocation_is_refused_because_it_cuts_the_gateway_too():
    with pytest.raises(BadRequest):
        account_jwt("acme", ACCOUNT.public, SIGNING.public, None, {"*": 7}, KeyPair.generate(NkeyKind.OPERATOR))


def test_the_operator_signs_itself():
    identity, signing = KeyPair.generate(NkeyKind.OPERATOR), KeyPair.generate(NkeyKind.OPERATOR)
    claims = decode_claims(operator_jwt("sos", identity, signing.public, ACCOUNT.public))
    assert claims["iss"] == claims["sub"] == identity.public
    assert claims["nats"]["signing_keys"] == [signing.public]


def test_a_projects_streams_fit_into_its_account_exactly():
    for limits in TIERS.values():
        reserved = messages_stream("acme", limits)["max_bytes"] + events_stream("acme", limits)["max_bytes"]
        assert reserved == limits.disk_storage


def test_no_stream_drops_what_it_holds_or_lets_a_header_remove_it():
    for config in (messages_stream("acme", TIERS["scale"]), events_stream("acme", TIERS["scale"]), registry_stream()):
        assert config["discard"] == "new"
        assert config["deny_purge"] is True
        assert config["allow_rollup_hdrs"] is False
        assert config["max_consumers"] > 0
        assert not {"allow_msg_ttl", "allow_msg_schedules", "allow_atomic", "persist_mode"} & set(config)


def test_an_inbox_holds_the_agents_address_and_its_squads_in_a_fixed_order():
    config = inbox_consumer("acme", "bob", ("ops", "dev"), 30.0)
    assert config["filter_subjects"] == [
        "project.acme.agent.bob.*",
        "project.acme.squad.dev.*",
        "project.acme.squad.ops.*",
    ]
    assert config["ack_wait"] == 30_000_000_000
