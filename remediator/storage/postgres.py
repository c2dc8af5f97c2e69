"""The store on PostgreSQL, for several replicas: one connection takes messages in, a few run works.

The bodies of all requests that came in while the last commit was under way are committed together, by a thread of their
own. Each work has a transaction and, for its length, a connection and a thread to itself.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from queue import SimpleQueue
from threading import Lock
from typing import Any, TypeVar

from remediator.core.snapshot import Policy
from remediator.ports import Ledger, StoreUnavailable
from remediator.storage.address import PostgresAddress
from remediator.storage.database_clock import DatabaseClock
from remediator.storage.postgres_session import PostgresSession
from remediator.storage.waiting import BACKLOG_BYTES_MAX, Body, Waiting, settle

T = TypeVar("T")

WORKERS = 4
"""Connections for works; one more is for the intake."""
WORKS_MAX = 1000
"""Works that are under way or wait for a connection. Beyond it a work is refused as if the store were down."""
ANSWER_SECONDS = 45.0
"""A work that is not done by then may be done later: more than a statement may take, and a wait for a connection."""
BATCH_BYTES_MAX = 16 * 1024 * 1024
"""Bodies in one statement."""


class PostgresStore:
    """Implements `ports.Store`."""

    is_shared = True

    def __init__(
        self,
        address: PostgresAddress,
        policy: Callable[[], Policy],
        confirm_after: timedelta,
        elapsed: Callable[[], float],
    ) -> None:
        self.clock = DatabaseClock(elapsed)
        """The time as all who share the database have it."""

        def session() -> PostgresSession:
            return PostgresSession(address, policy, confirm_after, self.clock, elapsed)

        self._intake, self._sessions = session(), [session() for _ in range(WORKERS)]
        self._free: SimpleQueue[PostgresSession] = SimpleQueue()
        for each in self._sessions:
            self._free.put(each)
        self._intake_thread = ThreadPoolExecutor(1, thread_name_prefix="intake")
        self._threads = ThreadPoolExecutor(WORKERS, thread_name_prefix="store")
        self._works = 0
        self._guard = Lock()
        """Over what the loop hands to the intake's thread: the next three."""
        self._bodies: list[Body] = []
        self._backlog_bytes = 0
        self._committing = False
        self.is_up = True

    def ask_the_time(self) -> None:
        """So that `clock` has one to go by. Blocks. Raises StoreUnavailable."""
        self._transact(lambda ledger: ledger.now)

    async def put(self, body: bytes, received_at: datetime) -> None:
        if self._backlog_bytes + len(body) > BACKLOG_BYTES_MAX:
            raise StoreUnavailable("too many messages wait to be written")
        loop = asyncio.get_running_loop()
        done: Waiting = loop.create_future()
        with self._guard:
            self._bodies.append((body, received_at, done))
            self._backlog_bytes += len(body)
            if not self._committing:
                self._committing = True
                self._intake_thread.submit(self._commit_all, loop)
        await self._answered(done)

    async def run(self, work: Callable[[Ledger], T]) -> T:
        if self._works >= WORKS_MAX:
            raise StoreUnavailable("too much waits for the database")
        self._works += 1
        try:
            return await self._answered(asyncio.get_running_loop().run_in_executor(self._threads, self._transact, work))
        finally:
            self._works -= 1

    async def _answered(self, answer: asyncio.Future[T]) -> T:
        """A server that stands still while its host goes on would be waited for without end. Raises StoreUnavailable."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await answer
        except TimeoutError:
            self.is_up = False
            raise StoreUnavailable(f"the database has not answered for {ANSWER_SECONDS:g} s") from None

    async def close(self) -> None:
        """Wait for what is being committed, and let go of the connections."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._intake_thread, self._intake.close)
        await asyncio.gather(*(loop.run_in_executor(self._threads, lambda: None) for _ in range(WORKERS)))
        self._intake_thread.shutdown()
        self._threads.shutdown()
        for session in self._sessions:
            session.close()

    # --- the threads' side ---

    def _transact(self, work: Callable[[Ledger], T]) -> T:
        session = self._free.get()
        try:
            return session.transact(work)
        finally:
            self.is_up = session.is_up
            self._free.put(session)

    def _commit_all(self, loop: asyncio.AbstractEventLoop) -> None:
        """Until nothing waits."""
        while bodies := self._take():
            outcome = self._put(bodies)
            loop.call_soon_threadsafe(settle, [(done, outcome) for *_, done in bodies])

    def _take(self) -> list[Body]:
        """What waits, as much of it as fits one statement."""
        with self._guard:
            count, size = 0, 0
            for body, *_ in self._bodies:
                if count and size + len(body) > BATCH_BYTES_MAX:
                    break
                count, size = count + 1, size + len(body)
            taken, self._bodies = self._bodies[:count], self._bodies[count:]
            self._backlog_bytes -= size
            self._committing = bool(taken)
        return taken

    def _put(self, bodies: list[Body]) -> Any:
        """None, or the exception as a value."""
        try:
            self._intake.put([(body, at) for body, at, _ in bodies])
        except Exception as error:  # noqa: BLE001 - it is handed to whoever waits for it
            return error
        finally:
            self.is_up = self._intake.is_up
        return None
