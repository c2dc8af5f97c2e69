"""Hold guard: cause first. While an alert that the playbook names as a cause is open, its symptoms wait. Pure."""

from datetime import datetime, timedelta

from remediator.core.snapshot import Candidate, Snapshot
from remediator.core.verdict import Pass, Reason, Verdict, Wait

LOOK_AGAIN = timedelta(minutes=1)
"""The end of the cause wakes the waiting runs at once; this is the net under it."""


def hold(candidate: Candidate, snapshot: Snapshot, now: datetime) -> Verdict:
    causes = snapshot.ledger.open_causes
    if not causes:
        return Pass("no cause is open" if candidate.limits.hold_if else "no causes are named")
    return Wait(Reason.CAUSE_OPEN, f"first its cause: {', '.join(causes)}", retry_at=now + LOOK_AGAIN)
