"""Target guard: exactly one workload, opted in to this step, and not remediator itself nor what it stands on. Pure."""

from datetime import datetime, timedelta

from remediator.core.snapshot import Candidate, Found, Snapshot, Unknown
from remediator.core.step import Rollback, Step
from remediator.core.step_parts import Risk
from remediator.core.target import Workload
from remediator.core.template import Unbound
from remediator.core.verdict import Pass, Reason, Refuse, Verdict, Wait

LOOK_AGAIN = timedelta(seconds=15)
NAMES_SHOWN = 5


def target(candidate: Candidate, snapshot: Snapshot, now: datetime) -> Verdict:
    match candidate.lookup:
        case Unknown(why):
            return Wait(Reason.TARGET_UNKNOWN, why, retry_at=now + LOOK_AGAIN)
        case Unbound(_, why):
            return Refuse(Reason.LABEL_UNUSABLE, why)
        case Found((), sought):
            return Refuse(Reason.NO_TARGET, f"no workload has {sought or 'what the target asks for'}")
        case Found((workload,)):
            return _fits(workload, candidate, snapshot)
        case Found(several):
            names = ", ".join(sorted(workload.id for workload in several)[:NAMES_SHOWN])
            return Refuse(Reason.TARGET_AMBIGUOUS, f"{len(several)} workloads are selected, it must be one: {names}")


def _fits(workload: Workload, candidate: Candidate, snapshot: Snapshot) -> Verdict:
    step = candidate.step
    if workload.protected:
        return Refuse(Reason.TARGET_PROTECTED, f"{workload.id} {workload.protected}")
    if step.name in workload.lacks:
        return Refuse(Reason.NOT_OFFERED, f"{step.name} is not to be had for {workload.id}")
    if not allows(workload, step):
        allowed = ", ".join(sorted(workload.allow)) or "nothing"
        return Refuse(Reason.NOT_OPTED_IN, f"{workload.id} allows {allowed}, not {step.name}")
    if isinstance(step, Rollback) and not snapshot.ledger.previous_release:
        return Refuse(Reason.NO_PREVIOUS_RELEASE, f"no release before the current one is on record for {workload.id}")
    return Pass(f"{workload.id} allows {step.name}")


def allows(workload: Workload, step: Step) -> bool:
    """Opted in by name, or by `*` for whatever the target's own platform does and is not destructive.

    `*` on a container says nothing about the database that the container uses: steps of data services are named.
    """
    covered = step.service in ("", workload.platform)
    return step.name in workload.allow or ("*" in workload.allow and covered and step.risk is not Risk.DESTRUCTIVE)
