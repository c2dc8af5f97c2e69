"""The real store code on a real SQLite connection, run where it is called: one transaction for each `run`, and no thread.

Several stores may share one connection, as replicas share a database. A transaction begins and ends without an `await`
in between; what may go wrong at a commit is for `Interruption` to say.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from enum import Enum
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol, TypeVar

from remediator.core.snapshot import Policy
from remediator.ports import Clock, Ledger, StoreUnavailable
from remediator.storage.database import SqliteDatabase
from remediator.storage.ledger import SqlLedger
from remediator.storage.migrate import upgrade

T = TypeVar("T")


class Fate(Enum):
    """What becomes of a transaction whose work is done."""

    COMMITTED = "committed"
    DONE_AGAIN = "done again"
    """Rolled back and run once more, as happens to a batch when another's work in it failed."""
    LOST = "lost"
    """Rolled back."""


class Interruption(Protocol):
    """What happens around a transaction. The asynchronous ones may await, raise StoreUnavailable, or never return."""

    async def before(self) -> None:
        """The transaction has not begun."""
        ...

    def fate(self) -> Fate:
        """Its work is done, and not yet durable."""
        ...

    async def after(self) -> None:
        """It is durable, and whoever waits for it does not know yet."""
        ...

    async def lost(self) -> None:
        """It was rolled back for good. If this returns, the store says that it is unavailable."""
        ...


class Undisturbed:
    """Nothing happens around a transaction."""

    async def before(self) -> None:
        return

    def fate(self) -> Fate:
        return Fate.COMMITTED

    async def after(self) -> None:
        return

    async def lost(self) -> None:
        return


def open_memory() -> sqlite3.Connection:
    """A new database in memory, with the newest schema. Transactions are begun and ended explicitly."""
    connection = sqlite3.connect(":memory:", isolation_level=None, cached_statements=256)
    connection.deserialize(_empty_database())
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


@lru_cache(maxsize=1)
def _empty_database() -> bytes:
    """What the migrations make of nothing. They take half a second, a copy of their result takes none."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / "empty.db"
        upgrade(path)
        with closing(sqlite3.connect(path)) as connection:
            return connection.serialize()


class InlineStore:
    """Implements `ports.Store`."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        policy: Callable[[], Policy],
        confirm_after: timedelta,
        clock: Clock,
        interruption: Interruption | None = None,
        *,
        is_shared: bool = False,
    ) -> None:
        """`clock` is the database's: what replicas compare is written and read by it."""
        self.is_shared = is_shared
        self._connection = connection
        self._ledger = SqlLedger(SqliteDatabase(connection, clock), policy, confirm_after)
        self._interruption = interruption or Undisturbed()

    async def put(self, body: bytes, received_at: datetime) -> None:
        await self._transact(lambda ledger: ledger.inbox.put([(body, received_at)]))

    async def run(self, work: Callable[[Ledger], T]) -> T:
        return await self._transact(work)

    async def _transact(self, work: Callable[[SqlLedger], T]) -> T:
        await self._interruption.before()
        fate, result = self._attempt(work)
        while fate is Fate.DONE_AGAIN:
            fate, result = self._attempt(work)
        if fate is Fate.LOST:
            await self._interruption.lost()
            raise StoreUnavailable("the transaction was lost")
        await self._interruption.after()
        return result

    def _attempt(self, work: Callable[[SqlLedger], T]) -> tuple[Fate, T]:
        self._connection.execute("BEGIN IMMEDIATE")
        fate = Fate.LOST
        try:
            result = work(self._ledger)
            fate = self._interruption.fate()
        finally:
            self._connection.execute("COMMIT" if fate is Fate.COMMITTED else "ROLLBACK")
        return fate, result
