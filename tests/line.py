"""A line to a server that tests can cut, mend, and lose an answer on. It has a thread of its own."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from remediator.storage.address import PostgresAddress


class Line:
    """Passes bytes on in both directions. `address` is the server's, by way of this line."""

    def __init__(self, server: PostgresAddress) -> None:
        self._server = urlsplit(server.url())
        self._loop = asyncio.new_event_loop()
        self._open: set[asyncio.StreamWriter] = set()
        self._connections: set[asyncio.Task[None]] = set()
        self._is_cut = False
        self._flows = asyncio.Event()
        self._flows.set()
        self._fatal = b""
        self._listener: asyncio.Server
        self.address = server

    def cut(self) -> None:
        """Break every connection, and let nobody through any more."""

        def cut() -> None:
            self._is_cut = True
            self._flows.set()
            for writer in self._open:
                writer.transport.abort()

        self._do(cut)

    def mend(self) -> None:
        def mend() -> None:
            self._is_cut = False
            self._flows.set()

        self._do(mend)

    def freeze(self) -> None:
        """Keep every connection, and pass nothing on until it is mended."""
        self._do(self._flows.clear)

    def lose_answer_to(self, sent: bytes) -> None:
        """The next time that these bytes go to the server they arrive, and the connection breaks before the answer."""
        self._do(lambda: setattr(self, "_fatal", sent))

    async def listen(self) -> None:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = self._listener.sockets[0].getsockname()[1]
        self.address = PostgresAddress(self._server._replace(netloc=f"{self._server.username}@127.0.0.1:{port}").geturl())

    def _do(self, what: Callable[[], None]) -> None:
        async def done() -> None:
            what()

        asyncio.run_coroutine_threadsafe(done(), self._loop).result(5)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.create_task(self._connect(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        answers, server = await asyncio.open_connection(self._server.hostname, self._server.port)
        if self._is_cut:  # meanwhile
            writer.transport.abort()
            server.transport.abort()
            return
        self._open |= {writer, server}
        lost = asyncio.Event()
        await asyncio.gather(self._requests(reader, server, lost), self._answers(answers, writer, lost))
        self._open -= {writer, server}
        server.transport.abort()

    async def _requests(self, reader: asyncio.StreamReader, server: asyncio.StreamWriter, lost: asyncio.Event) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                if self._fatal and self._fatal in data:
                    self._fatal = b""
                    lost.set()
                await self._flows.wait()
                server.write(data)
                await server.drain()
        server.transport.abort()

    async def _answers(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter, lost: asyncio.Event) -> None:
        with suppress(ConnectionError):
            while (data := await reader.read(65536)) and not lost.is_set():
                client.write(data)
                await client.drain()
        client.transport.abort()

    def run(self) -> None:
        """On the line's thread, until it is stopped."""
        self._loop.run_forever()
        self._loop.run_until_complete(self._close())
        self._loop.close()

    async def _close(self) -> None:
        self._listener.close()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await asyncio.sleep(0)  # transports close their sockets with the next turn

    def stop(self) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)

    def start(self) -> None:
        asyncio.run_coroutine_threadsafe(self.listen(), self._loop).result(5)


@contextmanager
def line_to(server: PostgresAddress) -> Iterator[Line]:
    line = Line(server)
    thread = threading.Thread(target=line.run, name="line")
    thread.start()
    line.start()
    try:
        yield line
    finally:
        line.stop()
        thread.join()
