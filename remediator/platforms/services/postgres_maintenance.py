"""Maintenance of PostgreSQL: VACUUM of a named table, REINDEX of a named index, neither of which holds up anybody's work.

Both are statements of their own, with a time limit on the server and one of ours. What is in doubt is found out by what the
server counts and names: repeating either would do no harm, but take its time.
"""

from collections.abc import Callable
from typing import Any

from psycopg import sql

from remediator.core.postgres_step import PostgresMaintenance, PostgresReindex, PostgresVacuum
from remediator.platforms.services import postgres_connection as connection
from remediator.platforms.services.addresses import Services
from remediator.platforms.services.postgres_queries import Query
from remediator.ports import Facts, Happened, Observation, PermanentError

TABLE = sql.SQL("""
    SELECT c.oid::bigint, coalesce(s.vacuum_count, 0) AS vacuums,
           EXISTS (SELECT FROM pg_stat_progress_vacuum AS p WHERE p.relid = c.oid) AS under_way
    FROM pg_class AS c LEFT JOIN pg_stat_all_tables AS s ON s.relid = c.oid WHERE c.oid = to_regclass({name})
""")

# REINDEX CONCURRENTLY builds another index, which takes the name of the old one at the end.
INDEX = sql.SQL("""
    SELECT i.indexrelid::bigint AS oid,
           EXISTS (SELECT FROM pg_stat_progress_create_index AS p WHERE p.relid = i.indrelid) AS under_way,
           ARRAY(SELECT other.indexrelid::regclass::text FROM pg_index AS other
                 WHERE other.indrelid = i.indrelid AND NOT other.indisvalid ORDER BY 1) AS invalid
    FROM pg_index AS i WHERE i.indexrelid = to_regclass({name})
""")


def statement_of(step: PostgresMaintenance) -> Query:
    match step:
        case PostgresVacuum(table=table):
            return sql.SQL("VACUUM (ANALYZE) {}").format(_relation(table))
        case PostgresReindex(index=index):
            return sql.SQL("REINDEX INDEX CONCURRENTLY {}").format(_relation(index))


async def mark(services: Services, name: str, step: PostgresMaintenance) -> Facts:
    """The table or index as it is now. Raises PermanentError if there is none of that name."""
    if (now := await _now(services, name, step)) is None:
        raise PermanentError(f"PostgreSQL {name!r} has no {_what(step)} that remediator's role can see")
    return now


async def observe(services: Services, name: str, step: PostgresMaintenance, mark: Facts) -> Observation:
    """By the count of VACUUMs of the table, by the identity of the index."""
    now = await _now(services, name, step)
    if now is None:
        return Observation(Happened.UNKNOWN, f"there is no {_what(step)} any more")
    if now["under_way"]:
        return Observation(Happened.UNKNOWN, f"PostgreSQL is at work on {_what(step)}")
    match step:
        case PostgresVacuum():
            return _vacuumed(step, mark, now)
        case PostgresReindex():
            return _reindexed(step, mark, now)


async def perform(services: Services, name: str, step: PostgresMaintenance, before: Callable[[], None]) -> str:
    """A warning counts as a failure: PostgreSQL only warns when it skips a table that the role does not own."""
    warnings = await connection.run_alone(services, name, statement_of(step), step.timeout, before)
    if warnings:
        raise PermanentError(f"PostgreSQL warns: {'; '.join(warnings)}")
    return f"done: {statement_of(step).as_string()}"


def _vacuumed(step: PostgresVacuum, mark: Facts, now: Facts) -> Observation:
    since = now["vacuums"] - mark["vacuums"]
    if now["oid"] != mark["oid"] or since < 0:
        return Observation(Happened.UNKNOWN, f"{_what(step)} was made anew, or PostgreSQL has lost its counts")
    if since == 0:
        return Observation(Happened.NO, f"no VACUUM of {_what(step)} has ended since")
    return Observation(Happened.YES, f"{since} VACUUM of {_what(step)} since")


def _reindexed(step: PostgresReindex, mark: Facts, now: Facts) -> Observation:
    if now["oid"] != mark["oid"]:
        return Observation(Happened.YES, f"{_what(step)} is another one than before")
    if left := sorted(set(now["invalid"]) - set(mark["invalid"])):
        drop = "; ".join(f"DROP INDEX CONCURRENTLY {one}" for one in left)
        return Observation(Happened.UNKNOWN, f"{_what(step)} is the same as before, and a half-built one is left over: {drop}")
    return Observation(Happened.NO, f"{_what(step)} is the same as before")


async def _now(services: Services, name: str, step: PostgresMaintenance) -> dict[str, Any] | None:
    match step:
        case PostgresVacuum(table=relation):
            query = TABLE
        case PostgresReindex(index=relation):
            query = INDEX
    rows = await connection.ask(services, name, query.format(name=_relation(relation).as_string()))
    return rows[0] if rows else None


def _what(step: PostgresMaintenance) -> str:
    match step:
        case PostgresVacuum(table=table):
            return f"table {table}"
        case PostgresReindex(index=index):
            return f"index {index}"


def _relation(name: str) -> sql.Identifier:
    """Quoted, so that it is a name whatever it holds."""
    return sql.Identifier(*name.split("."))
