"""Between a client and the gateway: lets one request through, waits for the gateway's whole answer, kills the client.

So the client dies at the worst moment there is: what it asked for is done, and it has not heard of it.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

ANSWER_WITHIN_S = 30.0
MAX_REQUEST_BYTES = 64 * 1024


class KillingProxy:
    """`kill` is called when the answer to a request whose first line holds `fatal` is complete. Others pass."""

    def __init__(self, gateway_url: str, fatal: str) -> None:
        parts = urlsplit(gateway_url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._host, self._port, self._fatal = parts.hostname, parts.port, fatal.encode()
        self.kill: Callable[[], None]
        self.url = ""
        self.answers: list[bytes] = []
        """What the gateway said to the fatal requests: their status lines."""

    async def serve(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        """One connection, which carries one request, as our client's do."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                request = await self._request(client)
                answer = await self._ask(request)
            if self._fatal in request.partition(b"\r\n")[0]:
                self.answers.append(answer.partition(b"\r\n")[0])
                self.kill()
            else:
                back.write(answer)
                await back.drain()
        finally:
            back.close()

    async def _request(self, client: asyncio.StreamReader) -> bytes:
        head = await client.readuntil(b"\r\n\r\n")
        lengths = [h.partition(b":")[2] for h in head.lower().split(b"\r\n") if h.startswith(b"content-length:")]
        return head + await client.readexactly(int(lengths[0]) if lengths else 0)

    async def _ask(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            writer.write(request)
            await writer.drain()
            return await reader.read(-1)  # until it closes: the client says 'Connection: close'
        finally:
            writer.close()
            await writer.wait_closed()


@asynccontextmanager
async def killing_proxy(gateway_url: str, fatal: str) -> AsyncGenerator[KillingProxy]:
    """A running one."""
    proxy = KillingProxy(gateway_url, fatal)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, limit=MAX_REQUEST_BYTES)
    host, port = server.sockets[0].getsockname()[:2]
    proxy.url = f"http://{host}:{port}"
    async with server:
        yield proxy
