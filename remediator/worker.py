"""Due work: expand the inbox, lease and advance the runs that are due, keep the leases; recover first, drain last."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import thread_time

from tenacity import AsyncRetrying, retry_if_exception_type, wait_fixed

from remediator.announcements import storm_notice
from remediator.core.playbook import PlaybookIndex
from remediator.core.run import Run
from remediator.ingress.expand import Expanded, expand
from remediator.leases import Leases
from remediator.ports import Clock, Fenced, Ledger, Store, StoreUnavailable
from remediator.remediate import Remediator
from remediator.telemetry import Telemetry, about
from remediator.yaml_lines import FileProblem

IDLE_SECONDS = 5.0
IDLE_SECONDS_SHARED = 1.0
"""Where others may leave runs or messages behind: a dead process's runs are taken over so soon after its lease."""
ELSEWHERE_SECONDS = 0.1
"""Another process expands the inbox now. It may have looked just before the message came that woke this one."""
STORE_RETRY_SECONDS = 1.0
BREAKDOWN_RETRY = timedelta(seconds=30)
YIELD_TO_INTAKE = 6.0
"""Accepting alerts comes before expanding them: how long to rest after a full batch, as a multiple of what it took, while
the loop is as much busy as idle; none while it is idle, so that a backlog is worked off at full speed after a storm."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Who leases, for how long, and how many runs are advanced at the same time."""

    owner: str
    lease: timedelta
    runs_max: int
    worked: Callable[[], float] = thread_time
    """How many seconds the loop's thread has been at work."""


class Worker:
    """`run` works until `stop` is called, then gives what it has begun the time to finish."""

    def __init__(
        self,
        store: Store,
        remediator: Remediator,
        playbooks: Callable[[], PlaybookIndex],
        new_id: Callable[[datetime], str],
        clock: Clock,
        pace: Pace,
        telemetry: Telemetry,
        leases: Leases | None = None,
    ) -> None:
        self._store = store
        self._remediator = remediator
        self._playbooks = playbooks
        self._new_id = new_id
        self._clock = clock
        self._pace = pace
        self._tell = telemetry
        self._advancing: dict[asyncio.Task[None], Run] = {}
        self._woken = asyncio.Event()
        self._stopping = False
        self._leases = leases or Leases(clock, pace.lease)
        self._idle_seconds = IDLE_SECONDS_SHARED if store.is_shared else IDLE_SECONDS
        self._measured = 0.0, 0.0
        """Seconds on the wall and of the loop's thread, when last looked at."""

    def wake(self) -> None:
        """There may be something to do: a message came in, a run ended, somebody resumed."""
        self._woken.set()

    async def recover(self) -> None:
        """Take up what a former process left: as the only user of the store, void every lease. Others' leases run out."""
        if self._store.is_shared:
            return
        left = await self._store.run(lambda ledger: ledger.runs.abandon_all(ledger.now))
        if left:
            self._tell.log.info("worker.recovered", runs=left)

    async def run(self) -> None:
        """Work until stopped. A store that cannot be written is asked again until it can."""
        heartbeat = asyncio.create_task(self._keep_leases())
        try:
            while not self._stopping:
                self._woken.clear()
                try:
                    pause = await self._turn_or_set_aside()
                except StoreUnavailable as error:
                    self._tell.log.error("store.unavailable", error=str(error))
                    pause = STORE_RETRY_SECONDS
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._woken.wait()
        finally:
            heartbeat.cancel()

    async def stop(self, grace: timedelta) -> None:
        """Begin nothing new; wait up to `grace` for calls that were sent. What is left is picked up at the next start."""
        self._stopping = True
        self.wake()
        calling = [task for task, run in self._advancing.items() if run.id in self._remediator.calls]
        left = [run for run in self._advancing.values() if run.id not in self._remediator.calls]
        for task in list(self._advancing):
            if task not in calling:
                task.cancel()
        if calling:
            await asyncio.wait(calling, timeout=grace.total_seconds())
            left += [self._advancing[task] for task in calling if task in self._advancing]
            for task in calling:
                task.cancel()
        await asyncio.gather(*self._advancing, return_exceptions=True)
        await self._give_all_back(left)

    async def _turn(self) -> float:
        """One batch of the inbox and every run that is due, in one transaction; how long to rest, in seconds."""
        free = self._pace.runs_max - len(self._advancing)
        began_at = asyncio.get_running_loop().time()
        now = self._clock.now()
        if not self._leases.hold():  # the clock jumped, or the host slept: what runs here must not be leased again
            await self._renew()
        self._leases.seen_at(now)

        def work(ledger: Ledger) -> tuple[Expanded, list[Run], timedelta | None]:
            now = ledger.now
            expanded = expand(ledger, self._playbooks(), self._new_id, now)
            if expanded.storm is not None:
                ledger.outbox.put(storm_notice(expanded.storm, ledger.runs.count_held()), now)
            leased = ledger.runs.lease(self._pace.owner, now, now + self._pace.lease, free) if free else ()
            next_due = ledger.runs.next_due()
            return expanded, list(leased), None if next_due is None else next_due - now

        expanded, leased, next_due = await self._store.run(work)
        self._told(expanded)
        if self._stopping:
            await self._give_all_back(leased)
            return 0.0
        for run in leased:
            task = asyncio.create_task(self._advance(run), name=f"run {run.id}")
            self._advancing[task] = run
            task.add_done_callback(self._advanced)
        busy = self._measure_loop()
        if expanded.messages:
            took = asyncio.get_running_loop().time() - began_at
            await asyncio.sleep(took * YIELD_TO_INTAKE * busy / (1.0 - busy) if expanded.is_full else 0)
            return 0.0
        idle = ELSEWHERE_SECONDS if expanded.elsewhere else self._idle_seconds
        if next_due is None or free == len(leased):
            return idle
        return min(max(next_due.total_seconds(), 0.0), idle)

    async def _turn_or_set_aside(self) -> float:
        """A turn; if a message broke it, that one is kept, out of the way of the others. Raises StoreUnavailable."""
        try:
            return await self._turn()
        except StoreUnavailable:
            raise
        except Exception as error:
            self._tell.log.error("worker.broke_down", error=repr(error), exc_info=True)
        oldest = await self._store.run(lambda ledger: ledger.inbox.oldest())
        try:
            expanded = await self._store.run(
                lambda ledger: expand(ledger, self._playbooks(), self._new_id, ledger.now, messages_max=1)
            )
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the other messages must not wait for it
            # By its number: another process may have come to it first, and the next one may be well.
            if oldest is None or not await self._store.run(lambda ledger: ledger.inbox.set_aside(oldest)):
                return STORE_RETRY_SECONDS
            self._tell.log.error("inbox.set_aside", message=oldest, error=repr(error))
            return 0.0
        return 0.0 if expanded.messages else STORE_RETRY_SECONDS  # no message broke it: not again at once

    def _measure_loop(self) -> float:
        """The share of the time since the last call that the loop was at work; 0.7 at most: no storm stops expanding."""
        (wall, used), self._measured = self._measured, (asyncio.get_running_loop().time(), self._pace.worked())
        return min((self._measured[1] - used) / max(self._measured[0] - wall, 1e-6), 0.7)

    async def _advance(self, run: Run) -> None:
        """Advance one leased run and give it back. Whatever goes wrong stays with this run."""
        try:
            due_at = await self._remediator.advance(run)
        except Fenced as error:
            self._tell.log.warning("run.fenced", **about(run), error=str(error))
            return
        except StoreUnavailable as error:
            self._tell.log.error("store.unavailable", **about(run), error=str(error))
            due_at = self._clock.now() + timedelta(seconds=STORE_RETRY_SECONDS)
        except FileProblem as error:
            problems = [str(problem) for problem in error.problems]
            self._tell.log.error("run.playbook_unreadable", **about(run), problems=problems)
            due_at = await self._abandon(run)
        except Exception as error:
            self._tell.log.error("run.broke_down", **about(run), error=repr(error), exc_info=True)
            due_at = await self._after_breakdown(run)
        if due_at is not None:
            await self._give_back(run, due_at)

    def _advanced(self, task: asyncio.Task[None]) -> None:
        """In this order: who is woken first would find the place still taken, and rest."""
        self._advancing.pop(task, None)
        self.wake()

    async def _after_breakdown(self, run: Run) -> datetime | None:
        """Try again in a while, and past the deadline leave it to people."""
        now = self._clock.now()
        return now + BREAKDOWN_RETRY if now < run.deadline else await self._abandon(run)

    async def _abandon(self, run: Run) -> datetime | None:
        """Leave it to people, now or in a while. Never raises: a lease is renewed until it is given back."""
        try:
            return await self._remediator.abandon(run)
        except Exception as error:
            self._tell.log.error("run.abandon_failed", **about(run), error=repr(error), exc_info=True)
            return self._clock.now() + BREAKDOWN_RETRY

    async def _give_back(self, run: Run, due_at: datetime) -> None:
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(StoreUnavailable), wait=wait_fixed(STORE_RETRY_SECONDS)
        ):
            with attempt:
                await self._store.run(lambda ledger: ledger.runs.release(run, due_at))

    async def _give_all_back(self, runs: Sequence[Run]) -> None:
        """At the end: so that another process, or the next start, need not wait until their leases run out."""

        def work(ledger: Ledger) -> None:
            now = ledger.now
            for run in runs:
                ledger.runs.release(run, now)

        with suppress(StoreUnavailable):
            await self._store.run(work)

    async def _keep_leases(self) -> None:
        """A heartbeat for all leases of this process at once, three times in a lease."""
        while True:
            await asyncio.sleep(self._pace.lease.total_seconds() / 3)
            with suppress(StoreUnavailable):
                await self._renew()

    async def _renew(self) -> None:
        """Prolong the leases of what runs here; what somebody else has taken over by now is let go of, unsent calls first."""
        held = dict(self._advancing)
        asked_at = self._clock.now()
        lost = await self._store.run(
            lambda ledger: ledger.runs.renew(list(held.values()), ledger.now + self._pace.lease),
        )
        gone = [task for task, run in held.items() if run in lost]
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        for run in lost:
            self._tell.log.warning("run.fenced", **about(run), error="its lease ran out, and it was taken over")
        self._leases.renewed_at(asked_at)

    def _told(self, expanded: Expanded) -> None:
        if expanded.unreadable:
            self._tell.log.error("inbox.unreadable", messages=expanded.unreadable)
        if expanded.unmatched:
            self._tell.unmatched(expanded.unmatched)
        if expanded.watchdog_at:
            self._tell.metrics.watchdog_seen_at.set(expanded.watchdog_at.timestamp())
        if expanded.storm is not None:
            event = "storm.begun" if expanded.storm.over_at is None else "storm.over"
            self._tell.log.warning(event, targets=expanded.storm.targets, since=expanded.storm.since.isoformat())
            self._tell.raised("critical")
        for each in expanded.recoveries:
            self._tell.recovered(each.playbook, each.seconds, acted=each.acted)
