"""What the shell around the core needs from the world, as protocols, and the errors that may come back through them.

Adapters translate their library's errors into the three families below, with `from`:
`TransientError` was proven not to have happened and may be tried again; `PermanentError` will not get better by
itself; `OutcomeUnknown` may or may not have happened and must be observed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from remediator.core.alert import Alert, Episode, Heard, Listed
from remediator.core.playbook import Playbook
from remediator.core.redaction import redacted
from remediator.core.run import End, Run, RunEvent
from remediator.core.snapshot import Approval, Candidate, Corroboration, LedgerFacts, Listing, Paused, Storm
from remediator.core.step import Check, Diagnosis, Exec, Step
from remediator.core.target import Selection, Workload
from remediator.core.verdict import Reason

T = TypeVar("T")
Facts = Mapping[str, Any]
"""JSON-serialisable facts: what a step was told, what an observation saw."""


class PortError(Exception):
    """Anything that a neighbour did to us. The message is for people, and keeps no secret that the neighbour put into it."""

    def __init__(self, message: str = "") -> None:
        super().__init__(redacted(message))


class TransientError(PortError):
    """It did not happen, and trying again later may help. `retry_after` is in seconds, None if nothing was said."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class PermanentError(PortError):
    """It failed, and would fail again."""


class OutcomeUnknown(PortError):
    """It may have happened: a timeout, a lost connection after sending."""


class StoreUnavailable(PortError):
    """The store cannot be written now. The webhook answers 503, and nothing new is begun."""


class Fenced(PortError):
    """Somebody else has the run: this process must not write to it, nor act for it, any more."""


class Clock(Protocol):
    def now(self) -> datetime:
        """The current time, in UTC."""
        ...

    def elapsed(self) -> float:
        """Seconds since some moment, by a clock that nobody sets and that never goes back."""
        ...


# --- Platforms and data services --------------------------------------------------------------------------------------


class Happened(StrEnum):
    """What an observation says about a step that is in doubt."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Observation:
    """What was seen of a step in doubt, in words for a person, and what follows from it."""

    happened: Happened
    seen: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one diagnosis found: text for people (bounded), numbers for `when:` (`redis.info.memory_ratio`)."""

    name: str
    text: str
    numbers: Mapping[str, float] = field(default_factory=dict)


class Probe(StrEnum):
    """What a check saw. UNKNOWN: it could not be asked, which is neither success nor failure."""

    HOLDS = "holds"
    FAILS = "fails"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Reading:
    """One look by one check."""

    probe: Probe
    seen: str


class Platform(Protocol):
    """The reading side of a platform or data service. It cannot change anything: suggest mode has nothing else."""

    name: str

    async def find(self, selection: Selection) -> Sequence[Workload]:
        """Every workload that the selection selects; none if the selection is not of this platform's fields.

        Raises TransientError or PermanentError when it cannot be asked.
        """
        ...

    async def diagnose(self, diagnosis: Diagnosis, workload: Workload) -> Evidence:
        """Gather one piece of evidence. Raises TransientError or PermanentError."""
        ...

    async def check(self, check: Check, workload: Workload) -> Reading:
        """Look once. Never raises for a neighbour's failure: that is UNKNOWN or FAILS."""
        ...

    def describe(self, step: Step | Diagnosis, workload: Workload) -> str:
        """The command that a person could type instead."""
        ...

    async def mark(self, step: Step, workload: Workload) -> Facts:
        """What to remember before the call, so that `observe` can tell afterwards whether it happened."""
        ...

    async def observe(self, step: Step, workload: Workload, mark: Facts) -> Observation:
        """Whether the step happened since `mark` was taken. Raises TransientError when it cannot be asked."""
        ...


class Actuator(Protocol):
    """The writing side. Only built when some playbook may act."""

    async def perform(self, step: Step, workload: Workload, mark: Facts) -> str:
        """Do it, once, and say what was done in a line.

        Raises TransientError (proven not sent), PermanentError (sent and failed) or OutcomeUnknown.
        """
        ...


class Executor(Protocol):
    """Runs commands for their output. Apart from `Platform`, because for an engine every exec is a write call."""

    async def diagnose_exec(self, diagnosis: Exec, workload: Workload) -> Evidence:
        """Raises TransientError, PermanentError or OutcomeUnknown."""
        ...


@dataclass(frozen=True, slots=True)
class ListedAlert:
    """An alert that fires, as Alertmanager lists it, and what it says of it."""

    alert: Alert
    listing: Listing


@dataclass(frozen=True, slots=True)
class Everything:
    """All alerts that fire and are routed to us, the muted ones too. `up_for` is how long Alertmanager has run, by its clock.

    `unreadable` counts what could not be taken for an alert: of those nobody can say that they are over.
    """

    alerts: Sequence[ListedAlert]
    up_for: timedelta
    unreadable: int = 0


class AlertSource(Protocol):
    """Alertmanager's own view of what fires, and what people or other alerts have muted."""

    async def look(self, labels: Mapping[str, str]) -> Listing:
        """What it says now of the alert with exactly these labels. Raises TransientError or PermanentError."""
        ...


class AlertList(Protocol):
    """Alertmanager's own list, to reconcile with."""

    async def everything(self) -> Everything:
        """All that fires and is routed to us. Raises TransientError, or PermanentError, too, where no route leads to us."""
        ...


class Witness(Protocol):
    """Prometheus's own view of what fires, and how much of the world it sees."""

    async def corroborate(self, labels: Mapping[str, str]) -> Corroboration:
        """What it says now of an alert with these labels. Raises TransientError or PermanentError."""
        ...


# --- Telling people and neighbours ------------------------------------------------------------------------------------


class Channel(StrEnum):
    ANNOTATION = "annotation"
    ESCALATION = "escalation"


@dataclass(frozen=True, slots=True)
class Message:
    """A row of the outbox: what should be known out there. `receipt` is what the last delivery answered, or empty.

    `key` names the thing told about: the newest payload of a key replaces an older one that was not delivered yet.
    """

    key: str
    channel: Channel
    payload: Facts
    version: int = 1
    attempts: int = 0
    receipt: str = ""


class Announcer(Protocol):
    """Delivers messages of one channel."""

    async def deliver(self, message: Message) -> str:
        """Deliver, once or again, so that a repetition does no harm; return the receipt to remember.

        Raises TransientError (try again) or PermanentError (drop it and say so).
        """
        ...


# --- The store ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Inbound:
    """A message in the inbox, as it came. `id` is in order of arrival."""

    id: int
    body: bytes
    received_at: datetime


class LedgerKind(StrEnum):
    """Kinds of ledger rows. The ledger is append-only; a run's rows in order are its timeline."""

    DECISION = "decision"
    EVIDENCE = "evidence"
    INTENT = "intent"
    GO = "go"
    OUTCOME = "outcome"
    OBSERVATION = "observation"
    VERIFICATION = "verification"
    RESULT = "result"
    END = "end"
    ASK = "ask"
    """A person is asked: `data["plan"]`, its command, and until when."""
    APPROVAL = "approval"
    """A person's answer: `data["granted"]`, with who and why."""
    SWITCH = "switch"
    """Paused or resumed: `data["paused"]`, with who and why."""
    STORM = "storm"
    """A storm of alerts has begun or ended: `data["on"]`."""


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One row of the ledger. `data` is JSON-serialisable; `who` is empty for remediator itself."""

    at: datetime
    kind: LedgerKind
    run: str = ""
    rung: int = 0
    target: str = ""
    who: str = ""
    data: Facts = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlaybookText:
    """A playbook as it was admitted: kept with the run, so that a reload never changes a run that is under way."""

    name: str
    version: str
    source: str


class Inbox(Protocol):
    @property
    def alerts_at_once(self) -> int:
        """How many alerts one transaction should expand: so many that nobody waits long for it."""
        ...

    def reserve(self) -> bool:
        """Let nobody else expand messages until this transaction ends; False, at once, if another process does so now."""
        ...

    def take(self, limit: int) -> Sequence[Inbound]:
        """The oldest messages, not yet removed: at most `limit` and as many as are read quickly, but one if there is any."""
        ...

    def oldest(self) -> int | None:
        """The number of the oldest message, if there is one."""
        ...

    def set_aside(self, message: int) -> bool:
        """Keep a message that cannot be expanded, out of the way of the others; False if it is not waiting any more."""
        ...

    def remove(self, messages: Sequence[Inbound]) -> None: ...


class Episodes(Protocol):
    def hear(self, alert: Alert, at: datetime) -> tuple[Heard, Episode | None]:
        """Open, refresh or close the alert's episode; the episode after it, None when it was ignored."""
        ...

    def hear_all(self, alerts: Sequence[tuple[Alert, datetime]]) -> Iterator[tuple[Heard, Episode | None]]:
        """`hear` of each in turn, for much less than one by one where the database is another process."""
        ...

    def confirm(self, episode: int, *, firing: bool, at: datetime) -> None:
        """What Alertmanager itself says: an episode that it does not list as firing waits for another message."""
        ...

    def listed(self, alert: Alert, muted: str, at: datetime) -> tuple[Listed, Episode | None]:
        """Alertmanager listed the alert as firing at `at`, and `muted` is empty or why it notifies nobody of it.

        The episode after that, or None if there is none to open. A run whose episode is muted, or no longer, is woken.
        """
        ...

    def unlisted(self, since: datetime, at: datetime) -> Sequence[Episode]:
        """Close what Alertmanager had listed and has not since `since`, nor a message told of; as much of it as fits one
        short transaction; none: all is.
        """
        ...

    def unmute_all(self) -> int:
        """Nobody is asked any more what is muted. Returns how many episodes were."""
        ...

    def page_of_open(self, after: Episode | None) -> Sequence[tuple[Episode, Reason]]:
        """Some open episodes after this one, in order of when they were heard of; none: there are no more.

        Each with the reason for which its newest run was cancelled, CLEAR if it was not. Nobody else opens or closes any
        until this transaction ends.
        """
        ...

    def expire(self, heard_before: datetime, at: datetime) -> Sequence[Episode]:
        """Close what has not been heard of since `heard_before`, as much of it as fits one short transaction; none: all is."""
        ...

    def get(self, episode: int) -> Episode: ...

    def count_open(self) -> int: ...


class Runs(Protocol):
    """Runs and their leases. Every write names the fence it was leased with and raises Fenced if that is not the newest."""

    def admit(
        self, run: str, episode: Episode, playbook: PlaybookText, at: datetime, deadline: datetime, aim: str = ""
    ) -> None:
        """A new run, due at once; nothing is done if the episode has a live run already.

        `aim` is what its playbook selects, in words, before any platform was asked: what a storm is counted by.
        """
        ...

    def unmatched(self, episode: Episode, at: datetime) -> None:
        """Put on record that no playbook matches."""
        ...

    def playbook(self, version: str) -> PlaybookText:
        """The text of a playbook that some run was admitted with."""
        ...

    def lease(self, owner: str, at: datetime, until: datetime, limit: int) -> Sequence[Run]:
        """Take due runs that nobody holds a valid lease of, with a new fence each; the oldest due first."""
        ...

    def renew(self, runs: Sequence[Run], until: datetime) -> Sequence[Run]:
        """Prolong the leases of exactly these; the runs that somebody else has taken over meanwhile."""
        ...

    def release(self, run: Run, due_at: datetime) -> None:
        """Give the lease back; the run is due again at `due_at`, or sooner if something woke it in the meantime."""
        ...

    def abandon_all(self, at: datetime) -> int:
        """Void every lease: only for a process that uses this store alone. Returns how many there were."""
        ...

    def next_due(self) -> datetime | None: ...

    def move(self, run: Run, event: RunEvent, at: datetime, *rows: LedgerRow, reason: Reason = Reason.CLEAR) -> Run:
        """Take the transition, append the rows, and on an ending release the target and wake what waits for it."""
        ...

    def get(self, run: str) -> Run | None: ...

    def last_end(self, episode: int) -> End | None:
        """How the newest run of the episode ended, or None if it has not, or there is none."""
        ...

    def last_of(self, episode: int) -> Run | None:
        """The newest run of an episode."""
        ...

    def list(self, limit: int, state: str = "") -> Sequence[Run]:
        """Newest first."""
        ...

    def count_in_doubt(self) -> int: ...

    def count_held(self) -> int:
        """Runs that a storm holds."""
        ...

    def timeline(self, run: str) -> Sequence[LedgerRow]: ...

    def append(self, run: Run, *rows: LedgerRow) -> None: ...


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a playbook stands: open breakers (its targets' and its own), and how many actions its limits leave now."""

    breakers_open: int
    rate_remaining: int


@dataclass(frozen=True, slots=True)
class Breaker:
    """A breaker that is not closed: of a target, by the limits of one of its playbooks, or of a playbook as a whole.

    Once `open_until` has passed it is half-open: one trial is let through.
    """

    playbook: str
    target: str
    open_until: datetime
    opened_times: int


class Breakers(Protocol):
    """What is not done again, because it did not help: computed from the results on record."""

    def of(self, playbook: Playbook) -> Sequence[Breaker]:
        """The playbook's own breaker (its `target` is empty) and those of its targets, as far as they are not closed."""
        ...

    def reset(self, breaker: Breaker, who: str, why: str, at: datetime) -> None:
        """Close it, on record, and wake what waits for a trial. No limit of rate is cleared."""
        ...

    def stopped(self, breaker: Breaker) -> Sequence[Episode]:
        """Open episodes of which the newest run was left to people because a breaker of its target or playbook was open."""
        ...


class Claims(Protocol):
    """The protocol claim → go: intents before calls (design, section 6)."""

    def decide_alone(self, candidate: Candidate) -> None:
        """Let nobody else decide about this candidate's target, its playbook or the whole until this transaction ends."""
        ...

    def facts(self, candidate: Candidate, episode: Episode | None = None) -> LedgerFacts:
        """What the guards ask. `episode` stands in for one that is not on record (`explain`)."""
        ...

    def claim(self, run: Run, locks: Sequence[str], at: datetime, *rows: LedgerRow) -> Run:
        """Take the locks of the run's target and write the rows, the intent among them.

        In the same transaction the facts were read and the guards have decided. Raises Fenced if somebody has the target.
        """
        ...

    def go(self, run: Run, sent: Facts, at: datetime, approved_plan: str = "") -> tuple[Run, Reason]:
        """The last look before the call. CLEAR and a run that is CALLED, or the reason why not and the run as it was.

        `approved_plan` is the plan that needs a living approval, or empty. Raises Fenced without a valid lease.
        """
        ...

    def paused(self) -> Paused | None: ...

    def standing(self, playbook: Playbook, at: datetime) -> Standing: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that was put to people: the plan, what it would do, and until when an answer is waited for."""

    plan: str
    command: str
    until: datetime
    number: int = 1
    """How many-th question about this rung of the run."""
    answered: bool = False


class Approvals(Protocol):
    """Questions to people about plans, and their answers: rows of the ledger."""

    def ask(self, run: Run, asked: Asked, at: datetime) -> Run:
        """Put the question on record; the run waits for the answer."""
        ...

    def asked(self, run: Run) -> Asked | None:
        """The newest question about the run's rung, with the first one's `until`: asking anew does not prolong the wait."""
        ...

    def hold(self, run: str, at: datetime) -> bool:
        """Wake the run, and let nobody else answer or move it until this transaction ends; whether it waits for an answer."""
        ...

    def given(self, run: str, rung: int) -> Approval | None:
        """The newest answer about this rung of the run."""
        ...

    def answer(self, run: Run, approval: Approval, at: datetime) -> None:
        """Put an answer on record, and wake the run."""
        ...

    def count_pending(self) -> int: ...


class Storms(Protocol):
    def current(self) -> Storm | None:
        """The storm that goes on now."""
        ...

    def look(self, at: datetime) -> Storm | None:
        """Let a storm begin or end as the alerts of late say, and put that on record; the one that has just done so.

        While one goes on, new runs are held here, all at once and without asking any platform.
        """
        ...


class Heartbeats(Protocol):
    def look_alone(self) -> None:
        """Let nobody else look at these and act on what they see until this transaction ends."""
        ...

    def beat(self, name: str, at: datetime) -> None:
        """Remember when something was last heard of; never an earlier time than is known."""
        ...

    def heard_at(self, name: str) -> datetime | None: ...


class Switch(Protocol):
    def pause(self, who: str, why: str, at: datetime) -> None: ...

    def resume(self, who: str, why: str, at: datetime) -> None: ...


class Outbox(Protocol):
    def put(self, message: Message, at: datetime) -> None:
        """Add, or replace the payload of a message with the same key; a receipt that is known is kept."""
        ...

    def due(self, at: datetime, limit: int) -> Sequence[Message]: ...

    def attempt(self, message: Message, next_at: datetime) -> None:
        """Count an attempt before it is made, so that a crash in the middle of it is known as a possible delivery."""
        ...

    def retry(self, message: Message, at: datetime) -> None: ...

    def delivered(self, message: Message, receipt: str) -> None: ...

    def dropped(self, message: Message, why: str) -> None: ...


class Releases(Protocol):
    def forget(self, target: str, release: str) -> None:
        """The release was rolled back from: nobody shall roll back to it later."""
        ...

    def record(self, workload: Workload, at: datetime) -> bool:
        """Remember what the workload runs; whether that is new."""
        ...

    def previous(self, workload: Workload) -> str:
        """The release it ran before its current one, or empty."""
        ...

    def all(self) -> Sequence[str]:
        """Every release on record."""
        ...

    def rolled_out_at(self, workload: Workload) -> datetime | None:
        """When its current release was first seen, if it was seen with another one before."""
        ...


@dataclass(frozen=True, slots=True)
class Swept:
    """What one round of retention came to: rows deleted, and where the next round goes on; None: all was looked at."""

    rows: int
    goes_on: tuple[datetime, int] | None


class Retention(Protocol):
    def sweep(self, before: datetime, after: tuple[datetime, int] | None = None) -> Swept:
        """Forget some of what was over before then and that no guard asks for, as much as fits one short transaction.

        `before` must be longer ago than any limit looks back. `after` is where the last round said that the next goes on.
        """
        ...


class Ledger(Protocol):
    """One transaction's view of the store. Synchronous: it runs on the store's own thread, or inline in a simulation."""

    @property
    def now(self) -> datetime:
        """The store's own time. What replicas compare is written and read by it, not by the clocks of their hosts."""
        ...

    @property
    def inbox(self) -> Inbox: ...

    @property
    def episodes(self) -> Episodes: ...

    @property
    def runs(self) -> Runs: ...

    @property
    def claims(self) -> Claims: ...

    @property
    def breakers(self) -> Breakers: ...

    @property
    def approvals(self) -> Approvals: ...

    @property
    def storms(self) -> Storms: ...

    @property
    def heartbeats(self) -> Heartbeats: ...

    @property
    def switch(self) -> Switch: ...

    @property
    def outbox(self) -> Outbox: ...

    @property
    def releases(self) -> Releases: ...

    @property
    def retention(self) -> Retention: ...


class Store(Protocol):
    is_shared: bool
    """Whether other processes may use it at the same time. Then their leases are theirs, until these run out."""

    async def put(self, body: bytes, received_at: datetime) -> None:
        """Write a message to the inbox; returns when it is durable. Raises StoreUnavailable."""
        ...

    async def run(self, work: Callable[[Ledger], T]) -> T:
        """Run `work` in one transaction and return its result when that is durable.

        `work` may be run again from the start if the transaction it shared with others failed: it must have no effect
        but through the ledger. Raises StoreUnavailable, or what `work` raised.
        """
        ...
