"""A connection to a configured PostgreSQL, with deadlines of ours. With the modules of its SQL, all that knows psycopg.

A server that is frozen while its kernel answers says nothing for ever: connecting has its time, each statement has one on
the server, and one here that ends after it.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from typing import TypeAlias

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import DictRow, dict_row

from remediator.platforms.services import postgres_queries as queries
from remediator.platforms.services.addresses import NotConfigured, Services, address_of
from remediator.ports import Facts, OutcomeUnknown, PermanentError, TransientError

CONNECT_TIMEOUT_S = 3
DEADLINE_S = 5.0
"""For all that follows connecting: longer than the server's own limit, for a server that answers nothing any more."""
EXHAUSTED = ("too many clients already", "remaining connection slots are reserved")
"""How a server says SQLSTATE 53300 for `max_connections`. libpq passes on the words of a refused connection, not the
code; a role's or database's own limit says "too many connections for …" and is another matter."""
UNREACHABLE = ("Is the server running", "failed to resolve host", "No route to host", "Network is unreachable")
"""What libpq and psycopg say when there is nobody to connect to; what a server refuses begins with FATAL."""

Session: TypeAlias = psycopg.AsyncConnection[DictRow]
Rows: TypeAlias = list[DictRow]


class Exhausted(TransientError):
    """The server answers, and has no connection left."""


class Silent(TransientError):
    """No server answers at all: one that refuses remediator, or that is just starting, is another matter."""


@asynccontextmanager
async def connected(services: Services, name: str, settings: str = "") -> AsyncIterator[Session]:
    """A connection of the one who asked; nothing was sent if this raises TransientError or PermanentError.

    `settings` of the session, as `-c name=value`, are asked for while connecting: a pooler that shares its sessions refuses.
    """
    address = address_of(services, "postgres", name)
    try:
        options = f"{conninfo_to_dict(address).get('options', '')} {settings}".strip()
        session = await psycopg.AsyncConnection.connect(
            make_conninfo(address, options=options or None, connect_timeout=CONNECT_TIMEOUT_S, application_name="remediator"),
            autocommit=True,
            row_factory=dict_row,
        )
    except psycopg.OperationalError as error:
        raise _not_connected(name, error) from error
    except psycopg.ProgrammingError:
        # Not chained: libpq quotes what it could not parse, and that may be the password.
        raise _no_address(name) from None
    async with session:
        yield session


def _not_connected(name: str, error: psycopg.OperationalError) -> TransientError:
    said = line(error)
    if any(words in said for words in EXHAUSTED):
        return Exhausted(f"every connection of PostgreSQL {name!r} is taken: {said}")
    unreachable = "FATAL" not in said and any(words in said for words in UNREACHABLE)
    family = Silent if unreachable or isinstance(error, psycopg.errors.ConnectionTimeout) else TransientError
    return family(f"PostgreSQL {name!r} does not answer: {said}")


async def ask(services: Services, name: str, query: queries.Query, parameters: Facts | None = None) -> Rows:
    """The rows of a query that changes nothing. Raises TransientError or PermanentError."""
    async with connected(services, name) as session:
        await session.set_read_only(True)
        try:
            return await _rows(session, query, parameters)
        except psycopg.Error as error:
            raise TransientError(f"PostgreSQL {name!r} did not answer a query: {line(error)}") from error


async def ping(services: Services, name: str) -> str:
    """Who remediator is there. Needs no privilege. Raises TransientError or PermanentError."""
    async with connected(services, name) as session:
        try:
            with _deadline(session, DEADLINE_S):
                return str((await _introduced(session))["role"])
        except psycopg.Error as error:
            raise Silent(f"PostgreSQL {name!r} did not answer a query: {line(error)}") from error


async def signal(session: Session, query: queries.Query, parameters: Facts, before: Callable[[], None]) -> Rows:
    """Send a statement that signals other sessions. What it has signalled, no rollback takes back.

    `before` raises, right before the statement would leave, what this raises instead. Raises PermanentError (not allowed)
    or OutcomeUnknown.
    """
    try:
        return await _rows(session, query, parameters, before)
    except psycopg.errors.InsufficientPrivilege as error:
        raise PermanentError(
            f"not every session could be signalled; the role needs pg_signal_backend: {line(error)}"
        ) from error
    except psycopg.Error as error:
        raise OutcomeUnknown(f"PostgreSQL did not say what became of it: {line(error)}") from error


async def run_alone(
    services: Services, name: str, statement: queries.Query, limit: timedelta, before: Callable[[], None]
) -> Sequence[str]:
    """Run a statement that bears no transaction around it, and return what the server warned of.

    Raises as `signal` does, but that a statement that failed is known to have failed: PermanentError.
    """
    warnings: list[str] = []
    async with connected(services, name, f"-c statement_timeout={round(limit.total_seconds() * 1000)}") as session:
        session.add_notice_handler(lambda notice: _note(notice, warnings))
        with _deadline(session, limit.total_seconds() + DEADLINE_S):
            before()
            try:
                await session.execute(statement)
            except psycopg.Error as error:
                if error.sqlstate:
                    raise PermanentError(f"PostgreSQL did not do it: {line(error)}") from error
                raise OutcomeUnknown(f"PostgreSQL did not say what became of it: {line(error)}") from error
    return warnings


def _note(notice: psycopg.errors.Diagnostic, warnings: list[str]) -> None:
    if notice.severity_nonlocalized == "WARNING":
        warnings.append(notice.message_primary or "")


async def _rows(
    session: Session, query: queries.Query, parameters: Facts | None, before: Callable[[], None] = lambda: None
) -> Rows:
    """Raises psycopg.Error, PermanentError when the role would only see its own sessions, and what `before` raises."""
    # Limits are set for the transaction, not the session: connections may be a pooler's, shared with others.
    with _deadline(session, DEADLINE_S):
        async with session.transaction():
            seen = await _introduced(session)
            if not seen["sees_all"]:
                raise PermanentError(f"role {seen['role']!r} sees only its own sessions; GRANT pg_monitor TO {seen['role']}")
            before()
            return await (await session.execute(query, parameters)).fetchall()


async def _introduced(session: Session) -> DictRow:
    (seen,) = await (await session.execute(queries.PREPARE)).fetchall()
    return seen


@contextmanager
def _deadline(session: Session, seconds: float) -> Iterator[None]:
    """Hang up after so long, which whoever waits for an answer sees as psycopg.OperationalError.

    Cancelling would not end the wait: psycopg then asks the silent server to cancel, and waits for that.
    """
    timer = asyncio.get_running_loop().call_later(seconds, _hang_up, session.fileno())
    try:
        yield
    finally:
        timer.cancel()


def _hang_up(descriptor: int) -> None:
    with socket.socket(fileno=os.dup(descriptor)) as end, suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


def variables(services: Services, name: str) -> Mapping[str, str]:
    """The address as libpq's own programs take it from their environment, where nobody else sees the password.

    Raises NotConfigured.
    """
    address = address_of(services, "postgres", name)
    names = {one.keyword.decode(): one.envvar.decode() for one in psycopg.pq.Conninfo.get_defaults() if one.envvar}
    try:
        return {names[keyword]: str(value) for keyword, value in conninfo_to_dict(address).items() if keyword in names}
    except psycopg.ProgrammingError:
        raise _no_address(name) from None


def _no_address(name: str) -> NotConfigured:
    return NotConfigured(f"services.{name}.postgres is not an address; write postgresql://user@host/database")


def without_password(address: str) -> str:
    try:
        return make_conninfo("", **{**conninfo_to_dict(address), "password": None})
    except psycopg.ProgrammingError:
        return "(address that cannot be read)"


def line(error: Exception) -> str:
    """Its message in one line."""
    return " ".join(str(error).split())
