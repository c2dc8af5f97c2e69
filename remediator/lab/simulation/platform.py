"""The simulated platform: services that fall ill and are cured, and calls that hang, fail, lie or happen anyway later.

What is done is done by the world outside: a call that was sent happens whether its caller still lives or not. Every call
and every effect is reported at its moment; what promises are checked against is this record, not what remediator wrote.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from remediator.clock import Random
from remediator.core.step import Check, Diagnosis, Exec, Rollback, Step
from remediator.core.target import Health, Instance, Selection, Workload
from remediator.lab.simulation.scheduler import Scheduler
from remediator.lab.simulation.weather import Weather
from remediator.ports import (
    Evidence,
    Facts,
    Happened,
    Observation,
    OutcomeUnknown,
    PermanentError,
    Probe,
    Reading,
    TransientError,
)
from remediator.record import CALL_GRACE

LATEST_SECONDS = CALL_GRACE.total_seconds()
"""How long after a call's own timeout it may still happen: as long as remediator would wait for its answer."""
HANG_SECONDS = 300.0
SLOW_SECONDS = 3.0
WAITS_SECONDS = 2.0
"""For a free thread of the client, at most."""


@dataclass(eq=False, slots=True)
class Service:
    """One workload as it truly is."""

    name: str
    instances: int = 1
    cures: frozenset[str] = frozenset()
    """Names of the steps that help against its illness."""
    protected: str = ""
    ill: int = 0
    """So many of its instances."""
    starts: int = 0
    release: int = 2
    in_flight: int = 0

    def workload(self, number: int = 0) -> Workload:
        instances = tuple(
            Instance(f"{self.name}{each}", f"{self.name}-{each}", Health.STOPPED if each < self.ill else Health.HEALTHY)
            for each in range(self.instances)
        )
        allow = frozenset({"restart", "rollback", "exec", "redis.flush"})
        name = f"{self.name}-{number}" if number else self.name
        return Workload("docker", "service", name, self.name, allow, instances, f"release-{self.release}", self.protected)


@dataclass(frozen=True, slots=True)
class Call:
    """A call as it reached the platform. `task` is the name of the task that made it."""

    number: int
    task: str
    step: Step
    workload: Workload


class Record(Protocol):
    """Whoever keeps the record."""

    def called(self, call: Call) -> None: ...

    def delayed(self, seconds: float) -> None: ...

    def happened(self, call: Call) -> None: ...


@dataclass(eq=False)
class SimulatedPlatform:
    """Implements `ports.Platform` and `ports.Actuator`, as one process sees them; all processes see the same services."""

    services: dict[str, Service]
    scheduler: Scheduler
    random: Random
    record: Record
    weather: Callable[[], Weather]
    hits: dict[str, int]
    may_send: Callable[[], bool]
    """Asked when a call has waited for its turn, immediately before it is sent."""
    name: str = "docker"
    calls: int = 0
    found: dict[str, Workload] = field(default_factory=dict)
    """By name of the service: what this process was told last."""

    # --- reading ------------------------------------------------------------------------------------------------------

    async def find(self, selection: Selection) -> Sequence[Workload]:
        await self._read()
        service = self.services.get(selection.fields.get("service", ""))
        if service is None:
            return []
        self.found[service.name] = service.workload()
        return [service.workload(number) for number in range(2 if service.name == "twins" else 1)]

    async def diagnose(self, diagnosis: Diagnosis, workload: Workload) -> Evidence:
        await self._read()
        return Evidence(diagnosis.name, "as it is", {"stats.memory_ratio": 0.5})

    async def check(self, check: Check, workload: Workload) -> Reading:
        try:
            await self._read()
        except TransientError as error:
            return Reading(Probe.UNKNOWN, str(error))
        lies = self._comes("check_lies")
        healthy = (self.services[workload.service].ill == 0) is not lies
        return Reading(Probe.HOLDS if healthy else Probe.FAILS, "healthy" if healthy else "not healthy")

    def describe(self, step: Step | Diagnosis, workload: Workload) -> str:
        return f"{step.name} {workload.name}"

    async def mark(self, step: Step, workload: Workload) -> Facts:
        await self._read()
        return {"starts": self.services[workload.service].starts}

    async def observe(self, step: Step, workload: Workload, mark: Facts) -> Observation:
        await self._read()
        if isinstance(step, Exec):
            return Observation(Happened.UNKNOWN, "a command leaves no trace")
        starts = self.services[workload.service].starts
        return Observation(Happened.YES if starts > mark["starts"] else Happened.NO, f"started {starts} times")

    async def _read(self) -> None:
        if self._comes("read_slow"):
            await asyncio.sleep(self.random.uniform(0.0, SLOW_SECONDS))
        if self._comes("read_hangs"):
            await asyncio.sleep(HANG_SECONDS)
        if self._comes("read_fails"):
            raise TransientError("the platform cannot be reached")

    # --- writing ------------------------------------------------------------------------------------------------------

    async def perform(self, step: Step, workload: Workload, mark: Facts) -> str:
        if self._comes("call_not_sent"):
            raise TransientError("no connection")
        if self._comes("call_waits"):
            await asyncio.sleep(self.random.uniform(0.0, WAITS_SECONDS))
        if not self.may_send():
            raise TransientError("not sent: it had waited for too long")
        self.calls += 1
        task = asyncio.current_task()
        call = Call(self.calls, task.get_name() if task else "", step, workload)
        answer: asyncio.Future[Exception | None] = self.scheduler.create_future()
        self.record.called(call)
        self.scheduler.spawn(None, self._carry_out(call, answer), f"call {call.number}")
        if error := await answer:
            raise error
        return f"{step.name} done"

    async def _carry_out(self, call: Call, answer: "asyncio.Future[Exception | None]") -> None:
        """In the world outside. Whoever waits for the answer may be gone by then."""
        service = self.services[call.workload.service]
        timeout = getattr(call.step, "timeout", timedelta()).total_seconds()
        service.in_flight += 1
        error: Exception | None = None
        if self._comes("call_fails"):
            error = PermanentError("the engine refused")
            happens = self.random.random() < 0.3
        else:
            happens = True
        if self._comes("call_slow"):
            await asyncio.sleep(self.random.uniform(0.0, min(timeout, SLOW_SECONDS)))
        late = self._comes("call_happens_late")
        if error is None and (late or self._comes("call_without_answer")):
            if self.random.random() < 0.5:
                _settle(answer, OutcomeUnknown("the connection broke"))
            if late:
                seconds = self.random.uniform(0.0, LATEST_SECONDS)
                self.record.delayed(seconds)
                await asyncio.sleep(seconds)
            happens = late or self.random.random() < 0.5
        else:
            self.scheduler.call_later(0.0, _settle, answer, error)
        if happens:
            self._take_effect(call, service)
        service.in_flight -= 1

    def _take_effect(self, call: Call, service: Service) -> None:
        self.record.happened(call)
        service.starts += 1
        if isinstance(call.step, Rollback):
            service.release -= 1
        if call.step.name in service.cures:
            service.ill = 0

    def _comes(self, trouble: str) -> bool:
        chance = getattr(self.weather(), trouble)
        if not chance or self.random.random() >= chance:
            return False
        self.hits[trouble] = self.hits.get(trouble, 0) + 1
        return True


def _settle(answer: "asyncio.Future[Exception | None]", error: Exception | None) -> None:
    if not answer.done():
        answer.set_result(error)
