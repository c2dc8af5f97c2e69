"""PostgreSQL, the reading side: sessions, long queries, locks, sizes. `postgres_actions.py` is the writing side.

Every question is one query in a read-only transaction with a time limit, over a connection of its own. The role needs
`pg_monitor` to see other people's sessions and, to end them or cancel their queries, `pg_signal_backend`; to get in when
all connections are taken, `pg_use_reserved_connections` (PostgreSQL 16, with `reserved_connections`); to vacuum a table or
to build an index anew, the role of its owner; to dump and restore, that of all that is in the database.
"""

import shlex
from collections.abc import Sequence
from typing import assert_never

from remediator.core.postgres_step import (
    CancelLongQueries,
    NoLongQueries,
    PostgresBackup,
    PostgresCheck,
    PostgresDiagnosis,
    PostgresDump,
    PostgresLongQueries,
    PostgresMaintenance,
    PostgresPing,
    PostgresReindex,
    PostgresRestore,
    PostgresSessionsBelow,
    PostgresSignal,
    PostgresStep,
    PostgresVacuum,
    TerminateIdle,
)
from remediator.core.step import Check, Diagnosis, Step
from remediator.core.target import Selection, Workload
from remediator.platforms.services import postgres_backups as backups
from remediator.platforms.services import postgres_connection as connection
from remediator.platforms.services import postgres_evidence as evidence
from remediator.platforms.services import postgres_maintenance as upkeep
from remediator.platforms.services import postgres_queries as queries
from remediator.platforms.services import postgres_signals as signals
from remediator.platforms.services.addresses import NotConfigured, Services, address_of, find_configured
from remediator.ports import (
    Evidence,
    Facts,
    Observation,
    PermanentError,
    PortError,
    Probe,
    Reading,
)


class PostgresDatabases:
    """The reading side: `services.NAME.postgres` for each database."""

    name = "postgres"

    def __init__(self, services: Services) -> None:
        self._services = services

    async def find(self, selection: Selection) -> Sequence[Workload]:
        return find_configured(self._services, "postgres", "database", selection)

    async def diagnose(self, diagnosis: Diagnosis, workload: Workload) -> Evidence:
        """A server that cannot be asked is evidence too. Raises PermanentError for a diagnosis that is not PostgreSQL's."""
        if not isinstance(diagnosis, PostgresDiagnosis):
            raise PermanentError(f"postgres has no diagnosis {diagnosis.name}")
        name = diagnosis.database or workload.service
        try:
            rows = await connection.ask(self._services, name, queries.query_of(diagnosis))
        except connection.Exhausted as error:
            return Evidence(diagnosis.name, str(error), {"postgres.sessions.up": 1.0, "postgres.sessions.ratio": 1.0})
        except connection.Silent as error:
            return Evidence(diagnosis.name, str(error), {"postgres.sessions.up": 0.0})
        except PortError as error:
            return Evidence(diagnosis.name, str(error))
        return evidence.of(diagnosis, rows)

    async def check(self, check: Check, workload: Workload) -> Reading:
        if not isinstance(check, PostgresCheck):
            return Reading(Probe.UNKNOWN, f"postgres has no check {check.name}")
        name = check.database or workload.service
        try:
            match check:
                case PostgresPing():
                    return await self._ping(name)
                case PostgresSessionsBelow():
                    return await self._sessions_below(check, name)
                case NoLongQueries():
                    return await self._no_long_queries(check, name)
                case _:
                    assert_never(check)
        except PortError as error:
            return Reading(Probe.UNKNOWN, str(error))

    async def _ping(self, name: str) -> Reading:
        """A server that is there and refuses remediator is neither well nor ill, as far as remediator can see."""
        try:
            return Reading(Probe.HOLDS, f"PostgreSQL answers {await connection.ping(self._services, name)}")
        except (connection.Exhausted, connection.Silent) as error:
            return Reading(Probe.FAILS, str(error))

    async def _sessions_below(self, check: PostgresSessionsBelow, name: str) -> Reading:
        try:
            numbers = evidence.session_numbers(await connection.ask(self._services, name, queries.SESSIONS))
        except connection.Exhausted as error:
            return Reading(Probe.FAILS, str(error))
        ratio = numbers["postgres.sessions.ratio"]
        seen = f"{numbers['postgres.sessions.total']:.0f} sessions, {ratio:.0%} of max_connections"
        return Reading(Probe.HOLDS if ratio < check.ratio else Probe.FAILS, seen)

    async def _no_long_queries(self, check: NoLongQueries, name: str) -> Reading:
        looked_for = PostgresLongQueries(over=check.over)
        found = evidence.of(looked_for, await connection.ask(self._services, name, queries.query_of(looked_for)))
        holds = not found.numbers["postgres.long_queries.count"]
        return Reading(Probe.HOLDS if holds else Probe.FAILS, found.text.partition("\n")[0])

    def describe(self, step: Step | Diagnosis, workload: Workload) -> str:
        """The command line for the same, of psql, pg_dump and pg_restore."""
        if not isinstance(step, PostgresStep | PostgresDiagnosis):
            return f"# postgres has no step {step.name}"
        named = step.database if isinstance(step, PostgresDiagnosis) else ""
        try:
            address = connection.without_password(address_of(self._services, "postgres", named or workload.service))
            if isinstance(step, PostgresBackup):
                return backups.typed(self._services, workload.service, step, address)
        except NotConfigured as error:
            return f"# {error}"
        return shlex.join(["psql", address, "-c", " ".join(_typed(step).as_string().split())])

    async def mark(self, step: Step, workload: Workload) -> Facts:
        """Exactly what the step will change."""
        match own(step):
            case TerminateIdle() | CancelLongQueries() as signal:
                return await signals.mark(self._services, workload.service, signals.signal_of(signal))
            case PostgresVacuum() | PostgresReindex() as maintenance:
                return await upkeep.mark(self._services, workload.service, maintenance)
            case PostgresDump() | PostgresRestore() as backup:
                return await backups.mark(self._services, workload.service, backup)

    async def observe(self, step: Step, workload: Workload, mark: Facts) -> Observation:
        """By the mark: whom it names, or what PostgreSQL counts and names itself."""
        match own(step):
            case TerminateIdle() | CancelLongQueries() as signal:
                return await signals.observe(self._services, workload.service, signals.signal_of(signal), mark)
            case PostgresVacuum() | PostgresReindex() as maintenance:
                return await upkeep.observe(self._services, workload.service, maintenance, mark)
            case PostgresDump() | PostgresRestore() as backup:
                return await backups.observe(self._services, workload.service, backup, mark)


def _typed(step: PostgresSignal | PostgresMaintenance | PostgresDiagnosis) -> queries.Query:
    if isinstance(step, PostgresSignal):
        return signals.by_hand(signals.signal_of(step))
    if isinstance(step, PostgresMaintenance):
        return upkeep.statement_of(step)
    return queries.query_of(step)


def own(step: Step) -> PostgresStep:
    """Raises PermanentError for a step that is not PostgreSQL's."""
    if isinstance(step, PostgresStep):
        return step
    raise PermanentError(f"postgres has no step {step.name}")
