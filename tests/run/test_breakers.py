"""Breakers, in process: what has not helped is not done again, one trial at a time, until a trial helps or a person says so."""

from datetime import timedelta
from typing import Any

from remediator.core.target import Health, Instance, Workload
from remediator.ports import Channel, OutcomeUnknown, Probe, Reading, TransientError
from tests.builders import webhook_alert, webhook_message
from tests.fakes import FakePlatform, Harness, harness
from tests.run.test_remediate import failing, firing, later, limits, message, resolved
from tests.waiting import eventually

MINUTE = timedelta(minutes=1)
API = "docker:container/shop-api-1"
QUICK = limits(breaker="{failures: 1, targets: 2, open_for: 5m, min_healthy_period: 2m}", min_healthy="0%")


class Street(FakePlatform):
    """Many services, each with its own container; `well` are those that are healthy."""

    def __init__(self, *cured: str, **options: Any) -> None:
        super().__init__(**options)
        self.cured = set(cured)
        self.well: set[str] = set()
        self.called: list[str] = []

    def workload(self, service: str = "shop-api") -> Workload:
        health = Health.HEALTHY if service in self.well else Health.STOPPED
        instance = Instance(service, f"{service}-1", health)
        return Workload(self.name, "container", f"{service}-1", service, self.allow, (instance,), self.release)

    async def check(self, check, workload) -> Reading:
        return Reading(Probe.HOLDS if workload.service in self.well else Probe.FAILS, "")

    async def perform(self, step, workload, mark) -> str:
        self.called.append(workload.service)
        said = await super().perform(step, workload, mark)
        if workload.service in self.cured:
            self.well.add(workload.service)
        return said


async def ask(h: Harness, method: str, path: str, **body: str) -> tuple[int, dict[str, Any]]:
    options = {"json": body} if body else {}
    async with h.session.request(method, f"{h.url}/api/v1/{path}", **options) as response:
        return response.status, await response.json()


async def breakers(h: Harness) -> list[tuple[str, str, str]]:
    found = (await ask(h, "GET", "breakers"))[1]["breakers"]
    return [(each["state"], each["playbook"], each["target"]) for each in found]


async def reset(h: Harness, **which: str) -> tuple[int, dict[str, Any]]:
    return await ask(h, "POST", "breaker/reset", **which, by="ann", why="repaired")


async def ended_with(h: Harness, *reasons: str) -> None:
    """The runs, oldest first, have come to these reasons."""

    async def have() -> bool:
        return [run["reason"] for run in await h.runs()] == list(reasons)

    await eventually(have)


async def not_sent(h: Harness, count: int) -> None:
    """The newest run has tried that often."""

    async def has() -> bool:
        timeline = await h.timeline((await h.runs())[-1]["id"])
        return sum(row["data"].get("outcome") == "not_sent" for row in timeline) >= count

    await eventually(has)


class TestOpening:
    async def test_while_it_is_open_alerts_go_to_people_and_nothing_is_done(self, tmp_path):
        async with harness(tmp_path, FakePlatform(cures=frozenset()), [QUICK]) as h:
            await h.post(firing())
            await h.until("escalated")
            await h.post(firing(instance="other"))
            await ended_with(h, "ladder_exhausted", "breaker_open")
            assert h.platform.performed == ["restart"]
            told = h.told[Channel.ESCALATION].messages
            await eventually(lambda: {each.payload["reason"] for each in told} == {"ladder_exhausted", "breaker_open"})
            assert await breakers(h) == [("open", "api-down", API)]

    async def test_a_step_that_cannot_be_verified_is_a_failure(self, tmp_path):
        platform = FakePlatform()
        platform.fail_with = lambda: setattr(platform, "unreachable", True)
        async with harness(tmp_path, platform, [QUICK]) as h:
            await h.post(firing())
            await ended_with(h, "unverified")
            assert await breakers(h) == [("open", "api-down", API)]

    async def test_a_step_in_doubt_is_one_when_its_alert_ends(self, tmp_path):
        platform = FakePlatform()

        def break_off() -> OutcomeUnknown:
            platform.unreachable = True
            return OutcomeUnknown("the connection broke off")

        platform.fail_with = break_off
        async with harness(tmp_path, platform, [QUICK]) as h:
            await h.post(firing())
            await h.until("in_doubt")
            await eventually(lambda: platform.observed)
            await later(h, 30 * MINUTE)
            await message(h, Channel.ESCALATION)
            await h.post(resolved())
            await h.until("escalated", seconds=30)  # it is told, and held, until then
            assert await breakers(h) == [("open", "api-down", API)]

    async def test_a_repair_after_which_the_alert_fires_again_too_soon_is_one(self, tmp_path):
        async with harness(tmp_path, playbooks=[QUICK]) as h:
            await h.post(firing())
            await h.until("succeeded")
            await h.post(firing(instance="other"))
            await ended_with(h, "verified", "breaker_open")
            assert h.platform.performed == ["restart"]

    async def test_calls_that_were_never_sent_open_nothing(self, tmp_path):
        platform = FakePlatform(fail_with=lambda: TransientError("connection refused"))
        async with harness(tmp_path, platform, [QUICK]) as h:
            await h.post(firing())
            for goes in (1, 2):
                await not_sent(h, goes)
                await later(h, timedelta(seconds=2))
            await ended_with(h, "not_sent")
            assert await breakers(h) == []


class TestTrial:
    async def test_after_its_time_one_trial_is_let_through_and_closes_it_if_it_helps(self, tmp_path):
        platform = FakePlatform(cures=frozenset())
        async with harness(tmp_path, platform, [QUICK]) as h:
            await h.post(firing())
            await h.until("escalated")
            await later(h, 5 * MINUTE)
            assert await breakers(h) == [("half-open", "api-down", API)]
            platform.cures = frozenset({"restart"})
            await h.post(firing(instance="other"))
            await h.until("succeeded")
            assert await breakers(h) == []

    async def test_one_that_does_not_help_opens_it_for_twice_as_long(self, tmp_path):
        async with harness(tmp_path, FakePlatform(cures=frozenset()), [QUICK]) as h:
            await h.post(firing())
            await h.until("escalated")
            h.clock.shift += 5 * MINUTE
            await h.post(firing(instance="trial"))
            await h.until("escalated", count=2)
            h.clock.shift += 6 * MINUTE
            await h.post(firing(instance="too soon"))
            await ended_with(h, "ladder_exhausted", "ladder_exhausted", "breaker_open")
            assert h.platform.performed == ["restart", "restart"]

    async def test_a_playbook_has_one_trial_for_the_whole_of_its_verification(self, tmp_path):
        street = Street("shop-c", "shop-d")
        slow = QUICK.replace("within: 300ms, stable_for: 10ms", "within: 1s, stable_for: 500ms")
        async with harness(tmp_path, street, [slow]) as h:
            for service in ("shop-a", "shop-b"):
                await h.post(firing(service=service))
            await h.until("escalated", count=2)
            assert ("open", "api-down", "") in await breakers(h)
            h.clock.shift += 5 * MINUTE
            await h.post(firing(service="shop-c"))
            await h.until("verifying")
            await h.post(firing(service="shop-d"))
            runs = await h.until("waiting")
            assert [run["reason"] for run in runs if run["state"] == "waiting"] == ["breaker_trial"]
            assert street.called == ["shop-a", "shop-b", "shop-c"]
            await h.until("succeeded")
            await later(h, MINUTE)
            await h.until("succeeded", count=2)
            assert street.called == ["shop-a", "shop-b", "shop-c", "shop-d"]

    async def test_a_trial_that_was_never_sent_leaves_room_for_another(self, tmp_path):
        platform = FakePlatform(cures=frozenset())
        async with harness(tmp_path, platform, [QUICK]) as h:
            await h.post(firing())
            await h.until("escalated")
            h.clock.shift += 5 * MINUTE
            platform.fail_with = failing(*[TransientError("connection refused")] * 3)
            await h.post(firing(instance="trial"))
            for goes in (1, 2):
                await not_sent(h, goes)
                await later(h, timedelta(seconds=2))
            await ended_with(h, "ladder_exhausted", "not_sent")
            platform.cures = frozenset({"restart"})
            await h.post(firing(instance="another"))
            await h.until("succeeded")


class TestReset:
    async def test_it_takes_effect_at_once_and_is_on_record(self, tmp_path):
        platform = FakePlatform(cures=frozenset())
        async with harness(tmp_path, platform, [QUICK]) as h:
            await h.post(firing())
            await h.until("escalated")
            platform.cures = frozenset({"restart"})
            status, said = await reset(h, target=API)
            assert (status, said["reset"]["target"], said["by"]) == (200, API, "ann")
            assert ("breaker.reset", {"target": API, "playbook": "", "by": "ann", "why": "repaired"}) in h.log.events
            assert await breakers(h) == []
            await h.post(firing(instance="other"))
            await h.until("succeeded")

    async def test_what_it_had_left_to_people_is_taken_up_if_it_still_fires(self, tmp_path):
        platform = FakePlatform(cures=frozenset())
        async with harness(tmp_path, platform, [QUICK]) as h:
            await h.post(firing())
            await ended_with(h, "ladder_exhausted")
            await h.post(webhook_message(webhook_alert(instance="fires"), webhook_alert(instance="ends")))
            await ended_with(h, "ladder_exhausted", "breaker_open", "breaker_open")
            await h.post(resolved(instance="ends"))
            await eventually(lambda: h.app.store.run(lambda ledger: ledger.episodes.count_open() == 2))
            platform.cures = frozenset({"restart"})
            assert (await reset(h, target=API))[1]["begun"] == 1
            (*_, run) = await h.until("succeeded")
            assert run["labels"]["instance"] == "fires"

    async def test_one_that_another_playbook_opened_is_shown_and_can_be_reset(self, tmp_path):
        """Though that playbook is no longer on the shelf."""
        other = QUICK.replace("name: api-down", "name: other").replace("APIDown", "Other")
        async with harness(tmp_path, FakePlatform(cures=frozenset()), [QUICK]) as h:
            await h.post(firing())
            await ended_with(h, "ladder_exhausted")
            (tmp_path / "playbooks" / "api-down.yaml").unlink()
            (tmp_path / "playbooks" / "other.yaml").write_text(other)
            assert h.app.shelf.load() == ()
            await h.post(firing(alertname="Other"))
            await ended_with(h, "ladder_exhausted", "breaker_open")
            assert await breakers(h) == [("open", "other", API)]
            assert (await reset(h, target=API))[0] == 200

    async def test_that_of_a_playbook_lets_the_waiting_trial_through(self, tmp_path):
        street = Street("shop-c", "shop-d")
        slow = QUICK.replace("within: 300ms, stable_for: 10ms", "within: 30s, stable_for: 20s")
        async with harness(tmp_path, street, [QUICK]) as h:
            for service in ("shop-a", "shop-b"):
                await h.post(firing(service=service))
            await h.until("escalated", count=2)
            (tmp_path / "playbooks" / "api-down.yaml").write_text(slow)
            assert h.app.shelf.load() == ()
            h.clock.shift += 5 * MINUTE
            await h.post(firing(service="shop-c"))
            await h.until("verifying")
            await h.post(firing(service="shop-d"))
            await h.until("waiting")
            assert (await reset(h, playbook="api-down"))[0] == 200
            await h.until("verifying", count=2)
            assert street.called[-1] == "shop-d"

    async def test_it_clears_no_limit_of_rate(self, tmp_path):
        once = QUICK.replace("[100 per 1h]", "[1 per 20m]")
        async with harness(tmp_path, FakePlatform(cures=frozenset()), [once]) as h:
            await h.post(firing())
            await h.until("escalated")
            assert (await reset(h, target=API))[0] == 200
            await h.post(firing(instance="other"))
            runs = await h.until("waiting")
            assert runs[-1]["reason"] == "rate_target"

    async def test_where_nothing_is_open_there_is_nothing_to_reset(self, tmp_path):
        async with harness(tmp_path, playbooks=[QUICK]) as h:
            for which in ({"target": API}, {"playbook": "api-down"}, {"playbook": "no-such"}):
                status, said = await reset(h, **which)
                assert (status, "nothing to reset" in said["error"]) == (409, True)

    async def test_which_one_who_and_why_must_be_said(self, tmp_path):
        async with harness(tmp_path, playbooks=[QUICK]) as h:
            for body in ({"by": "ann", "why": "x"}, {"target": API, "by": "ann"}, {"target": API, "why": "x"},
                         {"target": API, "playbook": "api-down", "by": "ann", "why": "x"}):  # fmt: skip
                assert (await ask(h, "POST", "breaker/reset", **body))[0] == 400
