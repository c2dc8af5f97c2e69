"""Several replicas on one PostgreSQL, in one process: what one begins the others neither repeat nor leave lying."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from time import monotonic

import pytest

from remediator.ports import StoreUnavailable
from remediator.storage.address import PostgresAddress
from tests.builders import webhook_alert, webhook_message
from tests.fakes import FakePlatform, Harness, harness
from tests.line import Line, line_to
from tests.waiting import eventually

LEASE = timedelta(seconds=2)


@pytest.fixture
def address(postgres_databases) -> PostgresAddress:
    with postgres_databases.database("template0") as address:
        yield address


@pytest.fixture
def line(address) -> Line:
    with line_to(address) as line:
        yield line


@pytest.fixture
async def replicas(tmp_path, address) -> AsyncIterator[list[Harness]]:
    """Two, which see the same platform."""
    platform = FakePlatform()
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(replica(tmp_path / name, address, platform)) for name in ("a", "b")]


def replica(directory, address: PostgresAddress, platform: FakePlatform, **settings):
    directory.mkdir(exist_ok=True)
    return harness(directory, platform, **{"store": address.source, "lease": LEASE, **settings})


async def test_what_both_of_a_pair_report_to_different_replicas_is_done_once(replicas):
    a, b = replicas
    assert [await each.post(webhook_message()) for each in replicas] == [200, 200]
    await a.until("succeeded")
    assert await b.runs() == await a.runs()
    assert len(await a.runs()) == 1
    assert a.platform.performed == ["restart"]


async def test_many_alerts_at_both_are_all_taken_up_once(replicas):
    alerts = [webhook_alert(service="shop-nothing", instance=str(number)) for number in range(40)]
    posts = [each.post(webhook_message(alert)) for alert in alerts for each in replicas]
    assert set(await asyncio.gather(*posts)) == {200}
    runs = await replicas[0].until("escalated", "refused", "waiting", count=40, seconds=30)
    assert len(runs) == 40


async def test_a_pause_at_one_holds_for_the_other(replicas):
    a, b = replicas
    assert await a.command("pause") == 200
    await b.post(webhook_message())
    await a.until("waiting")
    assert a.platform.performed == []
    assert await b.command("resume") == 200
    await a.until("succeeded")


async def test_the_run_of_a_dead_replica_is_taken_over_and_its_call_is_looked_for_first(tmp_path, address):
    platform = FakePlatform(hold=asyncio.Event())
    async with replica(tmp_path / "a", address, platform, shutdown_grace=timedelta()) as a:
        await a.post(webhook_message())
        await a.until("called")
        dying_at = monotonic()
        # Its heartbeat stops and nothing is given back: what others see of a process that was killed.
        held = list(a.app.worker._advancing.values())
        a.app.worker._renew = lambda: asyncio.sleep(0)
        a.app.store.run = unavailable
        async with replica(tmp_path / "b", address, FakePlatform(healthy=True, starts=1)) as b:
            (run,) = await b.until("succeeded")
            assert monotonic() - dying_at < LEASE.total_seconds() + 2 + 1  # and a little for verification
            assert run["id"] == held[0].id
            assert b.platform.performed == []
            kinds = [row["kind"] for row in await b.timeline(run["id"])]
            assert kinds.count("go") == 1
            assert "observation" in kinds


async def unavailable(_work):
    raise StoreUnavailable("this process is dead")


async def test_a_stopped_replica_gives_its_runs_back_at_once(tmp_path, address):
    holds_up = FakePlatform(hold=asyncio.Event())
    long = timedelta(minutes=5)
    async with replica(tmp_path / "a", address, holds_up, lease=long, shutdown_grace=timedelta()) as a:
        await a.post(webhook_message())
        await a.until("called")
    async with replica(tmp_path / "b", address, FakePlatform(healthy=True, starts=1)) as b:
        await b.until("succeeded")


async def test_while_the_database_is_gone_alerts_are_refused_and_nothing_is_begun_and_then_all_goes_on(tmp_path, line):
    platform = FakePlatform()
    async with replica(tmp_path / "a", line.address, platform) as a:
        line.cut()
        assert await a.post(webhook_message()) == 503
        assert "remediator_store_up 0.0" in await a.metrics()
        line.mend()
        await eventually(lambda: a.app.store.is_up, seconds=15)
        assert await a.post(webhook_message()) == 200
        await a.until("succeeded")
        assert platform.performed == ["restart"]


async def test_it_outlives_a_database_that_goes_again_and_again(tmp_path, line):
    platform = FakePlatform()
    async with replica(tmp_path / "a", line.address, platform) as a:
        answered = 0
        for number in range(20):
            line.cut()
            await asyncio.sleep(0.02)
            line.mend()
            answered += await a.post(webhook_message(webhook_alert(instance=str(number)))) == 200
        assert answered > 0
        runs = await a.until("succeeded", "waiting", count=answered, seconds=30)
        assert len(runs) >= answered
        assert platform.performed == ["restart"]
