"""An alert storm at the real process: everything is accepted, recorded and explained, nothing is done, one message is sent.

10,000 alerts of 500 targets, as fast as they are taken, from as many connections as an Alertmanager opens. The bounds are
far above what a quiet machine needs, since these tests run beside others; `bench` measures.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socket
from time import monotonic
from typing import Any

import pytest
from aiohttp import ClientSession, TCPConnector, web
from aiohttp.test_utils import TestServer

from tests.builders import webhook_alert, webhook_message
from tests.e2e.remediator_process import TOKEN, RemediatorProcess, remediator_process
from tests.waiting import eventually

pytestmark = [pytest.mark.load, pytest.mark.timeout(180)]

ALERTS, TARGETS, ALERTS_A_MESSAGE, CONNECTIONS = 10_000, 500, 10, 64
ACCEPTED_SECONDS_MAX, EXPLAINED_SECONDS_MAX = 15.0, 30.0
P99_SECONDS_MAX = 0.5
GROWS_MB_MAX = 60.0

PLAYBOOK = """
name: web-down
summary: Restart a web service that stopped answering.
matchers: ['alertname = WebDown']
target: {service: $labels.service}
mode: auto
limits: {settle: 0s, max_all_targets: [5 per 1h]}
ladder:
  - restart: {timeout: 5s}
verify: {within: 5s, stable_for: 10ms, all: [healthy]}
"""


@dataclass(slots=True)
class People:
    """Whoever is told of escalations."""

    url: str = ""
    told: list[Mapping[str, Any]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        self.told.append(await request.json())
        return web.Response(status=204)


@asynccontextmanager
async def people() -> AsyncIterator[People]:
    everybody, app = People(), web.Application()
    app.router.add_post("/", everybody.take)
    async with TestServer(app) as server:
        everybody.url = str(server.make_url("/"))
        yield everybody


def storm_of(alerts: int, status: str = "firing") -> Iterator[bytes]:
    """So many distinct alerts, evenly over the targets, in messages as Alertmanager groups them."""
    each = [
        webhook_alert(status, alertname="WebDown", service=f"web-{number % TARGETS}", instance=str(number))
        for number in range(alerts)
    ]
    for first in range(0, alerts, ALERTS_A_MESSAGE):
        yield webhook_message(*each[first : first + ALERTS_A_MESSAGE])


async def sent(remediator: RemediatorProcess, messages: Iterator[bytes]) -> Sequence[float]:
    """Send them all, over many connections, as fast as they are answered; how long each answer took, in seconds."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    took: list[float] = []
    statuses: Counter[int] = Counter()

    async def connection(session: ClientSession) -> None:
        for body in messages:
            began_at = monotonic()
            async with session.post(f"{remediator.url}/webhook", data=body, headers=headers) as answer:
                await answer.read()
                statuses[answer.status] += 1
            took.append(monotonic() - began_at)

    async with ClientSession(connector=TCPConnector(limit=0)) as session:
        await asyncio.gather(*(connection(session) for _ in range(CONNECTIONS)))
    assert set(statuses) == {200}, statuses
    return sorted(took)


def p99(took: Sequence[float]) -> float:
    return took[int(len(took) * 0.99)]


def count(remediator: RemediatorProcess, what: str) -> int:
    return int(remediator.ledger(f"SELECT count(*) AS many FROM {what}")[0]["many"])


def services(home: Path) -> dict[str, Any]:
    """Every target of the storm, as a command that leaves a line behind when it restarts one."""
    restart = f"echo $0 >> {home}/restarted"
    return {
        f"web-{number}": {"allow": ["restart"], "restart": ["sh", "-c", restart, f"web-{number}"], "status": ["true"]}
        for number in range(TARGETS)
    }


async def test_a_storm_is_accepted_recorded_and_explained_and_told_in_one_message(tmp_path: Path) -> None:
    async with people() as told:
        settings = {"docker_url": "off", "escalation_url": told.url, "commands": services(tmp_path)}
        with remediator_process(tmp_path, {"web-down": PLAYBOOK}, **settings) as remediator:
            await asyncio.to_thread(remediator.start)
            before_mb, began_at = remediator.resident_mb_max, monotonic()
            took = await sent(remediator, storm_of(ALERTS))
            accepted_at = monotonic()
            held = "runs WHERE state = 'waiting' AND reason = 'storm'"
            await eventually(lambda: count(remediator, held) == ALERTS, 2 * EXPLAINED_SECONDS_MAX)
            explained_at = monotonic()
            await eventually(lambda: told.told)
            grown_mb = remediator.resident_mb_max - before_mb
            print(
                f"{ALERTS:,} alerts accepted in {accepted_at - began_at:.1f} s, p99 {p99(took) * 1000:.0f} ms, "
                f"explained {explained_at - accepted_at:.1f} s later, {grown_mb:.0f} MB"
            )
            assert accepted_at - began_at < ACCEPTED_SECONDS_MAX
            assert explained_at - accepted_at < EXPLAINED_SECONDS_MAX
            assert p99(took) < P99_SECONDS_MAX
            assert grown_mb < GROWS_MB_MAX
            assert count(remediator, "episodes WHERE state = 'open'") == ALERTS
            unexplained = "NOT EXISTS (SELECT 1 FROM ledger WHERE run_id = runs.id AND kind = 'decision')"
            assert count(remediator, f"runs WHERE {unexplained}") == 0
            assert count(remediator, "ledger WHERE kind IN ('intent', 'go')") == 0
            assert not (tmp_path / "restarted").exists()
            (message,) = told.told
            assert (message["reason"], message["severity"]) == ("storm", "critical")


async def test_after_a_storm_its_runs_are_taken_up_a_few_at_a_time_limits_hold_and_nobody_hears_of_each(tmp_path: Path) -> None:
    alerts, at_once = 2 * TARGETS, 16
    async with people() as told:
        settings = {"docker_url": "off", "escalation_url": told.url, "commands": services(tmp_path)}
        settings |= {"storm": {"window": "3s"}, "max_concurrent_runs": at_once}
        with remediator_process(tmp_path, {"web-down": PLAYBOOK}, **settings) as remediator:
            await asyncio.to_thread(remediator.start)
            await sent(remediator, storm_of(alerts))
            await eventually(lambda: count(remediator, "ledger WHERE kind = 'storm'") == 2, 30)
            under_way = []
            while count(remediator, "runs WHERE reason = 'storm'"):
                under_way.append(count(remediator, "runs WHERE lease_owner <> '' AND finished_at IS NULL"))
                took = await sent(remediator, iter([webhook_message(webhook_alert(service=f"else-{len(under_way)}"))]))
                assert took[-1] < P99_SECONDS_MAX
            assert 0 < max(under_way) <= at_once
            done = "runs WHERE state = 'succeeded'"
            await eventually(lambda: count(remediator, done) == 5, 30)
            assert count(remediator, "runs WHERE finished_at IS NULL AND goes > 0") == 0
            assert len((tmp_path / "restarted").read_text().splitlines()) == 5  # as many as the playbook may in an hour
            await eventually(lambda: count(remediator, "outbox WHERE due_at IS NOT NULL") == 0, 30)
            assert [message["reason"] for message in told.told] == ["storm", "storm"]
            assert "it is over" in told.told[-1]["summary"]


@contextmanager
def an_engine_that_never_answers(path: Path) -> Iterator[str]:
    with socket(AF_UNIX, SOCK_STREAM) as engine:
        engine.bind(str(path))
        engine.listen(128)
        yield f"unix://{path}"


@contextmanager
def an_engine_that_is_dead(path: Path) -> Iterator[str]:
    yield f"unix://{path}"


@pytest.mark.parametrize("engine", [an_engine_that_never_answers, an_engine_that_is_dead])
async def test_while_all_runs_wait_for_the_engine_alerts_are_accepted_and_recorded_as_ever(tmp_path: Path, engine) -> None:
    alerts = 2_000
    with engine(tmp_path / "docker.sock") as url:
        settings = {"docker_url": url, "storm": {"targets": 2 * TARGETS}}
        with remediator_process(tmp_path, {"web-down": PLAYBOOK}, **settings) as remediator:
            await asyncio.to_thread(remediator.start)
            await sent(remediator, storm_of(100))
            await eventually(lambda: count(remediator, "runs WHERE lease_owner <> ''") > 0)
            took = await sent(remediator, storm_of(alerts))
            print(f"{engine.__name__}: {alerts} alerts beside runs that wait for it, p99 {p99(took) * 1000:.0f} ms")
            assert p99(took) < P99_SECONDS_MAX
            await eventually(lambda: count(remediator, "runs") == alerts, EXPLAINED_SECONDS_MAX)
            assert count(remediator, "ledger WHERE kind = 'go'") == 0
            remediator.kill()  # SIGTERM waits for the engine, too
