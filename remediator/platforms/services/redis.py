"""Redis caches, the reading side: whether they answer, their memory, clients, persistence and replication.

A cache that does not answer is a finding, not an error of ours. `redis_actions.py` is the writing side.
"""

import shlex
from collections.abc import Sequence
from typing import assert_never
from urllib.parse import urlsplit

from remediator.core.redis_step import (
    RedisCheck,
    RedisClients,
    RedisDiagnosis,
    RedisFlush,
    RedisInfo,
    RedisKillIdle,
    RedisMemoryBelow,
    RedisPing,
    RedisReplication,
    RedisSave,
    RedisSaved,
    RedisStep,
)
from remediator.core.step import Check, Diagnosis, Step
from remediator.core.target import Selection, Workload
from remediator.platforms.services import redis_evidence as evidence
from remediator.platforms.services.addresses import NotConfigured, Services, address_of, find_configured
from remediator.platforms.services.redis_connection import Client, connected, database_of, without_password
from remediator.ports import (
    Evidence,
    Facts,
    Happened,
    Observation,
    PermanentError,
    PortError,
    Probe,
    Reading,
    TransientError,
)


class RedisCaches:
    """The reading side: `services.NAME.redis` for each cache."""

    name = "redis"

    def __init__(self, services: Services) -> None:
        self._services = services

    async def find(self, selection: Selection) -> Sequence[Workload]:
        return find_configured(self._services, "redis", "cache", selection)

    async def diagnose(self, diagnosis: Diagnosis, workload: Workload) -> Evidence:
        """Raises PermanentError for a diagnosis that is not Redis's; a silent Redis is `redis.info.up` 0."""
        if not isinstance(diagnosis, RedisDiagnosis):
            raise PermanentError(f"redis has no diagnosis {diagnosis.name}")
        try:
            async with connected(self._services, diagnosis.cache or workload.service) as redis:
                return await _looked(diagnosis, redis)
        except NotConfigured as error:
            return Evidence(diagnosis.name, str(error))
        except PortError as error:
            return Evidence(diagnosis.name, str(error), {"redis.info.up": 0.0} if isinstance(diagnosis, RedisInfo) else {})

    async def check(self, check: Check, workload: Workload) -> Reading:
        if not isinstance(check, RedisCheck):
            return Reading(Probe.UNKNOWN, f"redis has no check {check.name}")
        try:
            async with connected(self._services, check.cache or workload.service) as redis:
                return await _checked(check, redis)
        except TransientError as error:
            return Reading(Probe.FAILS if isinstance(check, RedisPing) else Probe.UNKNOWN, str(error))
        except PermanentError as error:
            return Reading(Probe.UNKNOWN, str(error))

    def describe(self, step: Step | Diagnosis, workload: Workload) -> str:
        """The redis-cli command lines for the same."""
        if not isinstance(step, RedisStep | RedisDiagnosis):
            return f"# redis has no step {step.name}"
        named = step.cache if isinstance(step, RedisDiagnosis) else ""
        try:
            address = without_password(address_of(self._services, "redis", named or workload.service))
        except NotConfigured as error:
            return f"# {error}"
        return _typed(step, shlex.join(["redis-cli", "-u", address]), urlsplit(address).path.strip("/") or "0")

    async def mark(self, step: Step, workload: Workload) -> Facts:
        """Which server process it is, and what of it the step will change."""
        step = _own(step)
        async with connected(self._services, workload.service) as redis:
            return await _marked(step, redis)

    async def observe(self, step: Step, workload: Workload, mark: Facts) -> Observation:
        """Compares with the mark. A restart in between leaves all but closed connections UNKNOWN: counters begin anew."""
        step = _own(step)
        async with connected(self._services, workload.service) as redis:
            info = await redis.info("all")
            restarted = info["run_id"] != mark["run_id"]
            match step:
                case RedisFlush():
                    return _flushed(info, mark, restarted=restarted)
                case RedisSave():
                    return _saved(info, mark, restarted=restarted)
                case RedisKillIdle():
                    left = set() if restarted else {one["id"] for one in await redis.client_list()}
                    return _closed(left & set(mark["clients"]), mark["clients"])
                case _:
                    assert_never(step)


async def _looked(diagnosis: RedisDiagnosis, redis: Client) -> Evidence:
    match diagnosis:
        case RedisInfo():
            await redis.ping()
            return evidence.info(await redis.info(), await _now_s(redis))
        case RedisReplication():
            return evidence.replication(await redis.info("replication"))
        case RedisClients():
            return evidence.clients(diagnosis, await redis.client_list())
        case _:
            assert_never(diagnosis)


async def _checked(check: RedisCheck, redis: Client) -> Reading:
    match check:
        case RedisPing():
            await redis.ping()
            return Reading(Probe.HOLDS, "PONG")
        case RedisMemoryBelow():
            info = await redis.info("memory")
            ratio = evidence.memory_ratio(info)
            seen = f"{ratio:.0%} of maxmemory" if info["maxmemory"] else "no maxmemory is set"
            return Reading(Probe.HOLDS if not info["maxmemory"] or ratio < check.ratio else Probe.FAILS, seen)
        case RedisSaved():
            info = await redis.info("persistence")
            age_s = evidence.save_age_s(info, await _now_s(redis))
            failures = evidence.failures(info)
            holds = not failures and age_s <= check.within.total_seconds()
            return Reading(Probe.HOLDS if holds else Probe.FAILS, "; ".join([f"saved {age_s}s ago", *failures]))
        case _:
            assert_never(check)


async def _now_s(redis: Client) -> int:
    """The server's own time, in seconds."""
    seconds: int = (await redis.time())[0]
    return seconds


def _typed(step: RedisStep | RedisDiagnosis, cli: str, database: str) -> str:
    match step:
        case RedisFlush():
            return f"{cli} FLUSHDB ASYNC"
        case RedisSave():
            return f"{cli} BGSAVE"
        case RedisKillIdle():
            return _kill_idle_typed(step, cli, database)
        case RedisInfo():
            return f"{cli} INFO"
        case RedisReplication():
            return f"{cli} INFO replication"
        case RedisClients():
            return f"{cli} CLIENT LIST"
        case _:
            assert_never(step)


def _kill_idle_typed(step: RedisKillIdle, cli: str, database: str) -> str:
    found = rf"s/^id=([0-9]+) .* idle=([0-9]+) flags={evidence.PLAIN} db={database} .*/\2 \1/p"
    old_enough = f"$1 >= {step.older_than.total_seconds():g} {{print $2}}"
    return (
        f"{cli} CLIENT LIST TYPE normal | sed -nE '{found}' | sort -rn | awk '{old_enough}' | head -n {step.at_most}"
        f" | xargs -rn1 {cli} CLIENT KILL ID"
    )


async def _marked(step: RedisStep, redis: Client) -> Facts:
    info = await redis.info("all")
    match step:
        case RedisFlush():
            changed: Facts = {"flushes": _flushes(info)}
        case RedisSave():
            changed = {"saved_at": info["rdb_last_save_time"]}
        case RedisKillIdle():
            idle = evidence.longest_idle(step, await redis.client_list(_type="normal"), database_of(redis))
            changed = {"clients": [one["id"] for one in idle]}
        case _:
            assert_never(step)
    return {"run_id": info["run_id"], **changed}


def _flushes(info: evidence.Info) -> int:
    calls: int = info.get("cmdstat_flushdb", {}).get("calls", 0)
    return calls


def _flushed(info: evidence.Info, mark: Facts, *, restarted: bool) -> Observation:
    since = _flushes(info) - mark["flushes"]
    if restarted or since < 0:
        return Observation(Happened.UNKNOWN, "Redis was restarted or its counters were reset since")
    if since == 0:
        return Observation(Happened.NO, "no FLUSHDB was carried out since")
    return Observation(Happened.YES, f"{since} FLUSHDB carried out since")


def _saved(info: evidence.Info, mark: Facts, *, restarted: bool) -> Observation:
    """Redis keeps the time of the last save that succeeded in whole seconds: a save within the same one is saved again."""
    if restarted:
        return Observation(Happened.UNKNOWN, "Redis was restarted since, and counts from its start")
    if info["rdb_last_save_time"] > mark["saved_at"]:
        return Observation(Happened.YES, "Redis has saved since")
    if info["rdb_bgsave_in_progress"]:
        return Observation(Happened.UNKNOWN, "a save is under way")
    return Observation(Happened.NO, "Redis has not saved since")


def _closed(left: set[str], marked: Sequence[str]) -> Observation:
    """All gone is YES, all there is NO; some of both may be the step or clients that left by themselves."""
    seen = f"{len(marked) - len(left)} of {len(marked)} marked connections are gone"
    if not left:
        return Observation(Happened.YES, seen)
    return Observation(Happened.NO if len(left) == len(marked) else Happened.UNKNOWN, seen)


def _own(step: Step) -> RedisStep:
    if isinstance(step, RedisStep):
        return step
    raise PermanentError(f"redis has no step {step.name}")
