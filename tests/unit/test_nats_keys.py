"""The keyring on disk."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sos.broker.errors import BadKeyFile, UnsafeKeyFile
from sos.broker.nats.keys import open_keyring


def everything(home: Path) -> dict[str, str]:
    return {p.name: p.read_text() for p in (home / "keys").iterdir()}


def test_keys_are_made_once_and_read_ever_after(tmp_path: Path):
    first = open_keyring(tmp_path)
    jwts = first.system_jwt(), first.sos_jwt(), first.operator_jwt
    before = everything(tmp_path)
    second = open_keyring(tmp_path)
    assert (second.system_jwt(), second.sos_jwt(), second.operator_jwt) == jwts
    assert everything(tmp_path) == before
    assert second.account("acme", "p1").identity.public == first.account("acme", "p1").identity.public


def test_only_the_owner_may_read_keys(tmp_path: Path):
    open_keyring(tmp_path).sos_jwt()
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    assert {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "keys").iterdir()} == {0o600}


def test_a_key_that_others_can_read_is_refused_and_the_cure_named(tmp_path: Path):
    open_keyring(tmp_path)
    (tmp_path / "keys" / "root.key").chmod(0o640)
    with pytest.raises(UnsafeKeyFile, match=r"root\.key can be read by others.*chmod 600"):
        open_keyring(tmp_path)


@pytest.mark.parametrize("file", ["operator-signing.nk", "sos.nk", "root.key", "operator.jwt"])
def test_a_damaged_key_file_is_refused_and_not_quoted(tmp_path: Path, file: str):
    open_keyring(tmp_path)
    (tmp_path / "keys" / file).write_text("SUDAMAGED")
    with pytest.raises(BadKeyFile) as refused:
        open_keyring(tmp_path)
    assert file in str(refused.value)
    assert "SUDAMAGED" not in str(refused.value)


def test_the_operators_identity_may_be_taken_offline_after_the_first_start(tmp_path: Path):
    first = open_keyring(tmp_path)
    (tmp_path / "keys" / "operator.nk").unlink()
    second = open_keyring(tmp_path)
    assert second.operator_jwt == first.operator_jwt
    assert not (tmp_path / "keys" / "operator.nk").exists()


def test_signing_keys_that_do_not_belong_to_the_operator_are_refused(tmp_path: Path):
    open_keyring(tmp_path)
    (tmp_path / "keys" / "operator-signing.nk").unlink()
    with pytest.raises(BadKeyFile, match="made for other keys"):
        open_keyring(tmp_path)


def test_every_project_and_every_life_of_a_slug_has_keys_of_its_own(tmp_path: Path):
    ring = open_keyring(tmp_path)
    accounts = [
        ring.account("acme", "1"),
        ring.account("acme", "2"),
        ring.account("acm", "e1"),
        ring.account("ac", "me1"),
    ]
    publics = [key.public for a in accounts for key in (a.identity, a.signing)]
    assert len(set(publics)) == len(publics)


def test_two_homes_share_no_key(tmp_path: Path):
    one, other = open_keyring(tmp_path / "a"), open_keyring(tmp_path / "b")
    assert one.account("acme", "1").identity.public != other.account("acme", "1").identity.public
    assert one.operator_public != other.operator_public


def test_processes_that_open_a_new_keyring_at_the_same_time_agree(tmp_path: Path):
    code = (
        "import sys; from pathlib import Path; from sos.broker.nats.keys import open_keyring\n"
        "sys.stdin.readline(); r = open_keyring(Path(sys.argv[1])); a = r.account('acme', '1')\n"
        "print(r.operator_jwt, r.operator_signing.public, r.system.identity.public, r.sos.identity.public,"
        " a.identity.public, a.signing.public)"
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(6)
    ]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    answers = {racer.communicate(timeout=30)[0] for racer in racers}
    assert len(answers) == 1
    assert answers.pop().strip()


def test_nothing_that_is_printed_shows_a_secret(tmp_path: Path):
    ring = open_keyring(tmp_path)
    secrets = {p.read_text() for p in (tmp_path / "keys").iterdir() if p.suffix in {".nk", ".key"}}
    shown = f"{ring!r} {ring.account('acme', '1')!r}"
    assert not any(secret in shown for secret in secrets)
