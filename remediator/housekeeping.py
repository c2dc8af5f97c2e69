"""What is done every few seconds, whatever happens: expire silent episodes, remember releases, set the gauges."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from remediator.core.playbook import PlaybookIndex
from remediator.core.snapshot import Policy
from remediator.core.target import Workload
from remediator.ports import Clock, Ledger, PortError, Standing, Store, StoreUnavailable
from remediator.telemetry import Telemetry

EVERY_SECONDS = 15.0

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
    ) -> None:
        self._store = store
        self._inventories = inventories
        self._playbooks = playbooks
        self._policy = policy
        self._clock = clock
        self._tell = telemetry

    async def run(self) -> None:
        """Keep house until cancelled. Platforms that do not answer hold up nothing but their own inventory."""
        while True:
            with suppress(StoreUnavailable):
                await self.tidy()
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
