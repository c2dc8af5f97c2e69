"""A disk with a slow fsync: `python -m bench.slow_disk COMMAND …` is remediator with commits that take FSYNC_SECONDS longer.

There is no such disk at hand, and none is needed: a commit of SQLite's WAL is one fsync. So the store's own thread sleeps
before each COMMIT, in remediator and in the floor alike; everything else is as it is.
"""

import sqlite3
import sys
import time
from typing import Any

from remediator.cli import main
from remediator.storage import sqlite

FSYNC_SECONDS = 0.006


class SlowConnection:
    """A connection of SQLite in all but its commits."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if sql == "COMMIT":
            time.sleep(FSYNC_SECONDS)
        return self._connection.execute(sql, *parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def slow_down() -> None:
    """From now on every connection that a store of this process opens is slow."""
    connect = sqlite.connect
    sqlite.connect = lambda path: SlowConnection(connect(path))  # type: ignore[assignment,return-value]


if __name__ == "__main__":
    slow_down()
    sys.exit(main())
