"""What can be done to a Redis, looked at in it, and checked. Kinds of steps, as `step.py` has them."""

from dataclasses import dataclass, field
from typing import ClassVar

from remediator.core.step_parts import Risk, name_field


@dataclass(frozen=True, slots=True)
class RedisFlush:
    """Delete every key of the target's Redis database."""

    name: ClassVar[str] = "redis.flush"
    service: ClassVar[str] = "redis"
    risk: ClassVar[Risk] = Risk.DESTRUCTIVE


@dataclass(frozen=True, slots=True)
class RedisInfo:
    """PING and INFO of a Redis: memory against its maximum, clients, role."""

    name: ClassVar[str] = "redis.info"
    service: ClassVar[str] = "redis"
    risk: ClassVar[Risk] = Risk.READ
    facts: ClassVar[tuple[str, ...]] = ("redis.info.connected_clients", "redis.info.memory_ratio", "redis.info.up")
    cache: str = name_field("The configured service; empty: the target's.")


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


RedisStep = RedisFlush
RedisDiagnosis = RedisInfo
RedisCheck = RedisPing | RedisMemoryBelow
