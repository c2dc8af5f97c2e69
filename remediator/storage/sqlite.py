"""The store on SQLite: one writing connection on one thread, which commits everything that waits in one transaction.

One connection, because SQLite before 3.51.3 (and 3.50.7, 3.44.6) can corrupt a WAL when several write and checkpoint.
`synchronous=FULL`, because an alert that was answered 2xx must survive a power cut; with grouped commits it costs little.
"""

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from remediator.core.snapshot import Policy
from remediator.ports import Clock, Ledger, StoreUnavailable
from remediator.storage.database import SqliteDatabase
from remediator.storage.ledger import SqlLedger
from remediator.storage.waiting import BACKLOG_BYTES_MAX, Body, Waiting, Work, settle

T = TypeVar("T")


class StoreInUse(Exception):
    """Another process has this database open."""


def connect(path: Path) -> sqlite3.Connection:
    """A connection as the store needs it. Transactions are begun and ended explicitly."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0, cached_statements=256)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


class SqliteStore:
    """Implements `ports.Store`. Holds an exclusive lock on `<path>.lock` for as long as it is open."""

    is_shared = False

    def __init__(self, path: Path, policy: Callable[[], Policy], confirm_after: timedelta, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._policy = policy
        self._confirm_after = confirm_after
        self._lock = _lock(path)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._connection: sqlite3.Connection | None = None
        self._ledger: SqlLedger | None = None
        self._guard = Lock()
        """Over what the loop hands to the thread: the next four."""
        self._bodies: list[Body] = []
        self._works: list[tuple[Work, Waiting]] = []
        self._backlog_bytes = 0
        self._committing = False
        self.is_up = True

    async def put(self, body: bytes, received_at: datetime) -> None:
        if self._backlog_bytes + len(body) > BACKLOG_BYTES_MAX:
            raise StoreUnavailable("too many messages wait to be written")
        done: Waiting = asyncio.get_running_loop().create_future()
        with self._guard:
            self._bodies.append((body, received_at, done))
            self._backlog_bytes += len(body)
            self._commit_soon()
        await done

    async def run(self, work: Callable[[Ledger], T]) -> T:
        done: Waiting = asyncio.get_running_loop().create_future()
        with self._guard:
            self._works.append((work, done))
            self._commit_soon()
        result: T = await done
        return result

    async def close(self) -> None:
        """Wait for what is being committed, and let go of the file."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown()
        os.close(self._lock)

    # --- the loop's side ---

    def _commit_soon(self) -> None:
        if not self._committing:
            self._committing = True
            self._thread.submit(self._commit_all, asyncio.get_running_loop())

    # --- the thread's side ---

    def _commit_all(self, loop: asyncio.AbstractEventLoop) -> None:
        """Until nothing waits. A busy loop comes round only after a whole turn: the disk must not stand idle until then."""
        while waiting := self._take():
            bodies, works = waiting
            put_error, outcomes = self._commit(bodies, works)
            settled = [(done, put_error) for *_, done in bodies]
            settled += [(done, outcome) for (_, done), outcome in zip(works, outcomes, strict=True)]
            loop.call_soon_threadsafe(settle, settled)

    def _take(self) -> tuple[list[Body], list[tuple[Work, Waiting]]] | None:
        """Everything that waits."""
        with self._guard:
            bodies, self._bodies = self._bodies, []
            works, self._works = self._works, []
            self._backlog_bytes = 0
            self._committing = bool(bodies or works)
        return (bodies, works) if bodies or works else None

    def _commit(self, bodies: list[Body], works: list[tuple[Work, Waiting]]) -> tuple[Any, list[Any]]:
        """One transaction for everything; if any of it fails, each by itself, so that one cannot spoil another's."""
        messages = [(body, at) for body, at, _ in bodies]
        try:
            return None, self._transact(lambda ledger: self._all(ledger, messages, works))
        except Exception:  # noqa: BLE001 - what failed is found out below, each work by itself
            put_error = self._alone(lambda ledger: ledger.inbox.put(messages)) if messages else None
            return put_error, [self._alone(work) for work, _ in works]

    @staticmethod
    def _all(ledger: SqlLedger, messages: list[tuple[bytes, datetime]], works: list[tuple[Work, Waiting]]) -> list[Any]:
        if messages:
            ledger.inbox.put(messages)
        return [work(ledger) for work, _ in works]

    def _alone(self, work: Callable[[SqlLedger], Any]) -> Any:
        """The result, or the exception as a value."""
        try:
            return self._transact(work)
        except Exception as error:  # noqa: BLE001 - it is handed to whoever waits for it
            return error

    def _transact(self, work: Callable[[SqlLedger], T]) -> T:
        try:
            connection, ledger = self._connected()
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            self._disconnect()
            self.is_up = False
            raise StoreUnavailable(f"the database cannot be written: {error}") from error
        try:
            result = work(ledger)
            connection.execute("COMMIT")
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
            _roll_back(connection)
            raise  # a unique key has kept a promise, or a statement is wrong: the database is well
        except sqlite3.Error as error:
            self._disconnect()  # which rolls back
            self.is_up = False
            raise StoreUnavailable(f"the database cannot be written: {error}") from error
        except BaseException:
            _roll_back(connection)
            raise
        self.is_up = True
        return result

    def _connected(self) -> tuple[sqlite3.Connection, SqlLedger]:
        if self._connection is None or self._ledger is None:
            self._connection = connect(self._path)
            self._ledger = SqlLedger(SqliteDatabase(self._connection, self._clock), self._policy, self._confirm_after)
        return self._connection, self._ledger

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._ledger = None


def _lock(path: Path) -> int:
    """Take the lock that says that this process is the only one. Raises StoreInUse."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)  # evidence is in it
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise StoreInUse(
            f"{path} is in use by another remediator; stop it, or give this one its own REMEDIATOR_STORE"
        ) from error
    return lock


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")
