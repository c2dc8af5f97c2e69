"""Connections to a Redis that have been idle for long, against a real server."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ConnectionLost

from remediator.core.redis_step import RedisClients, RedisKillIdle
from remediator.platforms.services.redis import RedisCaches
from remediator.platforms.services.redis_actions import RedisActuator
from remediator.ports import Facts, Happened, TransientError
from tests.redis_bench import CACHE, configured
from tests.servers import eventually, free_port, redis_server

STEP = RedisKillIdle(older_than=timedelta(seconds=1), at_most=10)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with redis_server() as url:
        yield url


@pytest.fixture
def caches(server) -> RedisCaches:
    return RedisCaches(configured(server))


@pytest.fixture
def actuator(server) -> RedisActuator:
    return RedisActuator(configured(server))


@asynccontextmanager
async def client(url: str, database: int = 0) -> AsyncIterator[Redis]:
    """One connection that is not made anew when it was lost."""
    async with Redis.from_url(
        f"{url.removesuffix('0')}{database}",
        client_name="shop",
        single_connection_client=True,
        retry=Retry(NoBackoff(), 0),
    ) as redis:
        await redis.ping()
        yield redis


@asynccontextmanager
async def idle_clients(url: str, count: int = 1, database: int = 0) -> AsyncIterator[list[Redis]]:
    """Clients that have been idle for long enough."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(client(url, database)) for _ in range(count)]
        numbers = await ids(clients)
        watch = await stack.enter_async_context(client(url))

        async def are_old() -> bool:
            listed = await watch.client_list(client_id=numbers)
            return all(int(one["idle"]) >= STEP.older_than.total_seconds() for one in listed)

        await eventually(are_old)
        yield clients


async def is_connected(redis: Redis) -> bool:
    try:
        await redis.ping()
    except ConnectionLost:
        return False
    return True


async def ids(clients: list[Redis]) -> list[str]:
    return [str(await each.client_id()) for each in clients]


async def test_connections_are_counted_by_name_and_address(caches, server):
    async with idle_clients(server, count=2), client(server, database=3):
        evidence = await caches.diagnose(RedisClients(idle=STEP.older_than), CACHE)
    assert "2  name shop, from 127.0.0.1, database 0" not in evidence.text  # the one that watches them is the third
    assert "3  name shop, from 127.0.0.1, database 0" in evidence.text
    assert "1  name shop, from 127.0.0.1, database 3" in evidence.text
    assert evidence.numbers == {"redis.clients.total": 5, "redis.clients.idle": 2, "redis.clients.blocked": 0}


async def test_a_client_that_waits_for_work_is_not_idle(caches, server):
    async with client(server) as worker, idle_clients(server) as idle:
        waiting = asyncio.create_task(worker.blpop(["jobs"], timeout=0))

        async def is_blocked() -> bool:
            return (await caches.diagnose(RedisClients(), CACHE)).numbers["redis.clients.blocked"] == 1

        await eventually(is_blocked)
        assert len((await caches.mark(STEP, CACHE))["clients"]) == len(idle)
        waiting.cancel()
        await asyncio.wait([waiting])


async def test_exactly_the_marked_connections_are_closed(caches, actuator, server):
    async with idle_clients(server, count=2) as marked:
        mark = await caches.mark(STEP, CACHE)
        async with idle_clients(server) as later:
            assert (await caches.observe(STEP, CACHE, mark)).happened is Happened.NO
            assert await actuator.perform(STEP, CACHE, mark) == "closed 2 of 2 idle connections"
            assert [await is_connected(each) for each in marked] == [False, False]
            assert await is_connected(later[0])
        assert (await caches.observe(STEP, CACHE, mark)).happened is Happened.YES


async def test_clients_of_another_database_are_left_alone(caches, server):
    async with idle_clients(server, database=3):
        assert (await caches.mark(STEP, CACHE))["clients"] == []


async def test_no_more_than_a_few_are_marked(caches, server):
    async with idle_clients(server, count=3):
        mark = await caches.mark(RedisKillIdle(older_than=STEP.older_than, at_most=2), CACHE)
        assert len(mark["clients"]) == 2


async def test_a_client_that_went_back_to_work_is_spared(caches, actuator, server):
    async with idle_clients(server, count=2) as [worker, idle]:
        mark = await caches.mark(STEP, CACHE)
        await worker.ping()
        done = await actuator.perform(STEP, CACHE, mark)
        assert done == "closed 1 of 2 idle connections; 1 had gone or gone back to work"
        assert await is_connected(worker)
        assert not await is_connected(idle)
        observed = await caches.observe(STEP, CACHE, mark)
    assert (observed.happened, observed.seen) == (Happened.UNKNOWN, "1 of 2 marked connections are gone")


async def test_none_is_closed_after_a_restart_which_gives_the_same_numbers_to_others(server, caches, actuator):
    async with idle_clients(server) as [innocent]:
        mark: Facts = {"run_id": "of the server before", "clients": await ids([innocent])}
        await eventually_idle(caches)
        assert "closed none of 1" in await actuator.perform(STEP, CACHE, mark)
        assert await is_connected(innocent)
        assert (await caches.observe(STEP, CACHE, mark)).happened is Happened.YES


async def eventually_idle(caches: RedisCaches) -> None:
    async def is_idle() -> bool:
        return bool((await caches.mark(STEP, CACHE))["clients"])

    await eventually(is_idle)


async def test_none_is_closed_once_the_lease_is_lost(server, caches):
    async with idle_clients(server, count=2) as idle:
        mark = await caches.mark(STEP, CACHE)
        with pytest.raises(TransientError, match="not sent"):
            await RedisActuator(configured(server), lambda: False).perform(STEP, CACHE, mark)
        assert [await is_connected(each) for each in idle] == [True, True]


async def test_the_described_command_closes_the_same_connections_when_a_person_types_it(caches, server):
    async with idle_clients(server) as [idle], client(server, database=3) as other:
        await eventually_idle(caches)
        typed = await asyncio.to_thread(
            subprocess.run, ["sh", "-c", caches.describe(STEP, CACHE)], capture_output=True, text=True, timeout=20, check=True
        )
        assert typed.stdout.strip() == "1", typed.stderr
        assert not await is_connected(idle)
        assert await is_connected(other)


async def test_connections_that_cannot_be_asked_about_are_not_closed():
    gone = RedisActuator(configured(f"redis://127.0.0.1:{free_port()}/0"))
    with pytest.raises(TransientError):
        await gone.perform(STEP, CACHE, {"run_id": "x", "clients": ["1"]})
