"""Settle guard: the alert must have been firing for a while, as remediator's own clock saw it. Pure."""

from datetime import datetime

from remediator.core.playbook import brief
from remediator.core.snapshot import Candidate, Snapshot
from remediator.core.verdict import Pass, Reason, Verdict, Wait


def settle(candidate: Candidate, snapshot: Snapshot, now: datetime) -> Verdict:
    settled_at = snapshot.ledger.episode.opened_at + candidate.limits.settle
    if settled_at <= now:
        return Pass(f"firing for at least {brief(candidate.limits.settle)}")
    return Wait(Reason.SETTLING, f"must have been firing for {brief(candidate.limits.settle)}", retry_at=settled_at)
