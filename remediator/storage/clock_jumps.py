"""The host's clock, and by how much it was set forward: no window ends early because somebody set it (promise S12).

People and NTP set a host's clock; how long it runs, nobody sets. Where the two disagree by more than a moment, the clock has
jumped, and what was put on record before that counts as having happened by so much later. What is on record from before a
clock that was set back only lasts longer. A process knows of the jumps that it saw; a restart forgets them.
"""

from datetime import timedelta

from remediator.ports import Clock
from remediator.storage.codec import micros

NOTICED = timedelta(seconds=1)
"""What the clock is ahead by at once. NTP slews smaller steps."""
READ_AT_ONCE_SECONDS = 0.05


class JumpWatch:
    """Times are microseconds, as they lie in the database. Used by one thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = self._read()
        self._jumps: list[tuple[int, int]] = []
        """By how much each jumped, after the earliest time that can be after it: nothing newer is taken for older. In order."""

    def now(self) -> int:
        at, elapsed = self._read()
        jumped = at - self._last[0] - (elapsed - self._last[1])
        if jumped > NOTICED // timedelta(microseconds=1):
            self._jumps.append((self._last[0] + jumped, jumped))
        self._last = at, elapsed
        return at

    def steady(self, at: int) -> int:
        """The time of a row as it would be if the clock had never been set forward since."""
        for jumped_at, by in self._jumps:
            if at < jumped_at:
                at += by
        return at

    def reaching_back(self, since: int) -> int:
        """The times of rows, as they lie there, that are `steady` after `since` are those after this."""
        for jumped_at, by in reversed(self._jumps):
            if since < jumped_at:
                since -= by
        return since

    def _read(self) -> tuple[int, int]:
        """The time, and the time that has passed, in microseconds, as of the same moment."""
        while True:
            before = self._clock.elapsed()
            at = micros(self._clock.now())
            after = self._clock.elapsed()
            if after - before < READ_AT_ONCE_SECONDS:
                return at, round(after * 1_000_000)
