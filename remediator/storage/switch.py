"""The switch: pause and resume are ledger rows, with who and why; the newest one holds."""

from datetime import datetime

from remediator.ports import LedgerKind, LedgerRow
from remediator.storage.codec import micros
from remediator.storage.database import Database
from remediator.storage.runs import append_apart

WAKE_PAUSED = "UPDATE runs SET due_at = :at WHERE state = 'waiting' AND reason = 'paused'"


class SqlSwitch:
    def __init__(self, db: Database) -> None:
        self._db = db

    def pause(self, who: str, why: str, at: datetime) -> None:
        self._throw(who, why, at, paused=True)

    def resume(self, who: str, why: str, at: datetime) -> None:
        self._throw(who, why, at, paused=False)
        self._db.run(WAKE_PAUSED, at=micros(at))

    def _throw(self, who: str, why: str, at: datetime, *, paused: bool) -> None:
        append_apart(self._db, LedgerRow(at, LedgerKind.SWITCH, who=who, data={"paused": paused, "why": why}))
