"""What is wrong in a case, and how it changes: a fault behind each firing alert, ended by a step or by itself.

The alert begins and ends with its fault, and all that checks and Prometheus see follows from that, unless the case says
otherwise. Alertmanager tells of it as it does in life: at once, and every four hours while nothing changes.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from remediator.core.matching import all_match
from remediator.core.playbook import Playbook
from remediator.core.step import Exec, Rollback, Step
from remediator.core.target import Selection, Workload
from remediator.lab.playbook_tests.case import THE_ALERT, Outcome, StepScript, World
from remediator.ports import Clock

REPEAT = timedelta(hours=4)
"""Alertmanager's default `repeat_interval`."""
OF_A_STORM = "storm-"
"""What the services of a storm's alerts are called; none of them is found on any platform."""

Post = Callable[[bytes], Awaitable[None]]


@dataclass(slots=True)
class Fault:
    """What is behind one alert. `names` are what its playbook selects; `since` is None while it does not fire."""

    labels: Mapping[str, str]
    names: frozenset[str]
    ill: bool = False
    since: datetime | None = None
    muted: str = ""


class Script:
    """The state of the scripted world, and how it changes."""

    def __init__(
        self, world: World, alerts: Mapping[str, Mapping[str, str]], playbook: Playbook, clock: Clock, post: Post
    ) -> None:
        self.world = world
        self.faults = {name: Fault(labels, _names(playbook, labels)) for name, labels in alerts.items()}
        self.release = max(world.releases, key=lambda name: -world.releases[name], default="")
        self.allow_all = frozenset({rung.step.name for rung in playbook.ladder} | {Exec.name})
        self.calls: Counter[str] = Counter()
        """Calls that happened, by workload."""
        self._outcomes: Counter[str] = Counter()
        self._clock = clock
        self._post = post
        self._under_way: set[asyncio.Task[None]] = set()
        self.to_come = 0
        """Ends and returns of faults that are still to come."""

    # --- what happens -------------------------------------------------------------------------------------------------

    async def fire(self, name: str) -> None:
        """The fault begins, and its alert; or Alertmanager repeats itself."""
        fault = self.faults[name]
        fault.ill = True
        if fault.since is None:
            fault.since = self._clock.now()
            asyncio.get_running_loop().call_later(REPEAT.total_seconds(), self._repeat, fault, fault.since)
        await self._notify(fault, "firing")

    async def resolve(self, name: str) -> None:
        """The fault ends, and its alert."""
        fault = self.faults[name]
        fault.ill = False
        if fault.since is not None:
            since, fault.since = fault.since, None
            await self._notify(replace(fault, since=since), "resolved")

    async def silence(self, name: str) -> None:
        self.faults[name].muted = "silenced in Alertmanager, by a person"

    async def unsilence(self, name: str) -> None:
        """Alertmanager notifies anew, at its next look."""
        fault = self.faults[name]
        fault.muted = ""
        if fault.since is not None:
            await self._notify(fault, "firing")

    async def storm(self, count: int) -> None:
        """One message of alerts of the case's playbook about `count` services that nobody knows."""
        labels = self.faults[THE_ALERT].labels
        names = [f"{OF_A_STORM}{number}" for number in range(count)]
        alerts = [_alert({**labels, "service": name, "database": name}, "firing", self._clock.now(), None) for name in names]
        await self._post(_message(alerts))

    async def watchdog(self) -> None:
        await self._post(_message([_alert({"alertname": "Watchdog"}, "firing", self._clock.now(), None)]))

    def change(self, fields: Mapping[str, Any]) -> None:
        self.world = replace(self.world, **fields)

    # --- what steps do ------------------------------------------------------------------------------------------------

    def next_outcome(self, step: str) -> tuple[Outcome, StepScript]:
        script = self.world.steps.get(step, StepScript())
        number = self._outcomes[step]
        self._outcomes[step] += 1
        return script.outcome[min(number, len(script.outcome) - 1)], script

    def carried_out(self, step: Step, workload: Workload) -> None:
        """The step has happened: it may be the cure of what is wrong there."""
        self.calls[workload.id] += 1
        if isinstance(step, Rollback):
            self.release = step.to
        if step.name in self.world.cured_by:
            for name in self._ill_at(workload):
                self._later(self.world.cures_after, self._cure, name)

    async def _cure(self, name: str) -> None:
        fault = self.faults[name]
        fault.ill = False
        if self.world.resolves_after:
            self._later(self.world.resolves_after, self.resolve, name)
        else:
            await self.resolve(name)
        if self.world.lasts is not None:
            self._later(self.world.lasts, self.fire, name)

    def _later(self, delay: timedelta, what: Callable[[str], Awaitable[None]], name: str) -> None:
        async def wait() -> None:
            await asyncio.sleep(delay.total_seconds())
            await what(name)
            self.to_come -= 1

        self.to_come += 1
        self._begin(wait())

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    # --- what is seen -------------------------------------------------------------------------------------------------

    def well(self, workload: Workload) -> bool:
        return not self._ill_at(workload)

    def _ill_at(self, workload: Workload) -> list[str]:
        return [name for name, fault in self.faults.items() if fault.ill and workload.service in fault.names]

    def fault_of(self, labels: Mapping[str, str]) -> Fault | None:
        return next((fault for fault in self.faults.values() if fault.labels == labels), None)

    def _repeat(self, fault: Fault, since: datetime) -> None:
        if fault.since == since:
            self._begin(self._notify(fault, "firing"))
            asyncio.get_running_loop().call_later(REPEAT.total_seconds(), self._repeat, fault, since)

    async def _notify(self, fault: Fault, status: str) -> None:
        """What is muted notifies nobody, not even of its end."""
        if fault.muted or fault.since is None:
            return
        ends_at = self._clock.now() if status == "resolved" else None
        await self._post(_message([_alert(fault.labels, status, fault.since, ends_at)]))


def kind_of(selection: Selection) -> str:
    """The field by which a selection names its target."""
    narrowing = ("project", "namespace")
    return next((name for name in selection.fields if name not in narrowing), next(iter(selection.fields)))


def _names(playbook: Playbook, labels: Mapping[str, str]) -> frozenset[str]:
    """What the playbook selects for an alert with these labels, its rungs' own targets included; nothing for other alerts."""
    if not all_match(playbook.matchers, labels):
        return frozenset()
    selectors = [playbook.target, *(rung.target for rung in playbook.ladder if rung.target)]
    bound = [selector.bind(labels) for selector in selectors]
    return frozenset(each.fields[kind_of(each)] for each in bound if isinstance(each, Selection))


def _alert(labels: Mapping[str, str], status: str, since: datetime, ends_at: datetime | None) -> dict[str, Any]:
    """As Alertmanager writes it."""
    return {
        "status": status,
        "labels": dict(labels),
        "annotations": {},
        "startsAt": since.isoformat(),
        "endsAt": ends_at.isoformat() if ends_at else "0001-01-01T00:00:00Z",
        "generatorURL": "",
        "fingerprint": "",
    }


def _message(alerts: Sequence[Mapping[str, Any]]) -> bytes:
    return json.dumps({"version": "4", "status": "firing", "alerts": alerts}).encode()
