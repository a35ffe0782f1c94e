"""Where secrets lie in a gateway's home, and where they do not."""

import logging
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
from tests.conftest import OPERATOR, ROOMY
from tests.security.attacker import attacking, open_session

from sos.broker.app import Running, run
from sos.broker.config import Config
from sos.wire import api, tokens
from sos.wire.home import private_dir

MAY_HOLD_A_TOKEN = {"operator.token"}
MAY_HOLD_A_SEED = {"keys/operator.nk", "keys/operator-signing.nk", "keys/system.nk", "keys/sos.nk"}
MAY_HOLD_A_JWT = {"keys/operator.jwt", "keys/system.jwt", "keys/sos.jwt", "nats/server.conf"}
"""Of the operator and of accounts; they are signed and no secret. The resolver keeps accounts' in `nats/accounts`."""
OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Used(msgspec.Struct):
    """A bus that was used, and every secret that was given out."""

    running: Running
    home: Path
    given: dict[str, str]
    logged: list[str]


class _Kept(logging.Handler):
    def __init__(self, kept: list[str]) -> None:
        super().__init__(logging.DEBUG)
        self._kept = kept

    def emit(self, record: logging.LogRecord) -> None:
        self._kept.append(self.format(record))


@pytest.fixture(scope="module")
async def used(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Used]:
    home, logged = tmp_path_factory.mktemp("rest") / "home", list[str]()
    kept, root = _Kept(logged), logging.getLogger()
    root.addHandler(kept)
    async with run(Config(home=home, http_port=0, nats_port=0, tiers=ROOMY)) as running:
        made = await running.bus.projects.create(OPERATOR, api.CreateProject(slug="acme", tier="starter"))
        minted = await running.bus.agents.mint(OPERATOR, "acme", api.MintAgent(agent_name="ann", charter="helps"))
        key, opened = await open_session(running.url, minted.raw_token)
        async with attacking(running.url, minted.raw_token) as ann:
            await ann.store()
        with pytest.raises(Exception, match="not known here"):
            await open_session(running.url, tokens.make(tokens.TokenKind.AGENT))
        given = {
            "operator": running.operator_token,
            "tenant": made.tenant_token,
            "agent": minted.raw_token,
            "session": opened.jwt,
            "signature": opened.jwt.rpartition(".")[2],
            "inbox": key.inbox_prefix,
        }
        yield Used(running, home, given, logged)
    root.removeHandler(kept)


def files(home: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(home.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(home)), path.read_bytes()


def test_a_home_that_was_used_holds_the_files_that_are_searched_here(used: Used):
    names = {name for name, _ in files(used.home)}
    assert names >= MAY_HOLD_A_TOKEN | MAY_HOLD_A_SEED | {
        "views.db",
        "context.json",
        "nats/server.log",
        "keys/root.key",
    }
    assert any(name.endswith(".blk") for name in names)
    assert any(b"acme" in content for name, content in files(used.home) if name.startswith("views.db"))


@pytest.mark.parametrize("whose", ["tenant", "agent", "session", "signature", "inbox"])
def test_what_was_given_out_once_is_in_no_file_of_the_home(used: Used, whose: str):
    secret = used.given[whose].encode()
    assert [name for name, content in files(used.home) if secret in content] == []


def test_the_operators_token_is_in_its_own_file_and_nowhere_else(used: Used):
    secret = used.given["operator"].encode()
    assert {name for name, content in files(used.home) if secret in content} == MAY_HOLD_A_TOKEN


def test_nothing_that_looks_like_a_secret_is_anywhere_else(used: Used):
    holding = {name for name, content in files(used.home) if tokens.holds_secret(content.decode("latin-1"))}
    accounts = {name for name in holding if name.startswith("nats/accounts/") and name.endswith(".jwt")}
    assert holding - accounts <= MAY_HOLD_A_TOKEN | MAY_HOLD_A_SEED | MAY_HOLD_A_JWT


def test_seeds_lie_in_key_files_alone(used: Used):
    seeds = [(used.home / name).read_text().strip().encode() for name in MAY_HOLD_A_SEED]
    seeds.append((used.home / "keys/root.key").read_text().strip().encode())
    for name, content in files(used.home):
        if name not in MAY_HOLD_A_SEED | {"keys/root.key"}:
            assert not any(seed in content for seed in seeds), name


def test_no_secret_was_logged(used: Used):
    text = "\n".join(used.logged)
    assert not any(secret in text for secret in used.given.values())
    assert not tokens.holds_secret(text)


def test_files_of_secrets_are_for_their_owner_alone_and_so_is_every_folder_on_the_way(used: Used):
    secret = [used.home / name for name in MAY_HOLD_A_TOKEN | MAY_HOLD_A_SEED]
    secret += [p for p in (used.home / "keys").rglob("*") if p.is_file()]
    secret += [used.home / "context.json", used.home / "nats/server.conf"]
    assert {oct(stat.S_IMODE(p.stat().st_mode)) for p in secret} == {"0o600"}
    folders = [used.home, used.home / "keys", used.home / "nats", used.home / "nats/jetstream"]
    assert {oct(stat.S_IMODE(p.stat().st_mode)) for p in folders} == {"0o700"}


def test_the_database_is_for_its_owner_alone(used: Used):
    found = [p for p in used.home.iterdir() if p.name.startswith("views.db")]
    assert found
    assert [p.name for p in found if p.stat().st_mode & OTHERS and used.home.stat().st_mode & OTHERS] == []


def test_a_home_that_others_could_enter_is_closed_when_it_is_used(tmp_path: Path):
    folder = tmp_path / "open"
    folder.mkdir(mode=0o755)
    private_dir(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_what_is_shown_of_a_running_bus_holds_no_token(used: Used):
    assert not tokens.holds_secret(repr(used.running))
