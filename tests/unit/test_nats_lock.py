"""One gateway a home."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sos.broker.errors import HomeInUse
from sos.broker.nats.lock import hold


def test_a_second_holder_is_told_who_the_first_is(tmp_path: Path):
    with hold(tmp_path) as held:
        held.announce("http://127.0.0.1:6070")
        with pytest.raises(HomeInUse) as refused, hold(tmp_path):
            raise AssertionError("held twice")
        assert refused.value.pid == os.getpid()
        assert refused.value.since != "unknown"
        assert refused.value.url == "http://127.0.0.1:6070"


def test_a_home_that_was_let_go_can_be_held_again(tmp_path: Path):
    for _ in range(3):
        with hold(tmp_path):
            assert str(os.getpid()) in (tmp_path / "lock").read_text()


def test_a_holder_in_another_process_is_named_and_killing_it_frees_the_home(tmp_path: Path):
    code = (
        "import sys; from pathlib import Path; from sos.broker.nats.lock import hold\n"
        "with hold(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(HomeInUse) as refused, hold(tmp_path):
            raise AssertionError("held twice")
        assert refused.value.pid == other.pid
    finally:
        other.kill()
        other.communicate(timeout=10)
    with hold(tmp_path):
        assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600
