"""What PostgreSQL says of itself, as text for people and numbers for `when:`. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from remediator.core.playbook import brief
from remediator.core.postgres_step import (
    PostgresDiagnosis,
    PostgresLocks,
    PostgresLongQueries,
    PostgresSessions,
    PostgresSizes,
)
from remediator.platforms.services.postgres_queries import ROWS_SHOWN
from remediator.ports import Evidence

Row = Mapping[str, Any]


def of(diagnosis: PostgresDiagnosis, rows: Sequence[Row]) -> Evidence:
    match diagnosis:
        case PostgresSessions():
            return _sessions(rows)
        case PostgresLongQueries():
            return _long_queries(diagnosis, rows)
        case PostgresLocks():
            return _locks(rows)
        case PostgresSizes():
            return _sizes(rows)


def session_numbers(rows: Sequence[Row]) -> dict[str, float]:
    """Never without a row: remediator's own session is one."""
    total = sum(row["sessions"] for row in rows)
    return {
        "postgres.sessions.up": 1.0,
        "postgres.sessions.total": total,
        "postgres.sessions.ratio": total / rows[0]["maximum"],
        "postgres.sessions.idle_in_transaction": sum(row["idle_in_transaction"] for row in rows),
    }


def _sessions(rows: Sequence[Row]) -> Evidence:
    numbers = session_numbers(rows)
    taken, idle = numbers["postgres.sessions.total"], numbers["postgres.sessions.idle_in_transaction"]
    lines = [f"{taken:.0f} of {rows[0]['maximum']} connections are taken, {idle:.0f} idle in a transaction of this database"]
    for row in rows[:ROWS_SHOWN]:
        where = f"application {row['application']}, database {row['database']}"
        lines.append(f"{row['sessions']:5}  {row['state']}, {where}, the longest for {row['longest_s']:.0f}s")
    return Evidence(PostgresSessions.name, "\n".join(lines), numbers)


def _long_queries(diagnosis: PostgresLongQueries, rows: Sequence[Row]) -> Evidence:
    found = rows[0]["found"] if rows else 0
    lines = [f"{found} queries active for {brief(diagnosis.over)} or longer"]
    for row in rows:
        where = f"pid {row['pid']}, application {row['application']}, database {row['database']}"
        lines.append(f"{row['seconds']:6.0f}s  {where}: {row['query']}")
    return Evidence(diagnosis.name, "\n".join(lines), {"postgres.long_queries.count": found})


def _locks(rows: Sequence[Row]) -> Evidence:
    """A row is one that waits and one that it waits for; who has waited longest comes first."""
    waiting, longest_s = (rows[0]["waiting"], rows[0]["seconds"]) if rows else (0, 0.0)
    lines = [f"{waiting} sessions wait for a lock"]
    for row in rows:
        where = f"pid {row['pid']}, application {row['application']}, database {row['database']}"
        lines.append(f"{row['seconds']:6.0f}s  {where}: {row['query']}")
        holder = f"pid {row['blocker_pid']}, application {row['blocker_application']}, {row['blocker_state']}"
        lines.append(f"         waits for {holder}: {row['blocker_query']}")
    numbers = {"postgres.locks.waiting": float(waiting), "postgres.locks.longest_seconds": longest_s}
    return Evidence(PostgresLocks.name, "\n".join(lines), numbers)


def _sizes(rows: Sequence[Row]) -> Evidence:
    if not rows:
        return Evidence(PostgresSizes.name, "there are no tables that remediator's role may see")
    first = rows[0]
    lines = [f"{_mebibytes(first['database_bytes'])} in all, {first['found']} tables, {first['dead_ratio']:.0%} of rows dead"]
    for row in rows:
        vacuumed = f"vacuumed {row['vacuumed_at']:%Y-%m-%d %H:%M}" if row["vacuumed_at"] else "never vacuumed"
        rows_said = f"about {row['live']} rows, {row['dead']} dead"
        lines.append(f"{_mebibytes(row['bytes'] or 0):>12}  {row['name']}: {rows_said}, {vacuumed}")
    numbers = {
        "postgres.sizes.database_bytes": float(first["database_bytes"]),
        "postgres.sizes.dead_ratio": first["dead_ratio"],
    }
    return Evidence(PostgresSizes.name, "\n".join(lines), numbers)


def _mebibytes(size: float) -> str:
    return f"{size / 2**20:.1f} MiB"
