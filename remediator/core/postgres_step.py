"""What can be done to a PostgreSQL, looked at in it, and checked. Kinds of steps, as `step.py` has them."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import ClassVar

from remediator.core.step_parts import Risk, name_field


@dataclass(frozen=True, slots=True)
class TerminateIdle:
    """End PostgreSQL sessions that sit idle in a transaction, the oldest first."""

    name: ClassVar[str] = "postgres.terminate_idle"
    service: ClassVar[str] = "postgres"
    risk: ClassVar[Risk] = Risk.DISRUPTIVE
    older_than: timedelta = field(
        default=timedelta(minutes=10), metadata={"doc": "Idle in transaction for at least this long."}
    )
    at_most: int = field(default=20, metadata={"doc": "Sessions ended by one step.", "at_least": 1, "at_most": 200})


@dataclass(frozen=True, slots=True)
class PostgresSessions:
    """PostgreSQL sessions by state and application, against the maximum."""

    name: ClassVar[str] = "postgres.sessions"
    service: ClassVar[str] = "postgres"
    risk: ClassVar[Risk] = Risk.READ
    facts: ClassVar[tuple[str, ...]] = (
        "postgres.sessions.idle_in_transaction",
        "postgres.sessions.ratio",
        "postgres.sessions.total",
    )
    database: str = name_field("The configured database; empty: the target's service.")


@dataclass(frozen=True, slots=True)
class PostgresLongQueries:
    """PostgreSQL queries that have been active for long, the longest first."""

    name: ClassVar[str] = "postgres.long_queries"
    service: ClassVar[str] = "postgres"
    risk: ClassVar[Risk] = Risk.READ
    facts: ClassVar[tuple[str, ...]] = ("postgres.long_queries.count",)
    database: str = name_field("The configured database; empty: the target's service.")
    over: timedelta = field(default=timedelta(seconds=30), metadata={"doc": "Active for at least this long."})


@dataclass(frozen=True, slots=True)
class PostgresSessionsBelow:
    """PostgreSQL uses less than this share of `max_connections`."""

    name: ClassVar[str] = "postgres.sessions_below"
    service: ClassVar[str] = "postgres"
    risk: ClassVar[Risk] = Risk.READ
    ratio: float = field(default=0.8, metadata={"doc": "Share of max_connections, 0 to 1.", "at_least": 0, "at_most": 1})
    database: str = name_field("The configured database; empty: the target's service.")


PostgresStep = TerminateIdle
PostgresDiagnosis = PostgresSessions | PostgresLongQueries
PostgresCheck = PostgresSessionsBelow
