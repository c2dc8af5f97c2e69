"""`Database` over one psycopg connection: parameters, locks and the time, as PostgreSQL has them.

The connection is in autocommit mode; whoever owns it begins and ends transactions, and says so with `begun`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import DictRow

from remediator.storage.codec import moment
from remediator.storage.database_clock import DatabaseClock

Connection = psycopg.Connection[DictRow]

_OPENED = re.compile(r"/\* postgresql: (.*?) \*/")
_PARAMETER = re.compile(r"(?<![:\w]):(\w+)")
NUL, NUL_SHOWN = "\x00", "\N{SYMBOL FOR NULL}"
"""PostgreSQL's text cannot hold the first. Every text that is written or compared shows it as the second."""

NOW = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now"
# Scopes come into being with their first lock. Two statements: the second sees what others committed while the first
# waited for them. Sorted, so that nobody waits in a circle.
NAME_SCOPES = """
    INSERT INTO scopes (name) SELECT name FROM unnest(:names::text[]) AS given (name) ORDER BY name ON CONFLICT DO NOTHING
"""
LOCK_SCOPES = "SELECT name FROM scopes WHERE name = ANY(:names::text[]) ORDER BY name FOR UPDATE"
TRY_SCOPE = "SELECT name FROM scopes WHERE name = :name FOR UPDATE SKIP LOCKED"
KNOWN_SCOPE = "SELECT 1 FROM scopes WHERE name = :name"


def translated(sql: str) -> bytes:
    """Named SQL as psycopg takes it: `%(name)s` for `:name`, and what stands in comments for PostgreSQL opened."""
    return _PARAMETER.sub(r"%(\1)s", _OPENED.sub(r"\1", sql.replace("%", "%%"))).encode()


class PostgresDatabase:
    """Rows are mappings. `clock` is told what the database says that the time is, whenever it is asked."""

    def __init__(self, connection: Connection, clock: DatabaseClock, elapsed: Callable[[], float]) -> None:
        self._connection = connection
        self._clock = clock
        self._elapsed = elapsed
        self._translated: dict[str, bytes] = {}
        self._locked: set[str] = set()

    def begun(self) -> None:
        """A transaction has begun: no scope is locked in it yet."""
        self._locked.clear()

    def now(self) -> datetime:
        """Asked anew each time: what waited for a lock must not decide by the time at which it began to wait."""
        asked_at = self._elapsed()
        said = moment(self.one(NOW)["now"])
        self._clock.heard(said, asked_at, self._elapsed())
        return said

    def lock(self, scopes: Sequence[str]) -> None:
        names = sorted({_shown(scope) for scope in scopes} - self._locked)
        if names:
            self.run(NAME_SCOPES, names=names)
            self.all(LOCK_SCOPES, names=names)
            self._locked.update(names)

    def try_lock(self, scope: str) -> bool:
        got = self.one(TRY_SCOPE, name=scope) is not None
        if not got and self.one(KNOWN_SCOPE, name=scope) is None:
            self.run(NAME_SCOPES, names=[scope])
            got = self.one(TRY_SCOPE, name=scope) is not None
        if got:
            self._locked.add(scope)
        return got

    def all(self, sql: str, /, **parameters: Any) -> Sequence[Any]:
        return self._execute(sql, parameters).fetchall()

    def one(self, sql: str, /, **parameters: Any) -> Any:
        return self._execute(sql, parameters).fetchone()

    def run(self, sql: str, /, **parameters: Any) -> int:
        return self._execute(sql, parameters).rowcount

    def run_many(self, sql: str, parameters: Sequence[Mapping[str, Any]], /) -> None:
        with self._connection.cursor() as cursor:
            try:
                cursor.executemany(self._translation(sql), parameters)
            except psycopg.DataError:
                if not any(map(_has_nul, parameters)):
                    raise
                cursor.executemany(self._translation(sql), [_without_nul(each) for each in parameters])

    def _execute(self, sql: str, parameters: Mapping[str, Any]) -> psycopg.Cursor[DictRow]:
        try:
            return self._connection.execute(self._translation(sql), parameters)
        except psycopg.DataError:
            # The driver itself refuses NUL, before anything is sent: the transaction is well.
            if not _has_nul(parameters):
                raise
            return self._connection.execute(self._translation(sql), _without_nul(parameters))

    def _translation(self, sql: str) -> bytes:
        known = self._translated.get(sql)
        if known is None:
            known = self._translated[sql] = translated(sql)
        return known


def _has_nul(parameters: Mapping[str, Any]) -> bool:
    return any(isinstance(value, str) and NUL in value for value in parameters.values())


def _without_nul(parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: _shown(value) if isinstance(value, str) else value for name, value in parameters.items()}


def _shown(text: str) -> str:
    return text.replace(NUL, NUL_SHOWN)
