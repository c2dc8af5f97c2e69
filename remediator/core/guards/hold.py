"""Hold guard: cause first. While an alert that the playbook names as a cause is open, or one of a service that this one needs,
its symptoms wait; and then for as long as it may take them to go away by themselves. Pure.
"""

from datetime import datetime, timedelta

from remediator.core.snapshot import Candidate, Snapshot
from remediator.core.verdict import Pass, Reason, Verdict, Wait

LOOK_AGAIN = timedelta(minutes=1)
"""The end of the cause wakes the waiting runs at once; this is the net under it."""


def hold(candidate: Candidate, snapshot: Snapshot, now: datetime) -> Verdict:
    facts, known = snapshot.ledger, snapshot.policy.dependencies
    ill = [cause for cause in facts.needed if cause.over_at is None]
    by_name = [name for name in facts.open_causes if name not in {cause.alertname for cause in ill}]
    if ill or by_name:
        return Wait(Reason.CAUSE_OPEN, f"first its cause: {', '.join([*map(str, ill), *by_name])}", retry_at=now + LOOK_AGAIN)
    well_at, last = max(((cause.over_at, cause.service) for cause in facts.needed if cause.over_at), default=(None, ""))
    if well_at is not None and now < well_at + known.recovery:
        seen = f"{last} has been well since {well_at:%H:%M:%S}: what needs it may get well by itself"
        return Wait(Reason.SETTLING, seen, retry_at=well_at + known.recovery)
    if candidate.limits.hold_if or known.needed_by(candidate.services):
        return Pass("no cause is open")
    return Pass("no causes are named")
