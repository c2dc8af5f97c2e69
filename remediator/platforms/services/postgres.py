"""PostgreSQL: sessions, long queries, and ending sessions that sit idle in a transaction.

Every question is one query in a read-only transaction with a time limit, over a connection of its own. The role needs
`pg_monitor` to see other people's sessions and, for `postgres.terminate_idle`, `pg_signal_backend`; to get in when all
connections are taken, `pg_use_reserved_connections` (PostgreSQL 16, with `reserved_connections`).
"""

import asyncio
import os
import shlex
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC
from functools import partial
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import DictRow, dict_row

from remediator.core.playbook import brief
from remediator.core.postgres_step import PostgresLongQueries, PostgresSessions, PostgresSessionsBelow, TerminateIdle
from remediator.core.step import Check, Diagnosis, Step
from remediator.core.target import Selection, Workload
from remediator.platforms import MaySend, always, ensure_may_send
from remediator.platforms.services import postgres_queries as queries
from remediator.platforms.services.addresses import NotConfigured, Services, address_of, find_configured
from remediator.ports import (
    Evidence,
    Facts,
    Happened,
    Observation,
    OutcomeUnknown,
    PermanentError,
    PortError,
    Probe,
    Reading,
    TransientError,
)

CONNECT_TIMEOUT_S = 3
DEADLINE_S = 5.0
"""For all that follows connecting: longer than the server's own limit, for a server that answers nothing any more."""
EXHAUSTED = ("too many clients already", "remaining connection slots are reserved")
"""How a server says SQLSTATE 53300 for `max_connections`. libpq passes on the words of a refused connection, not the
code; a role's or database's own limit says "too many connections for …" and is another matter."""


class Exhausted(TransientError):
    """The server answers, and has no connection left."""


class PostgresDatabases:
    """The reading side: `services.NAME.postgres` for each database."""

    name = "postgres"

    def __init__(self, services: Services) -> None:
        self._services = services

    async def find(self, selection: Selection) -> Sequence[Workload]:
        return find_configured(self._services, "postgres", "database", selection)

    async def diagnose(self, diagnosis: Diagnosis, workload: Workload) -> Evidence:
        """A server that cannot be asked is evidence too. Raises PermanentError for a diagnosis that is not PostgreSQL's."""
        query = queries.query_of(diagnosis)
        try:
            rows = await self._ask(_name(diagnosis, workload), query)
        except Exhausted as error:
            return Evidence(diagnosis.name, str(error), {"postgres.sessions.ratio": 1.0})
        except PortError as error:
            return Evidence(diagnosis.name, str(error))
        if isinstance(diagnosis, PostgresLongQueries):
            return _long_queries(diagnosis, rows)
        return _sessions(diagnosis, rows)

    async def check(self, check: Check, workload: Workload) -> Reading:
        if not isinstance(check, PostgresSessionsBelow):
            return Reading(Probe.UNKNOWN, f"postgres has no check {check.name}")
        try:
            numbers = _numbers(await self._ask(_name(check, workload), queries.SESSIONS))
        except Exhausted as error:
            return Reading(Probe.FAILS, str(error))
        except PortError as error:
            return Reading(Probe.UNKNOWN, str(error))
        ratio = numbers["postgres.sessions.ratio"]
        seen = f"{numbers['postgres.sessions.total']:.0f} sessions, {ratio:.0%} of max_connections"
        return Reading(Probe.HOLDS if ratio < check.ratio else Probe.FAILS, seen)

    def describe(self, step: Step | Diagnosis, workload: Workload) -> str:
        try:
            command = " ".join(queries.query_of(step).as_string().split())
            address = address_of(self._services, "postgres", _name(step, workload))
            return shlex.join(["psql", _without_password(address), "-c", command])
        except PermanentError as error:
            return f"# {error}"

    async def mark(self, step: Step, workload: Workload) -> Facts:
        """The sessions to end, as `[pid, backend_start]`: exactly these, and none that comes after them."""
        rows = await self._ask(workload.service, queries.oldest_idle(_terminate_idle(step)))
        return {"sessions": [[row["pid"], row["backend_start"].astimezone(UTC).isoformat()] for row in rows]}

    async def observe(self, step: Step, workload: Workload, mark: Facts) -> Observation:
        """YES when all marked sessions are gone, NO when all are there.

        Some of both is UNKNOWN: the step may have been carried out in part, or the sessions have left by themselves.
        Repeating it would do no harm, since the mark names exact sessions and their state is looked at once more.
        """
        _terminate_idle(step)
        marked = mark["sessions"]
        if not marked:
            return Observation(Happened.YES, "no session was marked: there was none to end")
        left = len(await self._ask(workload.service, queries.STILL_THERE, _parameters(marked)))
        seen = f"{len(marked) - left} of {len(marked)} marked sessions are gone"
        if left == 0:
            return Observation(Happened.YES, seen)
        return Observation(Happened.NO if left == len(marked) else Happened.UNKNOWN, seen)

    async def _ask(self, name: str, query: queries.Query, parameters: Facts | None = None) -> list[DictRow]:
        """The rows of a query that changes nothing. Raises TransientError or PermanentError."""
        connection = await _connect(self._services, name)
        try:
            async with connection:
                await connection.set_read_only(True)
                return await _rows(connection, query, parameters)
        except psycopg.Error as error:
            raise TransientError(f"PostgreSQL {name!r} did not answer a query: {_line(error)}") from error


class PostgresActuator:
    """The writing side: ends the marked sessions that are idle in a transaction still.

    `may_send` is asked once PostgreSQL has answered, right before the statement that ends them is sent.
    """

    def __init__(self, services: Services, may_send: MaySend = always) -> None:
        self._services = services
        self._before = partial(ensure_may_send, may_send)

    async def perform(self, step: Step, workload: Workload, mark: Facts) -> str:
        terminate_idle = _terminate_idle(step)
        marked = mark["sessions"]
        if not marked:
            return f"no session was idle in a transaction for {brief(terminate_idle.older_than)}: none to end"
        query = queries.END_MARKED.format(marked=queries.MARKED, idle=queries.idle(terminate_idle))
        connection = await _connect(self._services, workload.service)
        try:
            async with connection:
                ended = sum(row["ended"] for row in await _rows(connection, query, _parameters(marked), self._before))
        except psycopg.errors.InsufficientPrivilege as error:
            raise PermanentError(
                f"not every session could be ended; the role needs pg_signal_backend: {_line(error)}"
            ) from error
        except psycopg.Error as error:
            raise OutcomeUnknown(f"PostgreSQL did not say whether sessions were ended: {_line(error)}") from error
        spared = f"; {len(marked) - ended} had gone or gone back to work" if ended < len(marked) else ""
        return f"ended {ended} of {len(marked)} sessions idle in a transaction{spared}"


async def _connect(services: Services, name: str) -> psycopg.AsyncConnection[DictRow]:
    """A connection of the one who asked; nothing was sent if this raises TransientError or PermanentError."""
    address = address_of(services, "postgres", name)
    try:
        return await psycopg.AsyncConnection.connect(
            address, autocommit=True, row_factory=dict_row, connect_timeout=CONNECT_TIMEOUT_S, application_name="remediator"
        )
    except psycopg.OperationalError as error:
        if any(words in str(error) for words in EXHAUSTED):
            raise Exhausted(f"every connection of PostgreSQL {name!r} is taken: {_line(error)}") from error
        raise TransientError(f"PostgreSQL {name!r} does not answer: {_line(error)}") from error
    except psycopg.ProgrammingError:
        # Not chained: libpq quotes what it could not parse, and that may be the password.
        raise NotConfigured(f"services.{name}.postgres is not an address; write postgresql://user@host/database") from None


async def _rows(
    connection: psycopg.AsyncConnection[DictRow],
    query: queries.Query,
    parameters: Facts | None,
    before: Callable[[], None] = lambda: None,
) -> list[DictRow]:
    """Raises psycopg.Error, PermanentError when the role would only see its own sessions, and what `before` raises."""
    # Limits are set for the transaction, not the session: connections may be a pooler's, shared with others.
    with _deadline(connection):
        async with connection.transaction():
            (seen,) = await (await connection.execute(queries.PREPARE)).fetchall()
            if not seen["sees_all"]:
                raise PermanentError(f"role {seen['role']!r} sees only its own sessions; GRANT pg_monitor TO {seen['role']}")
            before()
            return await (await connection.execute(query, parameters)).fetchall()


@contextmanager
def _deadline(connection: psycopg.AsyncConnection[DictRow]) -> Iterator[None]:
    """Hang up after DEADLINE_S, which whoever waits for an answer sees as psycopg.OperationalError.

    Cancelling would not end the wait: psycopg then asks the silent server to cancel, and waits for that.
    """
    timer = asyncio.get_running_loop().call_later(DEADLINE_S, _hang_up, connection.fileno())
    try:
        yield
    finally:
        timer.cancel()


def _hang_up(line: int) -> None:
    with socket.socket(fileno=os.dup(line)) as end, suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


def _terminate_idle(step: Step) -> TerminateIdle:
    if isinstance(step, TerminateIdle):
        return step
    raise PermanentError(f"postgres has no step {step.name}")


def _name(step: Step | Diagnosis | Check, workload: Workload) -> str:
    """The service whose database is meant: the one that the step names, else the target's."""
    match step:
        case PostgresSessions(database=named) | PostgresLongQueries(database=named) | PostgresSessionsBelow(database=named):
            return named or workload.service
        case _:
            return workload.service


def _parameters(marked: Sequence[Sequence[Any]]) -> Facts:
    return {"pids": [pid for pid, _ in marked], "starts": [start for _, start in marked]}


def _numbers(rows: Sequence[DictRow]) -> dict[str, float]:
    """Never without a row: remediator's own session is one."""
    total = sum(row["sessions"] for row in rows)
    return {
        "postgres.sessions.total": total,
        "postgres.sessions.ratio": total / rows[0]["maximum"],
        "postgres.sessions.idle_in_transaction": sum(row["idle_in_transaction"] for row in rows),
    }


def _sessions(diagnosis: Diagnosis, rows: Sequence[DictRow]) -> Evidence:
    numbers = _numbers(rows)
    taken, idle = numbers["postgres.sessions.total"], numbers["postgres.sessions.idle_in_transaction"]
    lines = [f"{taken:.0f} of {rows[0]['maximum']} connections are taken, {idle:.0f} idle in a transaction of this database"]
    for row in rows[: queries.ROWS_SHOWN]:
        where = f"application {row['application']}, database {row['database']}"
        lines.append(f"{row['sessions']:5}  {row['state']}, {where}, the longest for {row['longest_s']:.0f}s")
    return Evidence(diagnosis.name, "\n".join(lines), numbers)


def _long_queries(diagnosis: PostgresLongQueries, rows: Sequence[DictRow]) -> Evidence:
    found = rows[0]["found"] if rows else 0
    lines = [f"{found} queries active for {brief(diagnosis.over)} or longer"]
    for row in rows:
        where = f"pid {row['pid']}, application {row['application']}, database {row['database']}"
        lines.append(f"{row['seconds']:6.0f}s  {where}: {row['query']}")
    return Evidence(diagnosis.name, "\n".join(lines), {"postgres.long_queries.count": found})


def _without_password(address: str) -> str:
    try:
        return make_conninfo("", **{**conninfo_to_dict(address), "password": None})
    except psycopg.ProgrammingError:
        return "(address that cannot be read)"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
