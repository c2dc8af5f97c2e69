"""PostgreSQL as a data service, against a real server."""

import asyncio
import shlex
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta

import psycopg
import pytest
from psycopg import sql

from remediator.core.postgres_step import (
    PostgresLongQueries,
    PostgresPing,
    PostgresSessions,
    PostgresSessionsBelow,
    TerminateIdle,
)
from remediator.core.redis_step import RedisFlush
from remediator.core.target import Selection, Workload
from remediator.platforms.services import postgres_connection
from remediator.platforms.services.postgres import PostgresDatabases
from remediator.platforms.services.postgres_actions import PostgresActuator
from remediator.ports import Facts, Happened, OutcomeUnknown, PermanentError, Probe, TransientError
from remediator.settings import ServiceEndpoints
from tests.postgres_clients import client
from tests.servers import eventually, free_port, postgres_server

ORDERS = Workload("postgres", "database", "orders", service="orders")
STEP = TerminateIdle(older_than=timedelta(milliseconds=200), at_most=5)
SESSIONS = 12


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres_server(max_connections=SESSIONS) as address:
        with psycopg.connect(address, autocommit=True) as admin:
            admin.execute("CREATE ROLE shop LOGIN")
            admin.execute("CREATE ROLE remediator LOGIN IN ROLE pg_monitor, pg_signal_backend")
            admin.execute("CREATE DATABASE orders")
            admin.execute("CREATE DATABASE other")
        yield address


@pytest.fixture(autouse=True)
async def nobody_else(server) -> None:
    """A session that was closed a moment ago may be there still; tests count sessions."""

    async def is_alone() -> bool:
        question = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
        with suppress(psycopg.OperationalError):  # not a free connection yet
            async with await psycopg.AsyncConnection.connect(server) as only:
                return await (await only.execute(question)).fetchone() == (1,)
        return False

    await eventually(is_alone)


@pytest.fixture
def orders(server) -> str:
    return server.removesuffix("postgres").replace("//postgres@", "//remediator@") + "orders"


@pytest.fixture
def services(orders) -> dict[str, ServiceEndpoints]:
    return {"orders": ServiceEndpoints(postgres=orders, allow=frozenset({"postgres.terminate_idle"}))}


@pytest.fixture
def databases(services) -> PostgresDatabases:
    return PostgresDatabases(services)


@pytest.fixture
def actuator(services) -> PostgresActuator:
    return PostgresActuator(services)


@asynccontextmanager
async def session(address: str, application: str = "shop-api", user: str = "shop") -> AsyncIterator[psycopg.AsyncConnection]:
    async with client(address.replace("//remediator@", f"//{user}@"), application) as connection:
        yield connection


@asynccontextmanager
async def idle_in_transaction(address: str, count: int = 1, **who: str) -> AsyncIterator[list[psycopg.AsyncConnection]]:
    """Sessions that have sat idle in a transaction for long enough."""
    async with AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(session(address, **who)) for _ in range(count)]
        for leaking in sessions:
            await leaking.execute("BEGIN")
        await until_old(sessions[-1], address)
        yield sessions


async def until_old(leaking: psycopg.AsyncConnection, address: str) -> None:
    question = "SELECT clock_timestamp() - state_change > %s FROM pg_stat_activity WHERE pid = %s"
    async with session(address, user="remediator") as watch:

        async def is_old() -> bool:
            return await (await watch.execute(question, (STEP.older_than, pid(leaking)))).fetchone() == (True,)

        await eventually(is_old)


async def is_alive(connection: psycopg.AsyncConnection) -> bool:
    try:
        await connection.execute("SELECT 1")
    except psycopg.errors.AdminShutdown:
        return False
    return True


def pid(connection: psycopg.AsyncConnection) -> int:
    return connection.info.backend_pid


def pids(mark: Facts) -> list[int]:
    return [number for number, _ in mark["sessions"]]


async def test_a_configured_database_is_found_by_its_name_and_by_nothing_else(databases):
    (found,) = await databases.find(Selection({"database": "orders"}))
    assert found.id == "postgres:database/orders"
    assert found.allow == {"postgres.terminate_idle"}
    for fields in ({"database": "unheard-of"}, {"service": "orders"}, {"database": "orders", "namespace": "shop"}):
        assert await databases.find(Selection(fields)) == ()


async def test_the_evidence_counts_sessions_by_state_and_application(databases, orders):
    async with idle_in_transaction(orders, count=3), session(orders, application="worker"):
        evidence = await databases.diagnose(PostgresSessions(), ORDERS)
    assert "3  idle in transaction, application shop-api, database orders" in evidence.text
    assert "1  idle, application worker, database orders" in evidence.text
    assert evidence.numbers == {
        "postgres.sessions.up": 1,
        "postgres.sessions.total": 5,  # with remediator's own
        "postgres.sessions.ratio": 5 / SESSIONS,
        "postgres.sessions.idle_in_transaction": 3,
    }


async def test_the_longest_query_is_shown_first_and_shortened(databases, orders):
    every_query = PostgresLongQueries(over=timedelta())
    async with session(orders) as busy:

        async def is_busy() -> bool:
            return bool((await databases.diagnose(every_query, ORDERS)).numbers["postgres.long_queries.count"])

        query = asyncio.create_task(busy.execute(f"SELECT pg_sleep(60) /* {'x' * 500} */"))
        await eventually(is_busy)
        evidence = await databases.diagnose(every_query, ORDERS)
        assert f"pid {pid(busy)}, application shop-api, database orders: SELECT pg_sleep(60)" in evidence.text
        patient = await databases.diagnose(PostgresLongQueries(over=timedelta(minutes=1)), ORDERS)
        await busy.cancel_safe()
        with pytest.raises(psycopg.errors.QueryCanceled):
            await query
    assert "x" * 150 in evidence.text
    assert "x" * 200 not in evidence.text
    assert patient.text == "0 queries active for 1m or longer"


async def test_the_check_holds_below_the_ratio_and_fails_at_it(databases, orders):
    async with AsyncExitStack() as stack:
        for _ in range(5):
            await stack.enter_async_context(session(orders))
        below = await databases.check(PostgresSessionsBelow(ratio=0.6), ORDERS)
        at = await databases.check(PostgresSessionsBelow(ratio=0.5), ORDERS)
    assert below.probe is Probe.HOLDS, below.seen
    assert at.probe is Probe.FAILS, at.seen


@pytest.mark.parametrize("user", ["shop", "postgres"], ids=["up-to-the-reserved-ones", "to-the-last"])
async def test_a_server_without_a_free_connection_fails_the_check_and_says_so(databases, actuator, orders, user):
    async with AsyncExitStack() as stack:
        with suppress(psycopg.OperationalError):
            while True:
                await stack.enter_async_context(session(orders, user=user))
        reading = await databases.check(PostgresSessionsBelow(), ORDERS)
        evidence = await databases.diagnose(PostgresSessions(), ORDERS)
        with pytest.raises(TransientError):
            await actuator.perform(STEP, ORDERS, {"sessions": [[1, "2026-01-01T00:00:00+00:00"]]})
    assert reading.probe is Probe.FAILS
    assert "every connection of PostgreSQL 'orders' is taken" in evidence.text
    assert evidence.numbers == {"postgres.sessions.ratio": 1.0, "postgres.sessions.up": 1.0}


async def test_only_old_idle_transactions_of_this_database_are_marked(databases, orders):
    elsewhere = orders.removesuffix("orders") + "other"
    async with session(orders), idle_in_transaction(elsewhere), idle_in_transaction(orders) as [leaking]:
        assert pids(await databases.mark(STEP, ORDERS)) == [pid(leaking)]
        assert pids(await databases.mark(TerminateIdle(older_than=timedelta(hours=1)), ORDERS)) == []


async def test_no_more_than_the_oldest_few_are_marked(databases, orders):
    async with idle_in_transaction(orders, count=4) as sessions:
        mark = await databases.mark(TerminateIdle(older_than=STEP.older_than, at_most=2), ORDERS)
        assert pids(mark) == [pid(sessions[0]), pid(sessions[1])]


async def test_a_failed_transaction_that_is_left_open_is_ended_too(databases, actuator, orders):
    async with session(orders) as leaking:
        await leaking.execute("BEGIN")
        with pytest.raises(psycopg.errors.DivisionByZero):
            await leaking.execute("SELECT 1/0")
        await until_old(leaking, orders)
        mark = await databases.mark(STEP, ORDERS)
        assert await actuator.perform(STEP, ORDERS, mark) == "ended 1 of 1 sessions idle in a transaction"


async def test_exactly_the_marked_sessions_are_ended(databases, actuator, orders):
    async with idle_in_transaction(orders, count=2) as sessions:
        mark = await databases.mark(STEP, ORDERS)
        async with idle_in_transaction(orders) as [later]:
            assert (await databases.observe(STEP, ORDERS, mark)).happened is Happened.NO
            assert await actuator.perform(STEP, ORDERS, mark) == "ended 2 of 2 sessions idle in a transaction"
            assert [await is_alive(ended) for ended in sessions] == [False, False]
            assert await is_alive(later)
        assert (await databases.observe(STEP, ORDERS, mark)).happened is Happened.YES


async def test_a_session_that_went_back_to_work_is_spared(databases, actuator, orders):
    async with idle_in_transaction(orders, count=2) as [worker, leaking]:
        mark = await databases.mark(STEP, ORDERS)
        await worker.execute("COMMIT")
        done = await actuator.perform(STEP, ORDERS, mark)
        assert done == "ended 1 of 2 sessions idle in a transaction; 1 had gone or gone back to work"
        assert await is_alive(worker)
        assert not await is_alive(leaking)
        observation = await databases.observe(STEP, ORDERS, mark)
    assert observation.happened is Happened.UNKNOWN
    assert observation.seen == "1 of 2 marked sessions are gone"


async def test_a_session_that_began_another_transaction_just_now_is_spared(databases, actuator, orders):
    async with idle_in_transaction(orders) as [leaking]:
        mark = await databases.mark(STEP, ORDERS)
        await leaking.execute("COMMIT")
        await leaking.execute("BEGIN")
        step = TerminateIdle(older_than=timedelta(minutes=1))  # the transaction of now is younger than that
        assert (await actuator.perform(step, ORDERS, mark)).startswith("ended 0 of 1")
        assert await is_alive(leaking)


async def test_a_pid_that_belongs_to_another_session_by_now_is_spared(databases, actuator, orders):
    async with idle_in_transaction(orders) as [innocent]:
        mark = {"sessions": [[pid(innocent), "2026-01-01T00:00:00.000001+00:00"]]}
        assert (await actuator.perform(STEP, ORDERS, mark)).startswith("ended 0 of 1")
        assert await is_alive(innocent)
        assert (await databases.observe(STEP, ORDERS, mark)).happened is Happened.YES


async def test_an_empty_mark_ends_nothing(databases, actuator, orders):
    async with idle_in_transaction(orders) as [leaking]:
        assert "none to end" in await actuator.perform(STEP, ORDERS, {"sessions": []})
        assert await is_alive(leaking)
    assert (await databases.observe(STEP, ORDERS, {"sessions": []})).happened is Happened.YES


async def test_the_described_command_ends_the_same_sessions_when_a_person_types_it(databases, orders):
    program, address, _, command = shlex.split(databases.describe(STEP, ORDERS))
    assert program == "psql"
    async with idle_in_transaction(orders) as [leaking], await psycopg.AsyncConnection.connect(address) as person:
        await person.execute(command)
        assert not await is_alive(leaking)


async def test_a_password_is_never_shown(orders):
    databases = PostgresDatabases({"orders": ServiceEndpoints(postgres=orders.replace("remediator@", "remediator:hunter2@"))})
    assert "hunter2" not in databases.describe(PostgresSessions(), ORDERS)
    broken = PostgresDatabases({"orders": ServiceEndpoints(postgres="postgresql://user:hunter2@host:port:1/x?y")})
    reading = await broken.check(PostgresSessionsBelow(), ORDERS)
    assert reading.probe is Probe.UNKNOWN
    assert "hunter2" not in reading.seen + broken.describe(STEP, ORDERS)


async def test_a_role_that_cannot_see_other_sessions_is_told_what_it_lacks(orders):
    blind = PostgresDatabases({"orders": ServiceEndpoints(postgres=orders.replace("//remediator@", "//shop@"))})
    assert (await blind.check(PostgresSessionsBelow(), ORDERS)).probe is Probe.UNKNOWN
    with pytest.raises(PermanentError, match="GRANT pg_monitor TO shop"):
        await blind.mark(STEP, ORDERS)


async def test_a_role_that_may_not_end_a_session_is_told_what_it_lacks(databases, actuator, orders):
    async with idle_in_transaction(orders, user="postgres") as [superuser]:
        mark = await databases.mark(STEP, ORDERS)
        with pytest.raises(PermanentError, match="pg_signal_backend"):
            await actuator.perform(STEP, ORDERS, mark)
        assert await is_alive(superuser)


async def test_reading_cannot_write(services, server):
    with psycopg.connect(server.removesuffix("postgres") + "orders", autocommit=True) as admin:
        admin.execute("GRANT CREATE ON SCHEMA public TO public")
    with pytest.raises(TransientError, match="read-only transaction"):
        await postgres_connection.ask(services, "orders", sql.SQL("CREATE TABLE t ()"))


async def test_a_server_that_is_down_is_evidence_and_unknown(services):
    gone = {"orders": ServiceEndpoints(postgres=f"postgresql://remediator@127.0.0.1:{free_port()}/orders")}
    evidence = await PostgresDatabases(gone).diagnose(PostgresSessions(), ORDERS)
    assert "does not answer" in evidence.text
    assert evidence.numbers == {"postgres.sessions.up": 0}
    assert (await PostgresDatabases(gone).check(PostgresPing(), ORDERS)).probe is Probe.FAILS
    assert (await PostgresDatabases(gone).check(PostgresSessionsBelow(), ORDERS)).probe is Probe.UNKNOWN
    with pytest.raises(TransientError):
        await PostgresActuator(gone).perform(STEP, ORDERS, {"sessions": [[1, "2026-01-01T00:00:00+00:00"]]})


async def test_a_connection_lost_after_sending_leaves_the_step_in_doubt(databases, orders):
    async with idle_in_transaction(orders), broken_line(orders, at=b"terminate") as address:
        mark = await databases.mark(STEP, ORDERS)
        lossy = PostgresActuator({"orders": ServiceEndpoints(postgres=address)})
        with pytest.raises(OutcomeUnknown):
            await lossy.perform(STEP, ORDERS, mark)


async def test_a_server_that_stops_answering_is_hung_up_on(orders, monkeypatch):
    monkeypatch.setattr("remediator.platforms.services.postgres_connection.DEADLINE_S", 0.3)
    async with asyncio.timeout(5), broken_line(orders, at=b"pg_stat_activity", hang=True) as address:
        hanging = PostgresDatabases({"orders": ServiceEndpoints(postgres=address)})
        assert (await hanging.check(PostgresSessionsBelow(), ORDERS)).probe is Probe.UNKNOWN


@asynccontextmanager
async def broken_line(address: str, *, at: bytes, hang: bool = False) -> AsyncIterator[str]:
    """A way to the server that breaks, or falls silent for good, when a statement with these words has been passed on."""
    port = int(address.rpartition(":")[2].partition("/")[0])
    broken = asyncio.Event()
    writers: list[asyncio.StreamWriter] = []

    async def answers(server: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        while (data := await server.read(65536)) and not broken.is_set():
            client.write(data)

    async def line(client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        server, forth = await asyncio.open_connection("127.0.0.1", port)
        writers.extend([back, forth])
        answering = asyncio.create_task(answers(server, back))
        while data := await client.read(65536):
            if at in data:
                broken.set()
            forth.write(data)
            if broken.is_set() and not hang:
                break
        answering.cancel()
        back.close()
        forth.close()

    async with await asyncio.start_server(line, "127.0.0.1", 0) as proxy:
        own = proxy.sockets[0].getsockname()[1]
        yield address.replace(f":{port}/", f":{own}/") + "?sslmode=disable&gssencmode=disable"
        for writer in writers:
            writer.close()
            await writer.wait_closed()


async def test_an_address_is_read_from_its_file_at_every_use(tmp_path, orders):
    secret = tmp_path / "orders-dsn"
    databases = PostgresDatabases({"orders": ServiceEndpoints(postgres=f"file:{secret}")})
    assert "cannot be read" in (await databases.check(PostgresSessionsBelow(), ORDERS)).seen
    secret.write_text(orders + "\n")
    assert (await databases.check(PostgresSessionsBelow(), ORDERS)).probe is Probe.HOLDS


async def test_a_database_that_is_not_configured_says_what_to_add(databases, actuator):
    unknown = Workload("docker", "container", "api", service="api")
    words = "no postgres address is configured for service 'api'; add services.api.postgres"
    assert (await databases.diagnose(PostgresSessions(), unknown)).text == words
    assert (await databases.check(PostgresSessionsBelow(), unknown)).seen == words
    assert (await databases.check(PostgresSessionsBelow(database="orders"), unknown)).probe is Probe.HOLDS
    with pytest.raises(PermanentError, match=words):
        await actuator.perform(STEP, unknown, {"sessions": [[1, "2026-01-01T00:00:00+00:00"]]})


async def test_steps_of_others_are_refused(databases, actuator):
    with pytest.raises(PermanentError, match=r"postgres has no step redis\.flush"):
        await databases.mark(RedisFlush(), ORDERS)
    with pytest.raises(PermanentError):
        await actuator.perform(RedisFlush(), ORDERS, {"sessions": []})
