"""Feature flags in a JSON file, `{"new-checkout": true}`, as a platform: remediator turns one off when it does harm."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from remediator.core.step import Check, Diagnosis, Step
from remediator.core.step_parts import Risk
from remediator.core.target import Health, Instance, Selection, Workload
from remediator.extensions import Extension, Options
from remediator.ports import Evidence, Facts, Happened, Observation, PermanentError, Probe, Reading, TransientError


@dataclass(frozen=True, slots=True)
class TurnOff:
    """Turn a feature flag off."""

    name: ClassVar[str] = "flags.turn_off"
    service: ClassVar[str] = "flags"
    risk: ClassVar[Risk] = Risk.LOW
    flag: str = field(metadata={"doc": "The flag.", "labels": "name", "positional": True})


@dataclass(frozen=True, slots=True)
class State:
    """All flags, and how many of them are on."""

    name: ClassVar[str] = "flags.state"
    service: ClassVar[str] = "flags"
    risk: ClassVar[Risk] = Risk.READ
    facts: ClassVar[tuple[str, ...]] = ("flags.state.on",)


@dataclass(frozen=True, slots=True)
class IsOff:
    """A feature flag is off."""

    name: ClassVar[str] = "flags.is_off"
    service: ClassVar[str] = "flags"
    risk: ClassVar[Risk] = Risk.READ
    flag: str = field(metadata={"doc": "The flag.", "labels": "name", "positional": True})


class FlagFile:
    """Both sides. They are given to remediator one by one: `reading` alone in mode `suggest`."""

    name = "flags"

    def __init__(self, options: Options) -> None:
        if not isinstance(options.get("file"), str) or not isinstance(options.get("service"), str):
            raise ValueError("write {file: /etc/shop/flags.json, service: shop-checkout, allow: [flags.turn_off]}")
        self._path = Path(options["file"])
        self._service = options["service"]
        self._allow = frozenset(options.get("allow", ()))

    async def find(self, selection: Selection) -> Sequence[Workload]:
        """The service whose flags these are, if it is the one that is asked for."""
        if dict(selection.fields) != {"service": self._service}:
            return ()
        instance = Instance(self._service, self._service, Health.HEALTHY)
        return (Workload("flags", "file", self._service, self._service, self._allow, (instance,)),)

    async def diagnose(self, diagnosis: Diagnosis, workload: Workload) -> Evidence:
        if not isinstance(diagnosis, State):
            raise PermanentError(f"flags have no diagnosis {diagnosis.name}")
        flags = self._read()
        return Evidence(diagnosis.name, json.dumps(flags, indent=1), {"flags.state.on": float(sum(flags.values()))})

    async def check(self, check: Check, workload: Workload) -> Reading:
        if not isinstance(check, IsOff):
            return Reading(Probe.UNKNOWN, f"flags have no check {check.name}")
        try:
            on = self._read().get(check.flag, False)
        except TransientError as error:
            return Reading(Probe.UNKNOWN, str(error))
        return Reading(Probe.FAILS if on else Probe.HOLDS, f"{check.flag} is {'on' if on else 'off'}")

    def describe(self, step: Step | Diagnosis, workload: Workload) -> str:
        return f"jq '.\"{_flag(step)}\" = false' {self._path}" if isinstance(step, TurnOff) else f"cat {self._path}"

    async def mark(self, step: Step, workload: Workload) -> Facts:
        """What `observe` compares with, after a crash or a timeout."""
        return {"was": self._read().get(_flag(step))}

    async def observe(self, step: Step, workload: Workload, mark: Facts) -> Observation:
        """It happened if the flag was on and is off now."""
        now = self._read().get(_flag(step))
        happened = Happened.YES if now is False and mark["was"] is not False else Happened.NO
        return Observation(happened, f"{_flag(step)} was {mark['was']}, is {now}")

    async def perform(self, step: Step, workload: Workload, mark: Facts) -> str:
        flags = self._read()
        if _flag(step) not in flags:
            raise PermanentError(f"there is no flag {_flag(step)} in {self._path}")
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps({**flags, _flag(step): False}))
        new.replace(self._path)
        return f"turned {_flag(step)} off"

    def _read(self) -> Mapping[str, bool]:
        try:
            flags: Mapping[str, bool] = json.loads(self._path.read_text())
        except (OSError, ValueError) as error:
            raise TransientError(f"{self._path} cannot be read: {error}") from error
        return flags


def _flag(step: Any) -> str:
    if not isinstance(step, TurnOff):
        raise PermanentError(f"flags do not offer {step.name}")
    return step.flag


@asynccontextmanager
async def opened(options: Options) -> AsyncIterator[FlagFile]:
    """What must be closed at the end (a session, a pool) is closed after `yield`; a file needs nothing."""
    yield FlagFile(options)


FLAGS = Extension("flags", reading=opened, writing=opened, steps=(TurnOff,), diagnoses=(State,), checks=(IsOff,))
