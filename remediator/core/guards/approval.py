"""Approval guard: where the mode is `approve`, a named person must have said yes to exactly this plan, lately, once. Pure."""

from datetime import datetime

from remediator.core.modes import mode_now
from remediator.core.playbook import Mode
from remediator.core.snapshot import Approval, Candidate, Snapshot
from remediator.core.verdict import Ask, Pass, Reason, Refuse, Verdict


def approval(candidate: Candidate, snapshot: Snapshot, now: datetime) -> Verdict:
    effective, why = mode_now(candidate, snapshot.policy, snapshot.ledger.watchdog_heard_at, now)
    if effective is not Mode.APPROVE:
        return Pass("no approval is needed")
    match snapshot.ledger.approval:
        case None:
            return Ask(Reason.APPROVAL_REQUIRED, f"a person must approve it, by {why}")
        case Approval(plan) if plan != candidate.plan:
            return Ask(Reason.APPROVAL_REQUIRED, "the plan is no longer the one that was answered")
        case Approval(granted=False, by=by, why=said):
            return Refuse(Reason.REJECTED, f"rejected by {by}: {said}")
        case Approval(used=True, by=by):
            return Ask(Reason.APPROVAL_REQUIRED, f"the approval of {by} was used up by an earlier call")
        case Approval(expires_at=expires_at, by=by) if now >= expires_at:
            return Ask(Reason.APPROVAL_REQUIRED, f"the approval of {by} ran out at {expires_at:%H:%M:%S}")
        case Approval(by=by, why=said):
            return Pass(f"approved by {by}: {said}")
