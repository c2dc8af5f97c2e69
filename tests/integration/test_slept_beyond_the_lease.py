"""A process that is stopped while it connects, for longer than its lease, sends nothing of its step when it wakes."""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from urllib.parse import urlsplit

import pytest

from remediator.app import surroundings
from remediator.core.postgres_step import TerminateIdle
from remediator.core.redis_step import RedisFlush
from remediator.core.step import Restart
from remediator.core.target import Workload
from remediator.platforms.command import CommandActuator
from remediator.ports import TransientError
from remediator.settings import CommandTarget, ServiceEndpoints, Settings
from tests.held_line import HeldLine, held_line
from tests.servers import postgres_server, redis_server

LEASE_SECONDS = 1.0
SHOP = Workload("", "", "shop", service="shop")

# Argument 1: the address. It says how its one step has ended.
BEGINNING = f"""
import asyncio, sys
from datetime import timedelta
from remediator.clock import SystemClock
from remediator.core.postgres_step import TerminateIdle
from remediator.core.redis_step import RedisFlush
from remediator.core.target import Workload
from remediator.leases import Leases
from remediator.platforms.services.postgres_actions import PostgresActuator
from remediator.platforms.services.redis_actions import RedisActuator
from remediator.settings import ServiceEndpoints

async def perform(actuator, kind, step, mark):
    leases = Leases(SystemClock(), timedelta(seconds={LEASE_SECONDS}))
    services = {{"shop": ServiceEndpoints.model_validate({{kind: sys.argv[1]}})}}
    try:
        print(await actuator(services, leases.hold).perform(step, Workload("", "", "shop", service="shop"), mark))
    except Exception as error:
        print(type(error).__name__, error)
"""
FLUSH = 'asyncio.run(perform(RedisActuator, "redis", RedisFlush(), {}))'
TERMINATE = (
    'mark = {"sessions": [[1, "2026-01-01T00:00:00+00:00"]]}\n'
    'asyncio.run(perform(PostgresActuator, "postgres", TerminateIdle(), mark))'
)


@contextmanager
def postgres() -> Iterator[str]:
    with postgres_server() as address:
        yield f"{address}?sslmode=disable&gssencmode=disable"


async def performed(line: HeldLine, address: str, ending: str, *, sleeps: bool) -> str:
    """What a process says of its step that `sleeps` or does not while its first words are on the line."""
    arguments = ["-c", BEGINNING + ending, line.instead_of(address)]
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
    await line.heard.wait()
    if sleeps:
        os.kill(process.pid, SIGSTOP)
        await asyncio.sleep(LEASE_SECONDS)
        os.kill(process.pid, SIGCONT)
    line.go.set()
    said, _ = await process.communicate()
    return said.decode()


@pytest.mark.parametrize(
    ("server", "ending", "words"), [(redis_server, FLUSH, b"FLUSHDB"), (postgres, TERMINATE, b"pg_terminate_backend")]
)
async def test_nothing_is_sent_by_who_slept_while_it_connected(server, ending, words):
    with server() as address:
        port = urlsplit(address).port
        async with held_line(port) as line:
            assert "not sent" in await performed(line, address, ending, sleeps=True)
        assert line.sent, "it has connected"
        assert words not in line.sent
        async with held_line(port) as line:
            assert "Error" not in await performed(line, address, ending, sleeps=False)
        assert words in line.sent


async def test_a_command_is_not_started_once_the_lease_is_lost(tmp_path: Path):
    trace = tmp_path / "trace"
    target = CommandTarget(status=("true",), restart=("touch", str(trace)), timeout=timedelta(seconds=20))
    with pytest.raises(TransientError, match="not sent"):
        await CommandActuator({"shop": target}, lambda: False).perform(Restart(), SHOP, {})
    assert not trace.exists()
    await CommandActuator({"shop": target}).perform(Restart(), SHOP, {})
    assert trace.exists()


async def test_every_actuator_is_wired_to_the_leases():
    with redis_server() as redis, postgres_server() as postgres:
        settings = Settings(
            docker_url="",
            services={"shop": ServiceEndpoints(redis=redis, postgres=postgres)},
            commands={"shop": CommandTarget(status=("true",), restart=("true",))},
        )
        mark = {"sessions": [[1, "2026-01-01T00:00:00+00:00"]]}
        async with surroundings(settings, may_act=True, may_send=lambda: False) as around:
            actuators = around.world.actuators
            assert set(actuators) == {"redis", "postgres", "command"}
            for name, step in (("redis", RedisFlush()), ("postgres", TerminateIdle()), ("command", Restart())):
                with pytest.raises(TransientError, match="not sent"):
                    await actuators[name].perform(step, SHOP, mark)
