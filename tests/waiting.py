"""How tests wait for what will be so: by looking, with a deadline."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any


async def eventually(fact: Callable[[], Any], seconds: float = 10.0) -> None:
    """Return once `fact()` is true, or what it gives when awaited is. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while True:
            said = fact()
            if await said if inspect.isawaitable(said) else said:
                return
            await asyncio.sleep(0.01)
