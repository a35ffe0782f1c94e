"""What no client library would write: header blocks and reply subjects of any bytes. They may cost their sender, and
nobody else: a victim's connection that died of one would die again at each redelivery."""

import pytest
from tests.conftest import Project, eventually
from tests.security.attacker import attacking, envelope

from sos.sdk import Message

WITHIN_S = 3.0
HEADER_BLOCKS = (
    b"",
    b"NATS/1.0",
    b"NATS/1.0\r\n",
    b"NATS/1.0\r\n\r\n",
    b"NATS/1.0 \r\n\r\n",
    b"NATS/1.0 404\r\n\r\n",
    b"NATS/1.0 404 No Messages\r\n\r\n",
    b"NATS/1.0 100 Idle Heartbeat\r\n\r\n",
    b"NATS/1.0 409 Consumer Deleted\r\n\r\n",
    b"NATS/1.0 \xff\xff\xff\r\n\r\n",
    b"NATS/1.0 404 \xff\xfe\r\n\r\n",
    b"NATS/1.0 404 \xff\r\nA: b\r\n\r\n",
    b"NATS/1.0\r\nA\r\n\r\n",
    b"NATS/1.0\r\nA: \xff\r\n\r\n",
    b"NATS/1.0\r\n\xff: b\r\n\r\n",
    b"NATS/1.0\r\n: b\r\n\r\n",
    b"XXXX",
    b"\x00" * 64,
)


@pytest.mark.parametrize("block", HEADER_BLOCKS)
@pytest.mark.parametrize("body", [envelope("strange"), b""], ids=["message", "empty"])
async def test_no_header_block_stops_the_inbox_it_is_sent_to(project: Project, block: bytes, body: bytes):
    vera, boss, got = await project.agent("vera"), await project.agent("boss"), list[str]()

    @vera.on_message
    def take(message: Message) -> None:
        got.append(message.text)

    await vera.start()
    await boss.start()
    async with attacking(project.bus.url, await project.mint("mallory")) as mallory:
        await mallory.publish_raw(f"project.{project.slug}.agent.vera.mallory", block, body)
    await boss.send("vera", "after it")
    await eventually(lambda: "after it" in got, "the next message never came", WITHIN_S)
    assert vera.state == "consuming"


@pytest.mark.parametrize("block", HEADER_BLOCKS)
async def test_no_header_block_stops_the_gateway(project: Project, block: bytes):
    vera = await project.agent("vera")
    await vera.start()
    async with attacking(project.bus.url, await project.mint("mallory")) as mallory:
        await mallory.publish_raw(f"project.{project.slug}.api.mallory.peers", block, b"{}")
        assert {p.name for p in await vera.peers()} == {"mallory", "vera"}


async def test_a_reply_subject_that_is_no_text_does_not_stop_the_gateway(project: Project):
    vera = await project.agent("vera")
    await vera.start()
    async with attacking(project.bus.url, await project.mint("mallory")) as mallory:
        await mallory.publish_bytes(b"PUB project.%s.api.mallory.peers \xff\xfe 2\r\n{}\r\n" % project.slug.encode())
        assert {p.name for p in await vera.peers()} == {"mallory", "vera"}
