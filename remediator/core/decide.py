"""decide(): the verdict of every guard over one snapshot, and the decision that follows. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import assert_never

from remediator.core.guards import GUARDS, Guard
from remediator.core.snapshot import Candidate, Snapshot
from remediator.core.verdict import (
    Ask,
    Decision,
    DecisionKind,
    GuardVerdict,
    Pass,
    Reason,
    Refuse,
    Suggest,
    Wait,
)


def decide(candidate: Candidate, snapshot: Snapshot, now: datetime, guards: Sequence[Guard] = GUARDS) -> Decision:
    """Act, ask, suggest, wait or refuse: the first guard that does not pass decides; every verdict is kept."""
    verdicts = tuple(GuardVerdict(guard.__name__, guard(candidate, snapshot, now)) for guard in guards)
    first = next((given.verdict for given in verdicts if not isinstance(given.verdict, Pass)), Pass("every guard passes"))
    match first:
        case Pass(seen):
            return Decision(DecisionKind.ACT, Reason.CLEAR, seen, verdicts)
        case Wait(reason, seen, retry_at):
            return Decision(DecisionKind.WAIT, reason, seen, verdicts, retry_at)
        case Refuse(reason, seen):
            return Decision(DecisionKind.REFUSE, reason, seen, verdicts)
        case Ask(reason, seen):
            return Decision(DecisionKind.ASK, reason, seen, verdicts)
        case Suggest(reason, seen):
            return Decision(DecisionKind.SUGGEST, reason, seen, verdicts)
        case _:
            assert_never(first)
