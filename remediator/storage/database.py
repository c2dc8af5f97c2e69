"""What named SQL is run on: the few calls that the parts of the ledger need of a driver's connection."""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

Row = Mapping[str, Any]


class Database(Protocol):
    """Statements name their parameters `:like_this`. Everything runs in the transaction that the store has begun."""

    def all(self, sql: str, /, **parameters: Any) -> Sequence[Any]: ...

    def one(self, sql: str, /, **parameters: Any) -> Any:
        """The first row, or None."""
        ...

    def run(self, sql: str, /, **parameters: Any) -> int:
        """How many rows it changed."""
        ...

    def run_many(self, sql: str, parameters: Sequence[Mapping[str, Any]], /) -> None: ...


class SqliteDatabase:
    """`Database` over one sqlite3 connection; rows are sqlite3.Row."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def all(self, sql: str, /, **parameters: Any) -> Sequence[Any]:
        return self._connection.execute(sql, parameters).fetchall()

    def one(self, sql: str, /, **parameters: Any) -> Any:
        return self._connection.execute(sql, parameters).fetchone()

    def run(self, sql: str, /, **parameters: Any) -> int:
        return self._connection.execute(sql, parameters).rowcount

    def run_many(self, sql: str, parameters: Sequence[Mapping[str, Any]], /) -> None:
        self._connection.executemany(sql, parameters)
