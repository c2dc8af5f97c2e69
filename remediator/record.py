"""A run's record: its playbook, its newest rows, its transitions, and what is told of them; one transaction for each."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from remediator.announcements import messages, severity_of
from remediator.core.playbook import Playbook
from remediator.core.run import Run, RunEvent
from remediator.core.step import Rollback, Step
from remediator.core.target import Workload
from remediator.core.verdict import Decision, Reason
from remediator.ports import Channel, Clock, Facts, Ledger, LedgerKind, LedgerRow, Message, Store
from remediator.telemetry import Telemetry

CALL_GRACE = timedelta(seconds=30)
"""What a call may take beyond the step's own timeout, per instance."""
ROLLBACK_GRACE = timedelta(minutes=4)
"""It makes a container, stops one, starts the other, and puts things back if that fails."""

Next = tuple[Run, datetime | None]
"""A run after a stage, and when it is due again; None: go on at once, or it has ended."""


class Record:
    """What every stage of a run reads and writes."""

    def __init__(self, store: Store, parse: Callable[[str, str], Playbook], clock: Clock, telemetry: Telemetry) -> None:
        self._store = store
        self._parse = parse
        self._clock = clock
        self._tell = telemetry
        self._read: dict[str, Playbook] = {}
        """Playbooks by version: there are as many as there were reloads."""

    async def playbook(self, run: Run) -> Playbook:
        """The playbook in the version that the run was admitted with (promise S13)."""
        if run.playbook_version not in self._read:
            text = await self._store.run(lambda ledger: ledger.runs.playbook(run.playbook_version))
            self._read[run.playbook_version] = self._parse(text.source, text.name)
        return self._read[run.playbook_version]

    async def last(self, run: Run, *kinds: LedgerKind) -> LedgerRow:
        """The newest row of any of `kinds`. The run's state says that there is one."""
        timeline = await self._store.run(lambda ledger: ledger.runs.timeline(run.id))
        return next(row for row in reversed(timeline) if row.kind in kinds)

    async def move(self, run: Run, event: RunEvent, *rows: LedgerRow, reason: Reason = Reason.CLEAR) -> Run:
        """Take a transition, of which nobody is told. Raises Fenced or StoreUnavailable."""

        def work(ledger: Ledger) -> Run:
            return ledger.runs.move(run, event, ledger.now, *_dated(rows, ledger.now), reason=reason)

        return await self._store.run(work)

    async def end(self, run: Run, event: RunEvent, reason: Reason, playbook: Playbook | None, *rows: LedgerRow) -> Run:
        """The end of a run and what is told of it, in one transaction. Raises Fenced or StoreUnavailable."""

        def work(ledger: Ledger) -> tuple[Run, list[Message]]:
            now = ledger.now
            ended = ledger.runs.move(run, event, now, *_dated(rows, now), reason=reason)
            ledger.runs.append(ended, LedgerRow(now, LedgerKind.END, data={"state": ended.state, "reason": reason}))
            return ended, self.post(ledger, ended, playbook, now)

        ended, posted = await self._store.run(work)
        self._tell.ended(ended)
        self.count_raised(ended, posted)
        return ended

    async def forget_release(self, run: Run, release: str) -> None:
        """Nobody shall roll back to what was just rolled back from."""
        await self._store.run(lambda ledger: ledger.releases.forget(run.target, release))

    def post(self, ledger: Ledger, run: Run, playbook: Playbook | None, now: datetime) -> list[Message]:
        """Put what is to be told of the run into the outbox, inside a transaction."""
        posted = messages(run, playbook, ledger.runs.timeline(run.id))
        for message in posted:
            ledger.outbox.put(message, now)
        return posted

    def count_raised(self, run: Run, posted: Sequence[Message]) -> None:
        """Once `posted` is durable: were people told?"""
        if any(message.channel is Channel.ESCALATION for message in posted):
            self._tell.raised(severity_of(run))


def _dated(rows: Sequence[LedgerRow], at: datetime) -> list[LedgerRow]:
    """As of the transaction: cooldowns and breakers count from when it was known, however long it waited to be written."""
    return [replace(row, at=at) for row in rows]


def decision_row(decision: Decision, at: datetime, **more: object) -> LedgerRow:
    """A decision with the verdict of every guard, and the `commands` that it leaves to people."""
    verdicts = {given.guard: [type(given.verdict).__name__.lower(), given.verdict.seen] for given in decision.verdicts}
    until = {"until": decision.retry_at.isoformat()} if decision.retry_at is not None else {}
    data: Facts = {
        "decision": decision.kind,
        "reason": decision.reason,
        "seen": decision.seen,
        "verdicts": verdicts,
        **until,
        **more,
    }
    return LedgerRow(at, LedgerKind.DECISION, data=data)


def timeout_of(step: object) -> timedelta:
    """How long the step's own work may take, as far as it says so."""
    timeout = getattr(step, "timeout", timedelta())
    return timeout if isinstance(timeout, timedelta) else timedelta()


def call_lasts(step: Step, workload: Workload) -> timedelta:
    """How long a call may be under way from its go: it waits its turn, and the platform works, one instance after another."""
    grace = ROLLBACK_GRACE if isinstance(step, Rollback) else CALL_GRACE
    return max(1, len(workload.instances)) * (timeout_of(step) + grace)
