"""The token an agent acts with: read anew, so that a rotation from its home reaches it while it runs."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from sos.sdk.holding import Holding
from sos.wire import tokens
from sos.wire.home import write_secret
from sos.wire.tokens import TokenKind

OLD, NEW = tokens.make(TokenKind.AGENT), tokens.make(TokenKind.AGENT)
WAIT_S = 10.0
"""More than any of these takes; whoever waits so long has failed."""
SHORT_S = 0.2


def spoil(path: Path, content: bytes) -> None:
    """Write as a program does that does not know how: in place."""
    path.write_bytes(content)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A home's token file, with the old token."""
    write_secret(tmp_path / "token", OLD + "\n")
    return tmp_path / "token"


def test_a_token_that_was_given_stays_that_token():
    assert Holding(OLD).now() == OLD


async def test_of_a_token_that_was_given_there_is_no_other_and_nobody_waits_for_one():
    began = time.monotonic()
    assert not await Holding(OLD).another_than(OLD, WAIT_S)
    assert time.monotonic() - began < WAIT_S / 2


def test_a_token_of_a_home_is_the_one_in_it_now(path: Path):
    holding = Holding(OLD, path)
    assert holding.now() == OLD
    write_secret(path, NEW + "\n")
    assert holding.now() == NEW


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"\n", b"sk-bus-", OLD[:-1].encode(), b"\xff\xfe", b"\x00" * 40),
        *(tokens.make(TokenKind.OPERATOR).encode(), (OLD + OLD).encode()),
    ],
    ids=repr,
)
def test_while_the_file_holds_no_token_the_last_good_one_goes_on(path: Path, content: bytes):
    holding = Holding(OLD, path)
    write_secret(path, NEW + "\n")
    assert holding.now() == NEW
    spoil(path, content)
    assert holding.now() == NEW


def test_while_the_file_is_out_of_reach_the_last_good_token_goes_on(path: Path):
    holding = Holding(OLD, path)
    for away in (path.unlink, path.mkdir):
        away()
        assert holding.now() == OLD


async def test_another_token_that_is_there_already_is_known_at_once(path: Path):
    holding = Holding(OLD, path)
    write_secret(path, NEW + "\n")
    assert await holding.another_than(OLD, 0.0)


async def test_another_token_is_waited_for(path: Path):
    holding = Holding(OLD, path)
    waiting = asyncio.create_task(holding.another_than(OLD, WAIT_S))
    for content in (b"", NEW[:20].encode(), NEW.encode()):
        await asyncio.sleep(0)
        spoil(path, content)
    assert await asyncio.wait_for(waiting, WAIT_S)
    assert holding.now() == NEW


async def test_the_wait_for_another_token_has_an_end(path: Path):
    began = time.monotonic()
    assert not await Holding(OLD, path).another_than(OLD, SHORT_S)
    assert SHORT_S <= time.monotonic() - began < WAIT_S


async def test_a_broken_file_is_no_other_token(path: Path):
    holding = Holding(OLD, path)
    os.truncate(path, 5)
    assert not await holding.another_than(OLD, SHORT_S)


def test_neither_repr_nor_str_shows_the_token(path: Path):
    for holding in (Holding(OLD), Holding(OLD, path)):
        assert OLD[7:-4] not in f"{holding} {holding!r}"
