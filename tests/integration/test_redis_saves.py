"""Saving a Redis, and its replication, against real servers."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis

from remediator.core.redis_step import RedisInfo, RedisReplication, RedisSave, RedisSaved
from remediator.platforms.services.redis import RedisCaches
from remediator.platforms.services.redis_actions import RedisActuator
from remediator.ports import Happened, OutcomeUnknown, PermanentError, Probe, TransientError
from tests.redis_bench import CACHE, configured
from tests.servers import eventually, free_port, redis_server


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with redis_server() as url:
        yield url


@pytest.fixture
async def redis(server) -> AsyncIterator[Redis]:
    async with Redis.from_url(server, decode_responses=True) as client:
        await client.set("key", "x")
        yield client


@pytest.fixture
def caches(server) -> RedisCaches:
    return RedisCaches(configured(server))


@pytest.fixture
def actuator(server) -> RedisActuator:
    return RedisActuator(configured(server))


@asynccontextmanager
async def slow_to_save(redis: Redis) -> AsyncIterator[None]:
    """A minute for each key."""
    await redis.config_set("rdb-key-save-delay", 60_000_000)
    try:
        yield
    finally:
        await redis.config_set("rdb-key-save-delay", 0)
        await redis.config_set("save", "")
        await redis.flushall()  # ends a save that is under way


async def saves(redis: Redis) -> int:
    return int((await redis.info("persistence"))["rdb_saves"])


async def test_a_save_has_ended_when_the_step_has(actuator, redis):
    before = await saves(redis)
    assert (await actuator.perform(RedisSave(), CACHE, {})).startswith("saved in ")
    assert await saves(redis) == before + 1
    assert (await redis.info("persistence"))["rdb_changes_since_last_save"] == 0


async def test_a_save_is_observed_by_the_time_of_the_last_one(caches, actuator, redis):
    mark = await caches.mark(RedisSave(), CACHE)
    assert (await caches.observe(RedisSave(), CACHE, mark)).happened is Happened.NO
    await actuator.perform(RedisSave(), CACHE, mark)
    earlier = {**mark, "saved_at": mark["saved_at"] - 1}  # Redis counts in seconds
    assert (await caches.observe(RedisSave(), CACHE, earlier)).happened is Happened.YES


async def test_a_save_that_takes_too_long_is_in_doubt_as_long_as_it_lasts(caches, actuator, redis):
    async with slow_to_save(redis):
        mark = await caches.mark(RedisSave(), CACHE)
        with pytest.raises(OutcomeUnknown, match="still saving after 1s"):
            await actuator.perform(RedisSave(timeout=timedelta(seconds=1)), CACHE, mark)
        observed = await caches.observe(RedisSave(), CACHE, mark)
        assert (observed.happened, observed.seen) == (Happened.UNKNOWN, "a save is under way")
        with pytest.raises(PermanentError, match="already in progress"):
            await actuator.perform(RedisSave(), CACHE, mark)


async def test_a_restart_in_between_leaves_a_save_unknown():
    port = free_port()
    with redis_server(port=port) as url:
        mark = await RedisCaches(configured(url)).mark(RedisSave(), CACHE)
    with redis_server(port=port) as url:
        assert (await RedisCaches(configured(url)).observe(RedisSave(), CACHE, mark)).happened is Happened.UNKNOWN


async def test_a_save_that_fails_is_said_by_the_step_the_check_and_the_evidence(tmp_path):
    directory = tmp_path / "data"
    directory.mkdir()
    with redis_server("--dir", str(directory)) as url:
        directory.rmdir()
        with pytest.raises(PermanentError, match="could not save"):
            await RedisActuator(configured(url)).perform(RedisSave(), CACHE, {})
        caches = RedisCaches(configured(url))
        reading = await caches.check(RedisSaved(), CACHE)
        assert reading.probe is Probe.FAILS
        assert reading.seen.endswith("the last save failed")
        assert (await caches.diagnose(RedisInfo(), CACHE)).numbers["redis.info.persistence_failing"] == 1


async def test_the_last_save_was_recent_or_not(caches, actuator, redis):
    await actuator.perform(RedisSave(), CACHE, {})
    assert (await caches.check(RedisSaved(), CACHE)).probe is Probe.HOLDS

    async def is_a_second_ago() -> bool:
        return (await caches.check(RedisSaved(within=timedelta(milliseconds=1)), CACHE)).probe is Probe.FAILS

    await eventually(is_a_second_ago)


async def test_nothing_is_saved_once_the_lease_is_lost(server, caches, redis):
    before = await saves(redis)
    with pytest.raises(TransientError, match="not sent"):
        await RedisActuator(configured(server), lambda: False).perform(RedisSave(), CACHE, {})
    assert await saves(redis) == before
    assert (await redis.info("persistence"))["rdb_bgsave_in_progress"] == 0


async def test_a_master_without_replicas_may_be_restarted_on_that_condition(caches):
    evidence = await caches.diagnose(RedisReplication(), CACHE)
    assert evidence.text == "master of 0 replicas, 0 of them online"
    assert evidence.numbers == {
        "redis.replication.is_master": 1,
        "redis.replication.replicas": 0,
        "redis.replication.lag_bytes": 0,
    }


async def test_both_ends_of_a_replication_say_how_it_is():
    with redis_server("--repl-diskless-sync-delay", "0") as master:
        port = str(urlsplit(master).port)
        with redis_server("--replicaof", "127.0.0.1", port) as replica:

            async def is_online() -> bool:
                seen = await RedisCaches(configured(master)).diagnose(RedisReplication(), CACHE)
                return seen.numbers["redis.replication.replicas"] == 1

            await eventually(is_online)
            above = await RedisCaches(configured(master)).diagnose(RedisReplication(), CACHE)
            below = await RedisCaches(configured(replica)).diagnose(RedisReplication(), CACHE)
    assert f"127.0.0.1:{urlsplit(replica).port} is online" in above.text
    assert above.numbers["redis.replication.lag_bytes"] < 1000
    assert below.text == f"replica of 127.0.0.1:{port}, link up"
    assert below.numbers == {
        "redis.replication.is_master": 0,
        "redis.replication.replicas": 0,
        "redis.replication.link_up": 1,
    }


async def test_a_replica_that_lost_its_master_says_so():
    with redis_server("--replicaof", "127.0.0.1", "1") as replica:
        evidence = await RedisCaches(configured(replica)).diagnose(RedisReplication(), CACHE)
    assert "link down" in evidence.text
    assert evidence.numbers["redis.replication.link_up"] == 0


async def test_the_role_of_a_silent_redis_is_not_known():
    gone = RedisCaches(configured(f"redis://127.0.0.1:{free_port()}/0"))
    evidence = await gone.diagnose(RedisReplication(), CACHE)
    assert "does not answer" in evidence.text
    assert evidence.numbers == {}
