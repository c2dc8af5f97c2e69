"""Everything that a guard may see. Each fact is known or Unknown: `None` never means "could not ask"."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from remediator.core.alert import Episode
from remediator.core.playbook import Limits, Mode, Playbook, RateLimit
from remediator.core.step import Step
from remediator.core.target import Workload
from remediator.core.template import Unbound


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
    """When the episodes opened whose runs aimed at this target: a re-fire shows here."""
    others_in_flight: int = 0
    """Runs of the same playbook, this one not counted, that hold a target."""
    open_causes: tuple[str, ...] = ()
    """Open episodes that meet `hold_if`, in words."""
    previous_release: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator configured for all playbooks."""

    mode: Mode = Mode.SUGGEST
    overrides: tuple[tuple[str, Mode], ...] = ()
    max_all: tuple[RateLimit, ...] = (RateLimit(20, timedelta(hours=1)), RateLimit(100, timedelta(days=1)))
    episode_expiry: timedelta = timedelta(hours=5)
    """An episode not heard of for this long is stale. Alertmanager's default `repeat_interval` is 4 h: stay above it."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that is known at the moment of the decision."""

    ledger: LedgerFacts
    policy: Policy
