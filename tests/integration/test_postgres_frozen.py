"""A PostgreSQL that is frozen while its kernel answers: every look and every step has a deadline of ours."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from signal import SIGCONT, SIGSTOP

import psycopg
import pytest

from remediator.core.postgres_step import PostgresPing, PostgresSessions, TerminateIdle
from remediator.core.target import Workload
from remediator.platforms.services.postgres import PostgresDatabases
from remediator.platforms.services.postgres_actions import PostgresActuator
from remediator.platforms.services.postgres_connection import CONNECT_TIMEOUT_S
from remediator.ports import OutcomeUnknown, Probe, TransientError
from remediator.settings import ServiceEndpoints
from tests.servers import postgres_server

SHOP = Workload("postgres", "database", "shop", service="shop")
MARK = {"sessions": [[1, "2026-01-01T00:00:00+00:00"]]}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres_server() as address:
        yield address


@pytest.fixture
def services(server) -> dict[str, ServiceEndpoints]:
    return {"shop": ServiceEndpoints(postgres=server)}


@contextmanager
def frozen(process: int) -> Iterator[None]:
    os.kill(process, SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, SIGCONT)


def asked(address: str, question: str) -> str:
    with psycopg.connect(address, application_name="test") as admin:
        ((answer,),) = admin.execute(question).fetchall()
        return str(answer)


async def test_connecting_to_it_is_given_up(server, services):
    postmaster = int(asked(server, "SELECT pg_read_file('postmaster.pid')").split()[0])
    with frozen(postmaster):
        async with asyncio.timeout(CONNECT_TIMEOUT_S + 3):
            looks = asyncio.gather(
                PostgresDatabases(services).diagnose(PostgresSessions(), SHOP),
                PostgresDatabases(services).check(PostgresPing(), SHOP),
                PostgresActuator(services).perform(TerminateIdle(), SHOP, MARK),
                return_exceptions=True,
            )
            evidence, reading, error = await looks
    assert evidence.numbers == {"postgres.sessions.up": 0}
    assert reading.probe is Probe.FAILS
    assert isinstance(error, TransientError)


async def test_a_ping_that_is_not_answered_in_time_is_hung_up_on(server, services, monkeypatch):
    monkeypatch.setattr("remediator.platforms.services.postgres_connection.DEADLINE_S", 0.0)
    async with asyncio.timeout(5):
        reading = await PostgresDatabases(services).check(PostgresPing(), SHOP)
    assert (reading.probe, "did not answer" in reading.seen) == (Probe.FAILS, True)


async def test_a_step_whose_session_freezes_when_it_is_sent_is_in_doubt(server, services, monkeypatch):
    monkeypatch.setattr("remediator.platforms.services.postgres_connection.DEADLINE_S", 0.5)
    stopped: list[int] = []

    def freeze() -> bool:
        question = "SELECT pid FROM pg_stat_activity WHERE application_name = 'remediator'"
        stopped.append(int(asked(server, question)))
        os.kill(stopped[0], SIGSTOP)
        return True

    async with asyncio.timeout(5):
        with pytest.raises(OutcomeUnknown):
            await PostgresActuator(services, freeze).perform(TerminateIdle(), SHOP, MARK)
    os.kill(stopped[0], SIGCONT)
