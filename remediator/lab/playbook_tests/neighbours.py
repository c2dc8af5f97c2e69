"""The neighbours of a case, as its script has them: platforms, data services, Alertmanager and Prometheus."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from remediator.core.alert import Alert, AlertStatus
from remediator.core.snapshot import Corroboration, Listing
from remediator.core.step import Check, Diagnosis, Exec, Rollback, Step
from remediator.core.target import Health, Instance, Selection, Workload
from remediator.core.verdict import Reason
from remediator.extensions.installed import diagnoses, installed
from remediator.lab.playbook_tests.case import Alertmanager, Outcome, Presence, Prometheus, StepScript
from remediator.lab.playbook_tests.script import OF_A_STORM, Fault, Script, kind_of
from remediator.ports import (
    Everything,
    Evidence,
    Facts,
    Happened,
    ListedAlert,
    Observation,
    OutcomeUnknown,
    PermanentError,
    Probe,
    Reading,
    TransientError,
)
from remediator.world import World

PLATFORM = "docker"
SCRAPE_TARGETS = 100
UP_FOR = timedelta(days=1)
"""How long Alertmanager has been up when the case begins: long enough to be believed."""
SERVICES = ("postgres", "redis", "http", "tcp", "prometheus")
_OWNERS = {"database": "postgres", "cache": "redis"}
"""Who finds what a selection names; everything else is the platform's."""


def alertmanager(script: Script) -> "ScriptedAlertmanager | None":
    """None where none is configured."""
    return None if script.world.alertmanager is Alertmanager.OFF else ScriptedAlertmanager(script)


def neighbours(script: Script, alerts: "ScriptedAlertmanager | None", *, may_act: bool) -> World:
    """What remediator asks and, where it may, acts on."""
    added = [each.name for each in installed().added]
    platforms = {name: ScriptedPlatform(name, script) for name in (PLATFORM, *SERVICES, *added)}
    writing = platforms if may_act else {}
    return World(
        platforms,
        writing,
        writing,
        alerts,
        None if script.world.prometheus is Prometheus.OFF else ScriptedPrometheus(script),
    )


@dataclass(slots=True)
class ScriptedPlatform:
    """Implements `ports.Platform`, `ports.Actuator` and `ports.Executor`, for a platform or a data service."""

    name: str
    script: Script

    async def find(self, selection: Selection) -> Sequence[Workload]:
        kind = kind_of(selection)
        if self.name != _OWNERS.get(kind, PLATFORM):
            return ()
        world, wanted = self.script.world, selection.fields[kind]
        if world.target is Presence.UNREACHABLE:
            raise TransientError(f"{self.name} cannot be reached")
        if world.target is Presence.ABSENT or wanted.startswith(OF_A_STORM):
            return ()
        found = self._workload(kind, wanted)
        return (found, replace(found, name=f"{wanted}-too")) if world.target is Presence.SEVERAL else (found,)

    def _workload(self, kind: str, name: str) -> Workload:
        world = self.script.world
        allow = self.script.allow_all if world.allow is None else world.allow
        protected = "is remediator itself" if world.target is Presence.PROTECTED else ""
        release = self.script.release if self.name == PLATFORM else ""
        found = Workload(self.name, kind, name, name, allow, (), release, protected)
        count = world.instances if self.name == PLATFORM else 1
        healthy = count if self.script.well(found) else world.healthy
        instances = [
            Instance(f"{name}-{number}", f"{name}-{number}", Health.HEALTHY if number <= healthy else Health.UNHEALTHY)
            for number in range(1, count + 1)
        ]
        return replace(found, instances=tuple(instances))

    async def diagnose(self, diagnosis: Diagnosis, workload: Workload) -> Evidence:
        facts = next(getattr(kind, "facts", ()) for kind in diagnoses() if kind.name == diagnosis.name)
        numbers = {fact: value for fact, value in self.script.world.numbers.items() if fact in facts}
        return Evidence(diagnosis.name, "as the case says", numbers)

    async def diagnose_exec(self, diagnosis: Exec, workload: Workload) -> Evidence:
        return await self.diagnose(diagnosis, workload)

    async def check(self, check: Check, workload: Workload) -> Reading:
        probe = self.script.world.checks.get(check.name)
        if probe is not None:
            return Reading(probe, f"{check.name}: {probe}, as the case says")
        well = self.script.well(workload)
        return Reading(Probe.HOLDS if well else Probe.FAILS, f"{check.name}: the fault {'is gone' if well else 'lasts'}")

    def describe(self, step: Step | Diagnosis, workload: Workload) -> str:
        to = f" to {step.to}" if isinstance(step, Rollback) else ""
        return f"{step.name} {workload.name}{to}"

    async def mark(self, step: Step, workload: Workload) -> Facts:
        return {"calls": self.script.calls[workload.id], "step": step.name}

    async def observe(self, step: Step, workload: Workload, mark: Facts) -> Observation:
        script = self.script.world.steps.get(step.name, StepScript())
        if script.happened is Happened.UNKNOWN:
            return Observation(Happened.UNKNOWN, "nobody can find out, as the case says")
        happened = self.script.calls[workload.id] > mark["calls"]
        return Observation(Happened.YES if happened else Happened.NO, "as the case says")

    async def perform(self, step: Step, workload: Workload, mark: Facts) -> str:
        outcome, script = self.script.next_outcome(step.name)
        await asyncio.sleep(script.takes.total_seconds())
        match outcome:
            case Outcome.NOT_SENT:
                raise TransientError("not sent, as the case says")
            case Outcome.FAILED:
                raise PermanentError("failed, as the case says")
            case Outcome.IN_DOUBT:
                if script.happened is Happened.YES:
                    self.script.carried_out(step, workload)
                raise OutcomeUnknown("in doubt, as the case says")
            case Outcome.DONE:
                self.script.carried_out(step, workload)
        return f"{step.name} done"


@dataclass(frozen=True, slots=True)
class ScriptedAlertmanager:
    """Implements `ports.AlertSource` and `ports.AlertList`."""

    script: Script

    async def look(self, labels: Mapping[str, str]) -> Listing:
        if self.script.world.alertmanager is Alertmanager.UNREACHABLE:
            raise TransientError("Alertmanager cannot be reached")
        fault = self.script.fault_of(labels)
        return Listing(firing=True) if fault is None else _listing(fault)

    async def everything(self) -> Everything:
        if self.script.world.alertmanager is Alertmanager.UNREACHABLE:
            raise TransientError("Alertmanager cannot be reached")
        firing = [(fault, fault.since) for fault in self.script.faults.values() if fault.since is not None]
        listed = [
            ListedAlert(Alert(AlertStatus.FIRING, fault.labels, {}, since, None), _listing(fault)) for fault, since in firing
        ]
        return Everything(listed, up_for=UP_FOR)


def _listing(fault: Fault) -> Listing:
    return Listing(fault.since is not None, fault.muted, Reason.SILENCED if fault.muted else Reason.CLEAR)


@dataclass(frozen=True, slots=True)
class ScriptedPrometheus:
    """Implements `ports.Witness`."""

    script: Script

    async def corroborate(self, labels: Mapping[str, str]) -> Corroboration:
        world, fault = self.script.world, self.script.fault_of(labels)
        if world.prometheus is Prometheus.UNREACHABLE:
            raise TransientError("Prometheus cannot be reached")
        fires = world.prometheus is not Prometheus.DISAGREES and (fault is None or fault.since is not None)
        return Corroboration(fires, SCRAPE_TARGETS, round(SCRAPE_TARGETS * world.scraped))
