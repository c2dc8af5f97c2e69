"""The inbox: messages as they came, committed before they are answered, removed in the transaction that expands them."""

from collections.abc import Sequence
from datetime import datetime

from remediator.ports import Inbound
from remediator.storage.codec import micros, moment
from remediator.storage.database import Database

PUT = "INSERT INTO inbox (received_at, body) VALUES (:received_at, :body)"
TAKE = "SELECT id, received_at, body FROM inbox WHERE set_aside = 0 ORDER BY id LIMIT :limit"
SET_ASIDE = """
    UPDATE inbox SET set_aside = 1 WHERE id = (SELECT min(id) FROM inbox WHERE set_aside = 0) RETURNING id
"""
REMOVE = "DELETE FROM inbox WHERE id = :id"


class SqlInbox:
    def __init__(self, db: Database) -> None:
        self._db = db

    def put(self, messages: Sequence[tuple[bytes, datetime]]) -> None:
        """Write messages in order of arrival."""
        self._db.run_many(PUT, [{"received_at": micros(at), "body": body} for body, at in messages])

    def take(self, limit: int) -> Sequence[Inbound]:
        rows = self._db.all(TAKE, limit=limit)
        return [Inbound(row["id"], row["body"], moment(row["received_at"])) for row in rows]

    def set_aside_oldest(self) -> int | None:
        row = self._db.one(SET_ASIDE)
        return None if row is None else int(row["id"])

    def remove(self, messages: Sequence[Inbound]) -> None:
        self._db.run_many(REMOVE, [{"id": message.id} for message in messages])
