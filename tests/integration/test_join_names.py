"""Whose a name is: claimed, released, rotated, minted for somebody else, and wanted by fifty installs at once."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.conftest import Project
from tests.integration.joins import (
    NAME,
    WISH,
    agents_of,
    facts_of,
    files_named,
    join,
    owner,
    token_in,
    without_surroundings,
)

from sos.sdk import AsyncAgent
from sos.sdk.joining import Joined, Wish
from sos.wire import api
from sos.wire.errors import (
    AgentDisabled,
    NameClaimed,
    NameTaken,
    SosError,
    UnknownToken,
)
from sos.wire.home import write_secret


@pytest.fixture
def owners(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The project, its owner's token in the environment, and no client that acts there."""
    without_surroundings(monkeypatch)
    monkeypatch.setenv("SOS_ADMIN_TOKEN", project.tenant_token)
    return project


async def test_another_install_that_claims_the_name_is_refused_with_the_way_out(
    owners: Project, home: Path, tmp_path: Path
):
    await join(owners)
    other = tmp_path / "other"
    with pytest.raises(NameClaimed) as refused:
        await join(owners, root=other)
    assert "sos agent release" in refused.value.remedy
    write_secret(tmp_path / "stolen", token_in(home, owners))
    with pytest.raises(NameClaimed):
        await join(owners, Wish(name=NAME, token_file=tmp_path / "stolen"), root=other)
    assert files_named(other, "token") == []
    assert (await join(owners)).warnings == ()


async def test_a_released_name_goes_to_the_next_install_and_the_first_is_refused_then(
    owners: Project, home: Path, tmp_path: Path
):
    await join(owners)
    async with AsyncAgent(name=NAME, url=owners.bus.url) as me, await owners.agent("bob") as bob:
        assert me.project
        await bob.send(NAME, "kept")
    await owner(owners).call("POST", f"/api/tenants/{owners.slug}/agents/{NAME}/release", api.AgentCut)
    other = tmp_path / "other"
    assert (await join(owners, root=other)).token == "rotated"
    with pytest.raises(NameClaimed):
        await join(owners)
    async with AsyncAgent(token_in(other, owners), NAME, url=owners.bus.url, home=other) as me:
        async with asyncio.timeout(10):
            while not (found := await me.inbox()):
                pass
    assert [m.text for m in found] == ["kept"]


async def test_a_released_name_can_be_joined_again_from_the_same_home(owners: Project, home: Path):
    await join(owners)
    await owner(owners).call("POST", f"/api/tenants/{owners.slug}/agents/{NAME}/release", api.AgentCut)
    assert (await join(owners)).token == "rotated"
    assert (await join(owners)).token == "saved"


async def test_a_token_that_the_owner_rotated_elsewhere_is_replaced_in_the_home_that_joined(
    owners: Project, home: Path, monkeypatch: pytest.MonkeyPatch
):
    await join(owners)
    path = f"/api/tenants/{owners.slug}/agents/{NAME}/rotate"
    await owner(owners).call("POST", path, api.AgentRotated, api.RotateToken())
    assert (await join(owners)).token == "rotated"
    await owner(owners).call("POST", path, api.AgentRotated, api.RotateToken())
    monkeypatch.delenv("SOS_ADMIN_TOKEN")
    with pytest.raises(UnknownToken):
        await join(owners)


async def test_a_name_that_was_minted_for_somebody_else_is_not_taken_from_them(owners: Project, home: Path):
    token = await owners.mint(NAME)
    with pytest.raises(NameTaken):
        await join(owners)
    async with AsyncAgent(token, NAME, url=owners.bus.url) as theirs:
        assert theirs.name == NAME


async def test_a_disabled_and_a_revoked_agent_are_told_apart(owners: Project, home: Path):
    await join(owners)
    agents = f"/api/tenants/{owners.slug}/agents/{NAME}"
    await owner(owners).call("POST", f"{agents}/disable", api.AgentCut)
    with pytest.raises(AgentDisabled):
        await join(owners)
    await owner(owners).call("POST", f"{agents}/enable", api.Agent)
    assert (await join(owners)).warnings == ()
    await owner(owners).call("DELETE", agents, api.AgentCut)
    with pytest.raises((UnknownToken, NameTaken)):
        await join(owners)


def at_once(project: Project, wish: Wish, roots: list[Path]) -> list[asyncio.Future[Joined | SosError]]:
    """One join from each home, each in a thread and a loop of its own."""
    loop, threads = asyncio.get_running_loop(), ThreadPoolExecutor(len(roots))

    def one(root: Path) -> Joined | SosError:
        try:
            return asyncio.run(join(project, wish, root=root))
        except SosError as e:
            return e

    joining = [loop.run_in_executor(threads, one, root) for root in roots]
    threads.shutdown(wait=False)
    return joining


async def test_of_many_installs_that_take_a_released_name_at_once_one_has_it_and_can_lose_it_again(
    owners: Project, home: Path, tmp_path: Path
):
    await join(owners)
    release = f"/api/tenants/{owners.slug}/agents/{NAME}/release"
    await owner(owners).call("POST", release, api.AgentCut)
    outcomes = await asyncio.gather(*at_once(owners, WISH, [tmp_path / f"home-{n}" for n in range(8)]))
    assert len([o for o in outcomes if isinstance(o, Joined)]) == 1
    assert {type(o) for o in outcomes} <= {Joined, NameTaken, NameClaimed, UnknownToken}
    await owner(owners).call("POST", release, api.AgentCut)
    assert (await join(owners)).warnings == ()


async def test_fifty_joins_of_one_name_from_fifty_installs_give_exactly_one_owner(
    owners: Project, home: Path, tmp_path: Path
):
    outcomes = await asyncio.gather(*at_once(owners, WISH, [tmp_path / f"home-{n}" for n in range(50)]))
    joined = [o for o in outcomes if isinstance(o, Joined)]
    refused = [o for o in outcomes if not isinstance(o, Joined)]
    assert len(joined) == 1
    assert joined[0].warnings == ()
    assert {type(e) for e in refused} <= {NameTaken, NameClaimed}
    assert len(refused) == 49
    assert len(files_named(tmp_path, "token")) == 1
    assert list(await agents_of(owners)) == [NAME]
    assert await facts_of(owners) == ["agent.minted", "agent.joined"]
