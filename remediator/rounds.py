"""Looking at something again and again, until cancelled: whatever goes wrong with one look, there is another one."""

import asyncio
from collections.abc import Awaitable, Callable

from remediator.ports import StoreUnavailable
from remediator.telemetry import Log


async def rounds(look: Callable[[], Awaitable[None]], every_seconds: float, log: Log, broke_down: str) -> None:
    """`broke_down` is the log event of a look that failed for any other reason than a store that is away."""
    while True:
        try:
            await look()
        except StoreUnavailable as error:
            log.error("store.unavailable", error=str(error))
        except Exception as error:
            log.error(broke_down, error=repr(error), exc_info=True)
        await asyncio.sleep(every_seconds)
