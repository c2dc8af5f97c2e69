"""The dead man's switch: one message when the Watchdog alert goes missing, one when it is back, and no auto in between."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from remediator.core.alert import WATCHDOG
from remediator.core.playbook import Mode
from remediator.core.snapshot import Policy
from remediator.ports import Channel
from remediator.storage.migrate import upgrade
from remediator.storage.sqlite import SqliteStore
from remediator.telemetry import Metrics, Telemetry
from remediator.watchdog import DeadMansSwitch
from tests.builders import webhook_alert, webhook_message
from tests.fakes import SettableClock, SilentLog, harness
from tests.waiting import eventually

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
EXPECTED = Policy(mode=Mode.AUTO, watchdog_within=15 * MINUTE)


@dataclass
class Post:
    store: SqliteStore
    clock: SettableClock
    metrics: Metrics
    switch: DeadMansSwitch

    async def hear(self) -> None:
        await self.store.run(lambda ledger: ledger.heartbeats.beat(WATCHDOG, ledger.now))

    async def look(self, after: timedelta = MINUTE) -> None:
        self.clock.shift += after
        await self.switch.look()

    async def told(self) -> list[tuple[str, int]]:
        """Every message so far: its reason, and how often it was put."""
        far = self.clock.now() + 100 * HOUR
        messages = await self.store.run(lambda ledger: ledger.outbox.due(far, 100))
        return [(message.payload["reason"], message.version) for message in messages]

    def restarted(self, policy: Policy = EXPECTED) -> None:
        self.switch = DeadMansSwitch(self.store, lambda: policy, Telemetry(self.metrics, SilentLog()))

    def gauge(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"remediator_{name}")


@asynccontextmanager
async def a_post(directory: Path, policy: Policy = EXPECTED) -> AsyncIterator[Post]:
    clock, metrics = SettableClock(), Metrics()
    store = SqliteStore(directory / "store.db", lambda: policy, timedelta(seconds=10), clock)
    upgrade(directory / "store.db")
    post = Post(store, clock, metrics, DeadMansSwitch(store, lambda: policy, Telemetry(metrics, SilentLog())))
    yield post
    await store.close()


@pytest.fixture
async def post(tmp_path) -> AsyncIterator[Post]:
    async with a_post(tmp_path) as post:
        yield post


async def test_it_is_told_once_when_it_goes_missing_and_once_when_it_is_back(post):
    await post.look()
    await post.hear()
    for _ in range(14):
        await post.look()
    assert (await post.told(), post.gauge("watchdog_missing")) == ([], 0)
    for _ in range(30):
        await post.look()
    assert (await post.told(), post.gauge("watchdog_missing")) == ([("watchdog_missing", 1)], 1)
    assert post.switch.silent
    await post.hear()
    for _ in range(10):
        await post.look()
    assert await post.told() == [("watchdog_missing", 1), ("recovered", 1)]
    assert (post.gauge("watchdog_missing"), post.switch.silent) == (0, "")


async def test_the_next_time_is_told_of_like_the_first(post):
    for _ in range(2):
        await post.hear()
        await post.look()
        await post.look(after=20 * MINUTE)
    assert [reason for reason, _ in await post.told()] == ["watchdog_missing", "recovered", "watchdog_missing"]


async def test_a_restart_repeats_nothing_and_forgets_nothing(post):
    await post.look()
    await post.look(after=20 * MINUTE)
    assert await post.told() == [("watchdog_missing", 1)]
    post.restarted()
    await post.look()
    await post.look(after=20 * MINUTE)
    assert await post.told() == [("watchdog_missing", 1)]
    post.restarted()
    await post.hear()
    await post.look()
    assert [reason for reason, _ in await post.told()] == ["watchdog_missing", "recovered"]


async def test_a_remediator_that_was_away_gives_it_the_time_to_arrive(post):
    await post.hear()
    await post.look(after=5 * HOUR)
    assert (await post.told(), bool(post.switch.silent)) == ([], True), "nothing is automatic, and nobody is woken yet"
    await post.hear()
    await post.look()
    assert await post.told() == []


async def test_a_clock_that_is_set_back_repeats_no_message(post):
    await post.look()
    await post.look(after=20 * MINUTE)
    post.clock.shift -= 3 * HOUR
    await post.store.run(lambda ledger: ledger.heartbeats.beat(WATCHDOG, ledger.now + 3 * HOUR))
    for shift in (timedelta(), 3 * HOUR, MINUTE, MINUTE):
        await post.look(after=shift)
    assert await post.told() == [("watchdog_missing", 1), ("recovered", 1)]


async def test_where_none_is_expected_nobody_is_told_and_the_gauge_says_when_it_was_heard(tmp_path):
    async with a_post(tmp_path, Policy()) as post:
        await post.look()
        assert post.gauge("watchdog_last_seen_timestamp_seconds") == 0
        await post.hear()
        await post.look(after=5 * HOUR)
        assert await post.told() == []
        heard = post.clock.now() - 5 * HOUR
        assert post.gauge("watchdog_last_seen_timestamp_seconds") == pytest.approx(heard.timestamp(), abs=60)
        assert post.gauge("watchdog_missing") == 0


async def ready(h) -> tuple[int, str]:
    async with h.session.get(f"{h.url}/-/ready") as response:
        return response.status, await response.text()


async def test_while_it_is_missing_alerts_are_taken_and_everything_needs_approval(tmp_path):
    async with harness(tmp_path, watchdog_within=15 * MINUTE) as h:
        assert await ready(h) == (200, "ready\nauto is off: the Watchdog alert was never heard of\n")
        await h.post(webhook_message(webhook_alert(starts_at=h.clock.now())))
        (run,) = await h.until("asked")
        assert (run["reason"], h.platform.performed) == ("approval_required", [])
        await h.post(webhook_message(webhook_alert(alertname=WATCHDOG, starts_at=h.clock.now())))
        h.clock.shift += MINUTE  # the question is looked at again
        h.app.worker.wake()
        await h.until("succeeded")
        await h.app.watchdog.look()
        assert await ready(h) == (200, "ready\n")


async def test_people_are_sent_the_alarm(tmp_path):
    async with harness(tmp_path, watchdog_within=15 * MINUTE) as h:
        h.clock.shift += 16 * MINUTE
        await h.app.watchdog.look()
        told = h.told[Channel.ESCALATION].messages
        await eventually(lambda: [message.payload["reason"] for message in told] == ["watchdog_missing"])
        assert "was never heard of" in told[0].payload["summary"]
        assert "watchdog.missing" in h.log.names()
