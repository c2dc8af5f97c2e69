"""Approvals: what people were asked and what they said, as rows of the run's own timeline."""

from datetime import datetime

from remediator.core.run import Run, RunEvent
from remediator.core.snapshot import Approval
from remediator.core.verdict import Reason
from remediator.ports import Asked, LedgerKind, LedgerRow
from remediator.storage.codec import load, micros, moment
from remediator.storage.database import Database
from remediator.storage.runs import SqlRuns, append_to

ASKED = "SELECT id, data FROM ledger WHERE run_id = :run AND kind = 'ask' AND rung = :rung ORDER BY id"
GIVEN = """
    SELECT id, who, data FROM ledger WHERE run_id = :run AND kind = 'approval' AND rung = :rung ORDER BY id DESC LIMIT 1
"""
ANSWERED = "SELECT 1 FROM ledger WHERE run_id = :run AND kind = 'approval' AND id > :since LIMIT 1"
USED = "SELECT 1 FROM ledger WHERE run_id = :run AND kind = 'go' AND id > :since LIMIT 1"
# Where several processes share the database, the row's lock lets one answer in at a time, and no move beside it.
HOLD = "UPDATE runs SET due_at = :at WHERE id = :run AND state = 'asked'"
WAKE = "UPDATE runs SET due_at = :at WHERE id = :run AND finished_at IS NULL"
COUNT_PENDING = "SELECT count(*) AS pending FROM runs WHERE state = 'asked'"


class SqlApprovals:
    def __init__(self, db: Database, runs: SqlRuns) -> None:
        self._db = db
        self._runs = runs

    def ask(self, run: Run, asked: Asked, at: datetime) -> Run:
        data = {"plan": asked.plan, "command": asked.command, "until": micros(asked.until)}
        row = LedgerRow(at, LedgerKind.ASK, data=data)
        return self._runs.move(run, RunEvent.ASK, at, row, reason=Reason.APPROVAL_REQUIRED)

    def asked(self, run: Run) -> Asked | None:
        rows = self._db.all(ASKED, run=run.id, rung=run.rung)
        if not rows:
            return None
        first, newest = load(rows[0]["data"]), load(rows[-1]["data"])
        answered = self._db.one(ANSWERED, run=run.id, since=rows[-1]["id"]) is not None
        return Asked(newest["plan"], newest["command"], moment(first["until"]), len(rows), answered)

    def hold(self, run: str, at: datetime) -> bool:
        return bool(self._db.run(HOLD, run=run, at=micros(at)))

    def given(self, run: str, rung: int) -> Approval | None:
        row = self._db.one(GIVEN, run=run, rung=rung)
        if row is None:
            return None
        said = load(row["data"])
        used = self._db.one(USED, run=run, since=row["id"]) is not None
        return Approval(said["plan"], row["who"], said["why"], said["granted"], moment(said["expires_at"]), used)

    def answer(self, run: Run, approval: Approval, at: datetime) -> None:
        data = {
            "plan": approval.plan,
            "granted": approval.granted,
            "why": approval.why,
            "expires_at": micros(approval.expires_at),
        }
        append_to(self._db, run, LedgerRow(at, LedgerKind.APPROVAL, who=approval.by, data=data))
        self._db.run(WAKE, run=run.id, at=micros(at))

    def count_pending(self) -> int:
        return int(self._db.one(COUNT_PENDING)["pending"])
