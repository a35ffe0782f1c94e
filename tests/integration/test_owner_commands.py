"""What an owner does on the command line with agents that are there, each beside its JSON."""

import asyncio
import re
from pathlib import Path

import msgspec
import pytest
from tests.conftest import Project, eventually
from tests.integration.joins import NAME, agents_of, facts_of, join, token_in, without_surroundings
from tests.integration.test_bad_input_cli import Ran, sos

from sos.sdk import AsyncAgent, Message
from sos.wire import api
from sos.wire.errors import AgentDisabled, MissingScope, SosError, UnknownRecipient, UnknownToken
from sos.wire.home import write_secret
from sos.wire.scopes import ALL, Scope
from sos.wire.tokens import TokenKind, check, tail

DONE, FAILED, USAGE, UNREACHABLE, REFUSED, NOT_FOUND = range(6)
CUT_WITHIN_S = 10.0
_MS = re.compile(r"after \d+\.\d ms")


class Owner:
    """The command line of the project's owner, or of the operator, on a machine of its own."""

    def __init__(self, project: Project, home: Path) -> None:
        self._project, self.home = project, home

    async def __call__(self, *arguments: str, operator: bool = False) -> Ran:
        token = self._project.bus.operator_token if operator else self._project.tenant_token
        return await sos(self.home, *arguments, SOS_URL=self._project.bus.url, SOS_ADMIN_TOKEN=token)

    async def json[T](self, as_type: type[T], *arguments: str, operator: bool = False) -> T:
        """What the command says as JSON."""
        ran = await self(*arguments, "--json", operator=operator)
        assert (ran.code, ran.err) == (DONE, "")
        return msgspec.json.decode(ran.out, type=as_type)


@pytest.fixture
def owner(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Owner:
    """The owner's; the tests' own agents live in another home."""
    without_surroundings(monkeypatch)
    return Owner(project, tmp_path / "owners-home")


async def refused(agent: AsyncAgent) -> type[SosError]:
    """What ends the agent's session for good."""
    with pytest.raises(SosError) as ended:
        await asyncio.wait_for(agent.wait(), CUT_WITHIN_S)
    return type(ended.value)


async def test_agents_are_listed_with_state_role_origin_tail_and_joining(project: Project, owner: Owner, home: Path):
    token = await project.mint("bob", role="medic")
    ran = await owner("agent", "list")
    assert ran.code == DONE
    head, row = ran.out.splitlines()
    assert head.split() == ["AGENT", "STATE", "ROLE", "ORIGIN", "TOKEN", "JOINED"]
    assert row.split() == ["bob", "active", "medic", "custom", f"…{tail(token)}", "-"]
    (listed,) = await owner.json(tuple[api.Agent, ...], "agent", "list", "--project", project.slug)
    assert (listed.name, listed.token_tail) == ("bob", tail(token))
    assert token not in ran.out


async def test_an_empty_project_says_what_comes_next(owner: Owner):
    assert "sos agent mint" in (await owner("agent", "list")).out


async def test_disable_cuts_and_says_in_how_many_milliseconds_and_enable_takes_it_back(project: Project, owner: Owner):
    bob = await project.agent("bob", token := await project.mint("bob"))
    await bob.connect()
    cut = await owner.json(api.AgentCut, "agent", "disable", "bob")
    assert (cut.state, cut.credentials) == ("disabled", 1)
    assert 0 < cut.took_ms < CUT_WITHIN_S * 1_000
    assert await refused(bob) is AgentDisabled
    shown = await owner("agent", "disable", "Bob")
    assert _MS.search(shown.out)
    assert "sos agent enable bob" in shown.out
    enabled = await owner.json(api.Agent, "agent", "enable", "bob")
    assert enabled.state == "active"
    async with AsyncAgent(token, "bob", url=project.bus.url) as again:
        assert again.name == "bob"


async def test_revoke_asks_for_yes_and_is_for_good(project: Project, owner: Owner):
    bob = await project.agent("bob", token := await project.mint("bob"))
    alice = await project.agent("alice")
    await bob.connect()
    await alice.connect()
    asked = await owner("agent", "revoke", "bob")
    assert (asked.code, (await agents_of(project))["bob"].state) == (USAGE, "active")
    assert "--yes" in asked.err
    done = await owner("agent", "revoke", "bob", "--yes")
    assert done.code == DONE
    assert _MS.search(done.out)
    assert await refused(bob) is UnknownToken
    with pytest.raises(UnknownToken):
        await AsyncAgent(token, "bob", url=project.bus.url).connect()
    with pytest.raises(UnknownRecipient):
        await alice.send("bob", "anyone?")
    again = await owner("agent", "enable", "bob", "--json")
    assert (again.code, again.error["code"]) == (NOT_FOUND, "unknown_agent")


async def test_revoke_with_json_is_taken_as_meant(project: Project, owner: Owner):
    await project.mint("bob")
    assert (await owner.json(api.AgentCut, "agent", "revoke", "bob")).state == "revoked"


async def test_scopes_are_shown_added_removed_and_set(project: Project, owner: Owner):
    bob = await project.agent("bob", await project.mint("bob", scopes=(Scope.INBOX,)))
    await bob.connect()
    with pytest.raises(MissingScope):
        await bob.send("bob", "x")
    assert "mcp:inbox" in (await owner("agent", "scopes", "bob")).out
    added = await owner.json(api.AgentCut, "agent", "scopes", "bob", "--add", "mcp:send", "--add", "mcp:broadcast")
    assert added.scopes == (Scope.SEND, Scope.INBOX, Scope.BROADCAST)
    await _may_send(bob)
    removed = await owner("agent", "scopes", "bob", "--remove", "mcp:broadcast")
    assert _MS.search(removed.out)
    assert (await agents_of(project))["bob"].scopes == (Scope.SEND, Scope.INBOX)
    set_ = await owner.json(api.AgentCut, "agent", "scopes", "bob", "--set", "mcp:recall")
    assert set_.scopes == (Scope.RECALL,)
    both = await owner("agent", "scopes", "bob", "--set", "mcp:send", "--add", "mcp:inbox")
    assert both.code == USAGE
    nobody = await owner("agent", "scopes", "bbo", "--add", "mcp:send", "--json")
    assert nobody.error["fields"]["close"] == ["bob"]


async def _may_send(agent: AsyncAgent) -> None:
    """Its session is opened again with the new rights at once, and not in the middle of this send."""
    async with asyncio.timeout(CUT_WITHIN_S):
        while True:
            try:
                await agent.send(agent.name, "x")
            except MissingScope:
                await asyncio.sleep(0.02)
            else:
                return


async def test_a_rotation_by_the_owner_shows_the_token_once_or_keeps_it(project: Project, owner: Owner):
    first = await project.mint("bob")
    rotated = await owner.json(api.AgentRotated, "agent", "rotate", "bob")
    check(rotated.raw_token, TokenKind.AGENT)
    assert rotated.raw_token != first
    with pytest.raises(UnknownToken):
        await AsyncAgent(first, "bob", url=project.bus.url).connect()
    kept = await owner("agent", "rotate", "bob", "--save", "--project", project.slug)
    assert "sk-bus-" not in kept.out
    assert _MS.search(kept.out)
    async with AsyncAgent(token_in(owner.home, project, "bob"), "bob", url=project.bus.url) as bob:
        assert bob.name == "bob"


async def test_in_the_grace_both_tokens_are_taken(project: Project, owner: Owner):
    first = await project.mint("bob")
    rotated = await owner.json(api.AgentRotated, "agent", "rotate", "bob", "--grace-s", "600")
    assert rotated.old_token_until is not None
    for token in (first, rotated.raw_token):
        async with AsyncAgent(token, "bob", url=project.bus.url) as bob:
            assert bob.name == "bob"
    assert (await owner("agent", "rotate", "bob", "--grace-s", "-1")).code == USAGE


async def test_a_running_agent_of_a_home_goes_on_receiving_when_it_is_rotated_there(
    project: Project, home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SOS_ADMIN_TOKEN", project.tenant_token)
    await join(project)
    first = token_in(home, project)
    running, got = AsyncAgent(name=NAME, url=project.bus.url), list[str]()

    @running.on_message
    async def handle(message: Message) -> None:
        got.append(message.text)

    async with running, await project.agent("bob") as bob:
        await bob.send(NAME, "before")
        await eventually(lambda: got == ["before"], "nothing came")
        for n in range(2):
            ran = await sos(home, "agent", "rotate", NAME, "--json", SOS_URL=project.bus.url)
            assert (ran.code, ran.err) == (DONE, "")
            assert "sk-bus-" not in ran.out
            await bob.send(NAME, f"after {n}")
            await eventually(lambda n=n: got[-1] == f"after {n}", "it does not receive any more")
    assert got == ["before", "after 0", "after 1"]
    assert token_in(home, project) != first
    assert (await facts_of(project)).count("agent.rotated") == 2
    with pytest.raises(UnknownToken):
        await AsyncAgent(first, NAME, url=project.bus.url).connect()


async def test_a_home_whose_token_is_void_is_mended_by_the_owner_there(project: Project, home: Path, owner: Owner):
    write_secret(home / "agents" / project.slug / "bob" / "token", await project.mint("bob"))
    await owner.json(api.AgentRotated, "agent", "rotate", "bob")
    alone = await sos(home, "agent", "rotate", "bob", "--json", SOS_URL=project.bus.url)
    assert (alone.code, alone.error["code"]) == (REFUSED, "unknown_token")
    mended = await sos(home, "agent", "rotate", "bob", SOS_URL=project.bus.url, SOS_ADMIN_TOKEN=project.tenant_token)
    assert mended.code == DONE
    async with AsyncAgent(name="bob", url=project.bus.url) as bob:
        assert bob.name == "bob"


async def test_release_lets_a_name_go(project: Project, home: Path, owner: Owner, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SOS_ADMIN_TOKEN", project.tenant_token)
    await join(project)
    ran = await owner("agent", "release", NAME)
    assert ran.code == DONE
    assert "sos agent join" in ran.out
    agent = (await agents_of(project))[NAME]
    assert (agent.joined_at, agent.token_tail, agent.state) == (None, "", "active")


async def test_sessions_are_told_to_the_owner_and_to_the_agent_itself(project: Project, home: Path, owner: Owner):
    token = await project.mint("bob")
    write_secret(home / "agents" / project.slug / "bob" / "token", token)
    async with AsyncAgent(token, "bob", url=project.bus.url, client="codex", model="gpt-5.4") as bob:
        stamp, id_ = bob.session, (await bob.send("bob", "x")).id
        (run,) = await owner.json(tuple[api.Run, ...], "agent", "sessions", "bob")
        assert (run.session, run.client, run.model, run.ended_at) == (stamp, "codex", "gpt-5.4", None)
        shown = await sos(home, "agent", "sessions", "bob", SOS_URL=project.bus.url)
        assert run.short in shown.out
        assert "cdxGpt54" in shown.out
    origin = await owner.json(api.MessageOrigin, "agent", "sessions", "--message", id_)
    assert (origin.id, origin.sender, origin.session, origin.confirmed) == (id_, "bob", stamp, True)
    assert run.short in (await owner("agent", "sessions", "--message", id_)).out
    (over,) = await owner.json(tuple[api.Run, ...], "agent", "sessions", "bob")
    assert over.reason == "stopped"
    missing = await owner("agent", "sessions", "--message", "0198c0de-0000-7000-8000-000000000000", "--json")
    assert (missing.code, missing.error["code"]) == (NOT_FOUND, "unknown_message")
    assert (await owner("agent", "sessions", "--message", "../x")).code == USAGE
    assert (await owner("agent", "sessions")).code == USAGE


async def test_the_operator_keeps_a_catalogue_and_owners_activate_from_it(
    project: Project, owner: Owner, tmp_path: Path
):
    name = f"kasra-{project.slug}"
    (tmp_path / "skill.json").write_text('{"id": "plan", "description": "plans"}')
    added = await owner.json(
        api.CatalogueEntry,
        *("catalog", "add", name, "--role", "coordinator", "--model", "m", "--skill", "code review"),
        *("--skill-file", str(tmp_path / "skill.json")),
        operator=True,
    )
    assert (added.role, [s.id for s in added.skills], added.scopes) == ("coordinator", ["code-review", "plan"], ALL)
    assert name in (await owner("catalog", "list")).out
    forbidden = await owner("catalog", "add", "x", "--json")
    assert (forbidden.code, forbidden.error["code"]) == (REFUSED, "forbidden")
    activated = await owner.json(api.AgentActivated, "agent", "activate", name)
    assert (activated.role, activated.raw_token) == ("coordinator", None)
    assert (await agents_of(project))[name].origin == "platform"
    assert (await owner("catalog", "remove", name, operator=True)).code == DONE
    gone = await owner("agent", "activate", "nobody-there", "--json")
    assert (gone.code, gone.error["code"]) == (NOT_FOUND, "not_in_catalogue")


async def test_a_projects_token_is_rotated_by_the_operator_alone(project: Project, owner: Owner):
    assert (await owner("project", "rotate", project.slug)).code == REFUSED
    rotated = await owner.json(api.TenantRotated, "project", "rotate", project.slug, operator=True)
    check(rotated.tenant_token, TokenKind.TENANT)
    assert (await owner("agent", "list", "--json")).error["code"] == "unknown_token"
    project.tenant_token = rotated.tenant_token
    assert (await owner("agent", "list")).code == DONE


async def test_escalations_go_where_the_owner_says(project: Project, owner: Owner):
    await project.mint("bob")
    set_ = await owner.json(api.Escalation, "project", "escalate", "agent:bob")
    assert set_.to.endswith("agent:bob")
    assert (await owner("project", "escalate", "agent:nobody")).code == NOT_FOUND
    assert (await owner("project", "escalate")).code == USAGE
    assert (await owner("project", "escalate", "agent:bob", "--none")).code == USAGE
    assert (await owner("project", "escalate", f"{project.slug}/agent:bob", "--operator")).code == REFUSED
    operators = ("project", "escalate", "--operator")
    assert (await owner(*operators, f"{project.slug}/agent:bob", operator=True)).code == DONE
    assert (await owner(*operators, "--none", operator=True)).out == "Reported to: nobody.\n"
    assert (await owner.json(api.Escalation, "project", "escalate", "--none")).to == ""


async def test_join_on_the_command_line_tells_each_step_and_answers_the_four_questions(project: Project, owner: Owner):
    ran = await owner("agent", "join", "--name", "Mumega.CodeCheck", "--role", "wizard", "--skill", "code review")
    assert (ran.code, ran.err) == (DONE, "")
    for step in ("name", "token", "saved", "joined", "session", "test", "peers", "guide"):
        assert re.search(rf"^{step} ", ran.out, re.MULTILINE), step
    for question in ("Who am I?", "Where is my inbox?", "What can I do?", "What do I do when stuck?"):
        assert question in ran.out
    assert "No mesh role is known for the label 'wizard'" in ran.out
    assert "sk-" not in ran.out
    taken = await sos(
        owner.home.with_name("elsewhere"),
        *("agent", "join", "--name", NAME, "--json"),
        SOS_URL=project.bus.url,
        SOS_ADMIN_TOKEN=project.tenant_token,
    )
    assert (taken.code, taken.error["code"]) == (REFUSED, "name_claimed")
    assert "sos agent release" in taken.error["cure"]
