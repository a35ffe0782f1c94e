"""What a tier allows: no more than that, however many ask at once, and by whichever gateway."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from tests.conftest import OPERATOR, Project
from tests.integration.raw_http import Answer, ask

from sos.broker.app import Running
from sos.wire import api
from sos.wire.errors import LimitReached, NotInCatalogue, ReservedName, UnknownToken

RACERS = 50
GROWTH_AGENTS = 5


async def growth(bus: Running, slug: str) -> Project:
    """A project of the tier growth, with its real limit."""
    return Project(bus, await bus.bus.projects.create(OPERATOR, api.CreateProject(slug=slug, tier="growth")))


async def racing(bus: Running, path: str, token: str, *bodies: Mapping[str, object]) -> list[Answer]:
    """All at once, each over a connection of its own."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(len(bodies)) as threads:
        return await asyncio.gather(
            *(loop.run_in_executor(threads, ask, bus.url, "POST", path, token, body) for body in bodies)
        )


async def test_of_fifty_mints_at_once_five_succeed_where_the_tier_allows_five(bus: Running, home: object):
    project = await growth(bus, "race")
    bodies = [{"agent_name": f"agent-{n}"} for n in range(RACERS)]
    answers = await racing(bus, "/api/tenants/race/agents/mint", project.tenant_token, *bodies)
    made = [a for a in answers if a.status == 201]
    assert len(made) == GROWTH_AGENTS
    for answer in answers:
        if answer.status != 201:
            answer.problem(403, "limit_reached")
    names = {msgspec.json.decode(a.body)["name"] for a in made}
    assert {a.name for a in await bus.bus.agents.list(OPERATOR, "race")} == names


async def test_a_revoked_agent_makes_room_for_another_and_a_disabled_one_does_not(bus: Running, home: object):
    project = await growth(bus, "room")
    for n in range(GROWTH_AGENTS):
        await project.mint(f"a{n}")
    await bus.bus.cutting.disable(OPERATOR, "room", "a0")
    with pytest.raises(LimitReached):
        await project.mint("b")
    await bus.bus.cutting.revoke(OPERATOR, "room", "a1")
    await project.mint("b")


async def test_agents_of_the_platform_are_not_counted_and_their_token_is_the_operators(bus: Running, home: object):
    project = await growth(bus, "platform")
    for n in range(GROWTH_AGENTS):
        await project.mint(f"a{n}")
    entry = api.AddToCatalogue(name="Kasra", model="claude-opus-4-6", charter="coordinates", role="lead")
    added = await bus.bus.catalogue.add(OPERATOR, entry)
    assert (added.name, added.role) == ("kasra", "coordinator")
    (answer,) = await racing(
        bus, "/api/tenants/platform/agents/activate", project.tenant_token, {"agent_name": "kasra"}
    )
    activated = msgspec.json.decode(answer.body, type=api.AgentActivated)
    assert (answer.status, activated.raw_token, activated.role) == (201, None, "coordinator")
    shown = {a.name: a for a in await bus.bus.agents.list(OPERATOR, "platform")}["kasra"]
    assert (shown.origin, shown.model, shown.charter) == ("platform", "claude-opus-4-6", "coordinates")
    token = (await bus.bus.cutting.rotate(OPERATOR, "platform", "kasra", api.RotateToken())).raw_token
    kasra = await project.agent("kasra", token)
    await kasra.connect()
    await kasra.stop()


async def test_what_the_catalogue_does_not_offer_is_not_activated(bus: Running, project: Project):
    with pytest.raises(NotInCatalogue):
        await bus.bus.agents.activate(OPERATOR, project.slug, api.ActivateAgent(agent_name="nobody"))


async def test_nobody_is_called_like_the_bus_itself(project: Project):
    with pytest.raises(ReservedName):
        await project.mint("Gateway")


async def test_an_owners_old_token_opens_nothing_after_a_rotation(bus: Running, project: Project):
    rotated = await bus.bus.projects.rotate(OPERATOR, project.slug)
    path = f"/api/tenants/{project.slug}/agents/mint"
    old, new = await racing(bus, path, project.tenant_token, {"agent_name": "a"}), None
    old[0].problem(401, "unknown_token")
    (new,) = await racing(bus, path, rotated.tenant_token, {"agent_name": "a"})
    assert new.status == 201


async def test_an_old_token_is_good_until_its_grace_is_over_and_so_is_what_it_opened(bus: Running, project: Project):
    token = await project.mint("bob")
    rotated = await bus.bus.cutting.rotate(OPERATOR, project.slug, "bob", api.RotateToken(grace_s=1.0))
    assert rotated.old_token_until is not None
    bob = await project.agent("bob", token)
    await bob.connect()
    new = await project.agent("bob", rotated.raw_token)
    await new.connect()
    with pytest.raises(UnknownToken):
        await asyncio.wait_for(bob.wait(), 10.0)
    tenant = await bus.bus.projects.tenant(project.slug)
    assert await tenant.live_sessions() == {new.session}
