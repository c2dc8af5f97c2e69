"""Both sides of an extension, so that what is wrong with it stays with it: its bugs become errors of ports that name it.

Without this, one bug in `find` would break every run, since every platform is asked where a target is.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from remediator.core.step import Check, Diagnosis, Step
from remediator.core.target import Selection, Workload
from remediator.extensions.installed import Added
from remediator.ports import (
    Actuator,
    Evidence,
    Facts,
    Observation,
    OutcomeUnknown,
    PermanentError,
    Platform,
    PortError,
    Probe,
    Reading,
    TransientError,
)

FIND_SECONDS = 10.0
"""Less than everybody together has, so that it is known who did not answer."""


class ContainedPlatform:
    """Implements `ports.Platform`."""

    def __init__(self, added: Added, platform: Platform) -> None:
        self.name = added.name
        self._added = added
        self._platform = platform

    async def find(self, selection: Selection) -> Sequence[Workload]:
        """Its own workloads, and nobody else's."""
        with _contained(self._added, PermanentError):
            try:
                async with asyncio.timeout(FIND_SECONDS):
                    found = tuple(await self._platform.find(selection))
            except TimeoutError as error:
                raise TransientError(f"{_who(self._added)} did not answer within {FIND_SECONDS:g} s") from error
            for workload in found:
                if workload.platform != self.name:
                    raise ValueError(f"it found {workload.id}, which is not its own")
            return found

    async def diagnose(self, diagnosis: Diagnosis, workload: Workload) -> Evidence:
        with _contained(self._added, PermanentError):
            return await self._platform.diagnose(diagnosis, workload)

    async def check(self, check: Check, workload: Workload) -> Reading:
        try:
            with _contained(self._added, PermanentError):
                return await self._platform.check(check, workload)
        except PermanentError as error:
            return Reading(Probe.UNKNOWN, str(error))

    def describe(self, step: Step | Diagnosis, workload: Workload) -> str:
        with _contained(self._added, PermanentError):
            return self._platform.describe(step, workload)

    async def mark(self, step: Step, workload: Workload) -> Facts:
        with _contained(self._added, PermanentError):
            return await self._platform.mark(step, workload)

    async def observe(self, step: Step, workload: Workload, mark: Facts) -> Observation:
        with _contained(self._added, PermanentError):
            return await self._platform.observe(step, workload, mark)


class ContainedActuator:
    """Implements `ports.Actuator`. `may_send` is asked right before the step is handed over."""

    def __init__(self, added: Added, actuator: Actuator, may_send: Callable[[], bool]) -> None:
        self._added = added
        self._actuator = actuator
        self._may_send = may_send

    async def perform(self, step: Step, workload: Workload, mark: Facts) -> str:
        """A bug may have shown before or after it was done: only observation can tell."""
        if not self._may_send():
            raise TransientError(f"{step.name} was not sent: this process slept beyond its lease")
        with _contained(self._added, OutcomeUnknown):
            return await self._actuator.perform(step, workload, mark)


@contextmanager
def _contained(added: Added, family: type[PortError]) -> Iterator[None]:
    try:
        yield
    except (PortError, TimeoutError):
        raise
    except Exception as error:
        raise family(f"{_who(added)} broke down: {type(error).__name__}: {error}") from error


def _who(added: Added) -> str:
    return f"extension {added.name} ({added.package})"
