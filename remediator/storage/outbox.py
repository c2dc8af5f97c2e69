"""The outbox: what is to be told, written with what it tells of, delivered later and never blocking a run."""

from collections.abc import Sequence
from datetime import datetime

from remediator.ports import Channel, Message
from remediator.storage.codec import dump, load, micros
from remediator.storage.database import Database

# News of a message that was given up are tried anew; that it may have arrived (an attempt) is not forgotten.
PUT = """
    INSERT INTO outbox (key, channel, payload, version, attempts, receipt, due_at, dropped_why, put_at)
    VALUES (:key, :channel, :payload, 1, 0, '', :at, '', :at)
    ON CONFLICT (key) DO UPDATE
       SET payload = excluded.payload, version = outbox.version + 1, due_at = excluded.due_at, dropped_why = '',
           put_at = excluded.put_at,
           attempts = CASE WHEN outbox.dropped_why = '' THEN outbox.attempts ELSE 1 END
"""
# Whose attempt is being put on record by another process is passed over; afterwards it is not due any more.
DUE = """
    SELECT * FROM outbox WHERE due_at <= :at ORDER BY due_at LIMIT :limit /* postgresql: FOR UPDATE SKIP LOCKED */
"""
ATTEMPT = "UPDATE outbox SET attempts = attempts + 1, due_at = :next_at WHERE key = :key AND version = :version"
RETRY = "UPDATE outbox SET due_at = :at WHERE key = :key AND version = :version"
RECEIPT = "UPDATE outbox SET receipt = :receipt WHERE key = :key"
# A payload that was replaced while the old one was on its way stays due.
DELIVERED = "UPDATE outbox SET due_at = NULL WHERE key = :key AND version = :version"
DROPPED = "UPDATE outbox SET due_at = NULL, dropped_why = :why WHERE key = :key AND version = :version"


class SqlOutbox:
    def __init__(self, db: Database) -> None:
        self._db = db

    def put(self, message: Message, at: datetime) -> None:
        self._db.run(PUT, key=message.key, channel=message.channel, payload=dump(message.payload), at=micros(at))

    def due(self, at: datetime, limit: int) -> Sequence[Message]:
        return [
            Message(
                row["key"], Channel(row["channel"]), load(row["payload"]), row["version"], row["attempts"], row["receipt"]
            )
            for row in self._db.all(DUE, at=micros(at), limit=limit)
        ]  # fmt: skip

    def attempt(self, message: Message, next_at: datetime) -> None:
        self._db.run(ATTEMPT, key=message.key, version=message.version, next_at=micros(next_at))

    def retry(self, message: Message, at: datetime) -> None:
        self._db.run(RETRY, key=message.key, version=message.version, at=micros(at))

    def delivered(self, message: Message, receipt: str) -> None:
        self._db.run(RECEIPT, key=message.key, receipt=receipt)
        self._db.run(DELIVERED, key=message.key, version=message.version)

    def dropped(self, message: Message, why: str) -> None:
        self._db.run(DROPPED, key=message.key, version=message.version, why=why)
