"""Joining, over real HTTP and NATS: from an empty home and a token to an agent that is there, again and again."""

import asyncio
import json
import shutil
import stat
from pathlib import Path

import pytest
from tests.conftest import OPERATOR, Project
from tests.integration.joins import (
    NAME,
    WISH,
    agents_of,
    codes,
    facts_of,
    files_named,
    files_of,
    files_with,
    join,
    token_in,
    without_surroundings,
)

from sos.sdk import AsyncAgent, joining, profile
from sos.sdk.joining import STEPS, Step, Wish
from sos.sdk.proving import TEST_DATA
from sos.wire import api
from sos.wire.errors import (
    BadName,
    BadRequest,
    GatewayUnreachable,
    MissingToken,
    NameClaimed,
    UnknownToken,
    WrongIdentity,
)
from sos.wire.home import write_secret
from sos.wire.scopes import Scope
from sos.wire.tokens import TokenKind, make


@pytest.fixture
def owners(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The project, its owner's token in the environment, and no client that acts there."""
    without_surroundings(monkeypatch)
    monkeypatch.setenv("SOS_ADMIN_TOKEN", project.tenant_token)
    return project


async def test_an_owners_token_and_an_empty_home_make_an_agent_that_is_there(owners: Project, home: Path):
    done: list[Step] = []
    joined = await joining.join(WISH, owners.bus.url, progress=lambda step, _: done.append(step))
    assert tuple(done) == STEPS
    assert (joined.project, joined.name, joined.role, joined.token) == (owners.slug, NAME, "specialist", "minted")
    assert joined.skills == ("code-review",)
    assert joined.warnings == ()
    assert joined.round_trip_ms is not None
    assert joined.in_peers
    assert joined.session.startswith(f"{owners.slug}-{NAME}-sos-cli-unknown-")
    agent = (await agents_of(owners))[NAME]
    assert (agent.role, agent.joined_at is not None) == ("specialist", True)
    assert agent.skills[0].keywords == ("code", "review")
    async with await owners.agent("bob") as bob:
        assert {p.name: p.skills for p in await bob.peers()}[NAME] == ("code-review",)
        await bob.send(NAME, "welcome")
    async with AsyncAgent(name=NAME, url=owners.bus.url) as me:
        assert [m.text for m in await me.inbox()] == ["welcome"]


async def test_the_home_is_private_and_holds_no_owners_token(owners: Project, home: Path):
    joined = await join(owners)
    folder = home / "agents" / owners.slug / NAME
    assert Path(joined.home) == folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = {p.name: p for p in folder.iterdir() if not p.name.startswith("state.db-")}
    assert set(files) == {"token", "agent.json", "state.db", "RECOVERY.md"}
    assert {stat.S_IMODE(p.stat().st_mode) for p in files.values()} == {0o600}
    assert files_with(home, owners.tenant_token) == set()
    assert files_with(home, token_in(home, owners)) == {"token"}


async def test_the_four_questions_are_answered(owners: Project, home: Path):
    answers = (await join(owners)).answers
    assert answers.who_am_i == f"{NAME}, a specialist of project {owners.slug}"
    assert f"project.{owners.slug}.agent.{NAME}" in answers.where_is_my_inbox
    assert "tested in" in answers.where_is_my_inbox
    assert "code-review" in answers.what_can_i_do
    assert "mcp:send" in answers.what_can_i_do
    assert "RECOVERY.md" in answers.what_do_i_do_when_stuck


async def test_a_repetition_changes_nothing_and_makes_no_fact(
    owners: Project, home: Path, monkeypatch: pytest.MonkeyPatch
):
    first = await join(owners)
    assert await facts_of(owners) == ["agent.minted", "agent.joined"]
    before, kept = (await agents_of(owners))[NAME], files_of(home, owners)
    for _ in range(3):
        again = await join(owners)
        assert (again.token, again.role, again.skills, again.warnings) == ("saved", first.role, first.skills, ())
    monkeypatch.delenv("SOS_ADMIN_TOKEN")
    assert (await join(owners, Wish(name=NAME))).skills == first.skills
    assert (await agents_of(owners))[NAME] == before
    assert files_of(home, owners) == kept
    assert await facts_of(owners) == ["agent.minted", "agent.joined"]


async def test_changed_skills_and_another_role_are_registered(owners: Project, home: Path, tmp_path: Path):
    await join(owners)
    full = tmp_path / "skills.json"
    full.write_text('[{"id": "audit", "description": "audits", "input_schema": {"type": "object"}}, {"id": "triage"}]')
    one = tmp_path / "one.json"
    one.write_text('{"id": "code-review", "name": "Reviews", "labels": ["python"]}')
    joined = await join(owners, Wish(name=NAME, role="lead engineer", skill_files=(full, one)))
    assert (joined.role, joined.skills, joined.warnings) == ("executor", ("audit", "code-review", "triage"), ())
    agent = (await agents_of(owners))[NAME]
    assert agent.skills[0].input_schema == {"type": "object"}
    assert agent.skills[1].labels == ("python",)
    assert (await facts_of(owners)).count("agent.minted") == 1


async def test_an_agents_own_token_is_enough_from_a_file_or_the_environment(
    project: Project, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    token = await project.mint(NAME)
    write_secret(tmp_path / "given", token + "\n")
    joined = await join(project, Wish(name=NAME, token_file=tmp_path / "given"))
    assert (joined.token, joined.project, joined.warnings) == ("given", project.slug, ())
    assert token_in(home, project) == token
    monkeypatch.setenv("SOS_TOKEN", token)
    assert (await join(project, Wish(name=NAME))).token == "given"


async def test_a_token_file_comes_before_the_environment(
    owners: Project, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SOS_TOKEN", make(TokenKind.AGENT))
    write_secret(tmp_path / "given", owners.tenant_token)
    assert (await join(owners, Wish(name=NAME, token_file=tmp_path / "given"))).token == "minted"


async def test_the_operators_home_joins_agents_of_a_project_that_is_named(project: Project, home: Path):
    write_secret(home / "operator.token", project.bus.operator_token)
    with pytest.raises(MissingToken):  # it opens the bus of its own home, and is shown to no other
        await join(project)
    write_secret(home / "context.json", json.dumps({"url": project.bus.url}))
    await project.bus.bus.projects.create(OPERATOR, api.CreateProject(slug=f"{project.slug}-other"))
    with pytest.raises(BadRequest, match="which project"):
        await join(project)
    assert (await join(project, Wish(name=NAME, project=project.slug))).token == "minted"


@pytest.mark.parametrize("name", ["", "ünïcode", "a*b", "x" * 64])
async def test_a_name_that_cannot_be_one_fails_and_writes_nothing(owners: Project, home: Path, name: str):
    with pytest.raises(BadName):
        await join(owners, Wish(name=name))
    assert not (home / "agents").exists()


async def test_no_token_a_refused_one_and_somebody_elses_fail(
    project: Project, home: Path, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(MissingToken):
        await join(project)
    for token in (make(TokenKind.AGENT), make(TokenKind.TENANT)):
        monkeypatch.setenv("SOS_TOKEN", token)
        with pytest.raises(UnknownToken):
            await join(project)
    monkeypatch.setenv("SOS_TOKEN", await project.mint("bob"))
    with pytest.raises(WrongIdentity):
        await join(project)
    with pytest.raises(WrongIdentity):
        await join(project, Wish(name="bob", project="elsewhere"))
    assert files_named(home, "token") == []


async def test_without_a_gateway_and_without_a_token_it_fails(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SOS_ADMIN_TOKEN", make(TokenKind.TENANT))
    with pytest.raises(GatewayUnreachable):
        await joining.join(Wish(name=NAME, project="acme"), "http://127.0.0.1:1")


async def test_without_a_gateway_an_agent_that_joined_before_is_warned_and_keeps_what_it_has(
    owners: Project, home: Path
):
    await join(owners)
    kept = files_of(home, owners)
    again = await joining.join(Wish(name=NAME, project=owners.slug), "http://127.0.0.1:1")
    assert (again.token, again.in_peers, again.round_trip_ms) == ("saved", False, None)
    assert set(codes(again)) == {"gateway_unreachable"}
    assert {k: v for k, v in files_of(home, owners).items() if k != "RECOVERY.md"} == {
        k: v for k, v in kept.items() if k != "RECOVERY.md"
    }


async def test_without_a_gateway_the_project_is_the_one_that_the_home_holds(owners: Project, home: Path):
    await join(owners)
    assert (await joining.join(Wish(name=NAME), "http://127.0.0.1:1")).project == owners.slug
    with pytest.raises(GatewayUnreachable):
        await joining.join(Wish(name="another"), "http://127.0.0.1:1")


async def test_a_home_that_nothing_can_be_kept_in_and_a_token_file_that_is_not_there_fail(
    owners: Project, home: Path, tmp_path: Path
):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadRequest, match="nothing can be kept"):
        await join(owners, root=tmp_path / "file" / "home")
    with pytest.raises(BadRequest, match="cannot be read"):
        await join(owners, Wish(name=NAME, token_file=tmp_path / "missing"))
    assert await agents_of(owners) == {}


async def test_an_agents_folder_that_was_lost_is_made_again_with_the_same_token(owners: Project, home: Path):
    await join(owners)
    token = token_in(home, owners)
    shutil.rmtree(home / "agents")
    assert (await join(owners)).warnings == ()
    assert token_in(home, owners) == token
    assert await facts_of(owners) == ["agent.minted", "agent.joined"]
    shutil.rmtree(home / "agents")
    with pytest.raises(NameClaimed):  # another request than the first under its key: nobody can tell it is the same
        await join(owners, Wish(name=NAME, model="another"))


async def test_what_it_says_of_itself_and_cannot_be_taken_is_a_warning(owners: Project, home: Path, tmp_path: Path):
    (tmp_path / "broken.json").write_text('{"id": "Not An Id"}')
    wish = Wish(
        name=NAME,
        role="wizard",
        skills=("code review", "ünïcode"),
        skill_files=(tmp_path / "broken.json", tmp_path / "missing.json"),
    )
    joined = await join(owners, wish)
    assert codes(joined) == ["unknown_role", "bad_name", "bad_request", "bad_request"]
    assert all(w.cure for w in joined.warnings)
    assert (joined.role, joined.skills, joined.in_peers) == ("specialist", ("code-review",), True)


async def test_missing_scopes_are_warnings_and_the_agent_is_there_all_the_same(
    project: Project, home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SOS_TOKEN", await project.mint(NAME, scopes=(Scope.BROADCAST,)))
    joined = await join(project)
    assert codes(joined) == ["missing_scope", "missing_scope"]
    assert [w.step for w in joined.warnings] == ["test", "test"]
    assert joined.in_peers
    assert token_in(home, project)


async def test_a_home_that_cannot_take_the_profile_and_the_guide_is_a_warning(owners: Project, home: Path):
    await join(owners)
    folder = home / "agents" / owners.slug / NAME
    for name in ("agent.json", "RECOVERY.md"):
        (folder / name).unlink()
        (folder / name).mkdir()
    joined = await join(owners)
    assert codes(joined) == ["profile_not_written", "guide_not_written"]
    assert joined.in_peers


async def test_other_mail_stays_unread_and_in_order(owners: Project, home: Path):
    await join(owners)
    async with await owners.agent("bob") as bob:
        for i in range(20):
            await bob.send(NAME, str(i))
    joined = await join(owners)
    assert joined.warnings == ()
    async with AsyncAgent(name=NAME, url=owners.bus.url) as me:
        found: list[str] = []
        async with asyncio.timeout(15):
            while len(found) < 20:
                found += [m.text for m in await me.inbox()]
    assert found == [str(i) for i in range(20)]


async def test_the_test_of_an_interrupted_join_is_cleared_away(owners: Project, home: Path):
    await join(owners)
    async with AsyncAgent(name=NAME, url=owners.bus.url) as me:
        await me.send(NAME, "left behind", data=TEST_DATA)
    await join(owners)
    async with AsyncAgent(name=NAME, url=owners.bus.url) as me:
        assert await me.inbox() == []


async def test_a_running_agent_of_the_home_may_take_the_test_message(owners: Project, home: Path):
    await join(owners)
    running = AsyncAgent(name=NAME, url=owners.bus.url)
    seen: list[str] = []

    @running.on_message
    async def handle(message: object) -> None:
        seen.append(repr(message))

    async with running:
        for _ in range(5):
            joined = await join(owners)
            assert joined.warnings == ()
            assert joined.round_trip_ms is not None


async def test_a_damaged_profile_is_mended(owners: Project, home: Path):
    await join(owners)
    profile.path_of(owners.slug, NAME).write_text("{")
    assert (await join(owners)).warnings == ()
    found = profile.load(owners.slug, NAME)
    assert found is not None
    assert found.skills == ("code-review",)


async def test_client_and_model_of_the_surroundings_stand_in_the_stamp(
    owners: Project, home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CLAUDECODE", "1")
    monkeypatch.setenv("ANTHROPIC_MODEL", "claude-sonnet-4-6")
    joined = await join(owners)
    assert "-claude-code-claude-sonnet-4-6-" in joined.session
    assert (await agents_of(owners))[NAME].model == "claude-sonnet-4-6"
    joined = await join(owners, Wish(name=NAME, client="my-bot", model="m1"))
    assert "-my-bot-m1-" in joined.session
