"""What named SQL is run on: the few calls that the parts of the ledger need of a driver's connection.

One text serves both dialects. What only PostgreSQL needs stands in a comment, `/* postgresql: FOR UPDATE */`, that SQLite
passes over and `postgres_database.py` opens.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from remediator.ports import Clock
from remediator.storage.clock_jumps import JumpWatch
from remediator.storage.codec import moment

Row = Mapping[str, Any]


class Database(Protocol):
    """Statements name their parameters `:like_this`. Everything runs in the transaction that the store has begun."""

    alerts_at_once: int
    """How many alerts one transaction should expand."""

    def now(self) -> datetime:
        """The time that everything in this database is compared by: one clock for all who share it."""
        ...

    def steady(self, at: int) -> int:
        """A row's time in microseconds, for a guard that asks how long ago that was, whatever the clock was set to since."""
        ...

    def reaching_back(self, since: int) -> int:
        """The other way round: rows after this are `steady` after `since`."""
        ...

    def lock(self, scopes: Sequence[str]) -> None:
        """Let nobody else decide about any of `scopes` until this transaction ends (design, section 6)."""
        ...

    def try_lock(self, scope: str) -> bool:
        """`lock`, or False at once if somebody else has it."""
        ...

    def all(self, sql: str, /, **parameters: Any) -> Sequence[Any]: ...

    def one(self, sql: str, /, **parameters: Any) -> Any:
        """The first row, or None."""
        ...

    def run(self, sql: str, /, **parameters: Any) -> int:
        """How many rows it changed."""
        ...

    def each(self, sql: str, parameters: Sequence[Mapping[str, Any]], /) -> Sequence[Any]:
        """The same question with each of these parameters: the first row, or None, for each."""
        ...

    def later(self, sql: str, /, **parameters: Any) -> None:
        """Run it before anything else is asked or done, and within the transaction: nobody waits for it alone.

        What is wrong with it is raised then.
        """
        ...

    def append(self, sql: str, /, **parameters: Any) -> None:
        """`later`, for an INSERT of one row. Rows that are appended to different tables may change places."""
        ...

    def once(self, what: str, sql: str, /, **parameters: Any) -> None:
        """`later`, and nothing if this transaction has done so for the same `what`."""
        ...

    def add(self, table: str, sql: str, /, **parameters: Any) -> int:
        """`append`, for a row that is inserted under a new `:id`; the id. Ids of one transaction are above all before it."""
        ...

    def run_many(self, sql: str, parameters: Sequence[Mapping[str, Any]], /) -> None: ...


class SqliteDatabase:
    """`Database` over one sqlite3 connection; rows are sqlite3.Row. One process uses it, so its clock is the host's."""

    alerts_at_once = 64
    """4 ms, so that a commit of the intake, which has the same connection, never waits long behind it."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock) -> None:
        self._connection = connection
        self._clock = JumpWatch(clock)

    def now(self) -> datetime:
        return moment(self._clock.now())

    def steady(self, at: int) -> int:
        return self._clock.steady(at)

    def reaching_back(self, since: int) -> int:
        return self._clock.reaching_back(since)

    def lock(self, scopes: Sequence[str]) -> None:
        """Nothing to do: BEGIN IMMEDIATE has locked the whole database."""

    def try_lock(self, scope: str) -> bool:
        return True

    def all(self, sql: str, /, **parameters: Any) -> Sequence[Any]:
        return self._connection.execute(sql, parameters).fetchall()

    def one(self, sql: str, /, **parameters: Any) -> Any:
        return self._connection.execute(sql, parameters).fetchone()

    def run(self, sql: str, /, **parameters: Any) -> int:
        return self._connection.execute(sql, parameters).rowcount

    def each(self, sql: str, parameters: Sequence[Mapping[str, Any]], /) -> Sequence[Any]:
        return [self._connection.execute(sql, each).fetchone() for each in parameters]

    def later(self, sql: str, /, **parameters: Any) -> None:
        self._connection.execute(sql, parameters)

    def append(self, sql: str, /, **parameters: Any) -> None:
        self._connection.execute(sql, parameters)

    def once(self, what: str, sql: str, /, **parameters: Any) -> None:
        """Each time: asking whether it was done would cost as much."""
        self._connection.execute(sql, parameters)

    def add(self, table: str, sql: str, /, **parameters: Any) -> int:
        rowid = self._connection.execute(sql, {"id": None, **parameters}).lastrowid
        assert rowid is not None
        return rowid

    def run_many(self, sql: str, parameters: Sequence[Mapping[str, Any]], /) -> None:
        self._connection.executemany(sql, parameters)
