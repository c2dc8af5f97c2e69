"""Reconciliation: once a minute what is on record is compared with what Alertmanager lists.

Messages get lost, and silences send none. What fires and never reached the webhook opens an episode; what is gone closes
one; what is muted or no longer muted is put on record, and wakes the run that it is about. When a silence, an inhibition
or a maintenance window is over and the alert still fires, the run that was cancelled for it is begun anew.

Alertmanager's silence about an alert is believed only after two looks in a row, and only once it has been up for a
while: after its start it knows nothing until Prometheus has sent everything again. What it never listed (Grafana's
alerts) is none of its business. Everything is done in short transactions, so that the intake never waits for long.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from remediator.core.alert import WATCHDOG, Episode, Listed
from remediator.core.maintenance import window_over
from remediator.core.snapshot import Policy
from remediator.core.verdict import Reason
from remediator.ingress.expand import Admission, Recovery, recovery
from remediator.ingress.payload import refusal
from remediator.ports import AlertList, Everything, Ledger, ListedAlert, PortError, Store
from remediator.rounds import rounds
from remediator.telemetry import Telemetry

ALERTS_AT_ONCE = 100
"""Listed alerts in one transaction: 4 ms."""
ANSWER_SECONDS = 30.0
"""For all of Alertmanager's answers together."""
BY_ALERTMANAGER = frozenset({Reason.SILENCED, Reason.INHIBITED})
FOR_A_TIME = BY_ALERTMANAGER | {Reason.MAINTENANCE, Reason.STALE}
"""Reasons of a cancellation that end by themselves, or with what Alertmanager lists, and the alert may still fire then."""
CLOSED, TAKEN_UP = "closed", "taken_up"
"""Kinds of drift beside those of `Listed`."""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often to look, and how long Alertmanager must have been up until an alert that it does not list is over."""

    every: timedelta = timedelta(minutes=1)
    warm_up: timedelta = timedelta(minutes=5)


class Reconciliation:
    """`alerts` is None where no Alertmanager is configured: then only maintenance windows come to an end here."""

    def __init__(
        self,
        store: Store,
        alerts: AlertList | None,
        admission: Callable[[], Admission],
        policy: Callable[[], Policy],
        rhythm: Rhythm,
        wake: Callable[[], None],
        telemetry: Telemetry,
    ) -> None:
        self._store = store
        self._alerts = alerts
        self._admission = admission
        self._policy = policy
        self._rhythm = rhythm
        self._wake = wake
        self._tell = telemetry
        self._believed_at: datetime | None = None
        """When the last look began of which what was missing may be over."""
        self._reachable = True

    async def run(self) -> None:
        """Look until cancelled."""
        await rounds(self.look, self._rhythm.every.total_seconds(), self._tell.log, "reconcile.broke_down")

    async def look(self) -> None:
        """One look: compare, then take up what is no longer muted. Raises StoreUnavailable."""
        now = await self._store.run(lambda ledger: ledger.now)
        drift: Counter[str] = Counter()
        looked_at: datetime | None = None
        if self._alerts is None:
            await self._store.run(lambda ledger: ledger.episodes.unmute_all())
        elif (everything := await self._ask(self._alerts)) is not None:
            looked_at = now
            drift += await self._take_in(everything.alerts, now)
            drift += await self._close(everything, now)
        drift += await self._take_up(looked_at)
        windows = self._policy().maintenance
        in_force = sum(window.contains(now) for window in windows)
        self._tell.metrics.maintenance_windows.labels("in_force").set(in_force)
        self._tell.metrics.maintenance_windows.labels("waiting").set(len(windows) - in_force)
        if drift:
            self._tell.drifted(drift)
            self._wake()

    async def _ask(self, alerts: AlertList) -> Everything | None:
        """All that fires; None if Alertmanager does not say: nothing is concluded from that, and guards make steps wait."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                everything = await alerts.everything()
        except (PortError, TimeoutError) as error:
            if self._reachable:
                self._tell.log.warning("reconcile.failed", error=str(error) or "Alertmanager did not answer in time")
            self._reachable = False
            self._tell.metrics.neighbour_up.labels("alertmanager").set(0)
            return None
        if not self._reachable:
            self._tell.log.info("reconcile.recovered")
        self._reachable = True
        self._tell.metrics.neighbour_up.labels("alertmanager").set(1)
        return everything

    async def _take_in(self, listed: Sequence[ListedAlert], at: datetime) -> Counter[str]:
        """Put on record what is listed, and begin what no message told of."""
        kinds: Counter[str] = Counter()
        unmatched = 0
        for first in range(0, len(listed), ALERTS_AT_ONCE):
            batch = listed[first : first + ALERTS_AT_ONCE]
            admission = self._admission()

            def work(
                ledger: Ledger, batch: Sequence[ListedAlert] = batch, admission: Admission = admission
            ) -> list[tuple[Listed, bool]]:
                return [_list(ledger, one, at, admission) for one in batch if _is_taken(one)]

            done = await self._store.run(work)
            kinds.update(str(listed) for listed, _ in done if listed not in (Listed.KNOWN, Listed.LEFT_ALONE))
            unmatched += sum(not matched for _, matched in done)
        if unmatched:
            self._tell.unmatched(unmatched)
        return kinds

    async def _close(self, everything: Everything, now: datetime) -> Counter[str]:
        """End what was listed once, and neither at the last look nor at this."""
        before = self._believed_at
        believed = everything.up_for >= self._rhythm.warm_up and not everything.unreadable
        self._believed_at = now if believed else None
        if everything.unreadable:
            self._tell.log.warning("reconcile.unreadable", alerts=everything.unreadable)
        closed: Counter[str] = Counter()
        while believed and before is not None:
            since = min(before, now)  # a clock that was set back: what is listed now was listed before the last look

            def work(ledger: Ledger, since: datetime = since) -> list[Recovery]:
                return [recovery(ledger, episode, now) for episode in ledger.episodes.unlisted(since, now)]

            recoveries = await self._store.run(work)
            if not recoveries:
                break
            closed[CLOSED] += len(recoveries)
            for each in recoveries:
                self._tell.recovered(each.playbook, each.seconds, acted=each.acted)
        return closed

    async def _take_up(self, looked_at: datetime | None) -> Counter[str]:
        """Begin anew what was cancelled for something that is over. `looked_at` is None if Alertmanager did not say."""
        taken_up: Counter[str] = Counter()
        last: Episode | None = None
        while True:
            admission, policy = self._admission(), self._policy()

            def work(
                ledger: Ledger, after: Episode | None = last, admission: Admission = admission, policy: Policy = policy
            ) -> tuple[Episode | None, int]:
                page = ledger.episodes.page_of_open(after)
                free = [each for each, reason in page if self._is_free(each, reason, looked_at, policy, ledger.now)]
                for episode in free:
                    admission.admit(ledger, episode, ledger.now)
                return page[-1][0] if page else None, len(free)

            last, count = await self._store.run(work)
            if count:
                taken_up[TAKEN_UP] += count
            if last is None:
                return taken_up

    def _is_free(self, episode: Episode, reason: Reason, looked_at: datetime | None, policy: Policy, now: datetime) -> bool:
        """Whether the newest run was cancelled for something that is over now, as far as anybody can say."""
        if reason not in FOR_A_TIME or episode.muted:
            return False
        if reason is Reason.STALE or (reason in BY_ALERTMANAGER and self._alerts is not None):
            listed = looked_at is not None and episode.listed_at is not None and episode.listed_at >= looked_at
            if not listed:
                return False
        return window_over(episode.labels, policy.maintenance, now) is None


def _is_taken(one: ListedAlert) -> bool:
    """By the same rules as in the webhook."""
    return one.alert.labels.get("alertname") != WATCHDOG and refusal(one.alert.labels) is None


def _list(ledger: Ledger, one: ListedAlert, at: datetime, admission: Admission) -> tuple[Listed, bool]:
    """What it did to the episode, and False if one was opened that no playbook matches."""
    listed, episode = ledger.episodes.listed(one.alert, one.listing.muted, at)
    if listed is not Listed.OPENED or episode is None:
        return listed, True
    return listed, admission.admit(ledger, episode, at)
