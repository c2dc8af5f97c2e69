"""A pair of simulated Alertmanagers and the Prometheus behind them: they repeat, delay, reorder, lose and forget.

Each sends its group every few seconds: what is new, what has ended, and what was not said for a while. A message is tried
again until it is answered 2xx. `resolved` is lost when its sender was restarted or never says it.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from weakref import WeakKeyDictionary

from remediator.clock import Random
from remediator.core.alert import Alert, AlertStatus, episode_key
from remediator.core.snapshot import Corroboration, Listing
from remediator.core.verdict import Reason
from remediator.lab.simulation.scheduler import Scheduler, Work
from remediator.lab.simulation.weather import Weather
from remediator.ports import Everything, ListedAlert, TransientError

GROUP_SECONDS = (4.0, 8.0)
REPEAT_SECONDS = 45.0
ATTEMPTS = 6
LATE_SECONDS = (3.0, 40.0)
TARGETS = 10
LONG_AGO = -3600.0
FORGETFUL_SECONDS = 45.0
"""After its start, until Prometheus has sent everything again."""
HANG_SECONDS = 60.0
HANGS = 0.2
"""Share of failures that are no answer at all."""


@dataclass(eq=False, slots=True)
class Firing:
    """One alert as Prometheus has it: firing from `starts_at`, until `ends_at` is known."""

    labels: Mapping[str, str]
    starts_at: datetime
    ends_at: datetime | None = None

    @property
    def key(self) -> str:
        return episode_key(self.labels)

    def as_alert(self) -> Alert:
        """As Alertmanager lists it."""
        return Alert(AlertStatus.FIRING, self.labels, {}, self.starts_at, None)

    def as_json(self) -> dict[str, object]:
        return {
            "status": "resolved" if self.ends_at else "firing",
            "labels": dict(self.labels),
            "annotations": {},
            "startsAt": self.starts_at.isoformat(),
            "endsAt": self.ends_at.isoformat() if self.ends_at else "0001-01-01T00:00:00Z",
        }


@dataclass(eq=False, slots=True)
class Prometheus:
    """What truly fires now."""

    firing: dict[str, Firing] = field(default_factory=dict)
    silenced: dict[str, None] = field(default_factory=dict)
    """Keys of the alerts that a person has silenced in Alertmanager."""
    up: float = 1.0
    """Share of its targets that answer."""
    alertmanager_began_at: float = LONG_AGO
    """The start of the Alertmanager that is asked for its list, in seconds of the loop."""

    def fire(self, labels: Mapping[str, str], at: datetime) -> None:
        alert = Firing(labels, at)
        self.firing.setdefault(alert.key, alert)

    def end(self, key: str, at: datetime) -> None:
        if alert := self.firing.pop(key, None):
            alert.ends_at = at


Send = Callable[[bytes], Awaitable[int]]
"""To some replica; the HTTP status, or 0 when nobody answered."""


def message(group: Sequence[Firing]) -> bytes:
    """As Alertmanager writes it."""
    return json.dumps({"version": "4", "status": "firing", "alerts": [alert.as_json() for alert in group]}).encode()


@dataclass(eq=False)
class SimulatedAlertmanager:
    """One of the pair."""

    prometheus: Prometheus
    send: Send
    random: Random
    weather: Callable[[], Weather]
    said: dict[str, tuple[Firing, float]] = field(default_factory=dict)
    """What it has said to be firing, and when it said so last."""
    sending: set["asyncio.Task[None]"] = field(default_factory=set)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.random.uniform(*GROUP_SECONDS))
            if self._comes(self.weather().alertmanager_restarts / 10):
                self.said.clear()
                self.prometheus.alertmanager_began_at = loop.time()
            if group := self._group(loop.time()):
                task = loop.create_task(self._deliver(group))
                self.sending.add(task)
                task.add_done_callback(self.sending.discard)

    def _group(self, at: float) -> Sequence[Firing]:
        """What is to be said now."""
        group: list[Firing] = []
        for key, alert in self.prometheus.firing.items():
            if key in self.prometheus.silenced:
                continue
            if key not in self.said or at - self.said[key][1] >= REPEAT_SECONDS:
                self.said[key] = alert, at
                group.append(alert)
        for key, (alert, _) in list(self.said.items()):
            if alert.ends_at is not None and key not in self.prometheus.firing:
                del self.said[key]
                if not self._comes(self.weather().resolve_lost):
                    group.append(alert)
        return group

    async def _deliver(self, group: Sequence[Firing]) -> None:
        body = message(group)
        if self._comes(self.weather().message_late):
            await asyncio.sleep(self.random.uniform(*LATE_SECONDS))
        for attempt in range(ATTEMPTS):
            if not self._comes(self.weather().message_lost):
                status = await self.send(body)
                if status == 200 and not self._comes(self.weather().answer_lost):
                    return
            await asyncio.sleep(2.0**attempt * self.random.uniform(0.2, 0.5))

    def _comes(self, chance: float) -> bool:
        return bool(chance) and self.random.random() < chance


@dataclass(eq=False)
class Answers:
    """Implements `ports.AlertSource`, `AlertList` and `Witness` for one process, and remembers what it was told last."""

    prometheus: Prometheus
    scheduler: Scheduler
    random: Random
    weather: Callable[[], Weather]
    listing: WeakKeyDictionary[Work, Listing | None] = field(default_factory=WeakKeyDictionary)
    corroboration: WeakKeyDictionary[Work, Corroboration | None] = field(default_factory=WeakKeyDictionary)

    def told(self) -> tuple[Listing | None, Corroboration | None]:
        """What this work was answered last; None: no answer could be given."""
        work = self.scheduler.work()
        return self.listing.get(work), self.corroboration.get(work)

    async def look(self, labels: Mapping[str, str]) -> Listing:
        key = episode_key(labels)
        asker = self.scheduler.work()
        self.listing[asker] = None
        await self._reach("Alertmanager")
        self.listing[asker] = answer = self._listing(key)
        return answer

    async def everything(self) -> Everything:
        await self._reach("Alertmanager")
        up_for = self.scheduler.time() - self.prometheus.alertmanager_began_at
        firing = list(self.prometheus.firing.items()) if up_for > FORGETFUL_SECONDS else []
        alerts = [ListedAlert(alert.as_alert(), self._listing(key)) for key, alert in firing]
        return Everything(alerts, timedelta(seconds=up_for))

    def _listing(self, key: str) -> Listing:
        if key in self.prometheus.silenced:
            return Listing(True, "silenced by ann", Reason.SILENCED)
        return Listing(key in self.prometheus.firing)

    async def corroborate(self, labels: Mapping[str, str]) -> Corroboration:
        key = episode_key(labels)
        asker = self.scheduler.work()
        self.corroboration[asker] = None
        await self._reach("Prometheus")
        self.corroboration[asker] = answer = Corroboration(
            key in self.prometheus.firing, TARGETS, round(TARGETS * self.prometheus.up)
        )
        return answer

    async def _reach(self, who: str) -> None:
        if self._comes(self.weather().neighbour_unreachable):
            if self.random.random() < HANGS:
                await asyncio.sleep(HANG_SECONDS)
            raise TransientError(f"{who} cannot be reached")

    def _comes(self, chance: float) -> bool:
        return bool(chance) and self.random.random() < chance
