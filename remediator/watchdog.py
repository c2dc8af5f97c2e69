"""The dead man's switch: an alert that always fires must go on arriving, or nobody can know that the others would.

Guards read the same fact from the store, and nothing is automatic while it is missing. Here people are told, once when it
goes missing and once when it is back, whatever is restarted in between: what was told last is kept with the heartbeats.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from remediator.announcements import watchdog_notice
from remediator.core.alert import WATCHDOG
from remediator.core.modes import watchdog_missing
from remediator.core.snapshot import Policy
from remediator.ports import Ledger, Message, Store
from remediator.rounds import rounds
from remediator.telemetry import Telemetry

EVERY_SECONDS = 5.0
ALARM, ALL_CLEAR = "Watchdog alarm", "Watchdog all-clear"
"""Heartbeats of our own: when people were last told that it is missing, and that it is back."""
TICK = timedelta(microseconds=1)


class DeadMansSwitch:
    """`silent` says why nothing is automatic, or is empty."""

    def __init__(self, store: Store, policy: Callable[[], Policy], telemetry: Telemetry) -> None:
        self._store = store
        self._policy = policy
        self._tell = telemetry
        self._listening_since: datetime | None = None
        self.silent = ""

    async def run(self) -> None:
        """Look until cancelled. While the store cannot be asked, the last answer stands."""
        await rounds(self.look, EVERY_SECONDS, self._tell.log, "watchdog.broke_down")

    async def look(self) -> None:
        """Set the gauges, and raise or end the alarm. Raises StoreUnavailable."""
        policy = self._policy()

        def work(ledger: Ledger) -> tuple[datetime, datetime | None, Message | None]:
            ledger.heartbeats.look_alone()
            heard_at = ledger.heartbeats.heard_at(WATCHDOG)
            return ledger.now, heard_at, self._alarm(ledger, heard_at, policy)

        now, heard_at, told = await self._store.run(work)
        self._listening_since = self._listening_since or now
        self.silent = watchdog_missing(heard_at, policy, now)
        self._tell.metrics.watchdog_missing.set(bool(self.silent))
        self._tell.metrics.watchdog_seen_at.set(heard_at.timestamp() if heard_at else 0)
        if told is not None:
            self._tell.log.warning("watchdog.missing" if self.silent else "watchdog.back", summary=told.payload["summary"])
            self._tell.raised("critical")

    def _alarm(self, ledger: Ledger, heard_at: datetime | None, policy: Policy) -> Message | None:
        """Put the message into the outbox that people have not had yet; None: they know."""
        now, silent = ledger.now, watchdog_missing(heard_at, policy, ledger.now)
        alarm_at, clear_at = ledger.heartbeats.heard_at(ALARM), ledger.heartbeats.heard_at(ALL_CLEAR)
        is_raised = alarm_at is not None and (clear_at is None or clear_at < alarm_at)
        if bool(silent) is is_raised or (silent and self._is_too_early(now, policy)):
            return None
        # Never before the other, whatever the clock does: it is by their order that they are read.
        at = max(now, (alarm_at if is_raised else clear_at) or now) + TICK
        ledger.heartbeats.beat(ALL_CLEAR if is_raised else ALARM, at)
        raised_at = alarm_at if is_raised and alarm_at else at
        message = watchdog_notice(silent, raised_at, heard_at)
        ledger.outbox.put(message, now)
        return message

    def _is_too_early(self, now: datetime, policy: Policy) -> bool:
        """A process that has just begun to listen has missed what was sent while nobody did."""
        began_at = self._listening_since or now
        return policy.watchdog_within is not None and abs(now - began_at) < policy.watchdog_within
