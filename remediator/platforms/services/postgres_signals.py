"""Signals to sessions of PostgreSQL: ending idle ones, cancelling long queries. Chosen once, marked, and sent to these only.

A pid alone may be somebody else's by now, and who has gone on to something else is not to be disturbed: both are looked at
again in the statement that sends the signal.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from psycopg import sql

from remediator.core.postgres_step import CancelLongQueries, PostgresSignal, TerminateIdle
from remediator.platforms.services import postgres_connection as connection
from remediator.platforms.services.addresses import Services
from remediator.platforms.services.postgres_queries import Query
from remediator.ports import Facts, Happened, Observation

OTHERS = sql.SQL("datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()")
"""Clients of the configured database only, though others share the server."""

IDLE = sql.SQL("""
    {others} AND state IN ('idle in transaction', 'idle in transaction (aborted)')
    AND state_change <= clock_timestamp() - make_interval(secs => {older_than})
""")

LONG = sql.SQL("""
    {others} AND state = 'active' AND query_start <= clock_timestamp() - make_interval(secs => {over})
    AND application_name <> ALL ({spare}) AND NOT starts_with(application_name, 'remediator')
""")

CHOSEN = sql.SQL("SELECT {key} FROM pg_stat_activity WHERE {chosen} ORDER BY {since}, pid LIMIT {at_most}")

BY_HAND = sql.SQL("SELECT pid, {signal}(pid) FROM ({chosen}) AS chosen")

MARK = sql.SQL("mark AS (SELECT {key} FROM unnest({values}) AS mark ({key}))")

# MATERIALIZED keeps the planner from calling before it has looked.
SIGNAL_MARKED = sql.SQL("""
    WITH {mark}, chosen AS MATERIALIZED (SELECT pid FROM pg_stat_activity JOIN mark USING ({key}) WHERE {chosen})
    SELECT pid, {signal}(pid) AS signalled FROM chosen
""")

STILL_THERE = sql.SQL("WITH {mark} SELECT pid FROM pg_stat_activity JOIN mark USING ({key}) WHERE {chosen}")

PLACES = {"pid": "int", "backend_start": "timestamptz", "query_start": "timestamptz"}
"""Columns of pg_stat_activity that a mark may have, and their types."""


@dataclass(frozen=True, slots=True)
class Signal:
    """`key` tells what is signalled from all else that there ever was; `left` is when it counts as still there."""

    function: str
    key: tuple[str, ...]
    chosen: Query
    since: str
    at_most: int
    left: Query
    what: str
    which: str
    to_do: str
    done: str
    spared: str


def signal_of(step: PostgresSignal) -> Signal:
    match step:
        case TerminateIdle():
            return Signal(
                function="pg_terminate_backend",
                key=("pid", "backend_start"),
                chosen=IDLE.format(others=OTHERS, older_than=step.older_than.total_seconds()),
                since="state_change",
                at_most=step.at_most,
                left=sql.SQL("true"),
                what="sessions",
                which="idle in a transaction",
                to_do="end",
                done="ended",
                spared="had gone or gone back to work",
            )
        case CancelLongQueries():
            return Signal(
                function="pg_cancel_backend",
                key=("pid", "backend_start", "query_start"),
                chosen=LONG.format(others=OTHERS, over=step.over.total_seconds(), spare=list(step.spare)),
                since="query_start",
                at_most=step.at_most,
                left=sql.SQL("state = 'active'"),
                what="queries",
                which="active for long",
                to_do="cancel",
                done="cancelled",
                spared="had ended",
            )


def by_hand(signal: Signal) -> Query:
    """What a person could type."""
    return BY_HAND.format(signal=sql.SQL(signal.function), chosen=_choosing(signal))


async def mark(services: Services, name: str, signal: Signal) -> Facts:
    """Whom to signal, each by the `key`: exactly these, and nobody who comes after them."""
    rows = await connection.ask(services, name, _choosing(signal))
    return {"sessions": [[_plain(row[column]) for column in signal.key] for row in rows]}


async def observe(services: Services, name: str, signal: Signal, mark: Facts) -> Observation:
    """YES when all that was marked is gone, NO when all is there.

    Some of both is UNKNOWN: the step may have been carried out in part, or they have left by themselves. Repeating it
    would do no harm, since the mark names them exactly and their state is looked at once more.
    """
    marked = mark["sessions"]
    if not marked:
        return Observation(Happened.YES, f"no {signal.what} were marked: there were none to {signal.to_do}")
    query = STILL_THERE.format(mark=_marked(signal), key=_key(signal), chosen=signal.left)
    left = len(await connection.ask(services, name, query, _parameters(signal, marked)))
    seen = f"{len(marked) - left} of {len(marked)} marked {signal.what} are gone"
    if left == 0:
        return Observation(Happened.YES, seen)
    return Observation(Happened.NO if left == len(marked) else Happened.UNKNOWN, seen)


async def perform(services: Services, name: str, signal: Signal, mark: Facts, before: Callable[[], None]) -> str:
    """Signal those that are still what they were. Raises as `postgres_connection.signal`."""
    marked = mark["sessions"]
    if not marked:
        return f"there were no {signal.what} {signal.which}: none to {signal.to_do}"
    query = SIGNAL_MARKED.format(mark=_marked(signal), key=_key(signal), chosen=signal.chosen, signal=sql.SQL(signal.function))
    async with connection.connected(services, name) as session:
        rows = await connection.signal(session, query, _parameters(signal, marked), before)
    done = sum(row["signalled"] for row in rows)
    spared = f"; {len(marked) - done} {signal.spared}" if done < len(marked) else ""
    return f"{signal.done} {done} of {len(marked)} {signal.what} {signal.which}{spared}"


def _choosing(signal: Signal) -> Query:
    return CHOSEN.format(key=_key(signal), chosen=signal.chosen, since=sql.Identifier(signal.since), at_most=signal.at_most)


def _key(signal: Signal) -> Query:
    return sql.SQL(", ").join(map(sql.Identifier, signal.key))


def _marked(signal: Signal) -> Query:
    arrays = [sql.SQL("{}::{}[]").format(sql.Placeholder(column), sql.SQL(PLACES[column])) for column in signal.key]
    return MARK.format(key=_key(signal), values=sql.SQL(", ").join(arrays))


def _parameters(signal: Signal, marked: Sequence[Sequence[Any]]) -> Facts:
    return {column: list(values) for column, values in zip(signal.key, zip(*marked, strict=True), strict=True)}


def _plain(value: Any) -> Any:
    """A time as JSON has it, to the microsecond."""
    return value.astimezone(UTC).isoformat() if hasattr(value, "astimezone") else value
