"""Running a command to its end, within its time: an argument list, never a shell.

A command that outlives its deadline is killed with its process group, and what it has done by then is unknown.
"""

import asyncio
import os
import shlex
from asyncio.subprocess import DEVNULL
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from signal import SIGKILL

from remediator.platforms import TEXT_MAX
from remediator.ports import PermanentError

OUTPUT_BYTES_MAX = 4 * TEXT_MAX
LAST_OUTPUT_SECONDS = 0.5
"""How long to listen on after the end of a command: a daemon that it started may hold its output open for ever."""


@dataclass(frozen=True, slots=True)
class Command:
    """What to run and for how long at most. `source` and `sink` are descriptors of its input and its standard output."""

    argv: Sequence[str]
    timeout: timedelta
    environment: Mapping[str, str] | None = None
    """None: ours."""
    source: int = DEVNULL
    sink: int | None = None
    """None: kept for `Ended.output`, as its standard error always is."""

    def __str__(self) -> str:
        return shlex.join(self.argv)


@dataclass(frozen=True, slots=True)
class Ended:
    """Exit status (negative: the signal), and the end of both outputs."""

    status: int
    output: str


async def run(command: Command, before: Callable[[], None] = lambda: None) -> Ended:
    """Run to its end, or kill its process group at the deadline or when cancelled. What `before` raises, we raise instead.

    Raises TimeoutError, or PermanentError if there is no such command.
    """
    before()
    reading, writing = os.pipe()
    kept = bytearray()
    try:
        process = await asyncio.create_subprocess_exec(
            *command.argv,
            stdin=command.source,
            stdout=writing if command.sink is None else command.sink,
            stderr=writing,
            env=command.environment,
            start_new_session=True,
        )
    except OSError as error:
        os.close(reading)
        raise PermanentError(f"{command} cannot be run: {error}") from error
    finally:
        os.close(writing)
    listener = asyncio.create_task(_listen(reading, kept))
    try:
        async with asyncio.timeout(command.timeout.total_seconds()):
            status = await process.wait()
        await asyncio.wait([listener], timeout=LAST_OUTPUT_SECONDS)
        return Ended(status, kept.decode(errors="replace"))
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, SIGKILL)
            await process.wait()
        listener.cancel()
        await asyncio.wait([listener])


async def _listen(descriptor: int, kept: bytearray) -> None:
    """Keep the last OUTPUT_BYTES_MAX. The pipe is our own: with asyncio's, a process has ended only when all closed theirs."""
    stream = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(descriptor, "rb", 0))
    try:
        while data := await stream.read(65536):
            kept += data
            del kept[:-OUTPUT_BYTES_MAX]
    finally:
        transport.close()
