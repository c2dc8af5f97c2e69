"""What goes wrong inside remediator's own processes: they are killed, they stand still, their clocks jump, commits fail.

Killed and stopped at any await, since each of a process's callbacks is preceded by the question; at a commit more often
than elsewhere, since that is where the windows are.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from remediator.clock import Random
from remediator.lab.inline_store import Fate
from remediator.lab.simulation.scheduler import Life, Process, Scheduler, context_of
from remediator.lab.simulation.weather import CALM, Weather
from remediator.lab.virtual_time import VirtualClock
from remediator.ports import StoreUnavailable

LEASE = timedelta(seconds=15)
STOPPED_SECONDS = (0.5, 60.0)
STOPPED_LONG_SECONDS = (0.5, 120.0)
"""When an intent or a go was just put on record: long enough that others have taken the run over and settled its doubt."""
JUMP_SECONDS = 120.0
SLOW_COMMIT_SECONDS = 1.0
CRITICAL = 4.0
"""So many times as often as at another commit, a process is killed or stopped when an intent or a go is on record."""


@dataclass(eq=False)
class Chaos:
    """Over all processes of one seed. `weather` becomes calm at the end, so that what is unfinished can be finished."""

    scheduler: Scheduler
    random: Random
    weather: Weather
    tell: Callable[[str, str], None]
    """Process and what happened to it, for the timeline."""
    killed: Callable[[Process], None]
    store_is_away: bool = False
    is_critical: bool = False
    """An intent or a go was just put on record."""
    clocks: dict[Process, VirtualClock] = field(default_factory=dict)
    numbers: int = 0
    hits: dict[str, int] = field(default_factory=dict)

    def disturb(self, process: Process) -> None:
        """Before each callback of a process."""
        weather, dice = self.weather, self.random.random()
        if weather is CALM:
            return
        if dice < weather.killed:
            self.kill(process, "killed")
        elif dice < weather.killed + weather.stopped:
            self.stop(process, "stopped")
        elif dice < weather.killed + weather.stopped + weather.clock_jumps and process in self.clocks:
            self._set_clock("clock_jumps", process)

    def kill(self, process: Process, why: str) -> None:
        self._hit(why, process, "killed")
        self.scheduler.kill(process)
        self.clocks.pop(process, None)
        self.killed(process)

    def stop(self, process: Process, why: str, between: tuple[float, float] = STOPPED_SECONDS) -> None:
        seconds = self.random.uniform(*between)
        self._hit(why, process, f"stands still for {seconds:.1f} s")
        self.scheduler.halt(process)
        self.scheduler.call_later(seconds, self._go_on, process, context=context_of(None))

    def call_delayed(self, seconds: float) -> None:
        """Of all times, a clock may be set now, while nobody can find out what comes of the call."""
        if self.comes(self.weather.clock_set_during_a_call):
            self.scheduler.call_later(self.random.uniform(0.0, seconds), self._set_some_clock, context=context_of(None))

    def _set_some_clock(self) -> None:
        if self.clocks and self.weather is not CALM:
            self._set_clock("clock_set_during_a_call", self.random.choice(list(self.clocks)))

    def _set_clock(self, why: str, process: Process) -> None:
        by = timedelta(seconds=self.random.uniform(-JUMP_SECONDS, JUMP_SECONDS))
        self._hit(why, process, f"its clock jumps by {by.total_seconds():+.1f} s")
        self.clocks[process].shift += by

    def _go_on(self, process: Process) -> None:
        if process.life is Life.STOPPED:
            self.tell(process.name, "goes on")
            self.scheduler.go_on(process)

    def next_number(self) -> int:
        self.numbers += 1
        return self.numbers

    def comes(self, chance: float) -> bool:
        return bool(chance) and self.random.random() < chance

    def _hit(self, what: str, process: Process, said: str) -> None:
        self.hits[what] = self.hits.get(what, 0) + 1
        self.tell(process.name, said)


@dataclass(eq=False)
class Commits:
    """Implements `inline_store.Interruption` for one process."""

    chaos: Chaos
    process: Process
    connection: sqlite3.Connection
    committed: Callable[[], None]
    """The promises are checked here, before anything else can happen."""
    heard: Callable[[], None]
    """The process learns the database's time."""
    changes: int = 0

    async def before(self) -> None:
        chaos, weather = self.chaos, self.chaos.weather
        if weather is CALM:
            self.changes = self.connection.total_changes
            self.heard()
            return
        if chaos.store_is_away:
            raise StoreUnavailable("the database is away")
        if chaos.comes(weather.slow_commit):
            await asyncio.sleep(chaos.random.uniform(0.0, SLOW_COMMIT_SECONDS))
        self.changes = self.connection.total_changes
        self.heard()

    def fate(self) -> Fate:
        chaos, weather = self.chaos, self.chaos.weather
        if weather is CALM or self.connection.total_changes == self.changes:
            return Fate.COMMITTED
        if chaos.comes(weather.done_again):
            return Fate.DONE_AGAIN
        return Fate.LOST if chaos.comes(weather.killed_before_commit) else Fate.COMMITTED

    async def lost(self) -> None:
        self.chaos.kill(self.process, "killed_before_commit")
        await self.chaos.scheduler.create_future()

    async def after(self) -> None:
        chaos, weather = self.chaos, self.chaos.weather
        if self.connection.total_changes == self.changes:
            return
        self.committed()
        is_critical, chaos.is_critical = chaos.is_critical, False
        often = CRITICAL if is_critical else 1.0
        if weather is CALM:
            return
        if chaos.comes(weather.killed_after_commit * often):
            chaos.kill(self.process, "killed_after_commit")
            await chaos.scheduler.create_future()
        if chaos.comes(weather.stopped_at_commit * often):
            chaos.stop(self.process, "stopped_at_commit", STOPPED_LONG_SECONDS if is_critical else STOPPED_SECONDS)
            await asyncio.sleep(0)
        if chaos.comes(weather.connection_lost):
            chaos.hits["connection_lost"] = chaos.hits.get("connection_lost", 0) + 1
            raise StoreUnavailable("the connection was lost after the commit")
