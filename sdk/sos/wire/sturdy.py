"""What nats-py's client needs to be given so that no peer can stop it. A mix-in that imports nothing of it.

`class Client(Sturdy, nats.aio.client.Client)` in each of the two modules that import nats-py. Each override answers
something seen with nats-py 2.16; where a later version cures it, the override can go.
"""

from asyncio import InvalidStateError
from typing import Any


class ReadingEnded(Exception):
    """nats-py stopped reading although nobody closed the connection."""


class Sturdy:
    """Overrides of nats-py's client."""

    async def _process_headers(self, headers: Any) -> Any:
        """A peer may put any bytes where headers are; what cannot be parsed is a message without headers. Unanswered,
        the exception ends the read loop and the connection hangs."""
        parent: Any = super()
        try:
            return await parent._process_headers(headers)
        except (IndexError, ValueError):
            return None

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        """A subject or reply that is no text is nobody's: the message is dropped, the connection lives."""
        parent: Any = super()
        try:
            await parent._process_msg(sid, subject, reply, data, headers)
        except UnicodeDecodeError:
            return

    async def _process_pong(self) -> None:
        """The pong of a ping whose flush was given up, after a long silence of the server, is a pong all the same."""
        client: Any = self
        parent: Any = super()
        try:
            await parent._process_pong()
        except InvalidStateError:
            client._pings_outstanding = 0

    async def _read_loop(self) -> None:
        """When reading ends for whatever reason, the connection ends, rather than hang."""
        client: Any = self
        parent: Any = super()
        await parent._read_loop()
        if not client.is_closed and not client.is_reconnecting:
            await client._process_op_err(ReadingEnded())

    async def _process_op_err(self, e: Exception) -> None:
        """The socket is dead: what was not written is not written later, after its sender gave up, and the closing
        does not stumble over a last write."""
        client: Any = self
        client._pending, client._pending_data_size = [], 0
        parent: Any = super()
        await parent._process_op_err(e)

    async def _send_ping(self, future: Any = None) -> None:
        """A ping goes out behind what was published before it, so that its pong proves that the server has that."""
        client: Any = self
        await client._flush_pending(force_flush=True)
        parent: Any = super()
        await parent._send_ping(future)
