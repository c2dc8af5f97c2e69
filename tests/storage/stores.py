"""The stores that the contract suites run against. Another store is one more entry here."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from remediator.clock import SystemClock, elapsed
from remediator.core.dependencies import Dependencies, everything_needed
from remediator.core.playbook import Mode
from remediator.core.snapshot import Policy
from remediator.lab.inline_store import InlineStore, open_memory
from remediator.ports import Store
from remediator.storage.address import PostgresAddress
from remediator.storage.migrate import upgrade
from remediator.storage.postgres import PostgresStore
from remediator.storage.sqlite import SqliteStore

CONFIRM_AFTER = timedelta(seconds=10)
NEEDS = {"shop-web": ["shop-api"], "shop-api": ["shop-db"], "reports": ["shop-db"], "shop-db": []}


def policy() -> Policy:
    return Policy(mode=Mode.AUTO, dependencies=Dependencies(everything_needed(NEEDS)))


@asynccontextmanager
async def sqlite(directory: Path) -> AsyncIterator[SqliteStore]:
    path = directory / "store.db"
    store = SqliteStore(path, policy, CONFIRM_AFTER, SystemClock())
    upgrade(path)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def postgres(address: PostgresAddress) -> AsyncIterator[PostgresStore]:
    """One replica's store. The database has its schema already."""
    store = PostgresStore(address, policy, CONFIRM_AFTER, elapsed)
    store.ask_the_time()
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def fresh_postgres(request: pytest.FixtureRequest) -> AsyncIterator[PostgresStore]:
    databases = request.getfixturevalue("postgres_databases")
    with databases.database() as address:
        async with postgres(address) as store:
            yield store


@asynccontextmanager
async def inline() -> AsyncIterator[InlineStore]:
    connection = open_memory()
    try:
        yield InlineStore(connection, policy, CONFIRM_AFTER, SystemClock())
    finally:
        connection.close()


STORES: Mapping[str, Callable[[pytest.FixtureRequest, Path], AbstractAsyncContextManager[Store]]] = {
    "sqlite": lambda request, directory: sqlite(directory),
    "inline": lambda request, directory: inline(),
    "postgres": lambda request, directory: fresh_postgres(request),
}
