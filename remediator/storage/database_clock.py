"""A clock that follows the database's, for what is compared between questions to it. Pure: told the time, never asks.

All replicas go by the database's time. Between two of its answers the time is the last answer and what has passed since,
by a clock of the host that never jumps: a host whose wall clock is set, or wrong, decides nothing by it (promise S12).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

DRIFT = 0.0005
"""How far two clocks may drift apart, in seconds a second: twice what a bad quartz does."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`said` was the time at some moment after `asked_at`; `seconds` later the answer was in."""

    said: datetime
    asked_at: float
    seconds: float

    def error_at(self, elapsed: float) -> float:
        """By how many seconds the time that is reckoned from this answer may be ahead."""
        return self.seconds + 2 * DRIFT * (elapsed - self.asked_at)

    def now_at(self, elapsed: float) -> datetime:
        """As if it had been said as soon as it was asked: never behind, ahead by the error at most."""
        return self.said + timedelta(seconds=(1 + DRIFT) * (elapsed - self.asked_at))


class DatabaseClock:
    """Implements `ports.Clock`. Any thread may tell it; `elapsed` counts seconds that never jump.

    It is rather ahead than behind: to whoever goes by it, a lease ends too early rather than too late.
    """

    def __init__(self, elapsed: Callable[[], float]) -> None:
        self._elapsed = elapsed
        self._answer: Answer | None = None

    def now(self) -> datetime:
        """Raises AssertionError before the first answer: a store is only handed out after it."""
        assert self._answer is not None, "the database was not asked yet"
        return self._answer.now_at(self._elapsed())

    def elapsed(self) -> float:
        return self._elapsed()

    def heard(self, said: datetime, asked_at: float, answered_at: float) -> None:
        """Go by this answer if it is the more exact one by now, or if the database's own clock was set."""
        new, old = Answer(said, asked_at, answered_at - asked_at), self._answer
        if old is None or new.seconds <= old.error_at(answered_at) or self._was_set(old, new, answered_at):
            self._answer = new

    @staticmethod
    def _was_set(old: Answer, new: Answer, elapsed: float) -> bool:
        apart = abs((new.now_at(elapsed) - old.now_at(elapsed)).total_seconds())
        return apart > old.error_at(elapsed) + new.error_at(elapsed)
