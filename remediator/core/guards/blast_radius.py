"""Blast radius guard: a step must leave enough healthy instances of the service. Pure.

Steps take the instances of their target one at a time. One that is ill already costs nobody anything more, and one that is
the only one has nobody to stand in for it: the alert says that it does not serve. Instances that another run is at work on
count as unhealthy, whatever they say of themselves.
"""

from datetime import datetime, timedelta
from math import ceil

from remediator.core.snapshot import Candidate, Snapshot
from remediator.core.target import Health, Instance
from remediator.core.verdict import Pass, Reason, Verdict, Wait

LOOK_AGAIN = timedelta(seconds=15)


def blast_radius(candidate: Candidate, snapshot: Snapshot, now: datetime) -> Verdict:
    workload = candidate.workload
    if workload is None or not candidate.disturbs:
        return Pass("no instance is taken down")
    everyone = (*workload.instances, *workload.peers)
    if len(everyone) <= 1:
        return Pass("it is the only instance")

    def serves(instance: Instance) -> bool:
        return instance.health is Health.HEALTHY and instance.name not in snapshot.ledger.in_flight

    healthy = sum(map(serves, everyone))
    left = healthy - any(map(serves, workload.instances))
    needed = ceil(candidate.limits.min_healthy * len(everyone))
    if left == healthy:
        return Pass(f"it takes down no healthy instance; {healthy} of {len(everyone)} are healthy")
    if left >= needed:
        return Pass(f"{left} of {len(everyone)} instances stay healthy; {needed} must")
    seen = f"only {left} of {len(everyone)} instances would stay healthy; {needed} must"
    return Wait(Reason.BLAST_RADIUS, seen, retry_at=now + LOOK_AGAIN)
