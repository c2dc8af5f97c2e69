"""Which rung is next, whether it may still be taken, and what is looked at before: the finer rules of the main path."""

from dataclasses import replace
from datetime import timedelta

import pytest

from remediator.core.playbook import Mode
from remediator.core.target import Workload
from remediator.ports import Channel, Evidence, PermanentError
from tests.builders import PLAYBOOK
from tests.fakes import FakePlatform, harness
from tests.run.test_remediate import HOUR, LADDER, RESTART, failing, firing, limits, previous_release, resolved

ROLL_BACK = "  - rollback: {}\n    when: rollout.age_seconds < 3600\n"
AFTER_A_ROLL_OUT = PLAYBOOK.replace(RESTART, ROLL_BACK + RESTART) + "diagnose: [rollout]\n"
EXEC = PLAYBOOK + "diagnose: [exec: [df, -h]]\n"


class Counting(FakePlatform):
    """Also the executor of its platform."""

    executed = 0

    async def diagnose_exec(self, diagnosis, workload) -> Evidence:
        self.executed += 1
        return Evidence("exec", "Filesystem")


class Lacking(FakePlatform):
    """A platform that cannot scale."""

    def workload(self, service: str = "shop-api") -> Workload:
        return replace(super().workload(service), lacks=frozenset({"scale"}))


async def with_exec(directory, text, **settings):
    platform = Counting(allow=frozenset({"restart", "exec"}))
    async with harness(directory, platform, [text], **settings) as h:
        h.app.worker._remediator._world.executors[platform.name] = platform
        await h.post(firing())
        await h.until("succeeded", "suggested")
    return platform.executed


class TestExec:
    async def test_a_run_that_acts_may_run_a_command_for_its_evidence(self, tmp_path):
        assert await with_exec(tmp_path, EXEC) == 1

    async def test_a_playbook_that_only_suggests_runs_none_though_others_may_act(self, tmp_path):
        assert await with_exec(tmp_path, EXEC.replace("mode: auto", "mode: suggest")) == 0

    async def test_nor_does_one_that_the_operator_lowered(self, tmp_path):
        assert await with_exec(tmp_path, EXEC, playbook_modes={"api-down": Mode.SUGGEST}) == 0


class TestRungs:
    async def test_a_rung_whose_condition_does_not_hold_cannot_refuse_for_the_others(self, tmp_path):
        text = (
            PLAYBOOK.replace(RESTART, "  - rollback: {}\n    when: stats.memory_ratio > 0.9\n" + RESTART)
            + "diagnose: [stats]\n"
        )
        async with harness(tmp_path, FakePlatform(allow=frozenset({"restart"})), [text]) as h:
            await h.post(firing())
            await h.until("succeeded")
            assert h.platform.performed == ["restart"]

    async def test_one_that_applies_and_is_not_allowed_is_not_passed_over(self, tmp_path):
        async with harness(tmp_path, FakePlatform(allow=frozenset({"rollback"})), [LADDER]) as h:
            await h.post(firing())
            (run,) = await h.until("refused")
            assert run["reason"] == "not_opted_in"

    async def test_a_step_that_the_platform_does_not_have_is_passed_over(self, tmp_path):
        platform = Lacking(allow=frozenset({"*"}))
        async with harness(tmp_path, platform, [PLAYBOOK.replace(RESTART, "  - scale: {at_most: 3}\n" + RESTART)]) as h:
            await h.post(firing())
            await h.until("succeeded")
            assert platform.performed == ["restart"]

    async def test_where_it_has_no_step_of_the_ladder_that_is_what_is_said(self, tmp_path):
        async with harness(tmp_path, Lacking(), [PLAYBOOK.replace(RESTART, "  - scale: {at_most: 3}\n")]) as h:
            await h.post(firing())
            (run,) = await h.until("refused")
            assert run["reason"] == "not_offered"

    async def test_a_recreated_container_is_no_roll_out(self, tmp_path):
        async with harness(tmp_path, playbooks=[AFTER_A_ROLL_OUT]) as h:
            await h.post(firing())
            await h.until("succeeded")
            assert h.platform.performed == ["restart"]

    async def test_another_release_is_one(self, tmp_path):
        platform = FakePlatform(cures=frozenset({"rollback"}))
        await previous_release(tmp_path, platform, "sha256:v1")
        async with harness(tmp_path, platform, [AFTER_A_ROLL_OUT]) as h:
            await h.post(firing())
            await h.until("succeeded")
            assert h.platform.performed == ["rollback"]


class TestTooLate:
    async def test_what_could_not_be_decided_in_time_is_not_done_afterwards(self, tmp_path):
        platform = FakePlatform(unreachable=True)
        async with harness(tmp_path, platform) as h:
            await h.post(firing())
            await h.until("waiting")
        platform.unreachable = False
        async with harness(tmp_path, platform, away=4 * HOUR) as h:
            (run,) = await h.until("escalated", seconds=20)
            assert run["reason"] == "gave_up"
            assert platform.performed == []

    async def test_a_limit_that_lasts_beyond_the_deadline_is_told_at_once(self, tmp_path):
        async with harness(tmp_path, playbooks=[limits(max="[1 per 1d]")]) as h:
            await h.post(firing())
            await h.until("succeeded")
            await h.post(firing(instance="other"))
            _, second = await h.until("escalated")
            assert second["reason"] == "rate_target"


class TestVerification:
    async def test_the_time_that_remediator_was_away_does_not_count_against_the_repair(self, tmp_path):
        text = LADDER.replace("within: 300ms", "within: 2s").replace("[healthy]", "[healthy, alert_resolved]")
        async with harness(tmp_path, playbooks=[text]) as h:
            await h.post(firing())
            await h.until("verifying")
            platform = h.platform
        async with harness(tmp_path, platform, [text], away=HOUR) as h:
            await h.post(resolved())
            await h.until("succeeded")
            assert platform.performed == ["restart"]

    async def test_a_service_that_is_well_although_the_step_failed_was_not_repaired_by_it(self, tmp_path):
        platform = FakePlatform(healthy=True, fail_with=failing(PermanentError("the engine refuses")))
        async with harness(tmp_path, platform) as h:
            await h.post(firing())
            (run,) = await h.until("succeeded")
            assert run["reason"] == "recovered"
            (result,) = [row for row in await h.timeline(run["id"]) if row["kind"] == "result"]
            assert result["data"]["score"] == "failure"


class TestStillFiring:
    async def test_what_fires_on_after_a_repair_is_taken_further_up_the_ladder(self, tmp_path):
        async with harness(tmp_path, playbooks=[limits(cooldown="10m")]) as h:
            await h.post(firing())
            await h.until("succeeded")
            h.clock.shift += timedelta(minutes=11)
            await h.post(firing())
            _, second = await h.until("escalated")
            assert second["reason"] == "ladder_exhausted"
            assert h.told[Channel.ESCALATION] is not None
            assert h.platform.performed == ["restart"]

    @pytest.mark.parametrize("breaker", ["{}", "{min_healthy_period: 0s}"])
    async def test_a_repetition_soon_after_the_repair_is_not_whatever_the_limits_say(self, tmp_path, breaker):
        async with harness(tmp_path, playbooks=[limits(cooldown="0s", breaker=breaker)]) as h:
            await h.post(firing())
            await h.until("succeeded")
            await h.post(firing())
            await h.post(firing(service="shop-web"))  # read after the repetition
            first, other = await h.until("succeeded", count=2)
            assert (first["labels"]["service"], other["labels"]["service"]) == ("shop-api", "shop-web")
