"""Redis caches: whether they answer, their memory and clients, and flushing the configured database.

A cache that does not answer is a finding, not an error of ours. Nothing is retried here: the client library's own
retries are off, so that a flush is sent once.
"""

import shlex
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, AuthorizationError, NoPermissionError, RedisError, ResponseError

from remediator.core.redis_step import RedisFlush, RedisInfo, RedisMemoryBelow, RedisPing
from remediator.core.step import Check, Diagnosis, Step
from remediator.core.target import Selection, Workload
from remediator.platforms.services.addresses import NotConfigured, Services, address_of, find_configured
from remediator.ports import (
    Evidence,
    Facts,
    Happened,
    Observation,
    OutcomeUnknown,
    PermanentError,
    PortError,
    Probe,
    Reading,
    TransientError,
)

TIMEOUT_S = 3.0
"""For connecting, and for each answer."""

Info = Mapping[str, Any]
"""What INFO said, as redis-py parses it: https://redis.io/docs/latest/commands/info/."""

SHOWN = (
    "redis_version", "uptime_in_seconds", "role", "loading", "used_memory_human", "maxmemory_human", "maxmemory_policy",
    "mem_fragmentation_ratio", "connected_clients", "maxclients", "blocked_clients", "rejected_connections", "evicted_keys",
    "connected_slaves", "master_link_status", "rdb_last_bgsave_status", "aof_last_write_status",
)  # fmt: skip


class RedisCaches:
    """The reading side: `services.NAME.redis` for each cache."""

    name = "redis"

    def __init__(self, services: Services) -> None:
        self._services = services

    async def find(self, selection: Selection) -> Sequence[Workload]:
        return find_configured(self._services, "redis", "cache", selection)

    async def diagnose(self, diagnosis: Diagnosis, workload: Workload) -> Evidence:
        """Raises PermanentError for a diagnosis that is not Redis's; a silent Redis is `redis.info.up` 0."""
        if not isinstance(diagnosis, RedisInfo):
            raise PermanentError(f"redis has no diagnosis {diagnosis.name}")
        try:
            async with _connected(self._services, diagnosis.cache or workload.service) as redis:
                await redis.ping()
                info = await redis.info()
        except NotConfigured as error:
            return Evidence(diagnosis.name, str(error))
        except PortError as error:
            return Evidence(diagnosis.name, str(error), {"redis.info.up": 0.0})
        numbers = {
            "redis.info.up": 1.0,
            "redis.info.memory_ratio": _memory_ratio(info),
            "redis.info.connected_clients": float(info["connected_clients"]),
        }
        shown = [f"{name}: {info[name]}" for name in SHOWN if name in info]
        return Evidence(diagnosis.name, "\n".join(["PING: PONG", *shown, *_keyspace(info)]), numbers)

    async def check(self, check: Check, workload: Workload) -> Reading:
        match check:
            case RedisPing(cache=named):
                return await self._answers(named or workload.service)
            case RedisMemoryBelow(cache=named):
                return await self._memory_below(check, named or workload.service)
            case _:
                return Reading(Probe.UNKNOWN, f"redis has no check {check.name}")

    async def _answers(self, name: str) -> Reading:
        try:
            async with _connected(self._services, name) as redis:
                await redis.ping()
        except TransientError as error:
            return Reading(Probe.FAILS, str(error))
        except PermanentError as error:
            return Reading(Probe.UNKNOWN, str(error))
        return Reading(Probe.HOLDS, "PONG")

    async def _memory_below(self, check: RedisMemoryBelow, name: str) -> Reading:
        try:
            async with _connected(self._services, name) as redis:
                info = await redis.info("memory")
        except PortError as error:
            return Reading(Probe.UNKNOWN, str(error))
        ratio = _memory_ratio(info)
        seen = f"{ratio:.0%} of maxmemory" if info["maxmemory"] else "no maxmemory is set"
        return Reading(Probe.HOLDS if not info["maxmemory"] or ratio < check.ratio else Probe.FAILS, seen)

    def describe(self, step: Step | Diagnosis, workload: Workload) -> str:
        match step:
            case RedisInfo(cache=named):
                name, command = named or workload.service, ["INFO"]
            case RedisFlush():
                name, command = workload.service, ["FLUSHDB", "ASYNC"]
            case _:
                return f"# redis has no step {step.name}"
        try:
            return shlex.join(["redis-cli", "-u", _without_password(address_of(self._services, "redis", name)), *command])
        except NotConfigured as error:
            return f"# {error}"

    async def mark(self, step: Step, workload: Workload) -> Facts:
        """Which server process it is, and how many flushes it has carried out."""
        _flush(step)
        return await self._flushes(workload.service)

    async def observe(self, step: Step, workload: Workload, mark: Facts) -> Observation:
        """Compares the server's count of FLUSHDB commands; a restart or a reset of its counters leaves it UNKNOWN."""
        _flush(step)
        now = await self._flushes(workload.service)
        if now["run_id"] != mark["run_id"] or now["flushes"] < mark["flushes"]:
            return Observation(Happened.UNKNOWN, "Redis was restarted or its counters were reset since")
        if now["flushes"] == mark["flushes"]:
            return Observation(Happened.NO, "no FLUSHDB was carried out since")
        return Observation(Happened.YES, f"{now['flushes'] - mark['flushes']} FLUSHDB carried out since")

    async def _flushes(self, name: str) -> Facts:
        """Raises TransientError or PermanentError."""
        async with _connected(self._services, name) as redis:
            info = await redis.info("all")
        return {"run_id": info["run_id"], "flushes": info.get("cmdstat_flushdb", {}).get("calls", 0)}


class RedisActuator:
    """The writing side: FLUSHDB of the configured database, never FLUSHALL."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def perform(self, step: Step, workload: Workload, mark: Facts) -> str:
        _flush(step)
        async with _connected(self._services, workload.service) as redis:
            keys = await redis.dbsize()  # also proves the connection: what fails up to here was not sent
            try:
                await redis.flushdb(asynchronous=True)  # keys go at once, their memory in the background
            except ResponseError as error:
                raise PermanentError(f"Redis refused to flush: {error}") from error
            except RedisError as error:
                raise OutcomeUnknown(f"Redis did not say whether it flushed: {error}") from error
        return f"flushed {keys} keys"


@asynccontextmanager
async def _connected(services: Services, name: str) -> AsyncIterator[Redis]:
    """A client with deadlines and without retries. Raises TransientError (no answer) or PermanentError (not let in)."""
    address = address_of(services, "redis", name)
    try:
        redis = Redis.from_url(
            address,
            decode_responses=True,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            client_name="remediator",
        )
    except ValueError:
        # Not chained: the error may quote the address, and that may hold the password.
        raise NotConfigured(f"services.{name}.redis is not an address; write redis://host:6379/0") from None
    try:
        async with redis:
            yield redis
    except (AuthenticationError, AuthorizationError, NoPermissionError) as error:
        raise PermanentError(f"Redis {name!r} does not let remediator in: {error}") from error
    except RedisError as error:
        # asyncio says "Connect call failed" where everybody else says this.
        refused = isinstance(error.__cause__ or error.__context__, ConnectionRefusedError)
        raise TransientError(f"Redis {name!r} does not answer: {'connection refused' if refused else error}") from error


def _flush(step: Step) -> RedisFlush:
    if isinstance(step, RedisFlush):
        return step
    raise PermanentError(f"redis has no step {step.name}")


def _memory_ratio(info: Info) -> float:
    """Used memory as a share of maxmemory; 0 when no maximum is set."""
    return float(info["used_memory"] / info["maxmemory"]) if info["maxmemory"] else 0.0


def _keyspace(info: Info) -> list[str]:
    return [
        f"{name}: {value['keys']} keys" for name, value in info.items() if name.startswith("db") and isinstance(value, dict)
    ]


def _without_password(address: str) -> str:
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
