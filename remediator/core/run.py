"""The life of a run as a table. `docs/run-life-cycle.md` is generated from it; a pair that is not in it raises.

A run holds its target from its first CLAIM to its end, IN_DOUBT included, and WAITING or ASKED for its next rung, too:
nobody else acts on a target that is half repaired. Between CLAIM and GO nothing has left the process: it may still be
withdrawn. From GO on, something may have happened, and only an outcome or an observation says what.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from remediator.core.alert import Episode
from remediator.core.verdict import Reason


class RunState(StrEnum):
    NEW = "new"
    WAITING = "waiting"
    ASKED = "asked"
    CLAIMED = "claimed"
    CALLED = "called"
    IN_DOUBT = "in_doubt"
    VERIFYING = "verifying"
    SUGGESTED = "suggested"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    SUCCEEDED = "succeeded"
    ESCALATED = "escalated"


class RunEvent(StrEnum):
    WAIT = "wait"
    ASK = "ask"
    CLAIM = "claim"
    GO = "go"
    OUTCOME = "outcome"
    DOUBT = "doubt"
    HAPPENED = "happened"
    DID_NOT_HAPPEN = "did_not_happen"
    VERIFIED = "verified"
    CLIMB = "climb"
    SUGGEST = "suggest"
    REFUSE = "refuse"
    CANCEL = "cancel"
    ESCALATE = "escalate"


S, E = RunState, RunEvent

LIFE_CYCLE: Mapping[tuple[RunState, RunEvent], RunState] = {
    # deciding: on arrival, and again whenever what it waits for may have changed
    (S.NEW, E.WAIT): S.WAITING,
    (S.NEW, E.ASK): S.ASKED,
    (S.NEW, E.CLAIM): S.CLAIMED,
    (S.NEW, E.SUGGEST): S.SUGGESTED,
    (S.NEW, E.REFUSE): S.REFUSED,
    (S.NEW, E.CANCEL): S.CANCELLED,
    (S.NEW, E.ESCALATE): S.ESCALATED,
    (S.WAITING, E.WAIT): S.WAITING,
    (S.WAITING, E.ASK): S.ASKED,
    (S.WAITING, E.CLAIM): S.CLAIMED,
    (S.WAITING, E.SUGGEST): S.SUGGESTED,
    (S.WAITING, E.REFUSE): S.REFUSED,
    (S.WAITING, E.CANCEL): S.CANCELLED,
    (S.WAITING, E.ESCALATE): S.ESCALATED,
    # asking: decided again after the answer, and all along
    (S.ASKED, E.ASK): S.ASKED,
    (S.ASKED, E.WAIT): S.WAITING,
    (S.ASKED, E.CLAIM): S.CLAIMED,
    (S.ASKED, E.SUGGEST): S.SUGGESTED,
    (S.ASKED, E.REFUSE): S.REFUSED,
    (S.ASKED, E.CANCEL): S.CANCELLED,
    (S.ASKED, E.ESCALATE): S.ESCALATED,
    # acting: the intent is on record; GO is the last look before the call
    (S.CLAIMED, E.GO): S.CALLED,
    (S.CLAIMED, E.CANCEL): S.CANCELLED,
    (S.CLAIMED, E.ESCALATE): S.ESCALATED,
    (S.CALLED, E.OUTCOME): S.VERIFYING,
    (S.CALLED, E.DOUBT): S.IN_DOUBT,
    (S.CALLED, E.DID_NOT_HAPPEN): S.CLAIMED,
    (S.CALLED, E.ESCALATE): S.ESCALATED,
    (S.IN_DOUBT, E.HAPPENED): S.VERIFYING,
    (S.IN_DOUBT, E.DID_NOT_HAPPEN): S.CLAIMED,
    (S.IN_DOUBT, E.DOUBT): S.IN_DOUBT,
    (S.IN_DOUBT, E.ESCALATE): S.ESCALATED,
    # verifying: the only way to success, and the only way up the ladder
    (S.VERIFYING, E.VERIFIED): S.SUCCEEDED,
    (S.VERIFYING, E.CLIMB): S.WAITING,
    (S.VERIFYING, E.ESCALATE): S.ESCALATED,
}

ENDED = frozenset({S.SUGGESTED, S.REFUSED, S.CANCELLED, S.SUCCEEDED, S.ESCALATED})
HOLDING = frozenset({S.CLAIMED, S.CALLED, S.IN_DOUBT, S.VERIFYING})
"""States in which every run holds its target. WAITING and ASKED are not of them: only a run that has climbed holds it there."""


class ImpossibleTransition(Exception):
    """A run was asked to do what its state does not allow: a bug, never an operator's fault."""


def after(state: RunState, event: RunEvent) -> RunState:
    """The state that follows. Raises ImpossibleTransition for a pair that is not in the table."""
    try:
        return LIFE_CYCLE[state, event]
    except KeyError:
        raise ImpossibleTransition(f"a run that is {state} cannot {event}") from None


@dataclass(frozen=True, slots=True)
class End:
    """How a run ended, for what reason, and when."""

    state: RunState
    reason: Reason
    at: datetime


@dataclass(frozen=True, slots=True)
class Run:
    """The execution of one decision.

    `fence` grows with every lease: whoever writes with an older one has lost the run. `deadline` is when it gives up
    if nothing was decided. `rung` counts from 0. `goes` counts the calls of this rung that may have been sent.
    `lease_until` is how long it was leased for when it was last read, or None if nobody holds it.
    """

    id: str
    episode: Episode
    playbook: str
    playbook_version: str
    state: RunState
    rung: int
    fence: int
    created_at: datetime
    deadline: datetime
    reason: Reason = Reason.CLEAR
    target: str = ""
    goes: int = 0
    lease_until: datetime | None = None
    finished_at: datetime | None = None

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED
