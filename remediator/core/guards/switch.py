"""Switch guard: while remediator is paused, every run waits. Pure: the pause is a row of the ledger."""

from datetime import datetime, timedelta

from remediator.core.snapshot import Candidate, Snapshot
from remediator.core.verdict import Pass, Reason, Verdict, Wait

LOOK_AGAIN = timedelta(minutes=1)
"""`resume` wakes the waiting runs at once; this is the net under it."""


def switch(candidate: Candidate, snapshot: Snapshot, now: datetime) -> Verdict:
    paused = snapshot.ledger.paused
    if paused is None:
        return Pass("not paused")
    return Wait(Reason.PAUSED, f"paused by {paused.by}: {paused.why}", retry_at=now + LOOK_AGAIN)
