"""`sos agent send --wait`: send, and take only the reply out of the inbox."""

import asyncio
from time import monotonic
from typing import Any

from sos.sdk import AsyncAgent, HandBack, Message, Receipt
from sos.wire.envelope import AckClass
from sos.wire.ids import uuid7


async def send_and_wait(
    agent: AsyncAgent, to: str, text: str, data: dict[str, Any] | None, ack: AckClass | None, wait_s: float
) -> tuple[Receipt, Message | None]:
    """The receipt, and the reply if it comes within `wait_s`. Everything else in the inbox stays unread."""
    id_ = uuid7()
    answered: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
    deadline = monotonic() + wait_s

    async def take(message: Message) -> None:
        if id_ not in {message.reply_to, message.ack_for} or answered.done():
            raise HandBack(max(deadline - monotonic(), 0.0))
        answered.set_result(message)

    if wait_s > 0:
        agent.on_message(take)
    async with agent:
        receipt = await agent.send(to, text, data=data, ack=ack, id=id_)
        if wait_s <= 0:
            return receipt, None
        done, _ = await asyncio.wait([answered], timeout=max(deadline - monotonic(), 0.0))
        return receipt, answered.result() if done else None
