"""What can be done to a Redis, looked at in it, and checked. Kinds of steps, as `step.py` has them."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import ClassVar

from remediator.core.step_parts import Risk, long_work, name_field


@dataclass(frozen=True, slots=True)
class RedisFlush:
    """Delete every key of the target's Redis database."""

    name: ClassVar[str] = "redis.flush"
    service: ClassVar[str] = "redis"
    risk: ClassVar[Risk] = Risk.DESTRUCTIVE


@dataclass(frozen=True, slots=True)
class RedisSave:
    """Let Redis save its data to disk in the background (BGSAVE), and wait until it has."""

    name: ClassVar[str] = "redis.save"
    service: ClassVar[str] = "redis"
    risk: ClassVar[Risk] = Risk.LOW
    timeout: timedelta = field(default=timedelta(minutes=5), metadata=long_work("How long to wait for it. It is not stopped."))


@dataclass(frozen=True, slots=True)
class RedisKillIdle:
    """Close connections to the target's Redis database that have sent nothing for long, the longest first.

    Those that wait for something (blocked, in a transaction, subscribed) are left alone.
    """

    name: ClassVar[str] = "redis.kill_idle"
    service: ClassVar[str] = "redis"
    risk: ClassVar[Risk] = Risk.DISRUPTIVE
    older_than: timedelta = field(
        default=timedelta(hours=1), metadata={"doc": "Idle for at least this long.", "at_least": timedelta(seconds=1)}
    )
    at_most: int = field(default=50, metadata={"doc": "Connections closed by one step.", "at_least": 1, "at_most": 1000})


@dataclass(frozen=True, slots=True)
class RedisInfo:
    """PING and INFO of a Redis: memory and clients against their maximum, persistence, role."""

    name: ClassVar[str] = "redis.info"
    service: ClassVar[str] = "redis"
    risk: ClassVar[Risk] = Risk.READ
    facts: ClassVar[tuple[str, ...]] = (
        "redis.info.clients_ratio",
        "redis.info.connected_clients",
        "redis.info.memory_ratio",
        "redis.info.persistence_failing",
        "redis.info.save_age_seconds",
        "redis.info.unsaved_changes",
        "redis.info.up",
    )
    cache: str = name_field("The configured service; empty: the target's.")


@dataclass(frozen=True, slots=True)
class RedisReplication:
    """The role of a Redis, and the state of its replication: look at it before a restart."""

    name: ClassVar[str] = "redis.replication"
    service: ClassVar[str] = "redis"
    risk: ClassVar[Risk] = Risk.READ
    facts: ClassVar[tuple[str, ...]] = (
        "redis.replication.is_master",
        "redis.replication.lag_bytes",
        "redis.replication.link_up",
        "redis.replication.replicas",
    )
    cache: str = name_field("The configured service; empty: the target's.")


@dataclass(frozen=True, slots=True)
class RedisClients:
    """Connections to a Redis by name and address, those that have been idle for long among them."""

    name: ClassVar[str] = "redis.clients"
    service: ClassVar[str] = "redis"
    risk: ClassVar[Risk] = Risk.READ
    facts: ClassVar[tuple[str, ...]] = ("redis.clients.blocked", "redis.clients.idle", "redis.clients.total")
    cache: str = name_field("The configured service; empty: the target's.")
    idle: timedelta = field(
        default=timedelta(hours=1), metadata={"doc": "Counts as idle after this.", "at_least": timedelta(seconds=1)}
    )


@dataclass(frozen=True, slots=True)
class RedisPing:
    """Redis answers PING."""

    name: ClassVar[str] = "redis.ping"
    service: ClassVar[str] = "redis"
    risk: ClassVar[Risk] = Risk.READ
    cache: str = name_field("The configured service; empty: the target's.")


@dataclass(frozen=True, slots=True)
class RedisMemoryBelow:
    """Redis uses less than this share of `maxmemory` (always so when no maximum is set)."""

    name: ClassVar[str] = "redis.memory_below"
    service: ClassVar[str] = "redis"
    risk: ClassVar[Risk] = Risk.READ
    ratio: float = field(default=0.95, metadata={"doc": "Share of maxmemory, 0 to 1.", "at_least": 0, "at_most": 1})
    cache: str = name_field("The configured service; empty: the target's.")


@dataclass(frozen=True, slots=True)
class RedisSaved:
    """Redis has saved its data lately, and neither its last save nor its last write to the append-only file failed."""

    name: ClassVar[str] = "redis.saved"
    service: ClassVar[str] = "redis"
    risk: ClassVar[Risk] = Risk.READ
    within: timedelta = field(
        default=timedelta(hours=1), metadata={"doc": "How long ago at most.", "at_least": timedelta(seconds=1)}
    )
    cache: str = name_field("The configured service; empty: the target's.")


RedisStep = RedisFlush | RedisSave | RedisKillIdle
RedisDiagnosis = RedisInfo | RedisReplication | RedisClients
RedisCheck = RedisPing | RedisMemoryBelow | RedisSaved
