"""Delivers the outbox: with backoff, in its own time, and never in the way of a run."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from remediator.core.redaction import redacted
from remediator.ports import (
    Announcer,
    Channel,
    Clock,
    Ledger,
    Message,
    PermanentError,
    Store,
    StoreUnavailable,
    TransientError,
)
from remediator.telemetry import Telemetry

BATCH = 20
LOOK_SECONDS = 1.0
BACKOFF_SECONDS = (2.0, 600.0)
"""The most is also the most that a recipient may ask for: nobody parks an escalation for a year."""
ATTEMPTS_MAX = 60
"""With this backoff some nine hours; then the message is dropped, loudly."""
DELIVERY_SECONDS_MAX = 30.0


class Delivery:
    """One per process; a channel without an announcer is dropped silently: nobody configured it."""

    def __init__(
        self,
        store: Store,
        announcers: Mapping[Channel, Announcer],
        jitter: Callable[[float, float], float],
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._store = store
        self._announcers = announcers
        self._jitter = jitter
        self._clock = clock
        self._tell = telemetry

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            try:
                await self.deliver_due()
            except StoreUnavailable:
                pass
            except Exception as error:
                self._tell.log.error("delivery.broke_down", error=repr(error), exc_info=True)
            await asyncio.sleep(LOOK_SECONDS)

    async def deliver_due(self) -> None:
        """Deliver what is due now, the messages of one batch at the same time."""
        due = await self._store.run(self._take)
        await asyncio.gather(*(self._deliver(message, delay) for message, delay in due))

    def _take(self, ledger: Ledger) -> Sequence[tuple[Message, timedelta]]:
        """What is due, and how long after a failure each is tried again.

        The attempts are written at once and before they are made: nobody else finds them due, and after a crash in the
        middle they are known as possible deliveries. What nobody is configured for is dropped.
        """
        now, taken = self._clock.now(), []
        for message in ledger.outbox.due(now, BATCH):
            if message.channel not in self._announcers:
                ledger.outbox.dropped(message, "not configured")
                continue
            low, high = BACKOFF_SECONDS
            delay = timedelta(seconds=min(high, low * 2.0 ** min(message.attempts, 16)) * self._jitter(0.8, 1.2))
            ledger.outbox.attempt(message, now + delay + timedelta(seconds=DELIVERY_SECONDS_MAX))
            taken.append((message, delay))
        return taken

    async def _deliver(self, message: Message, delay: timedelta) -> None:
        """Whatever goes wrong stays with this message: it is due again when its attempt has said."""
        try:
            await self._attempt(message, delay)
        except StoreUnavailable:
            pass
        except Exception as error:
            self._tell.log.error("message.broke_down", key=message.key, error=repr(error), exc_info=True)

    async def _attempt(self, message: Message, delay: timedelta) -> None:
        attempt = replace(message, attempts=message.attempts + 1)
        try:
            async with asyncio.timeout(DELIVERY_SECONDS_MAX):
                receipt = await self._announcers[message.channel].deliver(attempt)
        except PermanentError as error:
            await self._drop(attempt, str(error))
        except Exception as error:  # noqa: BLE001 - not only Transient and Timeout: an announcer's bug stays with its message
            why = redacted(str(error) or ("no answer in time" if isinstance(error, TimeoutError) else repr(error)))
            if attempt.attempts < ATTEMPTS_MAX:
                asked = _retry_after(error)
                retry_at = self._clock.now() + (timedelta(seconds=asked) if asked else delay)
                await self._store.run(lambda ledger: ledger.outbox.retry(message, retry_at))
                self._told(attempt, "retried", why)
                return
            await self._drop(attempt, why)
        else:
            await self._store.run(lambda ledger: ledger.outbox.delivered(message, receipt))
            self._told(attempt, "delivered", "")

    async def _drop(self, message: Message, why: str) -> None:
        await self._store.run(lambda ledger: ledger.outbox.dropped(message, why))
        self._told(message, "failed", why)

    def _told(self, message: Message, outcome: str, why: str) -> None:
        match message.channel:
            case Channel.ANNOTATION:
                self._tell.metrics.annotations.labels(outcome).inc()
            case Channel.ESCALATION:
                self._tell.metrics.notifications.labels(outcome).inc()
                if outcome != "retried":
                    self._tell.metrics.escalations.labels(message.payload.get("severity", "other"), outcome).inc()
        if why:
            tell = self._tell.log.error if outcome == "failed" else self._tell.log.warning
            tell("message." + outcome, key=message.key, channel=message.channel, why=why, attempts=message.attempts)
        else:
            self._tell.log.info("message.delivered", key=message.key, channel=message.channel)


def _retry_after(error: Exception) -> float | None:
    """What the recipient asked for, as far as it is reasonable. A neighbour's number may be of any size."""
    asked = error.retry_after if isinstance(error, TransientError) else None
    return None if asked is None else min(asked, BACKOFF_SECONDS[1])
