"""The load: keep-alive connections that each send the next prepared request when the last answer is in."""

import asyncio
import gc
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from time import perf_counter

CONTENT_LENGTH = re.compile(rb"(?i)content-length: *(\d+)")
ANSWER_SECONDS_MAX = 30.0


class LoadFailed(Exception):
    """The server did not answer 200, or not in time: the figures would be worth nothing."""


@dataclass(slots=True)
class Measured:
    """Answers of one or several slices. Latencies in seconds."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds

    def quantile(self, share: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


class Connection(asyncio.Protocol):
    """One keep-alive connection: `request` sends bytes, and the answer's latency goes to `answered`."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._received = b""
        self._sent_at = 0.0
        self._waiting: asyncio.Future[float] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def request(self, message: bytes) -> asyncio.Future[float]:
        """Send; the future is the seconds until the whole answer was in. Raises LoadFailed if it cannot be sent now."""
        if self._transport.is_closing():
            raise LoadFailed("the server has closed the connection")
        if self._waiting is not None and not self._waiting.done():
            raise LoadFailed("the server does not keep up: no connection is free")
        self._waiting = asyncio.get_running_loop().create_future()
        self._sent_at = perf_counter()
        self._transport.write(message)
        return self._waiting

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        length = CONTENT_LENGTH.search(self._received, 0, end) if end >= 0 else None
        if length is None or len(self._received) < end + 4 + int(length[1]):
            return
        answer, self._received = self._received, b""
        if self._waiting is None or self._waiting.done():
            return
        if answer.startswith(b"HTTP/1.1 200"):
            self._waiting.set_result(perf_counter() - self._sent_at)
        else:
            self._waiting.set_exception(LoadFailed(answer[:300].decode(errors="replace")))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(LoadFailed(f"the connection was closed: {exc}"))

    def close(self) -> None:
        self._transport.close()


class Connections:
    """A number of connections to one server, opened once and used for every slice."""

    def __init__(self, connections: list[Connection]) -> None:
        self._connections = connections

    @classmethod
    async def open(cls, port: int, count: int) -> "Connections":
        loop = asyncio.get_running_loop()
        opened = [await loop.create_connection(Connection, "127.0.0.1", port) for _ in range(count)]
        return cls([connection for _, connection in opened])

    async def slice(self, messages: Iterator[bytes], seconds: float, into: Measured) -> None:
        """Load the server for `seconds`; a first fifth of it warms up and is not counted."""
        counts_from = perf_counter() + seconds / 5
        ends = counts_from + seconds
        gc.collect()
        gc.disable()
        try:
            async with asyncio.timeout(seconds * 1.2 + ANSWER_SECONDS_MAX):
                each = [self._client(connection, messages, counts_from, ends) for connection in self._connections]
                for latencies in await asyncio.gather(*each):
                    into.latencies.extend(latencies)
        finally:
            gc.enable()
        into.seconds += seconds

    async def send(self, messages: Iterator[bytes], count: int, into: Measured | None = None) -> None:
        """Send `count` messages, as fast as they are answered."""
        into = into or Measured()
        left = iter(range(count))

        async def client(connection: Connection) -> None:
            for _ in left:
                into.latencies.append(await connection.request(next(messages)))

        await asyncio.gather(*(client(connection) for connection in self._connections))

    async def paced(self, messages: Iterator[bytes], per_second: float, count: int, into: Measured) -> list[float]:
        """Send `count` messages, one every 1/`per_second`, whether answered or not; when each was sent (perf_counter)."""
        began, sent_at, answers = perf_counter(), [], []
        for number in range(count):
            await asyncio.sleep(max(0.0, began + number / per_second - perf_counter()))
            connection = self._connections[number % len(self._connections)]
            sent_at.append(perf_counter())
            answers.append(connection.request(next(messages)))
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            into.latencies.extend(await asyncio.gather(*answers))
        into.seconds += perf_counter() - began
        return sent_at

    async def _client(self, connection: Connection, messages: Iterator[bytes], counts_from: float, ends: float) -> list[float]:
        latencies: list[float] = []
        while True:
            latency = await connection.request(next(messages))
            now = perf_counter()
            if now > ends:
                return latencies
            if now >= counts_from:
                latencies.append(latency)

    def close(self) -> None:
        for connection in self._connections:
            connection.close()
