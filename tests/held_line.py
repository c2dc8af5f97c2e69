"""A line to a server on loopback that holds what a client sends until it is let go, and keeps a copy of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class HeldLine:
    """`heard` is set by the first bytes of a client; nothing reaches the server before `go` is."""

    server_port: int
    port: int = 0
    sent: bytes = b""
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)

    def instead_of(self, address: str) -> str:
        """The address of the server, by way of this line."""
        return address.replace(f":{self.server_port}/", f":{self.port}/")

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, server = await asyncio.open_connection("127.0.0.1", self.server_port)
        with suppress(ConnectionError):
            await asyncio.gather(self._forth(reader, server), _back(answers, writer))

    async def _forth(self, reader: asyncio.StreamReader, server: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            self.heard.set()
            await self.go.wait()
            self.sent += data
            server.write(data)
        server.close()


async def _back(answers: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
    while data := await answers.read(65536):
        client.write(data)
    client.close()


@asynccontextmanager
async def held_line(server_port: int) -> AsyncIterator[HeldLine]:
    line = HeldLine(server_port)
    async with await asyncio.start_server(line.carry, "127.0.0.1", 0) as listener:
        line.port = listener.sockets[0].getsockname()[1]
        yield line
        line.go.set()
