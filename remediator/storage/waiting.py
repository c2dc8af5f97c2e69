"""What waits for a store's threads, and how it is told what came of it. The same for every store."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from remediator.ports import Ledger

Waiting = asyncio.Future[Any]
Work = Callable[[Ledger], Any]
Body = tuple[bytes, datetime, Waiting]
"""A message, when it was received, and who waits for it to be durable."""

BACKLOG_BYTES_MAX = 256 * 1024 * 1024
"""Bodies that wait for a commit. Beyond it the webhook answers 503 and Alertmanager tries again."""


def settle(settled: Sequence[tuple[Waiting, Any]]) -> None:
    """On the loop's thread: hand each outcome, a result or an exception, to whoever still waits for it."""
    for done, outcome in settled:
        if done.cancelled():
            continue
        if isinstance(outcome, Exception):
            done.set_exception(outcome)
        else:
            done.set_result(outcome)
