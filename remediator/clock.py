"""The one place that supplies the time, identifiers and randomness; everybody else is given them."""

import random
import secrets
import time
from datetime import UTC, datetime

Random = random.Random
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32: no i, l, o, u, so that an id survives being read out on the telephone."""


class SystemClock:
    """The host's clock, in UTC."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def elapsed(self) -> float:
        return elapsed()


def new_id(now: datetime) -> str:
    """A run's id: 9 characters of the time in milliseconds, so that ids sort by age, and 7 that cannot be guessed.

    A batch of a storm draws hundreds in one millisecond: with 5, two of them were the same once in a thousand batches.
    """
    millis = int(now.timestamp() * 1000)
    stamp = "".join(_ALPHABET[millis >> shift & 31] for shift in range(40, -1, -5))
    return stamp + "".join(_ALPHABET[byte & 31] for byte in secrets.token_bytes(7))


def jitter(low: float, high: float) -> float:
    """A random factor for backoff, so that many retries do not fall on the same moment."""
    return random.uniform(low, high)  # noqa: S311 - not a secret


def elapsed() -> float:
    """Seconds since some moment: never set, never back, and going on while the host or this process sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def seeded(seed: int) -> Random:
    """Randomness that is the same every time: for what must be repeatable."""
    return Random(seed)
