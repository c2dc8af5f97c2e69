"""In-turn guard: what a service needs is repaired before it, and what needs the same one after the other. Pure.

All of them were woken by the end of one cause. To restart them together would have them all connect to it at once.
"""

from datetime import datetime, timedelta

from remediator.core.snapshot import Candidate, Snapshot
from remediator.core.verdict import Pass, Reason, Verdict, Wait

LOOK_AGAIN = timedelta(minutes=1)
"""The end of each repair wakes those that wait at once; this is the net under it."""


def in_turn(candidate: Candidate, snapshot: Snapshot, now: datetime) -> Verdict:
    others = snapshot.ledger.ahead
    if not others:
        return Pass("nothing that goes first is being repaired")
    return Wait(Reason.IN_TURN, f"one at a time: {', '.join(others)} is being repaired", retry_at=now + LOOK_AGAIN)
