"""What was done before a case begins, put on record by the store's own code: cooldowns, limits and breakers ask the ledger."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from remediator.core.alert import Alert, AlertStatus
from remediator.core.playbook import Playbook
from remediator.core.run import RunEvent
from remediator.core.snapshot import Score
from remediator.core.target import Workload
from remediator.core.verdict import Reason
from remediator.lab.playbook_tests.case import Case, Repair
from remediator.ports import Ledger, LedgerKind, LedgerRow, PlaybookText

SHORT = timedelta(minutes=1)


def put_on_record(ledger: Ledger, case: Case, target: Workload, repair: Repair, run_id: str) -> None:
    """One episode, its run and the run's one step, all at the moment that the repair names."""
    at, playbook = case.begins_at - repair.ago, case.playbook
    labels = case.alerts[repair.alert]
    _, episode = ledger.episodes.hear(Alert(AlertStatus.FIRING, labels, {}, at, None), at)
    assert episode is not None, "a firing alert opens an episode"
    ledger.runs.admit(run_id, episode, _text(playbook), at, at + playbook.limits.give_up)
    [run] = ledger.runs.lease("history", at, at + SHORT, 1)
    rung = next(number for number, rung in enumerate(playbook.ladder) if rung.step.name == repair.step)
    command = f"{repair.step} {target.name}"
    intent = LedgerRow(at, LedgerKind.INTENT, target=target.id, data={"step": repair.step, "command": command})
    run = ledger.claims.claim(replace(run, rung=rung, target=target.id), target.locks, at, intent)
    run, _ = ledger.claims.go(run, {}, at)
    outcome = LedgerRow(at, LedgerKind.OUTCOME, data={"outcome": "done", "said": ""})
    run = ledger.runs.move(run, RunEvent.OUTCOME, at, outcome)
    helped = repair.result is Score.SUCCESS
    event, reason = (RunEvent.VERIFIED, Reason.VERIFIED) if helped else (RunEvent.ESCALATE, Reason.LADDER_EXHAUSTED)
    ledger.runs.move(run, event, at, LedgerRow(at, LedgerKind.RESULT, data={"score": repair.result}), reason=reason)
    ledger.episodes.hear(Alert(AlertStatus.RESOLVED, labels, {}, at, at), at)


def releases_on_record(ledger: Ledger, case: Case, workloads: Sequence[Workload]) -> None:
    """What the targets ran, the oldest first."""
    for release, ago in sorted(case.world.releases.items(), key=lambda each: each[1], reverse=True):
        for workload in workloads:
            ledger.releases.record(replace(workload, release=release), case.begins_at - ago)


def _text(playbook: Playbook) -> PlaybookText:
    return PlaybookText(playbook.name, playbook.version, playbook.source)
