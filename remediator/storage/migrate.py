"""Schema migrations: from any released version, or from nothing, to the newest. Alembic does the work."""

import sqlite3
import subprocess
import sys
from pathlib import Path

HEAD = "0002"
"""The revision that this code needs. A test holds it against `migrations/versions/`."""


class SchemaTooNew(Exception):
    """The database was written by a newer remediator."""


def revision_of(path: Path) -> str:
    """The revision of an SQLite database, or empty. Asked without SQLAlchemy, which an up-to-date start need not import."""
    if not path.exists():
        return ""
    connection = sqlite3.connect(path)
    try:
        known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone() if known else None
    finally:
        connection.close()
    return str(row[0]) if row else ""


def upgrade(path: Path) -> str:
    """Bring the schema to HEAD and return the revision it had before. Raises SchemaTooNew."""
    before = revision_of(path)
    if before == HEAD:
        return before
    from alembic import command
    from alembic.util.exc import CommandError

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        command.upgrade(config_for(path), HEAD)
    except CommandError as error:
        raise SchemaTooNew(
            f"{path} has schema {before!r}, which this version does not know: use the newer remediator"
        ) from error
    return before


def upgrade_apart(path: Path) -> str:
    """`upgrade`, in a process that ends with it: what Alembic and SQLAlchemy would leave in memory is 20 MB.

    Should it fail there, the same error is met again here, where it can be told.
    """
    if revision_of(path) != HEAD:
        subprocess.run([sys.executable, "-m", __name__, str(path)], check=False, stderr=subprocess.DEVNULL)
    return upgrade(path)


def config_for(path: Path):  # type: ignore[no-untyped-def]  # noqa: ANN201 - Alembic is imported late
    """Alembic's configuration for the database at `path`."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "remediator:storage/migrations")
    config.attributes["url"] = f"sqlite:///{path}"
    return config


if __name__ == "__main__":
    upgrade(Path(sys.argv[1]))
