"""Redis caches, the writing side: flush, save, and close idle connections. Only built where something may act."""

import asyncio
from functools import partial
from typing import assert_never

from remediator.core.playbook import brief
from remediator.core.redis_step import RedisFlush, RedisKillIdle, RedisSave, RedisStep
from remediator.core.step import Step
from remediator.core.target import Workload
from remediator.platforms import MaySend, always, ensure_may_send
from remediator.platforms.services import redis_evidence as evidence
from remediator.platforms.services.addresses import Services
from remediator.platforms.services.redis_connection import Client, ask, connected, in_doubt, send
from remediator.ports import Facts, OutcomeUnknown, PermanentError

LOOK_AGAIN_S = 0.2


class RedisActuator:
    """`may_send` is asked once Redis has answered, right before what changes something is sent."""

    def __init__(self, services: Services, may_send: MaySend = always) -> None:
        self._services = services
        self._before = partial(ensure_may_send, may_send)

    async def perform(self, step: Step, workload: Workload, mark: Facts) -> str:
        if not isinstance(step, RedisStep):
            raise PermanentError(f"redis has no step {step.name}")
        async with connected(self._services, workload.service) as redis:
            match step:
                case RedisFlush():
                    return await self._flush(redis)
                case RedisSave():
                    return await self._save(step, redis)
                case RedisKillIdle():
                    return await self._kill_idle(step, redis, mark)
                case _:
                    assert_never(step)

    async def _flush(self, redis: Client) -> str:
        """FLUSHDB of the configured database, never FLUSHALL. Keys go at once, their memory in the background."""
        keys = await redis.dbsize()
        await send(redis, self._before, "FLUSHDB", "ASYNC")
        return f"flushed {keys} keys"

    async def _save(self, step: RedisSave, redis: Client) -> str:
        await send(redis, self._before, "BGSAVE")
        try:
            async with asyncio.timeout(step.timeout.total_seconds()):
                info = await _once_saved(redis)
        except TimeoutError as error:
            raise OutcomeUnknown(f"Redis is still saving after {brief(step.timeout)}") from error
        if info["rdb_last_bgsave_status"] != "ok":
            raise PermanentError("Redis could not save; its log says why")
        return f"saved in {max(0, info['rdb_last_bgsave_time_sec'])}s"

    async def _kill_idle(self, step: RedisKillIdle, redis: Client, mark: Facts) -> str:
        """All in one transaction, which its last word sends: Redis closes them all, or none.

        Who has sent something since is left alone. Between that look and the closing lie a few messages to Redis.
        """
        marked = mark["clients"]
        is_another = (await redis.info("server"))["run_id"] != mark["run_id"]  # and counts its clients anew
        connections = [] if is_another else await redis.client_list(_type="normal")
        idle = {one["id"] for one in evidence.idle(connections, step.older_than)}
        closing = [client for client in marked if client in idle]
        if not closing:
            return f"closed none of {len(marked)} connections: none is idle for {brief(step.older_than)} any more"
        await ask(redis, "MULTI")
        for client in closing:
            await ask(redis, "CLIENT", "KILL", "ID", client)
        closed = sum(await send(redis, self._before, "EXEC"))
        spared = f"; {len(marked) - closed} had gone or gone back to work" if closed < len(marked) else ""
        return f"closed {closed} of {len(marked)} idle connections{spared}"


async def _once_saved(redis: Client) -> evidence.Info:
    """What Redis says of its persistence when no save is under way any more. Raises OutcomeUnknown."""
    while True:
        with in_doubt("BGSAVE"):
            info: evidence.Info = await redis.info("persistence")
        if not info["rdb_bgsave_in_progress"]:
            return info
        await asyncio.sleep(LOOK_AGAIN_S)
