"""What PostgreSQL is asked, as SQL: the same text that a person is shown to type."""

from psycopg import sql

from remediator.core.postgres_step import PostgresDiagnosis, PostgresLocks, PostgresLongQueries, PostgresSessions, PostgresSizes

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

# A prepared transaction holds locks without a session: its pid is 0, and nobody is found under it.
LOCKS = sql.SQL("""
    SELECT waiting.pid, coalesce(nullif(waiting.application_name, ''), '-') AS application,
           coalesce(waiting.datname, '-') AS database,
           extract(epoch FROM clock_timestamp() - waiting.query_start)::float8 AS seconds,
           left(regexp_replace(waiting.query, '\\s+', ' ', 'g'), {characters}) AS query,
           blocker.number AS blocker_pid, coalesce(nullif(holder.application_name, ''), '-') AS blocker_application,
           coalesce(holder.state, 'prepared transaction') AS blocker_state,
           left(regexp_replace(coalesce(holder.query, '-'), '\\s+', ' ', 'g'), {characters}) AS blocker_query,
           (SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock') AS waiting
    FROM pg_stat_activity AS waiting
    CROSS JOIN LATERAL unnest(pg_blocking_pids(waiting.pid)) AS blocker (number)
    LEFT JOIN pg_stat_activity AS holder ON holder.pid = blocker.number
    WHERE waiting.wait_event_type = 'Lock' ORDER BY waiting.query_start, waiting.pid, blocker.number LIMIT {rows}
""")

# Pages as of the last VACUUM, ANALYZE or the like: pg_table_size would wait for whoever has locked the table.
SIZES = sql.SQL("""
    WITH pages AS (
        SELECT coalesce(i.indrelid, t.oid, c.oid) AS owner, c.relpages FROM pg_class c
        LEFT JOIN pg_index i ON i.indexrelid = c.oid LEFT JOIN pg_class t ON t.reltoastrelid = c.oid)
    SELECT s.schemaname || '.' || s.relname AS name, s.n_live_tup AS live, s.n_dead_tup AS dead,
           (SELECT sum(relpages) FROM pages WHERE owner = s.relid)::float8 * current_setting('block_size')::int AS bytes,
           greatest(s.last_vacuum, s.last_autovacuum) AS vacuumed_at, count(*) OVER () AS found,
           pg_database_size(current_database()) AS database_bytes,
           sum(s.n_dead_tup) OVER ()::float8 / greatest(sum(s.n_live_tup + s.n_dead_tup) OVER (), 1) AS dead_ratio
    FROM pg_stat_user_tables s ORDER BY bytes DESC NULLS LAST LIMIT {rows}
""")


def query_of(diagnosis: PostgresDiagnosis) -> Query:
    """What is asked for it."""
    match diagnosis:
        case PostgresSessions():
            return SESSIONS
        case PostgresLongQueries(over=over):
            return LONG_QUERIES.format(over=over.total_seconds(), characters=QUERY_CHARACTERS_SHOWN, rows=ROWS_SHOWN)
        case PostgresLocks():
            return LOCKS.format(characters=QUERY_CHARACTERS_SHOWN, rows=ROWS_SHOWN)
        case PostgresSizes():
            return SIZES.format(rows=ROWS_SHOWN)
