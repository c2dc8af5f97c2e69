"""Corroborate guard: Prometheus must still say so itself, and must see enough of the world to be believed. Pure.

A rule evaluates what was scraped: where most targets do not answer, the monitor or its network is the likelier fault.
"""

from datetime import datetime, timedelta

from remediator.core.snapshot import Candidate, Corroboration, Off, Snapshot, Unknown
from remediator.core.verdict import Pass, Reason, Verdict, Wait

LOOK_AGAIN = timedelta(seconds=15)
UP_MIN = 0.5
"""Share of scrape targets that must answer."""
TARGETS_MIN = 6
"""Of fewer, the alert's own may be the half that does not answer."""


def corroborate(candidate: Candidate, snapshot: Snapshot, now: datetime) -> Verdict:
    if not candidate.limits.corroborate:
        return Pass("off, by the playbook")
    match snapshot.neighbours.corroboration:
        case Off():
            return Pass("off: no Prometheus is configured")
        case Unknown(why) if candidate.disturbs:
            return Wait(Reason.CORROBORATION_UNKNOWN, f"cannot be corroborated: {why}", retry_at=now + LOOK_AGAIN)
        case Unknown(why):
            return Pass(f"cannot be corroborated, but the step disturbs nobody: {why}")
        case Corroboration(firing=False):
            return Wait(Reason.UNCORROBORATED, "Prometheus says that the alert does not fire", retry_at=now + LOOK_AGAIN)
        case Corroboration(targets=targets, up=up) if targets >= TARGETS_MIN and up < UP_MIN * targets:
            seen = f"Prometheus reaches only {up} of its {targets} targets: it is suspected itself"
            return Wait(Reason.MONITOR_SUSPECT, seen, retry_at=now + LOOK_AGAIN)
        case Corroboration(targets=targets, up=up):
            return Pass(f"Prometheus says so, too, and reaches {up} of its {targets} targets")
