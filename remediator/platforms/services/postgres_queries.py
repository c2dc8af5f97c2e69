"""What PostgreSQL is asked, as SQL: the same text that a person is shown to type."""

from psycopg import sql

from remediator.core.postgres_step import PostgresLongQueries, PostgresSessions, TerminateIdle
from remediator.core.step import Diagnosis, Step
from remediator.ports import PermanentError

Query = sql.SQL | sql.Composed

STATEMENT_TIMEOUT_MS = 4_000
ROWS_SHOWN = 20
QUERY_CHARACTERS_SHOWN = 200

PREPARE = sql.SQL("""
    SELECT set_config('statement_timeout', {limit}, true), current_user AS role,
           pg_has_role('pg_read_all_stats', 'USAGE') AS sees_all
""").format(limit=f"{STATEMENT_TIMEOUT_MS}ms")

SESSIONS = sql.SQL("""
    SELECT coalesce(datname, '-') AS database, coalesce(nullif(application_name, ''), '-') AS application,
           coalesce(state, 'unknown') AS state, count(*) AS sessions,
           count(*) FILTER (WHERE datname = current_database() AND state LIKE 'idle in transaction%') AS idle_in_transaction,
           coalesce(extract(epoch FROM max(clock_timestamp() - state_change)), 0)::float8 AS longest_s,
           current_setting('max_connections')::int AS maximum
    FROM pg_stat_activity WHERE backend_type = 'client backend'
    GROUP BY 1, 2, 3 ORDER BY sessions DESC, longest_s DESC
""")

LONG_QUERIES = sql.SQL("""
    SELECT pid, coalesce(datname, '-') AS database, coalesce(nullif(application_name, ''), '-') AS application,
           extract(epoch FROM clock_timestamp() - query_start)::float8 AS seconds,
           left(regexp_replace(query, '\\s+', ' ', 'g'), {characters}) AS query, count(*) OVER () AS found
    FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND state = 'active' AND pid <> pg_backend_pid()
      AND query_start <= clock_timestamp() - make_interval(secs => {over})
    ORDER BY query_start LIMIT {rows}
""")

IDLE = sql.SQL("""
    datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
    AND state IN ('idle in transaction', 'idle in transaction (aborted)')
    AND state_change <= clock_timestamp() - make_interval(secs => {older_than})
""")
"""Whom `terminate_idle` may end: clients of the configured database only, though others share the server."""

OLDEST_IDLE = sql.SQL("SELECT pid, backend_start FROM pg_stat_activity WHERE {idle} ORDER BY state_change, pid LIMIT {at_most}")

END_BY_HAND = sql.SQL("SELECT pid, pg_terminate_backend(pid) FROM ({oldest}) AS idle")

MARKED = sql.SQL(
    "SELECT pid, backend_start FROM unnest(%(pids)s::int[], %(starts)s::timestamptz[]) AS mark (pid, backend_start)"
)

# A pid alone may be somebody else's by now, and a session that has gone back to work is not to be ended: both are looked
# at again in the statement that sends the signal. MATERIALIZED keeps the planner from calling before it has looked.
END_MARKED = sql.SQL("""
    WITH mark AS ({marked}),
         idle AS MATERIALIZED (SELECT pid FROM pg_stat_activity JOIN mark USING (pid, backend_start) WHERE {idle})
    SELECT pid, pg_terminate_backend(pid) AS ended FROM idle
""")

STILL_THERE = sql.SQL("WITH mark AS ({marked}) SELECT pid FROM pg_stat_activity JOIN mark USING (pid, backend_start)").format(
    marked=MARKED
)


def query_of(step: Step | Diagnosis) -> Query:
    """What is asked, or for a step what a person could type. Raises PermanentError for what is not PostgreSQL's."""
    match step:
        case PostgresSessions():
            return SESSIONS
        case PostgresLongQueries(over=over):
            return LONG_QUERIES.format(over=over.total_seconds(), characters=QUERY_CHARACTERS_SHOWN, rows=ROWS_SHOWN)
        case TerminateIdle():
            return END_BY_HAND.format(oldest=oldest_idle(step))
        case _:
            raise PermanentError(f"postgres has no step {step.name}")


def oldest_idle(step: TerminateIdle) -> sql.Composed:
    return OLDEST_IDLE.format(idle=idle(step), at_most=step.at_most)


def idle(step: TerminateIdle) -> sql.Composed:
    return IDLE.format(older_than=step.older_than.total_seconds())
