"""Masking guard: a repair that works again and again hides a fault; stop, and let people find it. Pure."""

from datetime import datetime

from remediator.core.playbook import brief
from remediator.core.snapshot import Candidate, Score, Snapshot
from remediator.core.verdict import Pass, Reason, Refuse, Verdict


def masking(candidate: Candidate, snapshot: Snapshot, now: datetime) -> Verdict:
    budget = candidate.limits.masking
    results = snapshot.ledger.results_on_target
    since = now - budget.window
    repairs = sum(result.at > since for result in results if result.score is Score.SUCCESS)
    if repairs < budget.count:
        return Pass(f"repaired {repairs} times within {brief(budget.window)}")
    seen = f"repaired {repairs} times within {brief(budget.window)}: the repairs hide a fault, which people should find"
    return Refuse(Reason.MASKING, seen)
