"""The SQLite store: grouped commits that spoil nobody's work, failures that pass, one process, one schema."""

import asyncio
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from remediator.clock import SystemClock
from remediator.ports import Ledger, StoreUnavailable
from remediator.storage import migrate
from remediator.storage.migrate import HEAD, SchemaTooNew, upgrade
from remediator.storage.schema import metadata
from remediator.storage.sqlite import BACKLOG_BYTES_MAX, SqliteStore, StoreInUse, connect
from tests.builders import NOW, alert
from tests.storage.stores import CONFIRM_AFTER, policy, sqlite


async def bodies(store: SqliteStore) -> list[bytes]:
    return [message.body for message in await store.run(lambda ledger: ledger.inbox.take(10_000))]


def hear(instance: str):
    def work(ledger: Ledger) -> str:
        ledger.episodes.hear(alert(instance=instance), NOW)
        return instance

    return work


def and_then_fail(error: Exception, instance: str = "bad"):
    def work(ledger: Ledger) -> None:
        hear(instance)(ledger)
        raise error

    return work


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """What a full disk looks like to this process."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class TestGroupedCommits:
    async def test_whatever_waits_is_committed_together_and_each_gets_its_own_answer(self, tmp_path):
        async with sqlite(tmp_path) as store:
            answers = await asyncio.gather(*(store.run(hear(str(number))) for number in range(50)))
            assert answers == [str(number) for number in range(50)]

    @pytest.mark.parametrize("error", [ValueError("a bug"), sqlite3.IntegrityError("UNIQUE constraint failed")], ids=type)
    async def test_one_work_that_fails_spoils_none_of_its_neighbours_and_leaves_nothing_behind(self, tmp_path, error):
        async with sqlite(tmp_path) as store:
            answers = await asyncio.gather(
                store.put(b"kept", NOW),
                store.run(hear("before")),
                store.run(and_then_fail(error)),
                store.run(hear("after")),
                return_exceptions=True,
            )
            assert answers == [None, "before", error, "after"]
            assert await bodies(store) == [b"kept"]
            assert await store.run(lambda ledger: ledger.episodes.count_open()) == 2

    async def test_a_message_is_written_once_even_if_its_transaction_had_to_be_repeated(self, tmp_path):
        async with sqlite(tmp_path) as store:
            first = store.run(lambda _ledger: None)  # keeps the thread busy, so that the rest waits together
            rest = [store.put(b"once", NOW), store.run(and_then_fail(ValueError("a bug")))]
            await asyncio.gather(first, *rest, return_exceptions=True)
            assert await bodies(store) == [b"once"]

    async def test_whoever_does_not_wait_for_the_answer_any_more_spoils_nothing(self, tmp_path):
        async with sqlite(tmp_path) as store:
            gone = asyncio.create_task(store.run(hear("gone")))
            stays = asyncio.create_task(store.run(hear("stays")))
            await asyncio.sleep(0)
            gone.cancel()
            assert await stays == "stays"
            assert gone.cancelled() or gone.cancelling()
            assert await store.run(lambda ledger: ledger.episodes.count_open()) == 2

    async def test_what_was_answered_is_in_the_file(self, tmp_path):
        async with sqlite(tmp_path) as store:
            await store.put(b"durable", NOW)
            with sqlite3.connect(f"file:{tmp_path / 'store.db'}?mode=ro", uri=True) as other:
                assert other.execute("SELECT body FROM inbox").fetchall() == [(b"durable",)]
            other.close()

    async def test_intents_survive_a_power_cut_because_every_commit_is_synced(self, tmp_path):
        upgrade(tmp_path / "store.db")
        connection = connect(tmp_path / "store.db")
        assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        connection.close()

    async def test_more_bodies_than_memory_should_hold_are_refused(self, tmp_path):
        async with sqlite(tmp_path) as store:
            body = bytes(BACKLOG_BYTES_MAX // 2 + 1)
            busy = asyncio.create_task(store.run(lambda _ledger: None))
            await asyncio.sleep(0)
            waiting = asyncio.create_task(store.put(body, NOW))
            await asyncio.sleep(0)
            with pytest.raises(StoreUnavailable):
                await store.put(body, NOW)
            await busy
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)


class TestFailures:
    async def test_a_full_disk_refuses_what_comes_and_room_that_is_made_is_used_without_a_restart(self, tmp_path):
        async with sqlite(tmp_path) as store:
            await store.put(b"before", NOW)
            with files_no_larger_than(1_000_000):
                with pytest.raises(StoreUnavailable):
                    await store.put(bytes(2_000_000), NOW)
                assert not store.is_up
            await store.put(b"after", NOW)
            assert store.is_up
            assert await bodies(store) == [b"before", b"after"]

    async def test_a_file_that_cannot_be_opened_is_tried_again_with_every_call(self, tmp_path):
        path, away = tmp_path / "store.db", tmp_path / "away.db"

        def lose(_ledger: Ledger) -> None:
            path.rename(away)
            path.mkdir()
            raise sqlite3.OperationalError("disk I/O error")

        async with sqlite(tmp_path) as store:
            await store.put(b"before", NOW)
            for work in (lose, hear("a"), hear("b")):
                with pytest.raises(StoreUnavailable):
                    await store.run(work)
            path.rmdir()
            away.rename(path)
            await store.put(b"after", NOW)
            assert await bodies(store) == [b"before", b"after"]

    async def test_a_failure_leaves_no_half_of_a_work_behind(self, tmp_path):
        async with sqlite(tmp_path) as store:
            with pytest.raises(StoreUnavailable):
                await store.run(and_then_fail(sqlite3.OperationalError("disk I/O error")))
            assert await store.run(lambda ledger: ledger.episodes.count_open()) == 0

    async def test_closing_waits_for_what_was_handed_over(self, tmp_path):
        store = SqliteStore(tmp_path / "store.db", policy, CONFIRM_AFTER, SystemClock())
        upgrade(tmp_path / "store.db")
        puts = [asyncio.create_task(store.put(b"%d" % number, NOW)) for number in range(20)]
        await asyncio.sleep(0)
        late = asyncio.create_task(store.put(b"late", NOW))
        await asyncio.sleep(0)
        await store.close()
        async with asyncio.timeout(5):
            assert await asyncio.gather(*puts, late) == [None] * 21
        async with sqlite(tmp_path) as again:
            assert len(await bodies(again)) == 21


class TestOneProcess:
    async def test_a_second_process_is_refused(self, tmp_path):
        second = f"""
from datetime import timedelta
from pathlib import Path
from remediator.clock import SystemClock
from remediator.core.snapshot import Policy
from remediator.storage.sqlite import SqliteStore, StoreInUse
try:
    SqliteStore(Path({str(tmp_path / "store.db")!r}), Policy, timedelta(), SystemClock())
except StoreInUse as error:
    print("refused:", error)
"""
        async with sqlite(tmp_path):
            ran = await asyncio.create_subprocess_exec(sys.executable, "-c", second, stdout=subprocess.PIPE)
            said, _ = await ran.communicate()
        assert said.startswith(b"refused:")

    async def test_the_lock_goes_with_the_store(self, tmp_path):
        async with sqlite(tmp_path):
            with pytest.raises(StoreInUse):
                SqliteStore(tmp_path / "store.db", policy, CONFIRM_AFTER, SystemClock())
        async with sqlite(tmp_path) as store:
            await store.put(b"mine now", NOW)


class TestSchema:
    def test_migrations_from_nothing_lead_to_the_tables_that_the_code_expects(self, tmp_path):
        upgrade(tmp_path / "store.db")
        engine = create_engine(f"sqlite:///{tmp_path / 'store.db'}")
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
            assert compare_metadata(context, metadata) == []
        engine.dispose()

    def test_partial_indexes_are_as_the_schema_says(self, tmp_path):
        """Alembic does not compare the WHERE of an index, and promise S2 stands on two of them."""

        def conditions(path: Path) -> dict[str, str]:
            with sqlite3.connect(path) as connection:
                found = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
                indexes = {name: " ".join(sql.split()) for name, sql in found}
            connection.close()
            return indexes

        upgrade(tmp_path / "migrated.db")
        engine = create_engine(f"sqlite:///{tmp_path / 'created.db'}")
        metadata.create_all(engine)
        engine.dispose()
        assert conditions(tmp_path / "migrated.db") == conditions(tmp_path / "created.db")

    def test_the_revision_that_the_code_asks_for_is_the_newest_file(self):
        versions = Path(migrate.__file__).parent / "migrations" / "versions"
        assert max(path.name.partition("_")[0] for path in versions.glob("0*.py")) == HEAD

    def test_a_schema_that_is_up_to_date_is_left_alone(self, tmp_path):
        assert upgrade(tmp_path / "store.db") == ""
        assert upgrade(tmp_path / "store.db") == HEAD

    def test_a_database_of_a_newer_remediator_is_refused_and_not_touched(self, tmp_path):
        upgrade(tmp_path / "store.db")
        with sqlite3.connect(tmp_path / "store.db") as connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.close()
        with pytest.raises(SchemaTooNew, match="9999"):
            upgrade(tmp_path / "store.db")

    def test_a_migration_that_is_interrupted_leaves_the_database_as_it_was(self, tmp_path):
        with sqlite3.connect(tmp_path / "store.db") as connection:
            connection.execute("CREATE TABLE runs (in_the_way INTEGER)")
        connection.close()
        with pytest.raises(Exception, match="runs already exists"):
            upgrade(tmp_path / "store.db")
        with sqlite3.connect(tmp_path / "store.db") as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        connection.close()
        assert tables == {"runs"}


async def test_a_large_commit_does_not_hold_up_the_loop(tmp_path):
    """While a big transaction commits, whoever only computes goes on."""
    async with sqlite(tmp_path) as store:
        writing = asyncio.gather(*(store.put(bytes(20_000), NOW) for _ in range(2000)))
        turns = 0
        while not writing.done():
            await asyncio.sleep(0)
            turns += 1
        assert turns > 100
