"""One replica and two on PostgreSQL: what they take in, and how fast what was taken in is expanded and explained.

A machine with as few cores as ours is full with one replica, its database and the load. So two are compared with one
twice: as it is, and where each commit takes COMMIT_MICROS, as it does over a network: there it is not the processors
that are waited for.
"""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from datetime import timedelta
from statistics import median

import psycopg
import pytest

from bench import ledger
from bench.load import Measured
from bench.measure import Plan, connected, directory, ms
from bench.messages import requests
from bench.report import Figure
from bench.servers import Server, remediator
from remediator.clock import elapsed
from remediator.core.playbook import Mode
from remediator.core.snapshot import Policy
from remediator.storage.address import PostgresAddress
from remediator.storage.migrate import upgrade
from remediator.storage.postgres import PostgresStore
from tests.servers import postgres_server

CONNECTIONS = 16
"""Of Alertmanager's, to each replica."""
ALERTS = 10
COMMIT_MICROS = 6_000
RATIO_MIN = 1.6
DRAINS, DRAINED_PER_SECOND_MIN = 3, 5_000


async def replicas(plan: Plan) -> list[Figure]:
    """Nothing where no PostgreSQL is installed."""
    try:
        with durable_postgres() as url:
            return [
                await drained(plan, url, "without a playbook", ledger.UNMATCHED),
                await drained(plan, url, "held by a storm", ledger.MATCHED),
                *await compared(plan, url, "commits as they are", commit_micros=0, ratio_min=0.0),
                *await compared(plan, url, f"commits of {COMMIT_MICROS / 1000:g} ms", COMMIT_MICROS, RATIO_MIN),
            ]
    except pytest.skip.Exception as reason:
        return [Figure(f"PostgreSQL: {reason}")]


async def drained(plan: Plan, url: str, what: str, alertname: str) -> Figure:
    """The store without a server around it, as `bench.storm` measures it on SQLite."""
    each = []
    for _ in range(DRAINS):
        with database(url, "drain") as store:
            address = PostgresAddress(store)
            upgrade(address)
            opened = PostgresStore(address, lambda: Policy(mode=Mode.AUTO), timedelta(seconds=10), elapsed)
            opened.ask_the_time()
            each.append(await ledger.drained_by(opened, alertname, plan.drained_alerts))
            await opened.close()
    per_second = median(each)
    return Figure(f"PostgreSQL: alerts drained and explained, {what}", f"{per_second:,.0f}/s",
                  target=f"≥ {DRAINED_PER_SECOND_MIN:,}/s", met=per_second >= DRAINED_PER_SECOND_MIN)  # fmt: skip


async def compared(plan: Plan, url: str, name: str, commit_micros: int, ratio_min: float) -> list[Figure]:
    """What one takes in, and what two take in together, each with as many connections; in turns."""
    set_commit_delay(url, commit_micros)
    one, two = Measured(), Measured()
    with ExitStack() as stack:
        store = stack.enter_context(database(url, "compare"))
        servers = [stack.enter_context(remediator(stack.enter_context(directory()), store=store)) for _ in range(2)]
        for _ in range(plan.rounds):
            with servers[1].held():
                await load(servers[:1], plan, one)
            await load(servers, plan, two)
    set_commit_delay(url, 0)
    ratio = two.per_second / one.per_second
    target, met = (f"≥ {ratio_min:g} x", ratio >= ratio_min) if ratio_min else ("", None)
    return [
        Figure(f"PostgreSQL, {name}: one takes", f"{one.per_second:,.0f}/s", p50=ms(one, 0.5), p99=ms(one, 0.99)),
        Figure(f"PostgreSQL, {name}: two take", f"{two.per_second:,.0f}/s", "", f"{ratio:.2f}", ms(two, 0.5), ms(two, 0.99),
               target, met),
    ]  # fmt: skip


async def load(servers: list[Server], plan: Plan, into: Measured) -> None:
    """A slice for all of them at the same time. `into` counts its seconds once."""
    each = [Measured() for _ in servers]
    async with AsyncExitStack() as stack:
        lanes = [await stack.enter_async_context(connected(server, CONNECTIONS)) for server in servers]
        slices = zip(lanes, each, strict=True)
        await asyncio.gather(*(lane.slice(requests(ALERTS), plan.slice_seconds, measured) for lane, measured in slices))
    for measured in each:
        into.latencies.extend(measured.latencies)
    into.seconds += each[0].seconds


@contextmanager
def durable_postgres() -> Iterator[str]:
    """The tests' server, with fsync."""
    with postgres_server(max_connections=50, fsync="on", commit_siblings="0") as url:
        yield url


@contextmanager
def database(url: str, name: str) -> Iterator[str]:
    _administer(url, f"CREATE DATABASE {name}")
    try:
        yield f"{url.rpartition('/')[0]}/{name}"
    finally:
        _administer(url, f"DROP DATABASE {name} WITH (FORCE)")


def set_commit_delay(url: str, micros: int) -> None:
    _administer(url, f"ALTER SYSTEM SET commit_delay = {micros}", "SELECT pg_reload_conf()")


def _administer(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as admin:
        for statement in statements:
            admin.execute(statement)
