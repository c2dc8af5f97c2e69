"""Alive guard: the episode must still be firing, confirmed, and heard of lately. Pure."""

from datetime import datetime, timedelta

from remediator.core.alert import EpisodeState
from remediator.core.playbook import brief
from remediator.core.snapshot import Candidate, Snapshot
from remediator.core.verdict import Pass, Reason, Refuse, Verdict, Wait

LOOK_AGAIN = timedelta(seconds=30)


def alive(candidate: Candidate, snapshot: Snapshot, now: datetime) -> Verdict:
    episode = snapshot.ledger.episode
    silent_for = now - episode.heard_at
    match episode.state:
        case EpisodeState.RESOLVED:
            return Refuse(Reason.RESOLVED, "the alert has resolved")
        case EpisodeState.EXPIRED:
            return Refuse(Reason.STALE, "the alert was not heard of any more and has expired")
        case EpisodeState.OPEN if silent_for > snapshot.policy.episode_expiry:
            return Refuse(Reason.STALE, f"the alert was last heard of {brief(silent_for)} ago")
        case EpisodeState.OPEN if not episode.confirmed:
            seen = "Alertmanager does not list it, or it may be a late re-send; waiting for another message to confirm it"
            return Wait(Reason.UNCONFIRMED, seen, retry_at=now + LOOK_AGAIN)
        case EpisodeState.OPEN:
            return Pass(f"firing, heard of {brief(max(silent_for, timedelta()))} ago")
