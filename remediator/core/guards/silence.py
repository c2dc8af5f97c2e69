"""Silence guard: what a person has silenced in Alertmanager, or another alert inhibits, is left alone. Pure.

A silence is the gesture that operators know, so it cancels what was not sent. When it ends and the alert still fires, a
new run is begun. Where nobody can say whether there is one, a disruptive step waits.
"""

from datetime import datetime, timedelta

from remediator.core.snapshot import Candidate, Off, Snapshot, Unknown
from remediator.core.verdict import Pass, Reason, Refuse, Verdict, Wait

LOOK_AGAIN = timedelta(seconds=15)


def silence(candidate: Candidate, snapshot: Snapshot, now: datetime) -> Verdict:
    match snapshot.neighbours.listing:
        case Off():
            return Pass("off: no Alertmanager is configured")
        case Unknown(why) if candidate.disturbs:
            return Wait(Reason.SILENCE_UNKNOWN, f"it may be silenced: {why}", retry_at=now + LOOK_AGAIN)
        case Unknown(why):
            return Pass(f"it may be silenced, but the step disturbs nobody: {why}")
        case listing if listing.muted:
            return Refuse(listing.reason, listing.muted)
        case _:
            return Pass("neither silenced nor inhibited")
