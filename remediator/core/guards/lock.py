"""Lock guard: one run per target at a time; a run in doubt goes on holding its target. Pure."""

from datetime import datetime, timedelta

from remediator.core.snapshot import Candidate, Snapshot
from remediator.core.verdict import Pass, Reason, Verdict, Wait

LOOK_AGAIN = timedelta(seconds=30)
"""The end of the other run wakes the waiting ones at once; this is the net under it."""


def lock(candidate: Candidate, snapshot: Snapshot, now: datetime) -> Verdict:
    holder = snapshot.ledger.locked_by
    if not holder:
        return Pass("no other run is at work on it")
    return Wait(Reason.LOCKED, f"run {holder} is at work on {candidate.target}", retry_at=now + LOOK_AGAIN)
