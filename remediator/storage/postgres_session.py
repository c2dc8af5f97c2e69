"""One connection to PostgreSQL and its transactions: begun, retried where that is safe, translated where it fails.

Used by one thread at a time. READ COMMITTED: each statement sees what was committed before it, and what must not change
meanwhile is locked. What may be run again from the start is a transaction that has certainly left nothing behind: it lost
a race, or its connection before the COMMIT was sent. A COMMIT without an answer may have happened and is never repeated.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, TypeVar

import psycopg
from psycopg import errors
from psycopg.rows import dict_row
from psycopg.types.numeric import Int8Dumper
from psycopg.types.string import StrDumper

from remediator.core.snapshot import Policy
from remediator.ports import StoreUnavailable
from remediator.storage.address import BadAddress, PostgresAddress
from remediator.storage.codec import micros
from remediator.storage.database_clock import DatabaseClock
from remediator.storage.ledger import SqlLedger
from remediator.storage.postgres_database import Connection, PostgresDatabase

T = TypeVar("T")

ATTEMPTS_MAX = 5
CONNECT_SECONDS_MAX = 3
CONNECTION_OPTIONS = {
    "connect_timeout": CONNECT_SECONDS_MAX,
    "application_name": "remediator",
    "client_encoding": "UTF8",
    "target_session_attrs": "read-write",  # after a failover the old primary may still be there, as a standby
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""A server that has gone without a word is given up after some ten seconds."""

# A replica that stopped in the middle of a transaction must not hold its locks against the others for longer than a
# lease; and what was answered must survive a crash of the server, whatever its default is.
SET_UP = """
    SET idle_in_transaction_session_timeout = '5s';
    SET lock_timeout = '10s';
    SET statement_timeout = '30s';
    SET default_transaction_isolation = 'read committed';
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';
"""
# The bodies as they are: as text each byte would be two.
PUT = b"""
    INSERT INTO inbox (received_at, body)
    SELECT * FROM unnest(%(received_at)s::bigint[], %(bodies)b::bytea[]) AS given (received_at, body)
"""
LOST_RACES = (errors.DeadlockDetected, errors.SerializationFailure)
DECIDED_ANEW = frozenset({"episodes_open", "runs_live", "runs_pkey"})
"""Unique keys at which a race is lost that the same work, run again, does not lose: it sees what the other has written,
or draws another id."""


class PostgresSession:
    """Connects when it is needed, and anew when the connection was lost."""

    def __init__(
        self,
        address: PostgresAddress,
        policy: Callable[[], Policy],
        confirm_after: timedelta,
        clock: DatabaseClock,
        elapsed: Callable[[], float],
    ) -> None:
        self._address = address
        self._policy = policy
        self._confirm_after = confirm_after
        self._clock = clock
        self._elapsed = elapsed
        self._connection: Connection | None = None
        self._database: PostgresDatabase | None = None
        self._ledger: SqlLedger | None = None
        self._committing = False
        self.is_up = True
        """Whether the last attempt found a server that takes writes."""

    def transact(self, work: Callable[[SqlLedger], T]) -> T:
        """Run `work` in a transaction of its own. Raises StoreUnavailable, or what `work` raised."""
        return self._attempts(lambda: self._transaction(work))

    def put(self, messages: Sequence[tuple[bytes, datetime]]) -> None:
        """Write messages in order of arrival, by one statement that is a transaction. Raises StoreUnavailable.

        Repeated even if the answer was lost: a duplicate does no harm.
        """
        given = {"received_at": [micros(at) for _, at in messages], "bodies": [body for body, _ in messages]}

        def insert() -> None:
            self._connected()[0].execute(PUT, given)

        self._attempts(insert)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._database = self._ledger = None

    def _attempts(self, attempt: Callable[[], T]) -> T:
        for left in range(ATTEMPTS_MAX - 1, -1, -1):
            self._committing = False
            try:
                result = attempt()
            except psycopg.Error as error:
                again = left > 0 and self._may_run_again(error)
                if self._is_lost:
                    self.close()
                if not again:
                    raise self._in_our_words(error) from error
            else:
                self.is_up = True
                return result
        raise AssertionError("the last attempt returns or raises")

    def _transaction(self, work: Callable[[SqlLedger], T]) -> T:
        connection, database, ledger = self._connected()
        try:
            database.begin()
            result = work(ledger)
            self._committing = True
            if not database.commit():
                raise errors.InFailedSqlTransaction("a statement had failed: the transaction was rolled back")
        except BaseException:
            self._roll_back(connection)
            raise
        return result

    @staticmethod
    def _roll_back(connection: Connection) -> None:
        if not connection.closed and connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            try:
                connection.execute("ROLLBACK")
            except psycopg.Error:
                connection.close()

    @property
    def _is_lost(self) -> bool:
        return self._connection is None or self._connection.closed or self._connection.broken

    def _may_run_again(self, error: psycopg.Error) -> bool:
        if isinstance(error, errors.UniqueViolation):
            return error.diag.constraint_name in DECIDED_ANEW
        return isinstance(error, LOST_RACES) or (self._is_lost and not self._committing)

    def _in_our_words(self, error: psycopg.Error) -> Exception:
        """A broken promise or a wrong statement is told as it is: the database is well."""
        if not isinstance(error, psycopg.OperationalError | psycopg.InternalError | psycopg.InterfaceError):
            return error
        self.is_up = not self._is_lost
        if self._committing and self._is_lost:
            return StoreUnavailable(f"the database did not say whether it has committed: {error}")
        return StoreUnavailable(f"the database cannot be written: {error}")

    def _connected(self) -> tuple[Connection, PostgresDatabase, SqlLedger]:
        """Raises StoreUnavailable if nobody lets us in."""
        if self._connection is None or self._database is None or self._ledger is None:
            try:
                self._connection = connect(self._address)
            except (psycopg.Error, BadAddress) as error:
                self.is_up = False
                raise StoreUnavailable(f"the database cannot be reached: {error}") from error
            self._database = PostgresDatabase(self._connection, self._clock, self._elapsed)
            self._ledger = SqlLedger(self._database, self._policy, self._confirm_after)
        return self._connection, self._database, self._ledger


def connect(address: PostgresAddress) -> Connection:
    """A connection as the store needs it, in autocommit mode. Raises psycopg.Error or BadAddress."""
    connection: Connection = psycopg.connect(
        address.url(),
        autocommit=True,
        row_factory=dict_row,
        **CONNECTION_OPTIONS,  # type: ignore[arg-type]
    )
    try:
        connection.execute(SET_UP)
    except psycopg.Error:
        connection.close()
        raise
    connection.prepared_max = 400
    # One type for all numbers: a statement is prepared once, not once a size. And texts say that they are text, in lists, too.
    connection.adapters.register_dumper(int, Int8Dumper)
    connection.adapters.register_dumper(str, StrDumper)
    return connection


@contextmanager
def reading(address: PostgresAddress, elapsed: Callable[[], float]) -> Iterator[PostgresDatabase]:
    """A database that only answers questions. Raises StoreUnavailable."""
    try:
        with connect(address) as connection:
            connection.execute("SET default_transaction_read_only = on")
            yield PostgresDatabase(connection, DatabaseClock(elapsed), elapsed)
    except (psycopg.Error, BadAddress) as error:
        raise StoreUnavailable(f"the database cannot be reached: {error}") from error


def connect_to_migrate(address: PostgresAddress) -> "psycopg.Connection[Any]":
    """A connection as SQLAlchemy expects one, without our limits: an index on a large table takes its time."""
    return psycopg.connect(address.url(), **CONNECTION_OPTIONS)  # type: ignore[arg-type]


def revision(address: PostgresAddress) -> str:
    """The revision of the schema, or empty. Raises StoreUnavailable."""
    try:
        with connect(address) as connection:
            known = connection.execute("SELECT to_regclass('alembic_version') IS NOT NULL AS there").fetchone()
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone() if known and known["there"] else None
    except (psycopg.Error, BadAddress) as error:
        raise StoreUnavailable(f"the database cannot be reached: {error}") from error
    return str(row["version_num"]) if row else ""
