"""Verdicts of guards and the decision made of them. Refusing is a value, not an exception."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Reason(StrEnum):
    """One word list for logs, metrics, pages and messages."""

    CLEAR = "clear"
    NO_PLAYBOOK = "no_playbook"
    # switch
    PAUSED = "paused"
    # alive
    RESOLVED = "resolved"
    STALE = "stale"
    UNCONFIRMED = "unconfirmed"
    # silence, maintenance
    SILENCED = "silenced"
    INHIBITED = "inhibited"
    SILENCE_UNKNOWN = "silence_unknown"
    MAINTENANCE = "maintenance"
    # target
    LABEL_UNUSABLE = "label_unusable"
    NO_TARGET = "no_target"
    TARGET_AMBIGUOUS = "target_ambiguous"
    TARGET_UNKNOWN = "target_unknown"
    TARGET_PROTECTED = "target_protected"
    NOT_OFFERED = "not_offered"
    """The target's platform has no such step: another rung may be for this one."""
    NOT_OPTED_IN = "not_opted_in"
    NO_PREVIOUS_RELEASE = "no_previous_release"
    # hold, settle, corroborate, lock, cooldown, rate, breaker
    CAUSE_OPEN = "cause_open"
    SETTLING = "settling"
    UNCORROBORATED = "uncorroborated"
    MONITOR_SUSPECT = "monitor_suspect"
    CORROBORATION_UNKNOWN = "corroboration_unknown"
    LOCKED = "locked"
    IN_TURN = "in_turn"
    """What the target needs is being repaired, or something else that needs the same."""
    COOLDOWN = "cooldown"
    RATE_TARGET = "rate_target"
    RATE_PLAYBOOK = "rate_playbook"
    RATE_GLOBAL = "rate_global"
    BREAKER_OPEN = "breaker_open"
    BREAKER_TRIAL = "breaker_trial"
    # masking, blast_radius, storm
    MASKING = "masking"
    BLAST_RADIUS = "blast_radius"
    STORM = "storm"
    # mode, approval
    MODE_OFF = "mode_off"
    MODE_SUGGEST = "mode_suggest"
    APPROVAL_REQUIRED = "approval_required"
    REJECTED = "rejected"
    NOT_APPROVED = "not_approved"
    """Nobody answered in time."""
    WATCHDOG_MISSING = "watchdog_missing"
    """The alert that always fires is not heard of: a message to people, never of one run."""
    # how a run ended
    VERIFIED = "verified"
    RECOVERED = "recovered"
    """The checks hold, though the step had failed: not by remediator's doing."""
    LADDER_EXHAUSTED = "ladder_exhausted"
    NO_RUNG_APPLIES = "no_rung_applies"
    UNVERIFIED = "unverified"
    IN_DOUBT = "in_doubt"
    GAVE_UP = "gave_up"
    STEP_IMPOSSIBLE = "step_impossible"
    NOT_SENT = "not_sent"
    BROKE_DOWN = "broke_down"


@dataclass(frozen=True, slots=True)
class Pass:
    """Nothing against it. `seen` says what the guard looked at."""

    seen: str = ""
    reason: Reason = Reason.CLEAR


@dataclass(frozen=True, slots=True)
class Wait:
    """Not now; decide again at `retry_at` or when what it waits for changes."""

    reason: Reason
    seen: str
    retry_at: datetime


@dataclass(frozen=True, slots=True)
class Refuse:
    """Not for this episode."""

    reason: Reason
    seen: str


@dataclass(frozen=True, slots=True)
class Ask:
    """Only with a person's approval."""

    reason: Reason
    seen: str


@dataclass(frozen=True, slots=True)
class Suggest:
    """Show what would be done; do not do it."""

    reason: Reason
    seen: str


Verdict = Pass | Wait | Refuse | Ask | Suggest


class DecisionKind(StrEnum):
    ACT = "act"
    ASK = "ask"
    SUGGEST = "suggest"
    WAIT = "wait"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class GuardVerdict:
    """What one guard said."""

    guard: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Decision:
    """The first verdict that is not Pass, and all verdicts, so that explaining needs no second path."""

    kind: DecisionKind
    reason: Reason
    seen: str
    verdicts: tuple[GuardVerdict, ...]
    retry_at: datetime | None = None
