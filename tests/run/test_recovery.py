"""Crashes, in process: the task is torn down at any await and remediator started again on the same directory.

`grace=0` cancels whatever is under way, as a kill would; tests/e2e does the same to the real process.
"""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from remediator.clock import SystemClock
from remediator.core.playbook import Mode, RateLimit
from remediator.core.target import Health, Instance, Workload
from remediator.ports import Facts, Happened, Observation, Probe, Reading
from tests.builders import PLAYBOOK, webhook_alert, webhook_message
from tests.fakes import FakePlatform, harness

KILLED = {"shutdown_grace": timedelta()}
CRASHES = 16


def firing(**labels: str) -> bytes:
    return webhook_message(webhook_alert(starts_at=SystemClock().now(), **labels))


class HeldBeforeGo(FakePlatform):
    """Never gets from the claim to the call."""

    async def mark(self, step, workload) -> Facts:
        return await asyncio.Future()


@dataclass
class Fleet(FakePlatform):
    """Any number of services, each down until it is restarted; a call takes a while before and after its effect."""

    seconds: random.Random = field(default_factory=lambda: random.Random(7))
    restarts: Counter[str] = field(default_factory=Counter)

    def workload(self, service: str = "shop-api") -> Workload:
        health = Health.HEALTHY if self.restarts[service] else Health.STOPPED
        instance = Instance("c0ffee", service, health)
        return Workload(self.name, "container", service, service, self.allow, (instance,), self.release)

    async def check(self, check, workload) -> Reading:
        return Reading(Probe.HOLDS if self.restarts[workload.name] else Probe.FAILS, "")

    async def mark(self, step, workload) -> Facts:
        return {"restarts": self.restarts[workload.name]}

    async def observe(self, step, workload, mark) -> Observation:
        happened = self.restarts[workload.name] > mark["restarts"]
        return Observation(Happened.YES if happened else Happened.NO, "")

    async def perform(self, step, workload, mark) -> str:
        await asyncio.sleep(self.seconds.uniform(0, 0.02))
        self.restarts[workload.name] += 1
        await asyncio.sleep(self.seconds.uniform(0, 0.02))
        return "restarted"


async def test_however_often_it_is_killed_no_alert_is_lost_and_no_service_restarted_twice(tmp_path):
    fleet, accepted = Fleet(), []
    moment = random.Random(11)
    playbook = PLAYBOOK.replace("give_up: 30m", "give_up: 30m, max_all_targets: [1000 per 1h]")
    options = {
        "playbooks": [playbook],
        "storm": {"targets": 1000},
        "max_actions": (RateLimit(1000, timedelta(hours=1)),),
        **KILLED,
    }
    for crash in range(CRASHES):
        async with harness(tmp_path, fleet, **options) as h:
            for number in range(3):
                service = f"shop-{crash}-{number}"
                if await h.post(firing(service=service)) == 200:
                    accepted.append(service)
            await asyncio.sleep(moment.uniform(0, 0.06))
    async with harness(tmp_path, fleet, **options) as h:
        await h.as_time_passes("succeeded", count=len(accepted))
    assert len(accepted) == 3 * CRASHES
    assert fleet.restarts == Counter(accepted)


async def test_a_call_that_took_effect_before_the_crash_is_verified_and_not_made_again(tmp_path):
    platform = FakePlatform(hold=asyncio.Event())
    async with harness(tmp_path, platform, **KILLED) as h:
        await h.post(firing())
        await h.until("called")
    platform.starts, platform.healthy = 1, True  # the engine went on without us
    async with harness(tmp_path, platform) as h:
        await h.until("succeeded")
        assert platform.performed == []


async def test_a_call_that_took_no_effect_is_made_when_its_time_is_over(tmp_path):
    platform = FakePlatform(hold=asyncio.Event())
    async with harness(tmp_path, platform, **KILLED) as h:
        await h.post(firing())
        await h.until("called")
    platform.hold = None
    async with harness(tmp_path, platform) as h:
        await h.until("in_doubt")
        assert platform.performed == []
        await h.as_time_passes("succeeded")
        assert platform.performed == ["restart"]


async def test_a_verification_that_was_cut_short_is_taken_up(tmp_path):
    platform = FakePlatform(cures=frozenset())
    async with harness(tmp_path, platform, [PLAYBOOK.replace("within: 300ms", "within: 1m")], **KILLED) as h:
        await h.post(firing())
        await h.until("verifying")
    platform.healthy = True
    async with harness(tmp_path, platform) as h:
        await h.until("succeeded")
        assert platform.performed == ["restart"]


async def test_a_waiting_run_waits_on(tmp_path):
    waiting = PLAYBOOK.replace("settle: 0s", "settle: 1m")
    async with harness(tmp_path, playbooks=[waiting], **KILLED) as h:
        await h.post(firing())
        (before,) = await h.until("waiting")
    async with harness(tmp_path, playbooks=[waiting]) as h:
        h.clock.shift += timedelta(minutes=1)
        h.app.worker.wake()
        (after,) = await h.until("succeeded")
        assert after["id"] == before["id"]


class TestClaimedBeforeTheCrash:
    """Nothing was sent: what the operator and the target's owner allow now counts, not what they allowed then."""

    async def claim(self, directory) -> None:
        async with harness(directory, HeldBeforeGo(), **KILLED) as h:
            await h.post(firing())
            await h.until("claimed")

    async def test_it_is_carried_out_if_everything_is_as_it_was(self, tmp_path):
        await self.claim(tmp_path)
        async with harness(tmp_path) as h:
            await h.until("succeeded")
            assert h.platform.performed == ["restart"]

    @pytest.mark.parametrize("settings", [{"mode": Mode.SUGGEST}, {"playbook_modes": {"api-down": Mode.OFF}}])
    async def test_it_is_not_carried_out_in_a_lower_mode(self, tmp_path, settings):
        await self.claim(tmp_path)
        async with harness(tmp_path, **settings) as h:
            await h.until("escalated")
            assert h.platform.performed == []

    async def test_it_is_not_carried_out_on_a_target_that_has_withdrawn_its_consent(self, tmp_path):
        await self.claim(tmp_path)
        async with harness(tmp_path, FakePlatform(allow=frozenset())) as h:
            await h.until("escalated")
            assert h.platform.performed == []

    async def test_it_is_not_carried_out_for_an_alert_that_was_not_heard_of_for_long(self, tmp_path):
        await self.claim(tmp_path)
        async with harness(tmp_path, episode_expiry=timedelta(microseconds=1)) as h:
            await h.until("cancelled")
            assert h.platform.performed == []
