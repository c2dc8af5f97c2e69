"""What is told of a run, as data for the outbox: one Grafana annotation a run, one message for each escalation."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from remediator.core.playbook import Playbook
from remediator.core.redaction import redacted_all
from remediator.core.run import Run, RunState
from remediator.core.snapshot import Storm
from remediator.core.verdict import Reason
from remediator.ports import Asked, Channel, LedgerKind, LedgerRow, Message

TEXT_CHARACTERS_MAX = 4_000
TAKEN_UP = "it is over, {} runs are taken up again; of those that limits do not allow you hear no more: see `runs list`"
WAITED_IN_VAIN = frozenset(
    {
        Reason.STORM,
        Reason.GAVE_UP,
        Reason.COOLDOWN,
        Reason.RATE_TARGET,
        Reason.RATE_PLAYBOOK,
        Reason.RATE_GLOBAL,
    }
)
"""Ends of runs that nothing was done about because of a storm, or of the limits when it was over."""
SEVERITIES = frozenset({"critical", "error", "warning", "info", "page", "ticket"})


def severity_of(run: Run) -> str:
    """The alert's severity if it is one of the usual words, else `other`: an alert cannot invent a metric's label."""
    severity = run.episode.labels.get("severity", "").lower()
    return severity if severity in SEVERITIES else "other"


def annotation(run: Run, timeline: Sequence[LedgerRow]) -> Message:
    """A region from the decision to the end, or open while the run goes on; found again by its `run:` tag."""
    ended = run.finished_at is not None
    outcome = str(run.state) if ended else "running"
    began_at = timeline[0].at if timeline else run.created_at
    payload = {
        "run": run.id,
        "time": _millis(began_at.timestamp()),
        "time_end": _millis(run.finished_at.timestamp()) if run.finished_at else None,
        "tags": ["remediator", f"run:{run.id}", f"playbook:{run.playbook}", f"outcome:{outcome}"],
        "text": "\n".join([f"{run.playbook} on {run.target or 'no target'}: {outcome}", *story(timeline)])[
            :TEXT_CHARACTERS_MAX
        ],
    }
    return Message(f"annotation:{run.id}", Channel.ANNOTATION, payload)


def escalation(run: Run, playbook: Playbook | None, timeline: Sequence[LedgerRow]) -> Message:
    """Everything that the person who is woken needs to begin."""
    labels = run.episode.labels
    commands = [command for row in timeline for command in row.data.get("commands", ())]
    payload = {
        "run": run.id,
        "episode": run.episode.id,
        "playbook": run.playbook,
        "escalate_to": playbook.escalate if playbook else "",
        "labels": dict(labels),
        "annotations": redacted_all(run.episode.annotations),
        "target": run.target,
        "severity": severity_of(run),
        "reason": str(run.reason),
        "summary": f"{labels.get('alertname', 'alert')} on {run.target or 'an unknown target'}: {run.reason}",
        "tried": story(timeline),
        "commands": commands,
        "runbook": labels.get("runbook_url")
        or run.episode.annotations.get("runbook_url", "")
        or (playbook.runbook if playbook else ""),
    }
    return Message(f"escalation:{run.id}:{run.reason}", Channel.ESCALATION, payload)


def approval_wanted(run: Run, playbook: Playbook, asked: Asked, timeline: Sequence[LedgerRow]) -> Message:
    """The question to people: exactly what would be done, how to say yes or no, and until when."""
    told = escalation(run, playbook, timeline)
    payload = {
        **told.payload,
        "plan": asked.plan,
        "commands": [asked.command],
        "approve": f'remediator approve {run.id} --plan {asked.plan} --by NAME --why "..."',
        "reject": f'remediator reject {run.id} --plan {asked.plan} --by NAME --why "..."',
        "answer_until": asked.until.isoformat(timespec="seconds"),
    }
    return Message(f"approval:{run.id}:{run.rung + 1}.{asked.number}", Channel.ESCALATION, payload)


def storm_notice(storm: Storm, waiting: int) -> Message:
    """One message when a storm of alerts begins and one when it is over, instead of one for each of its alerts."""
    over = storm.over_at is not None
    payload = {
        "severity": "critical",
        "reason": str(Reason.STORM),
        "summary": f"{storm}; " + (TAKEN_UP.format(waiting) if over else "its runs are held"),
        "targets": storm.targets,
        "since": storm.since.isoformat(timespec="seconds"),
        "over_at": storm.over_at.isoformat(timespec="seconds") if storm.over_at else "",
        "runs_waiting": waiting,
    }
    key = f"storm:{_millis(storm.since.timestamp())}" + (":over" if over else "")
    return Message(key, Channel.ESCALATION, payload)


def watchdog_notice(silent: str, raised_at: datetime, heard_at: datetime | None) -> Message:
    """One message when the Watchdog alert goes missing, and one when it is back (`silent` is empty)."""
    payload = {
        "severity": "critical",
        "reason": str(Reason.WATCHDOG_MISSING if silent else Reason.RECOVERED),
        "summary": f"nothing is done automatically: it is not certain that alerts arrive ({silent})"
        if silent
        else "the Watchdog alert arrives again",
        "since": raised_at.isoformat(timespec="seconds"),
        "last_heard_at": heard_at.isoformat(timespec="seconds") if heard_at else "",
    }
    key = f"watchdog:{_millis(raised_at.timestamp())}" + ("" if silent else ":back")
    return Message(key, Channel.ESCALATION, payload)


def messages(run: Run, playbook: Playbook | None, timeline: Sequence[LedgerRow]) -> list[Message]:
    """What is to be told of a run that has just ended, or that a person must look at."""
    if _is_in_the_storms_message(run, timeline):
        return []
    told = [annotation(run, timeline)] if _worth_an_annotation(run, timeline) else []
    # Nobody is woken a second time when a doubt that was told ends with its alert.
    ends_a_doubt = run.state is RunState.ESCALATED and run.reason is Reason.IN_DOUBT
    is_known = ends_a_doubt and any(row.data.get("told") for row in timeline)
    if run.state in (RunState.ESCALATED, RunState.IN_DOUBT) and not is_known:
        told.append(escalation(run, playbook, timeline))
    return told


def story(timeline: Sequence[LedgerRow]) -> list[str]:
    """The rows of a timeline that a person wants to read, a line each."""
    return [line for row in timeline if (line := sentence(row))]


def sentence(row: LedgerRow) -> str:
    """One row in words, without its time; empty for rows that say nothing to a person."""
    data: dict[str, Any] = dict(row.data)
    match row.kind:
        case LedgerKind.DECISION:
            return f"decided to {data['decision']} ({data['reason']}): {data['seen']}"
        case LedgerKind.EVIDENCE:
            return f"looked at {', '.join(each['name'] for each in data['evidence'])}"
        case LedgerKind.INTENT:
            return f"step {row.rung + 1}: {data['command']}"
        case LedgerKind.GO:
            return ""
        case LedgerKind.OUTCOME:
            return f"{data['outcome']}: {data['said']}"
        case LedgerKind.OBSERVATION:
            return f"observed ({data['happened']}): {data['seen']}"
        case LedgerKind.VERIFICATION:
            return f"verification {data['outcome']}: {data['seen']}"
        case LedgerKind.ASK:
            return f"asked for approval of plan {data['plan']}: {data['command']}"
        case LedgerKind.APPROVAL:
            return f"{'approved' if data['granted'] else 'rejected'} by {row.who}: {data['why']}"
        case LedgerKind.END:
            return f"ended as {data['state']} ({data['reason']})"
        case LedgerKind.RESULT | LedgerKind.SWITCH | LedgerKind.STORM:
            return ""


def _is_in_the_storms_message(run: Run, timeline: Sequence[LedgerRow]) -> bool:
    """A storm's messages say it of all of its runs: when it is over, thousands would have to wait for what limits allow.

    What ended for another reason than waiting, or asked a person something, is told like any other.
    """
    held = any(row.kind is LedgerKind.DECISION and row.data["reason"] == Reason.STORM for row in timeline)
    went_on = any(row.kind in (LedgerKind.ASK, LedgerKind.INTENT) for row in timeline)
    return held and not went_on and run.reason in WAITED_IN_VAIN


def _worth_an_annotation(run: Run, timeline: Sequence[LedgerRow]) -> bool:
    """Acted, suggested or escalated. A run that was over before anything was begun would only be noise on a graph."""
    acted = any(row.kind is LedgerKind.INTENT for row in timeline)
    return acted or run.state in (RunState.SUGGESTED, RunState.ESCALATED)


def _millis(seconds: float) -> int:
    return int(seconds * 1000)
