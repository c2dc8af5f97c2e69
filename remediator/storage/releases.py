"""What each workload ran, as a short history: where a rollback goes back to."""

from collections.abc import Sequence
from datetime import datetime

from remediator.core.target import Workload
from remediator.storage.codec import micros, moment
from remediator.storage.database import Database

LATEST = "SELECT release FROM releases WHERE workload = :workload ORDER BY id DESC LIMIT 1"
RECORD = "INSERT INTO releases (workload, release, seen_at) VALUES (:workload, :release, :at)"
# A release that was rolled back from is forgotten (FORGET): otherwise the second rollback would return to it.
PREVIOUS = """
    SELECT release FROM releases WHERE workload = :workload AND release <> :release ORDER BY id DESC LIMIT 1
"""
ROLLED_OUT = """
    SELECT seen_at FROM releases WHERE workload = :workload AND release = :release ORDER BY id DESC LIMIT 1
"""
# A rollback goes back one release at a time, and each that was rolled back from is forgotten.
KEPT = 20
DROP_OLD = """
    DELETE FROM releases
     WHERE workload = :workload
       AND id <= (SELECT id FROM releases WHERE workload = :workload ORDER BY id DESC LIMIT 1 OFFSET :kept)
"""
ALL = "SELECT DISTINCT release FROM releases ORDER BY release"
FORGET = "DELETE FROM releases WHERE workload = :workload AND release = :release"


class SqlReleases:
    def __init__(self, db: Database) -> None:
        self._db = db

    def record(self, workload: Workload, at: datetime) -> bool:
        latest = self._db.one(LATEST, workload=workload.id)
        if not workload.release or (latest is not None and latest["release"] == workload.release):
            return False
        self._db.run(RECORD, workload=workload.id, release=workload.release, at=micros(at))
        self._db.run(DROP_OLD, workload=workload.id, kept=KEPT)
        return True

    def previous(self, workload: Workload) -> str:
        row = self._db.one(PREVIOUS, workload=workload.id, release=workload.release) if workload.release else None
        return row["release"] if row else ""

    def all(self) -> Sequence[str]:
        return [row["release"] for row in self._db.all(ALL)]

    def rolled_out_at(self, workload: Workload) -> datetime | None:
        row = self._db.one(ROLLED_OUT, workload=workload.id, release=workload.release) if self.previous(workload) else None
        return None if row is None else moment(row["seen_at"])

    def forget(self, target: str, release: str) -> None:
        self._db.run(FORGET, workload=target, release=release)
