"""VACUUM of a table and REINDEX of an index, against a real server."""

import asyncio
import os
import shlex
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from signal import SIGCONT, SIGSTOP

import psycopg
import pytest

from remediator.core.postgres_step import PostgresReindex, PostgresVacuum
from remediator.core.target import Workload
from remediator.platforms.services.postgres import PostgresDatabases
from remediator.platforms.services.postgres_actions import PostgresActuator
from remediator.ports import Happened, OutcomeUnknown, PermanentError, TransientError
from remediator.settings import ServiceEndpoints
from tests.postgres_clients import client
from tests.servers import eventually, postgres_server

SHOP = Workload("postgres", "database", "shop", service="shop")
SOON = timedelta(seconds=1)
VACUUM = PostgresVacuum("shop.orders")
REINDEX = PostgresReindex("shop.orders_pkey")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres_server() as address:
        with psycopg.connect(address, autocommit=True) as admin:
            admin.execute("CREATE ROLE remediator LOGIN IN ROLE pg_monitor")
            admin.execute("GRANT CREATE ON DATABASE postgres TO remediator")
        yield address


@pytest.fixture
def address(server) -> str:
    return server.replace("//postgres@", "//remediator@")


@pytest.fixture
def services(address) -> dict[str, ServiceEndpoints]:
    return {"shop": ServiceEndpoints(postgres=address)}


@pytest.fixture
def databases(services) -> PostgresDatabases:
    return PostgresDatabases(services)


@pytest.fixture
def actuator(services) -> PostgresActuator:
    return PostgresActuator(services)


@pytest.fixture(autouse=True)
async def owner(address) -> AsyncIterator[psycopg.AsyncConnection]:
    """The owner of a table with dead rows that autovacuum leaves alone."""
    async with client(address) as owner:
        await owner.execute("CREATE SCHEMA shop")
        await owner.execute("CREATE TABLE shop.orders (id int PRIMARY KEY) WITH (autovacuum_enabled = off)")
        await owner.execute("INSERT INTO shop.orders SELECT generate_series(1, 1000)")
        await owner.execute("DELETE FROM shop.orders WHERE id > 100")
        yield owner
        await owner.execute("ROLLBACK")
        await owner.execute("DROP SCHEMA shop CASCADE")


async def one(connection: psycopg.AsyncConnection, question: str) -> object:
    found = await (await connection.execute(question)).fetchone()
    assert found is not None
    return found[0]


async def test_a_table_is_vacuumed_and_analysed(databases, actuator, owner):
    mark = await databases.mark(VACUUM, SHOP)
    assert (await databases.observe(VACUUM, SHOP, mark)).happened is Happened.NO
    assert await actuator.perform(VACUUM, SHOP, mark) == 'done: VACUUM (ANALYZE) "shop"."orders"'
    assert (await databases.observe(VACUUM, SHOP, mark)).happened is Happened.YES
    assert await one(owner, "SELECT reltuples FROM pg_class WHERE oid = 'shop.orders'::regclass") == 100


async def test_an_index_is_built_anew_and_keeps_its_name(databases, actuator, owner):
    mark = await databases.mark(REINDEX, SHOP)
    assert (await databases.observe(REINDEX, SHOP, mark)).happened is Happened.NO
    assert await actuator.perform(REINDEX, SHOP, mark) == 'done: REINDEX INDEX CONCURRENTLY "shop"."orders_pkey"'
    assert (await databases.observe(REINDEX, SHOP, mark)).happened is Happened.YES
    assert await one(owner, "SELECT 'shop.orders_pkey'::regclass::oid") != mark["oid"]


async def test_names_are_quoted_whatever_they_are(databases, actuator, owner):
    await owner.execute('CREATE TABLE shop."Select" ()')
    assert await actuator.perform(PostgresVacuum("shop.Select"), SHOP, {}) == 'done: VACUUM (ANALYZE) "shop"."Select"'
    with pytest.raises(PermanentError, match="does not exist"):
        await actuator.perform(PostgresVacuum('orders"; DROP TABLE shop'), SHOP, {})


@pytest.mark.parametrize("step", [PostgresVacuum("nobody"), PostgresReindex("shop.orders")])
async def test_what_does_not_exist_is_said_before_anything_is_sent(databases, step):
    with pytest.raises(PermanentError, match=r"PostgreSQL 'shop' has no (table nobody|index shop\.orders)"):
        await databases.mark(step, SHOP)


@pytest.mark.parametrize("step", [VACUUM, REINDEX], ids=lambda step: step.name)
async def test_a_role_that_is_not_the_owner_is_told_so(server, actuator, owner, step):
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute("ALTER TABLE shop.orders OWNER TO postgres")
    with pytest.raises(PermanentError, match=r"(?i)permission denied|must be owner|only table or database owner"):
        await actuator.perform(step, SHOP, {})


@pytest.mark.parametrize("step", [VACUUM, REINDEX], ids=lambda step: step.name)
async def test_nothing_is_sent_once_the_lease_is_lost(databases, services, step):
    mark = await databases.mark(step, SHOP)
    with pytest.raises(TransientError, match="not sent"):
        await PostgresActuator(services, lambda: False).perform(step, SHOP, mark)
    assert (await databases.observe(step, SHOP, mark)).happened is Happened.NO


async def test_a_vacuum_that_has_to_wait_for_too_long_is_ended_by_the_server(databases, actuator, owner):
    step = PostgresVacuum("shop.orders", timeout=SOON)
    mark = await databases.mark(step, SHOP)
    await owner.execute("BEGIN")
    await owner.execute("LOCK TABLE shop.orders")
    with pytest.raises(PermanentError, match="statement timeout"):
        await actuator.perform(step, SHOP, mark)
    assert (await databases.observe(step, SHOP, mark)).happened is Happened.NO


async def test_a_half_built_index_is_for_a_person(databases, actuator, owner):
    step = PostgresReindex("shop.orders_pkey", timeout=SOON)
    mark = await databases.mark(step, SHOP)
    await owner.execute("BEGIN")
    await owner.execute("DELETE FROM shop.orders")  # a transaction that it waits for
    with pytest.raises(PermanentError, match="statement timeout"):
        await actuator.perform(step, SHOP, mark)
    observed = await databases.observe(step, SHOP, mark)
    assert observed.happened is Happened.UNKNOWN
    assert observed.seen.endswith("DROP INDEX CONCURRENTLY shop.orders_pkey_ccnew")


async def test_a_reindex_is_in_doubt_while_it_is_under_way(databases, actuator, owner):
    mark = await databases.mark(REINDEX, SHOP)
    await owner.execute("BEGIN")
    await owner.execute("DELETE FROM shop.orders")
    building = asyncio.create_task(actuator.perform(REINDEX, SHOP, mark))

    async def is_under_way() -> bool:
        return "is at work" in (await databases.observe(REINDEX, SHOP, mark)).seen

    await eventually(is_under_way)
    await owner.execute("COMMIT")
    await building
    assert (await databases.observe(REINDEX, SHOP, mark)).happened is Happened.YES


async def test_a_table_that_was_made_anew_says_nothing_of_a_vacuum(databases, owner):
    mark = await databases.mark(VACUUM, SHOP)
    await owner.execute("DROP TABLE shop.orders")
    assert (await databases.observe(VACUUM, SHOP, mark)).happened is Happened.UNKNOWN
    await owner.execute("CREATE TABLE shop.orders ()")
    assert (await databases.observe(VACUUM, SHOP, mark)).happened is Happened.UNKNOWN


async def test_a_session_that_is_frozen_in_the_middle_is_hung_up_on(server, databases, actuator, owner, monkeypatch):
    monkeypatch.setattr("remediator.platforms.services.postgres_connection.DEADLINE_S", 0.5)
    await owner.execute("BEGIN")
    await owner.execute("LOCK TABLE shop.orders")
    performing = asyncio.create_task(actuator.perform(PostgresVacuum("shop.orders", timeout=SOON), SHOP, {}))
    stopped: list[int] = []

    async def is_waiting() -> bool:
        async with client(server) as watch:
            waiting = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'VACUUM%' AND wait_event_type = 'Lock'"
            stopped[:] = [pid for (pid,) in await (await watch.execute(waiting)).fetchall()]
        return bool(stopped)

    await eventually(is_waiting)
    os.kill(stopped[0], SIGSTOP)
    try:
        async with asyncio.timeout(5):
            with pytest.raises(OutcomeUnknown):
                await performing
    finally:
        os.kill(stopped[0], SIGCONT)


async def test_settings_of_a_configured_address_are_kept(address):
    services = {"shop": ServiceEndpoints(postgres=f"{address}?options=-csearch_path%3Dshop")}
    assert (await PostgresActuator(services).perform(PostgresVacuum("orders"), SHOP, {})).startswith("done")


@pytest.mark.parametrize("step", [VACUUM, REINDEX], ids=lambda step: step.name)
async def test_the_described_command_does_the_same_when_a_person_types_it(databases, step):
    _, address, _, command = shlex.split(databases.describe(step, SHOP))
    mark = await databases.mark(step, SHOP)
    async with client(address) as person:
        await person.execute(command)
    assert (await databases.observe(step, SHOP, mark)).happened is Happened.YES
