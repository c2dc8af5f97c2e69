"""When things that should always be heard of were last heard of."""

from datetime import datetime

from remediator.storage.codec import micros, moment
from remediator.storage.database import Database

BEAT = """
    INSERT INTO heartbeats (name, heard_at) VALUES (:name, :at)
    ON CONFLICT (name) DO UPDATE SET heard_at = excluded.heard_at WHERE heartbeats.heard_at < excluded.heard_at
"""
HEARD = "SELECT heard_at FROM heartbeats WHERE name = :name"


class SqlHeartbeats:
    def __init__(self, db: Database) -> None:
        self._db = db

    def look_alone(self) -> None:
        self._db.lock(["heartbeats"])

    def beat(self, name: str, at: datetime) -> None:
        self._db.run(BEAT, name=name, at=micros(at))

    def heard_at(self, name: str) -> datetime | None:
        row = self._db.one(HEARD, name=name)
        return None if row is None else moment(row["heard_at"])
