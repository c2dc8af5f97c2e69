"""What has waited is sent only while the leases last, and only for runs that are still ours."""

import asyncio
from datetime import timedelta

import pytest

from remediator.leases import Leases
from tests.builders import NOW, PLAYBOOK, webhook_message
from tests.fakes import FakePlatform, harness
from tests.waiting import eventually

MINUTE = timedelta(minutes=1)


class Clock:
    def __init__(self) -> None:
        self.at = NOW

    def now(self):
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


class TestLeases:
    def test_they_hold_for_their_length_and_not_at_its_end(self, clock):
        leases = Leases(clock, MINUTE)
        clock.at += MINUTE - timedelta(microseconds=1)
        assert leases.hold()
        clock.at = NOW + MINUTE
        assert not leases.hold()

    def test_a_heartbeat_counts_from_when_it_was_begun(self, clock):
        leases = Leases(clock, MINUTE)
        begun_at = clock.at = NOW + 2 * MINUTE
        clock.at += 2 * MINUTE  # it was stopped before it heard the answer
        leases.renewed_at(begun_at)
        assert not leases.hold()

    def test_a_clock_that_was_set_back_prolongs_nothing(self, clock):
        leases = Leases(clock, MINUTE)
        clock.at = NOW - 60 * MINUTE
        leases.seen_at(clock.at)
        clock.at += MINUTE
        assert not leases.hold()


async def test_a_heartbeat_that_finds_a_run_taken_over_lets_go_of_it_at_once(tmp_path):
    platform = FakePlatform(hold=asyncio.Event())
    async with harness(tmp_path, platform, [PLAYBOOK], lease=timedelta(seconds=1)) as h:
        await h.post(webhook_message())
        await h.until("called")
        later = timedelta(hours=1)
        taken = await h.app.store.run(lambda ledger: ledger.runs.lease("they", ledger.now + later, ledger.now + 2 * later, 10))
        assert len(taken) == 1
        await eventually(lambda: "run.fenced" in h.log.names())
        platform.hold.set()
        await asyncio.sleep(0)
        assert platform.performed == []
        (run,) = await h.runs()
        assert run["state"] == "called"
