"""Long queries, locks and sizes of a PostgreSQL, against a real server."""

import asyncio
import shlex
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import psycopg
import pytest

from remediator.core.postgres_step import (
    CancelLongQueries,
    NoLongQueries,
    PostgresLocks,
    PostgresPing,
    PostgresSessions,
    PostgresSizes,
)
from remediator.core.target import Workload
from remediator.platforms.services.postgres import PostgresDatabases
from remediator.platforms.services.postgres_actions import PostgresActuator
from remediator.ports import Happened, Probe, TransientError
from remediator.settings import ServiceEndpoints
from tests.postgres_clients import client
from tests.servers import eventually, free_port, postgres_server

SHOP = Workload("postgres", "database", "shop", service="shop")
STEP = CancelLongQueries(over=timedelta(milliseconds=100))
SLEEP = "SELECT pg_sleep(60)"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres_server(max_connections=20) as address:
        with psycopg.connect(address, autocommit=True) as admin:
            admin.execute("CREATE ROLE remediator LOGIN IN ROLE pg_monitor, pg_signal_backend")
            admin.execute("CREATE ROLE api LOGIN")
            admin.execute("CREATE DATABASE shop OWNER api")
            admin.execute("CREATE DATABASE other")
        yield address


@pytest.fixture
def shop(server) -> str:
    return server.removesuffix("postgres").replace("//postgres@", "//api@") + "shop"


@pytest.fixture
def services(shop) -> dict[str, ServiceEndpoints]:
    return {"shop": ServiceEndpoints(postgres=shop.replace("//api@", "//remediator@"))}


@pytest.fixture
def databases(services) -> PostgresDatabases:
    return PostgresDatabases(services)


@pytest.fixture
def actuator(services) -> PostgresActuator:
    return PostgresActuator(services)


@asynccontextmanager
async def busy(address: str, query: str = SLEEP, application: str = "api") -> AsyncIterator["asyncio.Task[str]"]:
    """A session with a query that has run for long enough; the task says how the query ended."""
    async with client(address, application) as session, client(address) as watch:

        async def ran() -> str:
            try:
                await session.execute(query)
            except psycopg.Error as error:
                return type(error).__name__
            return "done"

        async def is_long() -> bool:
            question = "SELECT state = 'active' AND clock_timestamp() - query_start > %s FROM pg_stat_activity WHERE pid = %s"
            parameters = (STEP.over, session.info.backend_pid)
            return await (await watch.execute(question, parameters)).fetchone() == (True,)

        running = asyncio.create_task(ran())
        await eventually(is_long)
        yield running
        with suppress(psycopg.Error):
            await session.cancel_safe()
        await running


async def test_exactly_the_marked_queries_are_cancelled_and_their_sessions_stay(databases, actuator, shop):
    async with busy(shop) as marked:
        mark = await databases.mark(STEP, SHOP)
        async with busy(shop) as later:
            assert (await databases.observe(STEP, SHOP, mark)).happened is Happened.NO
            assert await actuator.perform(STEP, SHOP, mark) == "cancelled 1 of 1 queries active for long"
            assert await marked == "QueryCanceled"
            assert not later.done()
        assert (await databases.observe(STEP, SHOP, mark)).happened is Happened.YES


async def test_the_longest_few_of_this_database_are_marked(databases, shop, server):
    async with busy(server.removesuffix("postgres") + "other"), busy(shop), busy(shop):
        assert len((await databases.mark(STEP, SHOP))["sessions"]) == 2
        first = (await databases.mark(STEP, SHOP))["sessions"][0]
        assert (await databases.mark(CancelLongQueries(STEP.over, at_most=1), SHOP))["sessions"] == [first]


async def test_a_backup_is_spared_by_the_name_of_its_application(databases, shop):
    async with busy(shop, application="pg_dump"):
        assert (await databases.mark(STEP, SHOP))["sessions"] == []
        everybody = CancelLongQueries(STEP.over, spare=("nobody",))
        assert len((await databases.mark(everybody, SHOP))["sessions"]) == 1


async def test_another_query_of_the_same_session_is_spared(databases, actuator, shop):
    async with busy(shop) as next_query:
        ((pid, started, began),) = (await databases.mark(STEP, SHOP))["sessions"]
        mark = {"sessions": [[pid, started, "2026-01-01T00:00:00.000001+00:00"]]}
        assert await actuator.perform(STEP, SHOP, mark) == "cancelled 0 of 1 queries active for long; 1 had ended"
        assert not next_query.done()
        assert (await databases.observe(STEP, SHOP, mark)).happened is Happened.YES
        assert (await databases.observe(STEP, SHOP, {"sessions": [[pid, started, began]]})).happened is Happened.NO


async def test_nothing_is_cancelled_once_the_lease_is_lost(databases, services, shop):
    async with busy(shop) as query:
        mark = await databases.mark(STEP, SHOP)
        with pytest.raises(TransientError, match="not sent"):
            await PostgresActuator(services, lambda: False).perform(STEP, SHOP, mark)
        assert not query.done()


async def test_the_described_command_cancels_the_same_queries_when_a_person_types_it(databases, shop):
    _, address, _, command = shlex.split(databases.describe(STEP, SHOP))
    async with busy(shop) as query, await psycopg.AsyncConnection.connect(address) as person:
        await person.execute(command)
        assert await query == "QueryCanceled"


async def test_the_check_fails_while_a_query_is_active_for_long(databases, shop):
    check = NoLongQueries(over=STEP.over)
    assert (await databases.check(check, SHOP)).probe is Probe.HOLDS
    async with busy(shop):
        reading = await databases.check(check, SHOP)
    assert (reading.probe, reading.seen) == (Probe.FAILS, "1 queries active for 100ms or longer")


async def test_the_evidence_says_who_waits_for_whom(databases, shop):
    assert (await databases.diagnose(PostgresLocks(), SHOP)).numbers == {
        "postgres.locks.waiting": 0,
        "postgres.locks.longest_seconds": 0,
    }
    async with client(shop, application="migration") as holder:
        await holder.execute("CREATE TABLE IF NOT EXISTS orders (id int)")
        await holder.execute("BEGIN")
        await holder.execute("LOCK TABLE orders")
        async with busy(shop, "SELECT 'a customer' FROM orders"):
            evidence = await databases.diagnose(PostgresLocks(), SHOP)
        pid = holder.info.backend_pid
    assert "application api, database shop: SELECT 'a customer' FROM orders" in evidence.text
    assert f"waits for pid {pid}, application migration, idle in transaction: LOCK TABLE" in evidence.text
    assert evidence.numbers["postgres.locks.waiting"] == 1
    assert evidence.numbers["postgres.locks.longest_seconds"] >= 0.1


async def test_who_is_held_up_by_a_prepared_transaction_is_told_that_it_is_one():
    with postgres_server(max_prepared_transactions="1") as address:
        databases = PostgresDatabases({"shop": ServiceEndpoints(postgres=address)})
        async with client(address) as gone:
            await gone.execute("CREATE TABLE orders (id int)")
            await gone.execute("BEGIN")
            await gone.execute("LOCK TABLE orders")
            await gone.execute("PREPARE TRANSACTION 'forgotten'")
        async with busy(address, "SELECT FROM orders"):
            evidence = await databases.diagnose(PostgresLocks(), SHOP)
    assert "prepared transaction" in evidence.text


async def test_sizes_are_told_though_a_table_is_locked(databases, shop):
    async with client(shop) as owner:
        await owner.execute("CREATE TABLE big AS SELECT repeat('x', 500) AS x FROM generate_series(1, 4000)")
        await owner.execute("CREATE INDEX ON big (x)")
        await owner.execute("ANALYZE big")
        await owner.execute("BEGIN")
        await owner.execute("LOCK TABLE big")
        evidence = await databases.diagnose(PostgresSizes(), SHOP)
        await owner.execute("DROP TABLE big")
        await owner.execute("COMMIT")
    largest = evidence.text.splitlines()[1]
    assert "public.big: about 4000 rows, 0 dead, never vacuumed" in largest
    assert 2 < float(largest.split()[0]) < 5, "4,000 rows of 500 bytes, and an index that holds them once or less"
    assert evidence.numbers["postgres.sizes.database_bytes"] > 5_000_000


async def test_dead_rows_are_counted(databases, shop):
    async with client(shop) as owner:  # which tells of what it has done when it goes
        await owner.execute("CREATE TABLE changing WITH (autovacuum_enabled = off) AS SELECT FROM generate_series(1, 100)")
        await owner.execute("DELETE FROM changing")

    async def are_dead() -> bool:
        return "changing: about 0 rows, 100 dead" in (await databases.diagnose(PostgresSizes(), SHOP)).text

    await eventually(are_dead)
    assert (await databases.diagnose(PostgresSizes(), SHOP)).numbers["postgres.sizes.dead_ratio"] > 0
    async with client(shop) as owner:
        await owner.execute("DROP TABLE changing")


async def test_a_database_without_tables_has_a_size(server):
    other = {"shop": ServiceEndpoints(postgres=server.removesuffix("postgres") + "other")}
    evidence = await PostgresDatabases(other).diagnose(PostgresSizes(), SHOP)
    assert "there are no tables" in evidence.text


async def test_ping_holds_while_a_query_is_answered_whatever_the_role_may_see(databases, services, shop):
    assert (await databases.check(PostgresPing(), SHOP)).probe is Probe.HOLDS
    blind = PostgresDatabases({"shop": ServiceEndpoints(postgres=shop)})
    assert (await blind.check(PostgresPing(), SHOP)).seen == "PostgreSQL answers api"


async def test_a_server_that_refuses_remediator_is_not_down(shop):
    nobody = PostgresDatabases({"shop": ServiceEndpoints(postgres=shop.replace("//api@", "//nobody@"))})
    assert (await nobody.check(PostgresPing(), SHOP)).probe is Probe.UNKNOWN
    assert (await nobody.diagnose(PostgresSessions(), SHOP)).numbers == {}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "shop-db.invalid", "%2Fno-such-directory"])
async def test_a_server_that_is_gone_is_down(host):
    gone = PostgresDatabases({"shop": ServiceEndpoints(postgres=f"postgresql://api@{host}:{free_port()}/shop")})
    assert (await gone.check(PostgresPing(), SHOP)).probe is Probe.FAILS
    assert (await gone.diagnose(PostgresSessions(), SHOP)).numbers == {"postgres.sessions.up": 0}
