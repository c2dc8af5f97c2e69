"""What is done every few seconds, whatever happens: expire silent episodes, remember releases, set the gauges.

And every hour, in rounds of a few milliseconds: forget what was over long ago.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from remediator.core.playbook import PlaybookIndex
from remediator.core.snapshot import Policy
from remediator.core.target import Workload
from remediator.ports import Clock, Ledger, PortError, Standing, Store, StoreUnavailable
from remediator.telemetry import Telemetry

EVERY_SECONDS = 15.0
SWEEP_EVERY = timedelta(hours=1)
SWEEPS_AT_ONCE = 100
SWEEP_REST_SECONDS = 0.02
"""Between two rounds of forgetting: intake never waits for more than one."""
JUMP_MAX = timedelta(minutes=1)
AFTER_A_JUMP = timedelta(days=1)
"""A clock that is a year ahead for an hour must not make the ledger forget what limits count (promise S12)."""

Inventory = Callable[[], Awaitable[Sequence[Workload]]]
"""Every workload that has opted in, as it runs now. Raises TransientError or PermanentError."""


class Housekeeping:
    def __init__(
        self,
        store: Store,
        inventories: Sequence[Inventory],
        playbooks: Callable[[], PlaybookIndex],
        policy: Callable[[], Policy],
        clock: Clock,
        telemetry: Telemetry,
        retention: timedelta,
    ) -> None:
        self._store = store
        self._inventories = inventories
        self._playbooks = playbooks
        self._policy = policy
        self._clock = clock
        self._tell = telemetry
        self._retention = retention
        self._sweeps_again_at = clock.now() + SWEEP_EVERY
        self._swept_to: tuple[datetime, int] | None = None
        self._ticks: tuple[datetime, float] | None = None
        """What the clock and the loop's own time said when last looked at: they must go equally fast."""

    async def run(self) -> None:
        """Keep house until cancelled. Platforms that do not answer hold up nothing but their own inventory."""
        while True:
            with suppress(StoreUnavailable):
                await self.tidy()
                await self.forget()
            await self.take_inventory()
            await asyncio.sleep(EVERY_SECONDS)

    async def tidy(self) -> None:
        """Expire what is silent, and set the gauges."""
        now = self._clock.now()
        playbooks = self._playbooks().playbooks
        silent_since = now - self._policy().episode_expiry
        count = 0
        while expired := await self._store.run(lambda ledger: ledger.episodes.expire(silent_since, now)):
            count += len(expired)
        if count:
            self._tell.log.info("episodes.expired", count=count)

        def work(ledger: Ledger) -> tuple[int, int, int, bool, dict[str, Standing]]:
            standings = {playbook.name: ledger.claims.standing(playbook, now) for playbook in playbooks}
            in_doubt, pending = ledger.runs.count_in_doubt(), ledger.approvals.count_pending()
            return ledger.episodes.count_open(), in_doubt, pending, ledger.claims.paused() is not None, standings

        still_open, in_doubt, pending, paused, standings = await self._store.run(work)
        metrics = self._tell.metrics
        metrics.episodes_open.set(still_open)
        metrics.runs_in_doubt.set(in_doubt)
        metrics.approvals_pending.set(pending)
        metrics.paused.set(paused)
        metrics.breakers_open.clear()  # of playbooks that a reload took away
        metrics.rate_remaining.clear()
        for name, standing in standings.items():
            metrics.breakers_open.labels(name).set(standing.breakers_open)
            metrics.rate_remaining.labels(name).set(standing.rate_remaining)

    async def forget(self) -> None:
        """Some rounds of retention, if it is time for them; the rest of a long one is left to the next call."""
        now = self._clock.now()
        if self._clock_has_jumped(now):
            self._sweeps_again_at = now + AFTER_A_JUMP
        if now < self._sweeps_again_at:
            return
        rows = 0
        for _ in range(SWEEPS_AT_ONCE):
            swept = await self._store.run(lambda ledger: ledger.retention.sweep(now - self._retention, self._swept_to))
            self._swept_to = swept.goes_on
            rows += swept.rows
            if swept.goes_on is None:
                self._sweeps_again_at = now + SWEEP_EVERY
                break
            await asyncio.sleep(SWEEP_REST_SECONDS)
        if rows:
            self._tell.metrics.forgotten.inc(rows)
            self._tell.log.info("ledger.forgotten", rows=rows)

    def _clock_has_jumped(self, now: datetime) -> bool:
        before, self._ticks = self._ticks, (now, asyncio.get_running_loop().time())
        if before is None:
            return False
        return abs(now - before[0] - timedelta(seconds=self._ticks[1] - before[1])) > JUMP_MAX

    async def take_inventory(self) -> None:
        """Remember what every opted-in workload runs, so that there is something to roll back to."""
        now = self._clock.now()
        for inventory in self._inventories:
            try:
                workloads = await inventory()
                await self._store.run(lambda ledger, found=workloads: [ledger.releases.record(each, now) for each in found])  # type: ignore[misc]
            except StoreUnavailable:
                return
            except PortError as error:
                self._tell.log.warning("inventory.failed", error=str(error))
