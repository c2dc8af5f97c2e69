"""The stores that the contract suites run against. Another store is one more entry here."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path

from remediator.clock import SystemClock
from remediator.core.playbook import Mode
from remediator.core.snapshot import Policy
from remediator.ports import Store
from remediator.storage.migrate import upgrade
from remediator.storage.sqlite import SqliteStore

CONFIRM_AFTER = timedelta(seconds=10)


def policy() -> Policy:
    return Policy(mode=Mode.AUTO)


@asynccontextmanager
async def sqlite(directory: Path) -> AsyncIterator[SqliteStore]:
    path = directory / "store.db"
    store = SqliteStore(path, policy, CONFIRM_AFTER, SystemClock())
    upgrade(path)
    try:
        yield store
    finally:
        await store.close()


STORES: Mapping[str, Callable[[Path], AbstractAsyncContextManager[Store]]] = {"sqlite": sqlite}
