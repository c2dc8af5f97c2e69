"""Until when this process may act for the runs that it holds: asked by whoever sends something that has waited.

A process that was stopped, or whose host slept, wakes with calls that were fit to be sent when they began to wait. By then
others may have taken the runs over: nothing of it is sent until the leases were renewed and the lost runs are let go of.
"""

from datetime import datetime, timedelta

from remediator.ports import Clock


class Leases:
    """Threads may ask. `length` is how long a lease lasts without a heartbeat."""

    def __init__(self, clock: Clock, length: timedelta) -> None:
        self._clock = clock
        self.length = length
        self.until = clock.now() + length
        """When the first of them may run out."""

    def hold(self) -> bool:
        """Whether all of them do, now."""
        return self._clock.now() < self.until

    def renewed_at(self, at: datetime) -> None:
        self.until = at + self.length

    def seen_at(self, at: datetime) -> None:
        """A clock that was set back does not prolong them."""
        self.until = min(self.until, at + self.length)
