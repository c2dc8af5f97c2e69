"""Redis as a data service, against a real server."""

from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from remediator.core.postgres_step import PostgresSessions, TerminateIdle
from remediator.core.redis_step import (
    RedisClients,
    RedisFlush,
    RedisInfo,
    RedisMemoryBelow,
    RedisPing,
    RedisReplication,
    RedisSave,
)
from remediator.core.target import Selection, Workload
from remediator.platforms.services.redis import RedisCaches
from remediator.platforms.services.redis_actions import RedisActuator
from remediator.ports import Happened, OutcomeUnknown, PermanentError, Probe, TransientError
from remediator.settings import ServiceEndpoints
from tests.servers import free_port, redis_server

SESSIONS = Workload("redis", "cache", "sessions", service="sessions")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with redis_server("--maxmemory", "8mb") as url:
        yield url


@pytest.fixture
async def redis(server) -> AsyncIterator[Redis]:
    async with Redis.from_url(server) as client:
        await client.flushall()
        yield client


@pytest.fixture
def caches(server) -> RedisCaches:
    return RedisCaches(configured(server))


@pytest.fixture
def actuator(server) -> RedisActuator:
    return RedisActuator(configured(server))


def configured(url: str) -> dict[str, ServiceEndpoints]:
    return {"sessions": ServiceEndpoints(redis=url, allow=frozenset({"redis.flush"}))}


async def connections(redis: Redis) -> int:
    return int((await redis.info("stats"))["total_connections_received"])


async def test_a_configured_cache_is_found_by_its_name_and_by_nothing_else(caches):
    (found,) = await caches.find(Selection({"cache": "sessions"}))
    assert found.id == "redis:cache/sessions"
    assert found.allow == {"redis.flush"}
    assert await caches.find(Selection({"cache": "unheard-of"})) == ()
    assert await caches.find(Selection({"service": "sessions"})) == ()


async def test_the_evidence_shows_memory_against_its_maximum(caches, redis):
    await redis.setrange("filler", 5_000_000, "x")
    evidence = await caches.diagnose(RedisInfo(), SESSIONS)
    assert evidence.text.startswith("PING: PONG\n")
    assert "maxmemory_human: 8.00M" in evidence.text
    assert "db0: 1 keys" in evidence.text
    assert evidence.numbers["redis.info.up"] == 1
    assert 0.5 < evidence.numbers["redis.info.memory_ratio"] < 1
    assert evidence.numbers["redis.info.connected_clients"] >= 2


async def test_the_evidence_counts_clients_and_what_is_not_saved(caches, redis):
    await redis.set("session:1", "x")
    before = (await caches.diagnose(RedisInfo(), SESSIONS)).numbers
    await redis.set("session:2", "x")
    after = (await caches.diagnose(RedisInfo(), SESSIONS)).numbers
    assert after["redis.info.unsaved_changes"] == before["redis.info.unsaved_changes"] + 1
    most = (await redis.info("clients"))["maxclients"]
    assert after["redis.info.clients_ratio"] == after["redis.info.connected_clients"] / most
    assert after["redis.info.save_age_seconds"] < 600  # since it was started
    assert after["redis.info.persistence_failing"] == 0


async def test_memory_is_below_its_maximum_or_not(caches, redis):
    await redis.setrange("filler", 5_000_000, "x")
    assert (await caches.check(RedisMemoryBelow(ratio=0.95), SESSIONS)).probe is Probe.HOLDS
    assert (await caches.check(RedisMemoryBelow(ratio=0.4), SESSIONS)).probe is Probe.FAILS


async def test_without_a_maximum_memory_is_always_below_it(caches, redis):
    await redis.config_set("maxmemory", "0")
    try:
        reading = await caches.check(RedisMemoryBelow(ratio=0), SESSIONS)
        evidence = await caches.diagnose(RedisInfo(), SESSIONS)
    finally:
        await redis.config_set("maxmemory", "8mb")
    assert reading.probe is Probe.HOLDS
    assert evidence.numbers["redis.info.memory_ratio"] == 0


async def test_ping_holds_while_redis_answers(caches):
    assert (await caches.check(RedisPing(), SESSIONS)).probe is Probe.HOLDS


async def test_a_redis_that_refuses_connections_is_evidence_and_fails_its_ping():
    gone = RedisCaches(configured(f"redis://127.0.0.1:{free_port()}/0"))
    evidence = await gone.diagnose(RedisInfo(), SESSIONS)
    assert evidence.text == "Redis 'sessions' does not answer: connection refused"
    assert evidence.numbers == {"redis.info.up": 0}
    assert (await gone.check(RedisPing(), SESSIONS)).probe is Probe.FAILS
    assert (await gone.check(RedisMemoryBelow(), SESSIONS)).probe is Probe.UNKNOWN


async def test_a_redis_that_hangs_is_given_up_on(caches, redis, monkeypatch):
    monkeypatch.setattr("remediator.platforms.services.redis_connection.TIMEOUT_S", 0.2)
    await redis.client_pause(1_000)
    reading = await caches.check(RedisPing(), SESSIONS)
    await redis.client_unpause()
    assert reading.probe is Probe.FAILS, reading.seen


async def test_a_flush_that_is_not_answered_is_in_doubt_and_settled_by_looking(caches, actuator, redis, monkeypatch):
    monkeypatch.setattr("remediator.platforms.services.redis_connection.TIMEOUT_S", 0.2)
    await redis.set("session:1", "x")
    mark = await caches.mark(RedisFlush(), SESSIONS)
    await redis.execute_command("CLIENT", "PAUSE", "60000", "WRITE")
    before = await connections(redis)
    with pytest.raises(OutcomeUnknown):
        await actuator.perform(RedisFlush(), SESSIONS, mark)
    assert await connections(redis) == before + 1, "a client that connects again has sent it again"
    assert (await caches.observe(RedisFlush(), SESSIONS, mark)).happened is Happened.NO
    await redis.client_unpause()


async def test_a_flush_empties_the_configured_database_only(caches, actuator, redis, server):
    await redis.mset({"session:1": "x", "session:2": "x"})
    async with Redis.from_url(server.removesuffix("0") + "1") as other:
        await other.set("kept", "x")
        mark = await caches.mark(RedisFlush(), SESSIONS)
        assert (await caches.observe(RedisFlush(), SESSIONS, mark)).happened is Happened.NO
        assert await actuator.perform(RedisFlush(), SESSIONS, mark) == "flushed 2 keys"
        assert (await caches.observe(RedisFlush(), SESSIONS, mark)).happened is Happened.YES
        assert await other.dbsize() == 1
    assert await redis.dbsize() == 0


async def test_a_reset_of_the_counters_leaves_a_flush_unknown(caches, actuator, redis):
    await actuator.perform(RedisFlush(), SESSIONS, {})
    mark = await caches.mark(RedisFlush(), SESSIONS)
    await redis.config_resetstat()
    assert (await caches.observe(RedisFlush(), SESSIONS, mark)).happened is Happened.UNKNOWN


async def test_a_restart_in_between_leaves_a_flush_unknown():
    port = free_port()
    with redis_server(port=port) as url:
        mark = await RedisCaches(configured(url)).mark(RedisFlush(), SESSIONS)
    with redis_server(port=port) as url:
        assert (await RedisCaches(configured(url)).observe(RedisFlush(), SESSIONS, mark)).happened is Happened.UNKNOWN


async def test_a_flush_that_cannot_be_sent_may_be_tried_again():
    with pytest.raises(TransientError):
        await RedisActuator(configured(f"redis://127.0.0.1:{free_port()}/0")).perform(RedisFlush(), SESSIONS, {})


async def test_a_replica_refuses_to_flush():
    with redis_server("--replicaof", "127.0.0.1", "1") as replica, pytest.raises(PermanentError, match="read only replica"):
        await RedisActuator(configured(replica)).perform(RedisFlush(), SESSIONS, {})


async def test_a_wrong_password_is_told_apart_from_silence_and_never_shown():
    with redis_server("--requirepass", "right") as url:
        caches = RedisCaches(configured(url.replace("//", "//:hunter2@")))
        reading = await caches.check(RedisPing(), SESSIONS)
        evidence = await caches.diagnose(RedisInfo(), SESSIONS)
        right = await RedisCaches(configured(url.replace("//", "//:right@"))).check(RedisPing(), SESSIONS)
    assert reading.probe is Probe.UNKNOWN
    assert "does not let remediator in" in evidence.text
    assert right.probe is Probe.HOLDS
    assert "hunter2" not in reading.seen + evidence.text + caches.describe(RedisInfo(), SESSIONS)


async def test_an_address_that_is_none_is_not_quoted():
    broken = RedisCaches(configured("redis//:hunter2@cache"))
    assert (await broken.check(RedisPing(), SESSIONS)).seen == (
        "services.sessions.redis is not an address; write redis://host:6379/0"
    )


async def test_a_cache_that_is_not_configured_says_what_to_add(caches, actuator):
    unknown = Workload("docker", "container", "x", service="x")
    words = "no redis address is configured for service 'x'; add services.x.redis"
    assert (await caches.diagnose(RedisInfo(), unknown)).text == words
    assert (await caches.check(RedisPing(), unknown)).seen == words
    assert (await caches.check(RedisPing(cache="sessions"), unknown)).probe is Probe.HOLDS
    assert caches.describe(RedisFlush(), unknown) == f"# {words}"
    with pytest.raises(PermanentError, match=words):
        await actuator.perform(RedisFlush(), unknown, {})


async def test_steps_are_described_as_commands(caches, server):
    assert caches.describe(RedisFlush(), SESSIONS) == f"redis-cli -u {server} FLUSHDB ASYNC"
    assert caches.describe(RedisSave(), SESSIONS) == f"redis-cli -u {server} BGSAVE"
    assert caches.describe(RedisInfo(), SESSIONS) == f"redis-cli -u {server} INFO"
    assert caches.describe(RedisReplication(), SESSIONS) == f"redis-cli -u {server} INFO replication"
    assert caches.describe(RedisClients(), SESSIONS) == f"redis-cli -u {server} CLIENT LIST"


async def test_steps_of_others_are_refused(caches, actuator):
    with pytest.raises(PermanentError, match=r"redis has no step postgres\.terminate_idle"):
        await caches.mark(TerminateIdle(), SESSIONS)
    with pytest.raises(PermanentError):
        await actuator.perform(TerminateIdle(), SESSIONS, {})
    with pytest.raises(PermanentError):
        await caches.diagnose(PostgresSessions(), SESSIONS)
