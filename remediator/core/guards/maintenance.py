"""Maintenance guard: during planned work on what an alert is about, the people who do it are left alone. Pure."""

from datetime import datetime

from remediator.core.maintenance import window_over
from remediator.core.snapshot import Candidate, Snapshot
from remediator.core.verdict import Pass, Reason, Refuse, Verdict


def maintenance(candidate: Candidate, snapshot: Snapshot, now: datetime) -> Verdict:
    window = window_over(candidate.episode.labels, snapshot.policy.maintenance, now)
    if window is None:
        return Pass("no maintenance is planned for now" if snapshot.policy.maintenance else "no maintenance is planned")
    return Refuse(Reason.MAINTENANCE, f"planned maintenance: {window.name}")
