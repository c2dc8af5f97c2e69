"""Cooldown guard: after a run on a target has ended, leave the target alone for a while. Pure."""

from datetime import datetime

from remediator.core.playbook import brief
from remediator.core.snapshot import Candidate, Snapshot
from remediator.core.verdict import Pass, Reason, Verdict, Wait


def cooldown(candidate: Candidate, snapshot: Snapshot, now: datetime) -> Verdict:
    finished_at = snapshot.ledger.last_finished_at
    if finished_at is None:
        return Pass("nothing was done to this target yet")
    free_at = finished_at + candidate.limits.cooldown
    if free_at <= now:
        return Pass(f"last run ended {brief(now - finished_at)} ago")
    return Wait(Reason.COOLDOWN, f"the last run on this target ended at {finished_at:%H:%M:%S}", retry_at=free_at)
