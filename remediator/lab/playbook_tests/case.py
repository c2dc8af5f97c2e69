"""A case: what is the case, what happens when, and what should come of it. Times count from its start."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from remediator.core.dependencies import Dependencies
from remediator.core.maintenance import Window
from remediator.core.playbook import Playbook
from remediator.core.snapshot import Score
from remediator.ports import Happened, Probe
from remediator.settings import Settings

THE_ALERT = ""
"""The name of the alert that a case is about. Every other one has a name that its file gives it."""
BEGINS_AT = "2026-01-05T12:00:00Z"
"""A Monday at noon. Only planned maintenance cares."""


class Outcome(StrEnum):
    """What becomes of a call."""

    DONE = "done"
    FAILED = "failed"
    IN_DOUBT = "in_doubt"
    NOT_SENT = "not_sent"


class Presence(StrEnum):
    """What a playbook's selection finds."""

    PRESENT = "present"
    ABSENT = "absent"
    PROTECTED = "protected"
    SEVERAL = "several"
    UNREACHABLE = "unreachable"
    """The platform cannot be asked."""


class Alertmanager(StrEnum):
    ON = "on"
    OFF = "off"
    """Not configured."""
    UNREACHABLE = "unreachable"


class Prometheus(StrEnum):
    ON = "on"
    OFF = "off"
    UNREACHABLE = "unreachable"
    DISAGREES = "disagrees"
    """It answers that the alert does not fire."""


@dataclass(frozen=True, slots=True)
class StepScript:
    """What comes of a step: one outcome for each call in turn, the last one for all further calls."""

    outcome: tuple[Outcome, ...] = (Outcome.DONE,)
    takes: timedelta = timedelta()
    happened: Happened = Happened.YES
    """For a call in doubt: whether it happened, or that nobody can find out."""


@dataclass(frozen=True, slots=True)
class World:
    """What is the case round remediator. Everything in it may change while the case runs."""

    target: Presence = Presence.PRESENT
    allow: frozenset[str] | None = None
    """Steps that the targets opted in to; None: every step of the playbook."""
    instances: int = 1
    healthy: int = 0
    """Instances that stay healthy while the fault lasts."""
    releases: Mapping[str, timedelta] = field(default_factory=dict)
    """What the targets ran, and how long before the start each release came; the last to come is what they run."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """What diagnoses find."""
    checks: Mapping[str, Probe] = field(default_factory=dict)
    """What checks see, whatever else is the case. All others hold once the fault is gone."""
    cured_by: frozenset[str] = frozenset()
    """Steps after which the fault is gone."""
    cures_after: timedelta = timedelta()
    """From the end of the step to the end of the fault."""
    resolves_after: timedelta = timedelta()
    """From the end of the fault to the end of its alert."""
    lasts: timedelta | None = None
    """How long after its end the fault is back; None: it does not come back."""
    steps: Mapping[str, StepScript] = field(default_factory=dict)
    alertmanager: Alertmanager = Alertmanager.ON
    prometheus: Prometheus = Prometheus.ON
    scraped: float = 1.0
    """Share of Prometheus's targets that answer, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Repair:
    """A run of one step that was over before the case begins, on the target of the alert named `alert`."""

    ago: timedelta
    step: str
    result: Score
    alert: str = THE_ALERT


class Verb(StrEnum):
    """What may happen in a case."""

    FIRE = "fire"
    RESOLVE = "resolve"
    SILENCE = "silence"
    UNSILENCE = "unsilence"
    APPROVE = "approve"
    REJECT = "reject"
    RESET = "reset"
    """Of every breaker that is not closed."""
    PAUSE = "pause"
    RESUME = "resume"
    STORM = "storm"
    WATCHDOG = "watchdog"


@dataclass(frozen=True, slots=True)
class Deed:
    """One thing that happens: to the alert `alert`, done by the person `by`, in `count` places."""

    verb: Verb
    alert: str = THE_ALERT
    by: str = ""
    count: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """From now on the world is otherwise: the fields of `World` that change. Sent as data, so that a case stays a value."""

    fields: Mapping[str, object]

    @property
    def text(self) -> str:
        return "now " + ", ".join(self.fields)


Event = Deed | Change


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a story. `at` in whole seconds; `seen` says why, and is not compared."""

    at: timedelta
    text: str
    seen: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Case:
    """One case of one playbook. `alerts` are labels by name; `place` is the file and line where it begins."""

    name: str
    place: str
    playbook: Playbook
    settings: Settings
    begins_at: datetime
    alerts: Mapping[str, Mapping[str, str]]
    maintenance: tuple[Window, ...]
    dependencies: Dependencies
    history: tuple[Repair, ...]
    world: World
    events: tuple[tuple[timedelta, Event], ...]
    expected: tuple[Line, ...]
    until: timedelta | None = None
