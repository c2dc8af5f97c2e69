"""Everything that a guard may see. Each fact is known or Unknown: `None` never means "could not ask"."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256

from remediator.core.alert import SERVICE, Episode
from remediator.core.dependencies import Dependencies
from remediator.core.maintenance import Window
from remediator.core.playbook import Limits, Mode, Playbook, RateLimit
from remediator.core.step import Step
from remediator.core.step_parts import Risk
from remediator.core.target import Workload
from remediator.core.template import Unbound
from remediator.core.verdict import Reason


@dataclass(frozen=True, slots=True)
class Unknown:
    """It could not be asked, and why. Guards fail closed on it."""

    why: str


@dataclass(frozen=True, slots=True)
class Found:
    """The workloads that a selection selects: none, one, or (which is refused) several. `sought` is the selection in words."""

    workloads: tuple[Workload, ...]
    sought: str = ""


Lookup = Found | Unbound | Unknown


@dataclass(frozen=True, slots=True)
class Off:
    """Nobody is configured who could be asked: a guard that would ask is off, and the start-up log has said so."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What Alertmanager says of one alert now. `muted` is empty, or why it notifies nobody, and `reason` is its word."""

    firing: bool
    muted: str = ""
    reason: Reason = Reason.CLEAR


@dataclass(frozen=True, slots=True)
class Corroboration:
    """What Prometheus says of one alert now, and how many of its scrape targets answered last time."""

    firing: bool
    targets: int = 0
    up: int = 0


@dataclass(frozen=True, slots=True)
class Neighbours:
    """What was heard from outside just before the decision."""

    listing: Listing | Unknown | Off = Off()
    corroboration: Corroboration | Unknown | Off = Off()


@dataclass(frozen=True, slots=True)
class Candidate:
    """What might be done: one rung of one playbook's ladder, for one episode, by one run."""

    run: str
    episode: Episode
    playbook: Playbook
    rung: int
    step: Step
    lookup: Lookup
    approval_required: bool = False

    @property
    def limits(self) -> Limits:
        return self.playbook.limits

    @property
    def workload(self) -> Workload | None:
        """The target, if it is known and exactly one."""
        if isinstance(self.lookup, Found) and len(self.lookup.workloads) == 1:
            return self.lookup.workloads[0]
        return None

    @property
    def target(self) -> str:
        """The id of the target, or empty while it is not known."""
        return self.workload.id if self.workload else ""

    @property
    def services(self) -> frozenset[str]:
        """Whom the alert is about and whose the target is, by name; most often that is one."""
        owner = self.workload.service if self.workload else ""
        return frozenset({self.episode.labels.get(SERVICE, ""), owner} - {""})

    @property
    def disturbs(self) -> bool:
        """Whether users may notice the step: what is unknown holds it back."""
        return self.step.risk in (Risk.DISRUPTIVE, Risk.DESTRUCTIVE)

    @property
    def plan(self) -> str:
        """What a person approves, as 64 bits of a hash: this step with these parameters, on this target, for this episode."""
        said = (self.run, self.episode.id, self.playbook.name, self.playbook.version, self.rung, self.step, self.target)
        return sha256(repr(said).encode()).hexdigest()[:16]


class Score(StrEnum):
    """What an intent came to, as a breaker counts it."""

    SUCCESS = "success"
    FAILURE = "failure"
    NEUTRAL = "neutral"
    RESET = "reset"
    """Not an intent: a person reset the breaker."""


@dataclass(frozen=True, slots=True)
class Result:
    """The end of one intent."""

    at: datetime
    target: str
    score: Score


@dataclass(frozen=True, slots=True)
class Paused:
    """The switch is thrown: who and why are a ledger row."""

    by: str
    why: str


@dataclass(frozen=True, slots=True)
class Storm:
    """So many distinct targets had alerts within a short time that the monitor, or what they share, is suspected."""

    since: datetime
    targets: int
    over_at: datetime | None = None

    def __str__(self) -> str:
        return f"a storm of alerts since {self.since:%H:%M:%S}, {self.targets} targets when it began"


@dataclass(frozen=True, slots=True)
class Approval:
    """What a person said of one plan. `used` once a call was sent on the strength of it."""

    plan: str
    by: str
    why: str
    granted: bool
    expires_at: datetime
    used: bool = False


@dataclass(frozen=True, slots=True)
class Cause:
    """An alert of a service that this one needs. `over_at`: when it ended, if it has."""

    service: str
    alertname: str
    since: datetime
    over_at: datetime | None = None

    def __str__(self) -> str:
        return f"{self.service} ({self.alertname} since {self.since:%H:%M:%S})"


@dataclass(frozen=True, slots=True)
class LedgerFacts:
    """Answers to the questions that guards ask of the ledger, read in one transaction.

    Times of intents are newest first and only as many as the largest limit of their scope; results are oldest first.
    """

    paused: Paused | None
    episode: Episode
    locked_by: str = ""
    """Another run that holds the target or one of its instances."""
    last_finished_at: datetime | None = None
    intents_on_target: tuple[datetime, ...] = ()
    intents_of_playbook: tuple[datetime, ...] = ()
    intents_of_all: tuple[datetime, ...] = ()
    results_on_target: tuple[Result, ...] = ()
    results_of_playbook: tuple[Result, ...] = ()
    openings_on_target: tuple[datetime, ...] = ()
    """When the runs began that aimed at this target: a re-fire shows here."""
    openings_of_playbook: tuple[tuple[str, datetime], ...] = ()
    """The same for all targets of the playbook: target and time."""
    others_in_flight: int = 0
    """Runs of the same playbook, this one not counted, that hold a target."""
    open_causes: tuple[str, ...] = ()
    """Open episodes that meet `hold_if`, in words."""
    needed: tuple[Cause, ...] = ()
    """What is ill, or was until lately, of the services that this one needs; the oldest first."""
    ahead: tuple[str, ...] = ()
    """Services that other runs are at work on: needed ones, and those that need the same one that was ill lately."""
    previous_release: str = ""
    in_flight: frozenset[str] = frozenset()
    """Instances of the target's service, by name, that other runs are at work on."""
    storm: Storm | None = None
    approval: Approval | None = None
    """The newest answer of a person about this run's rung."""
    watchdog_heard_at: datetime | None = None
    """When the always firing alert was last heard of, or None if it never was."""


@dataclass(frozen=True, slots=True)
class StormLimits:
    """A storm begins when alerts of more than `targets` distinct targets came within `window`, and ends at `calm` or fewer."""

    targets: int = 20
    window: timedelta = timedelta(minutes=2)
    calm: int = 5


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator configured for all playbooks."""

    mode: Mode = Mode.SUGGEST
    overrides: tuple[tuple[str, Mode], ...] = ()
    max_all: tuple[RateLimit, ...] = (RateLimit(20, timedelta(hours=1)), RateLimit(100, timedelta(days=1)))
    episode_expiry: timedelta = timedelta(hours=5)
    """An episode not heard of for this long is stale. Alertmanager's default `repeat_interval` is 4 h: stay above it."""
    storm: StormLimits = StormLimits()
    maintenance: tuple[Window, ...] = ()
    dependencies: Dependencies = field(default_factory=Dependencies)
    watchdog_within: timedelta | None = None
    """The Watchdog alert must have been heard of within this for `auto`; None: it is not expected."""
    approval_within: timedelta = timedelta(minutes=30)
    """How long a person is waited for."""
    approval_lasts: timedelta = timedelta(minutes=10)
    """How long after it was given an approval may be acted on."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that is known at the moment of the decision."""

    ledger: LedgerFacts
    policy: Policy
    neighbours: Neighbours = Neighbours()
