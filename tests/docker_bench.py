"""The Docker platform on the engine of the tests, and what may stand between the two."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from remediator.core.target import Selection, Workload
from remediator.platforms.docker import DockerPlatform
from remediator.platforms.docker_actions import DockerActuator
from remediator.platforms.docker_engine import DockerEngine
from tests.images import Containers, engine_url

ALLOW_ALL = {"remediator.io/allow": "*"}


@dataclass(frozen=True, slots=True)
class Bench:
    """Both sides of Docker, and the containers of this test."""

    containers: Containers
    platform: DockerPlatform
    actuator: DockerActuator

    async def one(self, **fields: str) -> Workload:
        (workload,) = await self.platform.find(Selection(fields))
        return workload

    def compose(self, service: str, number: int = 1, **more: str) -> dict[str, str]:
        """The labels of a container of this service in a compose project of this test's own."""
        labels = {"project": self.containers.unique, "service": service, "container-number": str(number), "oneoff": "False"}
        return {f"com.docker.compose.{key.replace('_', '.')}": value for key, value in (labels | more).items()}


@asynccontextmanager
async def bench_on(url: str, containers: Containers, threads: int = 1, seconds: float = 2) -> AsyncIterator[Bench]:
    engine = DockerEngine(url, threads, timedelta(seconds=seconds))
    yield Bench(containers, DockerPlatform(engine), DockerActuator(engine))
    engine.close()


@dataclass(slots=True)
class Between:
    """A TCP port in front of the engine that counts requests and may answer itself, keep the answers, or hang up on them."""

    url: str = ""
    how: str = "pass"
    requests: list[str] = field(default_factory=list)
    connections: set[asyncio.StreamWriter] = field(default_factory=set)
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    answers: dict[str, Any] = field(default_factory=dict)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_unix_connection(engine_url().removeprefix("unix://"))
        self.connections.add(writer)
        back = asyncio.create_task(self._back(up_reader, writer))
        try:
            while data := await reader.read(65536):
                line = data.split(b"\r\n", 1)[0].decode(errors="replace")
                if line.endswith("HTTP/1.1"):
                    self.requests.append(line)
                    self.heard.set()
                answer = next((answer for path, answer in self.answers.items() if path in line), None)
                if answer is None:
                    up_writer.write(data)
                else:
                    body = json.dumps(answer).encode()
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        finally:
            back.cancel()
            for one in (up_writer, writer):
                one.close()
            self.connections.discard(writer)

    def drop(self) -> None:
        """Hang up on everybody; the readers end, and their tasks with them."""
        for writer in tuple(self.connections):
            writer.close()

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if self.how == "hang up":
                writer.close()
            elif self.how == "pass":
                writer.write(data)


@asynccontextmanager
async def standing_between() -> AsyncIterator[Between]:
    one = Between()
    if not engine_url().startswith("unix://"):
        pytest.skip("stands before a unix socket only")
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    one.url = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield one
    server.close()
    one.drop()
    await asyncio.sleep(0)
