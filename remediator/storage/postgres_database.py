"""`Database` over one psycopg connection: parameters, locks and the time, as PostgreSQL has them.

The connection is in autocommit mode: whoever owns it begins and ends transactions here.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import DictRow

from remediator.storage.codec import moment
from remediator.storage.database_clock import DatabaseClock
from remediator.storage.postgres_many import asking_many, inserting_many

Form = Callable[[str], str]
"""What becomes of named SQL before it is translated: itself, or a statement for many rows."""
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
NEW_IDS = "SELECT nextval(pg_get_serial_sequence(:table, 'id')) AS id FROM generate_series(1, :count)"
NEW_IDS_AT_ONCE = 256
WAITING_MAX = 500
# At the end of a pipeline psycopg sends a Flush, after which PostgreSQL does not count the session as idle: it would not
# end it if this process stopped there, in the middle of a transaction. So a pipeline is always followed by a statement.
ALONE = "SELECT 1"
DISCARD_PLANS = "DISCARD PLANS"
PLANS_LAST_SECONDS = 1.0
"""A plan that was made while a table was small, as all are at first, is a bad one when a storm has filled it."""
KNOWN_SCOPE = "SELECT 1 FROM scopes WHERE name = :name"


def translated(sql: str) -> bytes:
    """Named SQL as psycopg takes it: `%(name)s` for `:name`, and what stands in comments for PostgreSQL opened."""
    return _PARAMETER.sub(r"%(\1)s", _OPENED.sub(r"\1", sql.replace("%", "%%"))).encode()


@dataclass(slots=True)
class Waiting:
    """A statement that waits, and what it is to be run with."""

    sql: str
    rows: list[Mapping[str, Any]]
    appends: bool = False


class PostgresDatabase:
    """Rows are mappings. `clock` is told what the database says that the time is, whenever it is asked.

    What is to be run `later` waits here, and goes before the next question, in one pipeline: that spares a round trip for
    each. Rows that are appended to one table go in one statement.
    """

    alerts_at_once = 256
    """The intake does not wait for it: it has a connection of its own. Each transaction costs a dozen round trips."""

    def __init__(self, connection: Connection, clock: DatabaseClock, elapsed: Callable[[], float]) -> None:
        self._connection = connection
        self._clock = clock
        self._elapsed = elapsed
        self._translated: dict[tuple[str, Form], bytes] = {}
        self._waiting: list[Waiting] = []
        self._locked: set[str] = set()
        self._done: set[str] = set()
        self._new_ids: dict[str, list[int]] = {}
        self._planned_at = elapsed()

    def begin(self) -> None:
        """Begin a transaction: no scope is locked in it yet, and ids of an earlier one are not given out any more."""
        self._waiting.clear()
        self._locked.clear()
        self._done.clear()
        self._new_ids.clear()
        if self._elapsed() > self._planned_at + PLANS_LAST_SECONDS:
            self._planned_at = self._elapsed()
            self.later(DISCARD_PLANS)
        self.later("BEGIN")

    def commit(self) -> bool:
        """Whether what the transaction did is durable: False if one of its statements had failed."""
        return self._execute("COMMIT", {}).statusmessage == "COMMIT"

    def now(self) -> datetime:
        """Asked anew each time: what waited for a lock must not decide by the time at which it began to wait."""
        asked_at = self._elapsed()
        said = moment(self.one(NOW)["now"])
        self._clock.heard(said, asked_at, self._elapsed())
        return said

    def steady(self, at: int) -> int:
        """As it is: all go by one clock, which jumps for everybody or nobody, and with no host's."""
        return at

    def reaching_back(self, since: int) -> int:
        return since

    def lock(self, scopes: Sequence[str]) -> None:
        names = sorted({_shown(scope) for scope in scopes} - self._locked)
        if names:
            self.later(NAME_SCOPES, names=names)
            self.all(LOCK_SCOPES, names=names)
            self._locked.update(names)

    def try_lock(self, scope: str) -> bool:
        got = self.one(TRY_SCOPE, name=scope) is not None
        if not got and self.one(KNOWN_SCOPE, name=scope) is None:
            self.later(NAME_SCOPES, names=[scope])
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

    def each(self, sql: str, parameters: Sequence[Mapping[str, Any]], /) -> Sequence[Any]:
        if len(parameters) < 2:
            return [self.one(sql, **each) for each in parameters]
        answers = self._execute(sql, _lists(parameters), asking_many).fetchall()
        return [answer if answer["found"] else None for answer in answers]

    def later(self, sql: str, /, **parameters: Any) -> None:
        self._waiting.append(Waiting(sql, [parameters]))
        self._waits_longer()

    def append(self, sql: str, /, **parameters: Any) -> None:
        for waiting in reversed(self._waiting):
            if not waiting.appends:
                break
            if waiting.sql == sql:
                waiting.rows.append(parameters)
                return
        self._waiting.append(Waiting(sql, [parameters], appends=True))
        self._waits_longer()

    def once(self, what: str, sql: str, /, **parameters: Any) -> None:
        if what not in self._done:
            self._done.add(what)
            self.later(sql, **parameters)

    def add(self, table: str, sql: str, /, **parameters: Any) -> int:
        ids = self._new_ids.get(table)
        if not ids:
            # Drawn past what waits, so that the rows before and after go in one statement.
            drawn = self._send(NEW_IDS, {"table": table, "count": NEW_IDS_AT_ONCE}).fetchall()
            ids = self._new_ids[table] = [row["id"] for row in drawn]
        new_id = ids.pop(0)
        self.append(sql, id=new_id, **parameters)
        return new_id

    def run_many(self, sql: str, parameters: Sequence[Mapping[str, Any]], /) -> None:
        for each in parameters:
            self.later(sql, **each)

    def _waits_longer(self) -> None:
        if len(self._waiting) >= WAITING_MAX:
            self._execute(ALONE, {})

    def _execute(self, sql: str, parameters: Mapping[str, Any], form: Form = str) -> psycopg.Cursor[DictRow]:
        """What waits, in one pipeline, and then this, alone."""
        waiting, self._waiting = self._waiting, []
        with self._connection.pipeline() if len(waiting) > 1 else nullcontext():
            for each in waiting:
                if len(each.rows) > 1:
                    self._send(each.sql, _lists(each.rows), inserting_many)
                else:
                    self._send(each.sql, each.rows[0])
        return self._send(sql, parameters, form)

    def _send(self, sql: str, parameters: Mapping[str, Any], form: Form = str) -> psycopg.Cursor[DictRow]:
        known = self._translated.get((sql, form))
        if known is None:
            known = self._translated[sql, form] = translated(form(sql))
        try:
            return self._connection.execute(known, parameters)
        except psycopg.DataError:
            # The driver itself refuses NUL, before anything is sent: the transaction is well.
            without = {name: _shown(value) for name, value in parameters.items()}
            if without == parameters:
                raise
            return self._connection.execute(known, without)


def _lists(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def _shown(value: Any) -> Any:
    """Without NUL, in a text or in a list of texts."""
    match value:
        case str():
            return value.replace(NUL, NUL_SHOWN)
        case list():
            return [_shown(each) for each in value]
        case _:
            return value
