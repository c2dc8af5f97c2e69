"""Schema migrations: from any released version, or from nothing, to the newest. Alembic does the work, on either store."""

import sqlite3
import subprocess
import sys
from pathlib import Path

from remediator.storage.address import SQLITE, Address, PostgresAddress, parse_address

HEAD = "0003"
"""The revision that this code needs. A test holds it against `migrations/versions/`."""


class SchemaTooNew(Exception):
    """The database was written by a newer remediator."""


def revision_of(database: Address) -> str:
    """The revision of a database, or empty. Asked without SQLAlchemy, which an up-to-date start need not import.

    Raises sqlite3.Error, or StoreUnavailable if PostgreSQL cannot be asked.
    """
    if isinstance(database, PostgresAddress):
        from remediator.storage.postgres_session import revision

        return revision(database)
    if not database.exists():
        return ""
    connection = sqlite3.connect(database)
    try:
        known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone() if known else None
    finally:
        connection.close()
    return str(row[0]) if row else ""


def upgrade(database: Address) -> str:
    """Bring the schema to HEAD and return the revision it had before. Raises SchemaTooNew, and as `revision_of`.

    Replicas that start at the same time wait for each other: one migrates, the others find it done.
    """
    before = revision_of(database)
    if before == HEAD:
        return before
    from alembic import command
    from alembic.util.exc import CommandError

    if isinstance(database, Path):
        database.parent.mkdir(parents=True, exist_ok=True)
    try:
        command.upgrade(config_for(database), HEAD)
    except CommandError as error:
        raise SchemaTooNew(
            f"{database} has schema {before!r}, which this version does not know: use the newer remediator"
        ) from error
    return before


def upgrade_apart(database: Address) -> str:
    """`upgrade`, in a process that ends with it: what Alembic and SQLAlchemy would leave in memory is 20 MB.

    Should it fail there, the same error is met again here, where it can be told.
    """
    if revision_of(database) != HEAD:
        # By standard input, because the address may hold a password, and arguments are for everybody to read.
        address = database.source if isinstance(database, PostgresAddress) else f"{SQLITE}{database}"
        command = [sys.executable, "-m", __name__]
        subprocess.run(command, check=False, stderr=subprocess.DEVNULL, input=address, text=True)
    return upgrade(database)


def config_for(database: Address):  # type: ignore[no-untyped-def]  # noqa: ANN201 - Alembic is imported late
    """Alembic's configuration for a database."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "remediator:storage/migrations")
    if isinstance(database, PostgresAddress):
        from remediator.storage.postgres_session import connect_to_migrate

        config.attributes["url"] = "postgresql+psycopg://"
        config.attributes["options"] = {"creator": lambda: connect_to_migrate(database)}
    else:
        config.attributes["url"] = f"sqlite:///{database}"
    return config


if __name__ == "__main__":
    upgrade(parse_address(sys.stdin.read()))
