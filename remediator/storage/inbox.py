"""The inbox: messages as they came, committed before they are answered, removed in the transaction that expands them.

One process at a time expands: a resolve must not overtake the firing that came before it.
"""

from collections.abc import Sequence
from datetime import datetime

from remediator.ports import Inbound
from remediator.storage.codec import micros, moment
from remediator.storage.database import Database
from remediator.storage.episodes import EPISODES

PUT = "INSERT INTO inbox (received_at, body) VALUES (:received_at, :body)"
# Bodies are read up to so many bytes, but always one: a batch of large messages is full after the first of them.
TAKE = """
    SELECT id, received_at, body FROM inbox
     WHERE id IN (SELECT id FROM (SELECT id, sum(bytes) OVER (ORDER BY id) - bytes AS before
                                    FROM (SELECT id, length(body) AS bytes FROM inbox
                                           WHERE set_aside = 0 ORDER BY id LIMIT :limit) AS oldest) AS summed
                   WHERE before < :bytes)
     ORDER BY id
"""
BYTES_AN_ALERT = 2 * 1024
OLDEST = "SELECT id FROM inbox WHERE set_aside = 0 ORDER BY id LIMIT 1"
SET_ASIDE = "UPDATE inbox SET set_aside = 1 WHERE id = :id AND set_aside = 0"
REMOVE = "DELETE FROM inbox WHERE id = :id"


class SqlInbox:
    def __init__(self, db: Database) -> None:
        self._db = db

    def put(self, messages: Sequence[tuple[bytes, datetime]]) -> None:
        """Write messages in order of arrival."""
        self._db.run_many(PUT, [{"received_at": micros(at), "body": body} for body, at in messages])

    @property
    def alerts_at_once(self) -> int:
        return self._db.alerts_at_once

    def reserve(self) -> bool:
        return self._db.try_lock(EPISODES)

    def take(self, limit: int) -> Sequence[Inbound]:
        rows = self._db.all(TAKE, limit=limit, bytes=BYTES_AN_ALERT * self._db.alerts_at_once)
        return [Inbound(row["id"], row["body"], moment(row["received_at"])) for row in rows]

    def oldest(self) -> int | None:
        row = self._db.one(OLDEST)
        return None if row is None else int(row["id"])

    def set_aside(self, message: int) -> bool:
        return bool(self._db.run(SET_ASIDE, id=message))

    def remove(self, messages: Sequence[Inbound]) -> None:
        self._db.run_many(REMOVE, [{"id": message.id} for message in messages])
