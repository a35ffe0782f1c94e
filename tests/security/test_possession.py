"""A session is opened for a key only by who holds it, and for each key once: revocation is by key."""

import msgspec
import pytest
from msgspec.structs import replace
from tests.conftest import OPERATOR, Project
from tests.integration.raw_http import asking
from tests.security.attacker import connected, open_session

from sos.broker.app import Running
from sos.sdk.credential import SessionKey

SESSION = "/api/session"


async def test_nobody_has_anothers_key_recorded_as_its_own_and_cuts_it_by_being_cut(bus: Running, project: Project):
    vera, mallory = await project.mint("vera"), await project.mint("mallory")
    key, opened = await open_session(bus.url, vera)
    async with connected(project.slug, "vera", key, opened.nats_urls, opened.jwt) as connection:
        stolen = SessionKey().request(mallory)
        seen = key.request(vera)  # all that was on the wire when vera opened her session
        for claim in (
            replace(stolen, public_nkey=key.public),
            replace(seen, inbox_prefix=stolen.inbox_prefix),
            seen,
        ):
            answer = await asking(bus.url, "POST", SESSION, mallory, msgspec.to_builtins(claim))
            answer.problem(422, "bad_request")
        await bus.bus.cutting.revoke(OPERATOR, project.slug, "mallory")
        await connection.fence()
        assert not connection.closed.is_set()


async def test_a_key_opens_one_session(bus: Running, project: Project):
    token = await project.mint("vera")
    ask = msgspec.to_builtins(SessionKey().request(token))
    assert (await asking(bus.url, "POST", SESSION, token, ask)).status == 201
    (await asking(bus.url, "POST", SESSION, token, ask)).problem(422, "bad_request")


@pytest.mark.parametrize("proof", ["A" * 86, "", "A" * 85, "*" * 86])
async def test_a_session_without_a_proof_is_not_opened(bus: Running, project: Project, proof: str):
    token = await project.mint("vera")
    ask = msgspec.to_builtins(SessionKey().request(token)) | {"proof": proof}
    (await asking(bus.url, "POST", SESSION, token, ask)).problem(422, "bad_request")
