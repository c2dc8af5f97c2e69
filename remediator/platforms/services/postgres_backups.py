"""Backups of PostgreSQL: a dump into a file of its own, and the restore of a named one, which begins with a dump.

The work is that of pg_dump and pg_restore, or of the commands that are configured in their place. They find the address in
libpq's variables, and nothing of an alert reaches them. A dump has its name once it is whole; a restore is one transaction.
"""

import asyncio
import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from psycopg import sql

from remediator.core.playbook import brief
from remediator.core.postgres_step import PostgresBackup, PostgresDump, PostgresRestore
from remediator.platforms import readable
from remediator.platforms.processes import Command, Ended, run
from remediator.platforms.services import postgres_connection as connection
from remediator.platforms.services.addresses import NotConfigured, Services
from remediator.ports import Facts, Happened, Observation, OutcomeUnknown, PermanentError

PG_DUMP = ("pg_dump", "--format=custom", "--no-password")
PG_RESTORE = ("pg_restore", "--clean", "--if-exists", "--single-transaction", "--no-password", "--dbname=")
"""Without a name of its own, the database is that of the variables, as everything else."""
RESTORING = "remediator restore"
PARTIAL = ".partial"
WORDS_SHOWN = 500

# A restore makes every table anew, with another identity.
CONTENT = sql.SQL("""
    SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYYMMDD"T"HH24MISS"Z"') AS at,
           pg_database_size(current_database()) AS bytes,
           (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = {restoring})
               AS restoring,
           (SELECT md5(coalesce(string_agg(c.oid::text, ',' ORDER BY c.oid), '')) FROM pg_class AS c
            JOIN pg_namespace AS n ON n.oid = c.relnamespace
            WHERE c.relkind IN ('r', 'p', 'm') AND NOT starts_with(n.nspname, 'pg_') AND n.nspname <> 'information_schema')
               AS tables
""").format(restoring=RESTORING)


@dataclass(frozen=True, slots=True)
class Backups:
    """What is configured for one database."""

    service: str
    directory: Path
    dump: tuple[str, ...]
    restore: tuple[str, ...]
    variables: Mapping[str, str]

    def command(self, argv: tuple[str, ...], timeout: timedelta, application: str, **streams: int) -> Command:
        return Command(argv, timeout, {**os.environ, **self.variables, "PGAPPNAME": application}, **streams)


def configured(services: Services, name: str) -> Backups:
    """Raises NotConfigured."""
    variables = connection.variables(services, name)
    endpoints = services[name]
    if endpoints.backups is None:
        raise NotConfigured(f"no directory of backups is configured for {name!r}; add services.{name}.backups")
    return Backups(name, endpoints.backups, endpoints.dump or PG_DUMP, endpoints.restore or PG_RESTORE, variables)


def typed(services: Services, name: str, step: PostgresBackup, address: str) -> str:
    """What a person could type, with the `address` that has no password. Raises NotConfigured."""
    backups = configured(services, name)
    now = "$(date -u +%Y%m%dT%H%M%SZ)"
    dump = [*PG_DUMP, f"--dbname={address}"] if backups.dump == PG_DUMP else backups.dump
    lines = [f"{shlex.join(dump)} > {shlex.quote(f'{backups.directory}/{name}-')}{now}.dump"]
    if isinstance(step, PostgresRestore):
        restore = [*PG_RESTORE[:-1], f"--dbname={address}"] if backups.restore == PG_RESTORE else backups.restore
        lines.append(f"{shlex.join(restore)} < {shlex.quote(str(backups.directory / step.backup))}")
    return " && ".join(lines)


async def mark(services: Services, name: str, step: PostgresBackup) -> Facts:
    """The name of the dump to make, by the server's time, and which tables there are."""
    backups = configured(services, name)
    if isinstance(step, PostgresRestore):
        _backup(backups, step)
    content = await _content(services, name)
    return {"file": f"{name}-{content['at']}.dump", "bytes": content["bytes"], "tables": content["tables"]}


async def observe(services: Services, name: str, step: PostgresBackup, mark: Facts) -> Observation:
    """By the file of the dump, which has its name only once it is whole, and by which tables there are."""
    match step:
        case PostgresDump():
            path = configured(services, name).directory / mark["file"]
            if path.exists():
                return Observation(Happened.YES, f"{path} is there")
            return Observation(Happened.NO, f"{path} is not there")
        case PostgresRestore():
            content = await _content(services, name)
            if content["restoring"]:
                return Observation(Happened.UNKNOWN, "a restore is under way")
            if content["tables"] == mark["tables"]:
                return Observation(Happened.NO, "the tables are the same as before")
            return Observation(Happened.YES, f"the tables are others than before; what they held is in {mark['file']}")


async def perform(services: Services, name: str, step: PostgresBackup, mark: Facts, before: Callable[[], None]) -> str:
    """Raises OutcomeUnknown only of a restore: a dump that did not end well leaves nothing."""
    backups = configured(services, name)
    match step:
        case PostgresDump():
            return await _dump(backups, mark, step.timeout, before)
        case PostgresRestore():
            return await _restore(backups, step, mark, before)


async def _restore(backups: Backups, step: PostgresRestore, mark: Facts, before: Callable[[], None]) -> str:
    now = asyncio.get_running_loop().time
    until = now() + step.timeout.total_seconds()
    with _opened(_backup(backups, step), os.O_RDONLY) as source:
        dumped = await _dump(backups, mark, step.timeout, before)
        left = timedelta(seconds=max(0.0, until - now()))
        try:
            ended = await run(backups.command(backups.restore, left, RESTORING, source=source), before)
        except TimeoutError as error:
            raise OutcomeUnknown(f"the restore was killed after {brief(step.timeout)}; {dumped}") from error
    if ended.status != 0:
        raise PermanentError(f"{_failed(backups.restore, ended)}; {dumped}")
    return f"restored {step.backup}; {dumped}"


async def _dump(backups: Backups, mark: Facts, limit: timedelta, before: Callable[[], None]) -> str:
    whole = backups.directory / mark["file"]
    partial = whole.with_name(whole.name + PARTIAL)
    _ensure_room(backups.directory, mark["bytes"])
    with _opened(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as sink:
        try:
            ended = await run(backups.command(backups.dump, limit, "remediator dump", sink=sink), before)
            if ended.status != 0 or not os.fstat(sink).st_size:
                raise PermanentError(_failed(backups.dump, ended))
            await asyncio.to_thread(_keep, sink, partial, whole)
        except TimeoutError as error:
            raise PermanentError(f"the dump was not done within {brief(limit)}, and given up") from error
        finally:
            partial.unlink(missing_ok=True)
    return f"dumped {whole}"


def _keep(sink: int, partial: Path, whole: Path) -> None:
    """On the disk, by its name, before anything else is done."""
    os.fsync(sink)
    partial.rename(whole)
    with _opened(whole.parent, os.O_RDONLY) as directory:
        os.fsync(directory)


def _ensure_room(directory: Path, needed_bytes: int) -> None:
    """A dump is hardly ever larger than its database. Raises PermanentError."""
    try:
        free = shutil.disk_usage(directory).free
    except OSError as error:
        raise PermanentError(f"the directory of backups cannot be used: {error}") from error
    if free < needed_bytes:
        raise PermanentError(f"{directory} has {free >> 20} MiB left; the database has {needed_bytes >> 20} MiB")


def _backup(backups: Backups, step: PostgresRestore) -> Path:
    """Raises PermanentError for what is no file right in the directory of backups."""
    path = backups.directory / step.backup
    if path.parent != backups.directory or not path.is_file():
        raise PermanentError(f"{backups.directory} has no backup {step.backup!r}")
    return path


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    """For us alone: a dump holds all that the database does. Raises PermanentError."""
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        raise PermanentError(f"{path} cannot be opened: {error}") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _failed(argv: tuple[str, ...], ended: Ended) -> str:
    said = readable(ended.output, WORDS_SHOWN) or "and said nothing"
    return f"{shlex.join(argv)} exited with {ended.status}: {said}"


async def _content(services: Services, name: str) -> Mapping[str, Any]:
    (row,) = await connection.ask(services, name, CONTENT)
    return row
