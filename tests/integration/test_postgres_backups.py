"""Dumps of a PostgreSQL, and restores, against a real server and with its real programs."""

import asyncio
import os
import shutil
import stat
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from signal import SIGCONT, SIGSTOP

import psycopg
import pytest

from remediator.core.postgres_step import CancelLongQueries, PostgresDump, PostgresRestore
from remediator.core.target import Workload
from remediator.platforms.services.postgres import PostgresDatabases
from remediator.platforms.services.postgres_actions import PostgresActuator
from remediator.ports import Facts, Happened, OutcomeUnknown, PermanentError, TransientError
from remediator.settings import ServiceEndpoints
from tests.postgres_clients import client
from tests.servers import eventually, postgres_server

pytestmark = pytest.mark.skipif(not shutil.which("pg_dump"), reason="pg_dump is not installed")

SHOP = Workload("postgres", "database", "shop", service="shop")
RESTORE = PostgresRestore("nightly.dump")
SOON = timedelta(seconds=1)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres_server() as address:
        with psycopg.connect(address, autocommit=True) as admin:
            admin.execute("CREATE ROLE shop LOGIN PASSWORD 'hunter2' IN ROLE pg_monitor")
            admin.execute("CREATE DATABASE shop OWNER shop")
        yield address


@pytest.fixture
def address(server) -> str:
    return server.removesuffix("postgres").replace("//postgres@", "//shop:hunter2@") + "shop"


@pytest.fixture
def backups(tmp_path) -> Path:
    directory = tmp_path / "the backups"
    directory.mkdir()
    return directory


@pytest.fixture(autouse=True)
async def owner(address) -> AsyncIterator[psycopg.AsyncConnection]:
    async with client(address) as owner:
        await owner.execute("CREATE TABLE orders AS SELECT generate_series(1, 100) AS id")
        yield owner
        await owner.execute("ROLLBACK")
        await owner.execute("DROP TABLE IF EXISTS orders")


class Shop:
    """The database with its directory of backups, both sides of remediator, and the commands that are configured."""

    def __init__(self, address: str, backups: Path, **commands: tuple[str, ...]) -> None:
        services = {"shop": ServiceEndpoints(postgres=address, backups=backups, **commands)}
        self.databases = PostgresDatabases(services)
        self.actuator = PostgresActuator(services)
        self.late = PostgresActuator(services, lambda: False)

    async def perform(self, step: PostgresDump | PostgresRestore) -> tuple[Facts, str]:
        mark = await self.databases.mark(step, SHOP)
        return mark, await self.actuator.perform(step, SHOP, mark)

    async def happened(self, step: PostgresDump | PostgresRestore, mark: Facts) -> Happened:
        return (await self.databases.observe(step, SHOP, mark)).happened


@pytest.fixture
def shop(address, backups) -> Shop:
    return Shop(address, backups)


@pytest.fixture
async def nightly(shop, backups) -> Path:
    mark, _ = await shop.perform(PostgresDump())
    return (backups / mark["file"]).rename(backups / "nightly.dump")


async def count(connection: psycopg.AsyncConnection) -> int:
    found = await (await connection.execute("SELECT count(*) FROM orders")).fetchone()
    assert found is not None
    return int(found[0])


async def test_a_dump_is_a_file_of_its_own_for_nobody_else(shop, backups):
    mark = await shop.databases.mark(PostgresDump(), SHOP)
    assert await shop.happened(PostgresDump(), mark) is Happened.NO
    done = await shop.actuator.perform(PostgresDump(), SHOP, mark)
    (dump,) = backups.iterdir()
    assert done == f"dumped {dump}"
    assert dump.read_bytes().startswith(b"PGDMP")
    assert stat.S_IMODE(dump.stat().st_mode) == 0o600
    assert await shop.happened(PostgresDump(), mark) is Happened.YES


async def test_a_restore_brings_back_what_was_there_and_keeps_what_it_replaces(shop, backups, nightly, owner):
    await owner.execute("DELETE FROM orders WHERE id > 10")
    mark = await shop.databases.mark(RESTORE, SHOP)
    assert await shop.happened(RESTORE, mark) is Happened.NO
    assert (await shop.actuator.perform(RESTORE, SHOP, mark)).startswith("restored nightly.dump; dumped ")
    assert await count(owner) == 100
    assert await shop.happened(RESTORE, mark) is Happened.YES

    (backups / mark["file"]).rename(nightly)
    await shop.perform(RESTORE)
    assert await count(owner) == 10


async def test_nothing_is_restored_where_nothing_could_be_dumped(address, backups, nightly, owner):
    await owner.execute("DELETE FROM orders")
    for broken in (("false",), ("true",), ("no-such-program",)):
        shop = Shop(address, backups, dump=broken)
        with pytest.raises(PermanentError):
            await shop.perform(RESTORE)
    assert await count(owner) == 0
    assert list(backups.iterdir()) == [nightly]


async def test_a_restore_that_fails_leaves_everything_as_it_was(shop, nightly, owner):
    await owner.execute("DELETE FROM orders WHERE id > 10")
    whole = nightly.read_bytes()
    nightly.write_bytes(whole[: len(whole) // 2])
    mark = await shop.databases.mark(RESTORE, SHOP)
    with pytest.raises(PermanentError, match=r"pg_restore .* exited with 1: .*; dumped "):
        await shop.actuator.perform(RESTORE, SHOP, mark)
    assert await count(owner) == 10
    assert await shop.happened(RESTORE, mark) is Happened.NO


async def test_a_restore_that_does_not_end_is_killed_and_in_doubt(shop, nightly, owner, server):
    step = PostgresRestore("nightly.dump", timeout=timedelta(seconds=5))
    await owner.execute("BEGIN")
    await owner.execute("SELECT FROM orders")  # in its way, but not in that of the dump
    mark = await shop.databases.mark(step, SHOP)
    restoring = asyncio.create_task(shop.actuator.perform(step, SHOP, mark))

    async def is_under_way() -> bool:
        return (await shop.databases.observe(step, SHOP, mark)).seen == "a restore is under way"

    await eventually(is_under_way)
    with pytest.raises(OutcomeUnknown, match=r"killed after 5s; dumped "):
        await restoring
    await owner.execute("COMMIT")

    async def is_over() -> bool:
        return await shop.happened(step, mark) is Happened.NO

    await eventually(is_over)
    assert await count(owner) == 100


async def test_a_dump_of_a_frozen_server_is_given_up_and_leaves_nothing(shop, backups, server):
    step = PostgresDump(timeout=SOON)
    mark = await shop.databases.mark(step, SHOP)
    with psycopg.connect(server) as admin:
        ((said,),) = admin.execute("SELECT pg_read_file('postmaster.pid')").fetchall()
    postmaster = int(said.split()[0])
    os.kill(postmaster, SIGSTOP)
    try:
        with pytest.raises(PermanentError, match="not done within 1s"):
            await shop.actuator.perform(step, SHOP, mark)
    finally:
        os.kill(postmaster, SIGCONT)
    assert list(backups.iterdir()) == []
    assert await shop.happened(step, mark) is Happened.NO


@pytest.mark.parametrize("step", [PostgresDump(), RESTORE], ids=lambda step: step.name)
async def test_nothing_is_begun_once_the_lease_is_lost(shop, backups, nightly, owner, step):
    await owner.execute("DELETE FROM orders")
    mark = await shop.databases.mark(step, SHOP)
    with pytest.raises(TransientError, match="not sent"):
        await shop.late.perform(step, SHOP, mark)
    assert list(backups.iterdir()) == [nightly]
    assert await count(owner) == 0


async def test_the_lease_is_looked_at_again_between_the_dump_and_the_restore(address, backups, nightly, owner):
    await owner.execute("DELETE FROM orders")
    answers = iter([True, False])
    services = {"shop": ServiceEndpoints(postgres=address, backups=backups)}
    mark = await PostgresDatabases(services).mark(RESTORE, SHOP)
    with pytest.raises(TransientError, match="not sent"):
        await PostgresActuator(services, lambda: next(answers)).perform(RESTORE, SHOP, mark)
    assert (backups / mark["file"]).exists()
    assert await count(owner) == 0


@pytest.mark.parametrize("name", ["tonight.dump", "../nightly.dump", "..", "sub", "/etc/passwd"])
async def test_a_backup_is_a_file_of_the_directory(shop, backups, nightly, name):
    (backups / "sub").mkdir()
    with pytest.raises(PermanentError, match="has no backup"):
        await shop.databases.mark(PostgresRestore(name), SHOP)


async def test_a_disk_without_room_for_the_database_is_not_filled(shop, backups, monkeypatch):
    usage = shutil.disk_usage(backups)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=2 << 20))
    with pytest.raises(PermanentError, match=r"has 2 MiB left; the database has \d+ MiB"):
        await shop.perform(PostgresDump())
    assert list(backups.iterdir()) == []


async def test_the_password_is_in_no_argument(address, backups, tmp_path):
    seen = tmp_path / "seen"
    shop = Shop(address, backups, dump=("sh", "-c", f"env | grep ^PG > {seen}; echo a dump"))
    await shop.perform(PostgresDump())
    variables = seen.read_text().split()
    assert {"PGUSER=shop", "PGPASSWORD=hunter2", "PGDATABASE=shop", "PGHOST=127.0.0.1"} <= set(variables)
    for step in (PostgresDump(), RESTORE):
        assert "hunter2" not in shop.databases.describe(step, SHOP)


async def test_a_dump_is_never_cancelled_as_a_long_query(shop, address, owner):
    async with client(address, application="remediator dump") as dumping:
        query = asyncio.create_task(dumping.execute("SELECT pg_sleep(60)"))

        async def is_active() -> bool:
            question = "SELECT state = 'active' FROM pg_stat_activity WHERE application_name = 'remediator dump'"
            return await (await owner.execute(question)).fetchone() == (True,)

        await eventually(is_active)
        step = CancelLongQueries(over=timedelta(), spare=("nobody",))
        assert (await shop.databases.mark(step, SHOP))["sessions"] == []
        await dumping.cancel_safe()
        with pytest.raises(psycopg.errors.QueryCanceled):
            await query


async def test_the_described_command_does_the_same_when_a_person_types_it(shop, backups, nightly, owner):
    await owner.execute("DELETE FROM orders")
    typed = await asyncio.create_subprocess_exec("sh", "-c", shop.databases.describe(RESTORE, SHOP))
    assert await typed.wait() == 0
    assert await count(owner) == 100
    assert len(list(backups.glob("shop-*Z.dump"))) == 1


async def test_a_database_without_a_directory_of_backups_says_what_to_add(address):
    services = {"shop": ServiceEndpoints(postgres=address)}
    words = "no directory of backups is configured for 'shop'; add services.shop.backups"
    assert PostgresDatabases(services).describe(PostgresDump(), SHOP) == f"# {words}"
    with pytest.raises(PermanentError, match=words):
        await PostgresDatabases(services).mark(PostgresDump(), SHOP)


async def test_a_directory_that_is_gone_is_said(shop, backups):
    backups.rmdir()
    with pytest.raises(PermanentError, match="cannot be used"):
        await shop.perform(PostgresDump())
