"""Rate guard: at most N intents in any window, per target, per playbook and over all. Pure.

Intents are counted, whatever came of them: a failed or doubtful restart has disturbed the target, too. The window is
half-open, [t, t + window), so that an intent leaves it exactly `window` after it was written (promise S3).
"""

from collections.abc import Sequence
from datetime import datetime

from remediator.core.playbook import RateLimit
from remediator.core.snapshot import Candidate, Snapshot
from remediator.core.verdict import Pass, Reason, Verdict, Wait


def rate(candidate: Candidate, snapshot: Snapshot, now: datetime) -> Verdict:
    ledger, limits = snapshot.ledger, candidate.limits
    scopes = (
        (Reason.RATE_TARGET, "on this target", limits.max, ledger.intents_on_target),
        (Reason.RATE_PLAYBOOK, "of this playbook", limits.max_all_targets, ledger.intents_of_playbook),
        (Reason.RATE_GLOBAL, "in all", snapshot.policy.max_all, ledger.intents_of_all),
    )
    waits = [
        Wait(reason, f"the limit of {limit} {where} is used up", free_at)
        for reason, where, allowed, intents in scopes
        for limit in allowed
        if (free_at := next_free_at(intents, limit, now)) > now
    ]
    if waits:
        return max(waits, key=lambda wait: wait.retry_at)
    return Pass(f"{left(ledger.intents_on_target, limits.max, now)} more allowed on this target")


def next_free_at(intents: Sequence[datetime], limit: RateLimit, now: datetime) -> datetime:
    """When the next intent keeps within `limit`: `now`, or the moment when the limit's oldest intent leaves the window.

    `intents` is newest first and holds at least the newest `limit.count` intents of the scope.
    """
    if len(intents) < limit.count:
        return now
    return max(now, intents[limit.count - 1] + limit.window)


def left(intents: Sequence[datetime], limits: Sequence[RateLimit], now: datetime) -> int:
    """How many more intents all of `limits` allow now."""
    return min(max(0, limit.count - sum(at + limit.window > now for at in intents[: limit.count])) for limit in limits)
