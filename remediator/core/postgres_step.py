"""What can be done to a PostgreSQL, looked at in it, and checked. Kinds of steps, as `step.py` has them."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import ClassVar

from remediator.core.step_parts import Risk, long_work, name_field, relation_field


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
class CancelLongQueries:
    """Cancel queries of the target's PostgreSQL database that have been active for long, the longest first.

    Their sessions stay; a transaction that the query belongs to is rolled back.
    """

    name: ClassVar[str] = "postgres.cancel_long_queries"
    service: ClassVar[str] = "postgres"
    risk: ClassVar[Risk] = Risk.DISRUPTIVE
    over: timedelta = field(
        default=timedelta(minutes=10), metadata={"doc": "Active for at least this long.", "at_least": timedelta(seconds=1)}
    )
    at_most: int = field(default=5, metadata={"doc": "Queries cancelled by one step.", "at_least": 1, "at_most": 100})
    spare: tuple[str, ...] = field(
        default=("pg_dump", "pg_restore"),
        metadata={
            "doc": "Applications whose queries are left alone, by their `application_name`; remediator's own always are."
        },
    )


@dataclass(frozen=True, slots=True)
class PostgresVacuum:
    """VACUUM (ANALYZE) one table of the target's PostgreSQL database. Readers and writers are not held up."""

    name: ClassVar[str] = "postgres.vacuum"
    service: ClassVar[str] = "postgres"
    risk: ClassVar[Risk] = Risk.LOW
    table: str = relation_field("The table, as PostgreSQL keeps its name: `orders`, `shop.orders`.")
    timeout: timedelta = field(default=timedelta(minutes=10), metadata=long_work("PostgreSQL gives up after this."))


@dataclass(frozen=True, slots=True)
class PostgresReindex:
    """Build one index of the target's PostgreSQL database anew (REINDEX CONCURRENTLY). Readers and writers are not held up.

    One that fails leaves an invalid index behind, `<index>_ccnew`, which a person should drop.
    """

    name: ClassVar[str] = "postgres.reindex"
    service: ClassVar[str] = "postgres"
    risk: ClassVar[Risk] = Risk.LOW
    index: str = relation_field("The index, as PostgreSQL keeps its name: `orders_pkey`, `shop.orders_pkey`.")
    timeout: timedelta = field(default=timedelta(minutes=30), metadata=long_work("PostgreSQL gives up after this."))


@dataclass(frozen=True, slots=True)
class PostgresDump:
    """Dump the target's PostgreSQL database into a new file of its configured directory of backups."""

    name: ClassVar[str] = "postgres.dump"
    service: ClassVar[str] = "postgres"
    risk: ClassVar[Risk] = Risk.LOW
    timeout: timedelta = field(default=timedelta(minutes=30), metadata=long_work("The dump is given up after this."))


@dataclass(frozen=True, slots=True)
class PostgresRestore:
    """Restore a backup over the target's PostgreSQL database, once a dump of what that holds now is on disk.

    What is not in the backup stays as it is.
    """

    name: ClassVar[str] = "postgres.restore"
    service: ClassVar[str] = "postgres"
    risk: ClassVar[Risk] = Risk.DESTRUCTIVE
    backup: str = field(metadata={"doc": "A file of the configured directory of backups.", "positional": True})
    timeout: timedelta = field(default=timedelta(hours=1), metadata=long_work("For the dump and the restore together."))


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
        "postgres.sessions.up",
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
class PostgresLocks:
    """Who waits for a lock in PostgreSQL, since when, and whose session holds it."""

    name: ClassVar[str] = "postgres.locks"
    service: ClassVar[str] = "postgres"
    risk: ClassVar[Risk] = Risk.READ
    facts: ClassVar[tuple[str, ...]] = ("postgres.locks.longest_seconds", "postgres.locks.waiting")
    database: str = name_field("The configured database; empty: the target's service.")


@dataclass(frozen=True, slots=True)
class PostgresSizes:
    """The size of a PostgreSQL database, its largest tables, and how much of their rows is dead.

    Sizes of tables and numbers of rows are PostgreSQL's own estimates: a locked table must not hold up the look at it.
    """

    name: ClassVar[str] = "postgres.sizes"
    service: ClassVar[str] = "postgres"
    risk: ClassVar[Risk] = Risk.READ
    facts: ClassVar[tuple[str, ...]] = ("postgres.sizes.database_bytes", "postgres.sizes.dead_ratio")
    database: str = name_field("The configured database; empty: the target's service.")


@dataclass(frozen=True, slots=True)
class PostgresPing:
    """PostgreSQL lets remediator in and answers a query."""

    name: ClassVar[str] = "postgres.ping"
    service: ClassVar[str] = "postgres"
    risk: ClassVar[Risk] = Risk.READ
    database: str = name_field("The configured database; empty: the target's service.")


@dataclass(frozen=True, slots=True)
class NoLongQueries:
    """No PostgreSQL query has been active for long."""

    name: ClassVar[str] = "postgres.no_long_queries"
    service: ClassVar[str] = "postgres"
    risk: ClassVar[Risk] = Risk.READ
    over: timedelta = field(default=timedelta(minutes=10), metadata={"doc": "Active for at least this long."})
    database: str = name_field("The configured database; empty: the target's service.")


@dataclass(frozen=True, slots=True)
class PostgresSessionsBelow:
    """PostgreSQL uses less than this share of `max_connections`."""

    name: ClassVar[str] = "postgres.sessions_below"
    service: ClassVar[str] = "postgres"
    risk: ClassVar[Risk] = Risk.READ
    ratio: float = field(default=0.8, metadata={"doc": "Share of max_connections, 0 to 1.", "at_least": 0, "at_most": 1})
    database: str = name_field("The configured database; empty: the target's service.")


PostgresSignal = TerminateIdle | CancelLongQueries
PostgresMaintenance = PostgresVacuum | PostgresReindex
PostgresBackup = PostgresDump | PostgresRestore
PostgresStep = PostgresSignal | PostgresMaintenance | PostgresBackup
PostgresDiagnosis = PostgresSessions | PostgresLongQueries | PostgresLocks | PostgresSizes
PostgresCheck = PostgresPing | PostgresSessionsBelow | NoLongQueries
