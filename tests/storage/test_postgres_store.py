"""The store on PostgreSQL: what it does when connections break, answers are lost, and others are in the way."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from remediator.clock import elapsed
from remediator.ports import Ledger, StoreUnavailable
from remediator.storage.address import BadAddress, PostgresAddress, parse_address
from remediator.storage.migrate import HEAD, SchemaTooNew, revision_of, upgrade
from remediator.storage.postgres import PostgresStore
from remediator.storage.postgres_session import connect
from remediator.storage.schema import metadata
from remediator.storage.waiting import BACKLOG_BYTES_MAX
from tests.builders import NOW, alert
from tests.line import Line, line_to
from tests.storage.stores import CONFIRM_AFTER, policy, postgres


@pytest.fixture
def address(postgres_databases) -> PostgresAddress:
    with postgres_databases.database() as address:
        yield address


@pytest.fixture
def empty(postgres_databases) -> PostgresAddress:
    """A database without a schema."""
    with postgres_databases.database("template0") as address:
        yield address


@pytest.fixture
async def store(address) -> AsyncIterator[PostgresStore]:
    async with postgres(address) as store:
        yield store


@pytest.fixture
def line(address) -> Line:
    with line_to(address) as line:
        yield line


@pytest.fixture
async def far(line) -> AsyncIterator[PostgresStore]:
    """A store at the end of a line."""
    async with postgres(line.address) as store:
        yield store


def hear(instance: str) -> Callable[[Ledger], str]:
    def work(ledger: Ledger) -> str:
        ledger.episodes.hear(alert(instance=instance), NOW)
        return instance

    return work


async def episodes(store: PostgresStore) -> int:
    return await store.run(lambda ledger: ledger.episodes.count_open())


async def bodies(store: PostgresStore) -> list[bytes]:
    return [message.body for message in await store.run(lambda ledger: ledger.inbox.take(10_000))]


def end_all_sessions(address: PostgresAddress) -> None:
    """What a restart of the server looks like to its clients."""
    with psycopg.connect(address.url()) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


class TestIntake:
    async def test_what_comes_in_together_is_written_once_each(self, store):
        sent = [b"%d" % number for number in range(500)]
        await asyncio.gather(*(store.put(body, NOW) for body in sent))
        assert sorted(await bodies(store)) == sorted(sent)

    async def test_one_sender_s_messages_come_out_in_the_order_in_which_they_were_answered(self, store):
        for number in range(20):
            await store.put(b"%d" % number, NOW)
        assert await bodies(store) == [b"%d" % number for number in range(20)]

    async def test_more_bodies_than_memory_should_hold_are_refused(self, store):
        body = bytes(BACKLOG_BYTES_MAX // 2 + 1)
        await store.put(b"first", NOW)
        store._intake_thread.submit((gate := threading.Event()).wait)
        waiting = asyncio.create_task(store.put(body, NOW))
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailable):
            await store.put(body, NOW)
        waiting.cancel()
        store._bodies.clear()
        gate.set()
        await asyncio.gather(waiting, return_exceptions=True)

    async def test_what_was_answered_survives_a_crash_of_the_server_whatever_its_default_is(self, address):
        with psycopg.connect(address.url(), autocommit=True) as admin:
            name = admin.info.dbname
            admin.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
        with connect(address) as connection:
            assert connection.execute("SHOW synchronous_commit").fetchone() == {"synchronous_commit": "on"}


class TestWork:
    async def test_a_work_that_fails_leaves_nothing_behind_and_spoils_no_other(self, store):
        def fail(ledger: Ledger) -> None:
            hear("bad")(ledger)
            raise ValueError("a bug")

        answers = await asyncio.gather(
            store.run(hear("a")), store.run(fail), store.run(hear("b")), store.put(b"kept", NOW), return_exceptions=True
        )
        assert [answers[0], repr(answers[1]), answers[2]] == ["a", "ValueError('a bug')", "b"]
        assert await episodes(store) == 2
        assert await bodies(store) == [b"kept"]

    async def test_of_two_that_wait_for_each_other_one_begins_anew(self, store):
        met = threading.Barrier(2, timeout=10)
        times = {"a": 0, "b": 0}

        def lock(first: str, second: str) -> Callable[[Ledger], str]:
            def work(ledger: Ledger) -> str:
                times[first] += 1
                ledger._db.lock([first])
                if sum(times.values()) <= 2:
                    met.wait()
                ledger._db.lock([second])
                return first

            return work

        await store.run(lambda ledger: ledger._db.lock(["a", "b"]))
        assert await asyncio.gather(store.run(lock("a", "b")), store.run(lock("b", "a"))) == ["a", "b"]
        assert sum(times.values()) > 2

    async def test_what_has_swallowed_the_error_of_a_statement_is_not_believed(self, store):
        def work(ledger: Ledger) -> None:
            hear("a")(ledger)
            try:
                ledger._db.all("SELECT nothing FROM nowhere")
            except psycopg.Error:
                return

        with pytest.raises(StoreUnavailable):
            await store.run(work)
        assert await episodes(store) == 0

    async def test_ids_of_episodes_rise_whichever_connection_opens_them(self, store):
        for number in range(40):
            await store.run(hear(str(number)))
        opened = await store.run(lambda ledger: ledger._db.all("SELECT id, labels FROM episodes ORDER BY id"))
        assert [f'"instance":"{number}"' in row["labels"] for number, row in enumerate(opened)] == [True] * 40

    async def test_labels_that_the_database_cannot_hold_spoil_nothing(self, store):
        strange = alert(alertname="a\x00b", instance="\x00", severity="\u0001\uffff")

        def work(ledger: Ledger) -> None:
            ledger.episodes.hear(strange, NOW)
            ledger.episodes.hear(strange, NOW)
            ledger.switch.pause("an\x00n", "be\x00cause", NOW)

        await store.run(work)
        (found,) = await store.run(lambda ledger: ledger._db.all("SELECT id, alertname FROM episodes"))
        assert found["alertname"] == "a\N{SYMBOL FOR NULL}b"
        episode = await store.run(lambda ledger: ledger.episodes.get(found["id"]))
        assert episode.labels == strange.labels


class TestConnections:
    async def test_a_server_that_was_restarted_in_between_is_not_even_noticed(self, address, store):
        await asyncio.gather(store.put(b"before", NOW), store.run(hear("before")))
        end_all_sessions(address)
        await asyncio.gather(store.put(b"after", NOW), store.run(hear("after")))
        assert await bodies(store) == [b"before", b"after"]
        assert await episodes(store) == 2

    async def test_a_work_whose_connection_breaks_before_its_end_is_done_from_the_start_and_once(self, address, store):
        begun = 0

        def work(ledger: Ledger) -> None:
            nonlocal begun
            begun += 1
            hear(f"attempt {begun}")(ledger)
            if begun == 1:
                end_all_sessions(address)
            ledger.episodes.count_open()

        await store.run(work)
        assert begun == 2
        assert await episodes(store) == 1

    async def test_while_the_server_is_gone_everything_is_refused_and_then_taken_again(self, line, far):
        await far.put(b"before", NOW)
        line.cut()
        for attempt in (far.put(b"lost", NOW), far.run(hear("lost"))):
            with pytest.raises(StoreUnavailable):
                await attempt
            assert not far.is_up
        line.mend()
        await far.put(b"after", NOW)
        assert far.is_up
        assert await bodies(far) == [b"before", b"after"]
        assert await episodes(far) == 0

    async def test_one_that_stands_still_while_its_host_goes_on_is_not_waited_for_without_end(self, line, far, monkeypatch):
        await far.put(b"before", NOW)
        monkeypatch.setattr("remediator.storage.postgres.ANSWER_SECONDS", 0.3)
        line.freeze()
        for attempt in (far.put(b"late", NOW), far.run(hear("late"))):
            with pytest.raises(StoreUnavailable, match="has not answered"):
                await attempt
            assert not far.is_up
        monkeypatch.undo()
        line.mend()
        await far.put(b"after", NOW)
        assert await bodies(far) == [b"before", b"late", b"after"], "it may be done later, as a commit without an answer"
        assert far.is_up

    async def test_a_commit_without_an_answer_is_told_as_unknown_and_never_done_again(self, line, far):
        begun = 0

        def work(ledger: Ledger) -> None:
            nonlocal begun
            begun += 1
            hear(f"attempt {begun}")(ledger)

        line.lose_answer_to(b"COMMIT")
        with pytest.raises(StoreUnavailable, match="did not say whether"):
            await far.run(work)
        assert begun == 1
        assert await episodes(far) == 1

    async def test_a_message_without_an_answer_is_written_again_rather_than_lost(self, line, far):
        line.lose_answer_to(b"INTO inbox")
        await far.put(b"the body", NOW)
        assert await bodies(far) == [b"the body"] * 2

    async def test_who_stops_in_the_middle_of_a_transaction_holds_up_the_others_for_some_seconds_only(self, address, store):
        """A replica under SIGSTOP: the server ends its session, and its locks with it."""
        stopped, goes_on = threading.Event(), threading.Event()
        begun = 0

        def stop(ledger: Ledger) -> int:
            nonlocal begun
            begun += 1
            ledger._db.lock(["all"])
            if begun == 1:
                stopped.set()
                goes_on.wait()
            return len(ledger.inbox.take(1))

        async with postgres(address) as other:
            stopping = asyncio.create_task(other.run(stop))
            await asyncio.to_thread(stopped.wait)
            await asyncio.wait_for(store.run(lambda ledger: ledger._db.lock(["all"])), timeout=9)
            goes_on.set()
            assert await stopping == 0
            assert begun == 2

    async def test_closing_waits_for_what_was_handed_over(self, address):
        store = PostgresStore(address, policy, CONFIRM_AFTER, elapsed)
        handed = [asyncio.create_task(store.put(b"%d" % number, NOW)) for number in range(20)]
        handed += [asyncio.create_task(store.run(hear(str(number)))) for number in range(20)]
        await asyncio.sleep(0)
        await store.close()
        await asyncio.gather(*handed)
        async with postgres(address) as again:
            assert len(await bodies(again)) == 20
            assert await episodes(again) == 20


class TestTime:
    async def test_the_store_s_clock_is_the_database_s(self, store):
        first = await store.run(lambda ledger: ledger.now)
        between = store.clock.now()
        last = await store.run(lambda ledger: ledger.now)
        assert first < between < last + timedelta(seconds=0.1)

    async def test_a_transaction_that_has_waited_decides_by_the_time_after_its_wait(self, store):
        def work(ledger: Ledger) -> None:
            before = ledger.now
            ledger._db.all("SELECT pg_sleep(0.05)")
            assert ledger.now - before >= timedelta(seconds=0.05)

        await store.run(work)


class TestSchema:
    def test_migrations_from_nothing_lead_to_the_tables_that_the_code_expects(self, empty):
        assert revision_of(empty) == ""
        assert upgrade(empty) == ""
        assert revision_of(empty) == HEAD
        engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(empty.url()))
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
            assert compare_metadata(context, metadata) == []
        engine.dispose()

    def test_partial_indexes_are_as_the_schema_says(self, postgres_databases, address):
        def conditions(of: PostgresAddress) -> dict[str, str]:
            with psycopg.connect(of.url()) as connection:
                found = connection.execute("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'")
                return {name: text for name, text in found if name != "alembic_version_pkc"}

        with postgres_databases.database("template0") as created:
            engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(created.url()))
            metadata.create_all(engine)
            engine.dispose()
            assert conditions(address) == conditions(created)

    def test_replicas_that_start_together_migrate_once(self, empty):
        befores: list[str] = []

        # In turn within this process, because Alembic keeps its context in a module: the second stands for another.
        with psycopg.connect(empty.url()) as other:
            other.execute("SELECT pg_advisory_xact_lock(%s)", [0x72656D656469])
            migrating = threading.Thread(target=lambda: befores.append(upgrade(empty)))
            migrating.start()
            migrating.join(0.5)
            assert migrating.is_alive()  # it waits for the other
            other.rollback()
            migrating.join(20)
        assert befores == [""]
        assert upgrade(empty) == HEAD

    def test_a_database_of_a_newer_remediator_is_refused_and_not_touched(self, address):
        with psycopg.connect(address.url()) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
        with pytest.raises(SchemaTooNew, match="9999"):
            upgrade(address)
        assert revision_of(address) == "9999"

    def test_a_migration_that_is_interrupted_leaves_the_database_as_it_was(self, empty):
        with psycopg.connect(empty.url()) as connection:
            connection.execute("CREATE TABLE scopes (in_the_way integer)")
        with pytest.raises(Exception, match="already exists"):
            upgrade(empty)
        with psycopg.connect(empty.url()) as connection:
            assert connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall() == [("scopes",)]


class TestAddress:
    def test_a_password_is_never_shown(self):
        address = parse_address("postgresql://ann:hunter2@db.example:5432,other/store?password=hunter2&sslmode=require")
        assert str(address) == repr(address) == "postgresql://db.example:5432,other/store"
        for odd in ("postgresql://ann:hunt?er2@db/store", "postgresql://db/store?password=hunt@er2"):
            assert str(parse_address(odd)) == "postgresql://…"

    def test_an_address_may_stand_in_a_file_that_is_read_at_each_use(self, tmp_path):
        path = tmp_path / "store-url"
        address = parse_address(f"file:{path}")
        with pytest.raises(BadAddress, match="cannot be read"):
            address.url()
        for password in ("old", "new"):
            path.write_text(f"postgresql://ann:{password}@db/store\n")
            assert address.url() == f"postgresql://ann:{password}@db/store"
        assert str(address) == f"file:{path}"

    def test_a_file_that_holds_something_else_is_not_shown(self, tmp_path):
        path = tmp_path / "store-url"
        path.write_text("the password alone")
        with pytest.raises(BadAddress) as error:
            parse_address(f"file:{path}").url()
        assert "the password alone" not in str(error.value)

    @pytest.mark.parametrize("text", ["", "sqlite:///", "file:", "mysql://ann:hunter2@db/store", "postgresql:/ann:hunter2@db"])
    def test_what_is_no_address_is_refused_without_its_secrets(self, text):
        with pytest.raises(BadAddress, match="not an address of a store") as error:
            parse_address(text)
        assert "hunter2" not in str(error.value)
