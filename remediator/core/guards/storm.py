"""Storm guard: when too much fails at once, suspect the monitor, or what everything stands on; restart none of it. Pure.

A storm begins and ends as rows of the ledger, with hysteresis (`storage/storms.py`): it does not flicker at its threshold.
"""

from datetime import datetime, timedelta

from remediator.core.snapshot import Candidate, Snapshot
from remediator.core.verdict import Pass, Reason, Verdict, Wait

LOOK_AGAIN = timedelta(minutes=1)
"""The end of the storm wakes the waiting runs at once; this is the net under it."""


def storm(candidate: Candidate, snapshot: Snapshot, now: datetime) -> Verdict:
    blowing = snapshot.ledger.storm
    if blowing is None:
        return Pass("no storm of alerts")
    return Wait(Reason.STORM, f"{blowing}: the monitor, or something that they share, is suspected", now + LOOK_AGAIN)
