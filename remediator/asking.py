"""Questions to people about plans, and their answers: each put or taken in one transaction.

A question names one plan (the hash of step, parameters, target and episode) and stands until it is answered, until its plan
is no longer the one that would be carried out, or until `approval_within` has passed since the run first asked. An answer
counts if it names the plan that is asked about now. It does nothing by itself: the run is decided again, and a yes is spent
by the one call that it allows (promise S6).
"""

from dataclasses import dataclass, replace

from remediator.announcements import approval_wanted
from remediator.core.run import Run, RunEvent, RunState
from remediator.core.snapshot import Approval, Candidate, Policy
from remediator.core.verdict import Reason
from remediator.ports import Asked, Ledger, LedgerRow, Message


@dataclass(frozen=True, slots=True)
class Asking:
    """A run after its question was looked at, the question, and the message that puts it to people, if it is a new one."""

    run: Run
    asked: Asked
    posted: tuple[Message, ...] = ()


def ask(ledger: Ledger, run: Run, candidate: Candidate, command: str, row: LedgerRow, policy: Policy) -> Asking:
    """Put the candidate's plan to people, once. Past `asked.until` nothing is written: nobody answered in time.

    `row` is the decision to ask. While people are waited for, and while what they say may be acted on, nobody gives up.
    """
    now, before = ledger.now, ledger.approvals.asked(run)
    until = before.until if before else now + policy.approval_within
    asked = Asked(candidate.plan, command, until, before.number + 1 if before else 1)
    if now >= until:
        return Asking(run, asked)
    waiting = replace(run, deadline=max(run.deadline, until + policy.approval_lasts))
    if before and before.plan == candidate.plan and not before.answered:
        if run.state is RunState.ASKED:
            return Asking(run, before)
        # Another guard had spoken meanwhile. It is still the same question, which people know.
        back = ledger.runs.move(waiting, RunEvent.ASK, now, row, reason=Reason.APPROVAL_REQUIRED)
        return Asking(back, before)
    ledger.runs.append(run, row)
    waiting = ledger.approvals.ask(waiting, asked, now)
    question = approval_wanted(waiting, candidate.playbook, asked, ledger.runs.timeline(run.id))
    ledger.outbox.put(question, now)
    return Asking(waiting, asked, (question,))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person says of a plan."""

    run: str
    plan: str
    granted: bool
    by: str
    why: str


@dataclass(frozen=True, slots=True)
class Objection:
    """Why an answer is not taken, and what is asked now, if anything is."""

    why: str
    asked: Asked | None = None


def take(ledger: Ledger, answer: Answer, policy: Policy) -> Approval | Objection | None:
    """Put the answer on record and wake the run; None if there is no such run. The first answer to a question counts."""
    waits = ledger.approvals.hold(answer.run, ledger.now)
    now, run = ledger.now, ledger.runs.get(answer.run)
    if run is None:
        return None
    if not waits:
        return Objection(f"run {run.id} asks nothing now: it is {run.state} ({run.reason})")
    asked = question_of(ledger, run)
    if asked is None:
        return Objection(f"the question of run {run.id} was answered already; it is decided again just now")
    if now >= asked.until:
        return Objection(f"the question of run {run.id} could be answered until {asked.until:%H:%M:%S} UTC")
    if answer.plan != asked.plan:
        return Objection(f"run {run.id} asks about plan {asked.plan} now, not about {answer.plan}: {asked.command}", asked)
    approval = Approval(asked.plan, answer.by, answer.why, answer.granted, now + policy.approval_lasts)
    ledger.approvals.answer(run, approval, now)
    return approval


def question_of(ledger: Ledger, run: Run) -> Asked | None:
    """What people are asked about the run now."""
    asked = ledger.approvals.asked(run) if run.state is RunState.ASKED else None
    return None if asked is None or asked.answered else asked
