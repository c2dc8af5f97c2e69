"""The whole path in process, from the socket to the outbox: a real store, a real server, and a platform in memory."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from remediator.clock import SystemClock
from remediator.core.playbook import Mode
from remediator.core.snapshot import Listing
from remediator.ports import Channel, Everything, Facts, OutcomeUnknown, PermanentError, TransientError
from tests.builders import PLAYBOOK, webhook_alert, webhook_message
from tests.fakes import FakePlatform, Harness, harness
from tests.waiting import eventually

RESTART = "  - restart: {timeout: 1s}\n"
LADDER = PLAYBOOK.replace(RESTART, RESTART + "  - rollback: {}\n")
HOUR = timedelta(hours=1)


def limits(**given: str) -> str:
    """The playbook with other limits; those that are not given let everything pass."""
    all_of_them = {"settle": "0s", "cooldown": "0s", "give_up": "30m", "max": "[100 per 1h]", **given}
    return PLAYBOOK.replace("{settle: 0s, cooldown: 10m, give_up: 30m}", str(all_of_them).replace("'", ""))


def firing(began_ago: timedelta = timedelta(minutes=1), **labels: str) -> bytes:
    return webhook_message(webhook_alert(starts_at=SystemClock().now() - began_ago, **labels))


def resolved(began_ago: timedelta = timedelta(minutes=1), ended_ago: timedelta = timedelta(), **labels: str) -> bytes:
    now = SystemClock().now()
    return webhook_message(webhook_alert("resolved", now - began_ago, now - ended_ago, **labels))


def failing(*errors: Exception | None) -> Callable[[], Exception | None]:
    """What each call comes to, in order; then all is well."""
    coming: Iterator[Exception | None] = iter(errors)
    return lambda: next(coming, None)


async def previous_release(directory: Path, platform: FakePlatform, release: str) -> None:
    """Let an earlier remediator have seen the target run `release`."""
    current, platform.release = platform.release, release
    async with harness(directory, platform) as h:
        while not await h.app.store.run(lambda ledger: ledger.releases.record(platform.workload(), h.clock.now()) is False):
            pass
    platform.release = current


class TestSuccess:
    async def test_a_firing_alert_restarts_its_target_once_and_the_run_succeeds(self, tmp_path):
        async with harness(tmp_path) as h:
            assert await h.post(firing()) == 200
            (run,) = await h.until("succeeded")
            assert h.platform.performed == ["restart"]
            assert (run["reason"], run["target"]) == ("verified", "docker:container/shop-api-1")

    async def test_the_timeline_tells_the_story_in_the_order_in_which_it_happened(self, tmp_path):
        async with harness(tmp_path, playbooks=[PLAYBOOK + "diagnose: [stats]\n"]) as h:
            await h.post(firing())
            (run,) = await h.until("succeeded")
            kinds = [row["kind"] for row in await h.timeline(run["id"])]
            assert kinds == ["evidence", "decision", "intent", "go", "outcome", "verification", "result", "end"]

    async def test_a_repeated_message_does_nothing_twice(self, tmp_path):
        async with harness(tmp_path) as h:
            for _ in range(5):
                await h.post(firing())
            await h.until("succeeded")
            assert len(await h.runs()) == 1
            assert h.platform.performed == ["restart"]

    async def test_each_alert_of_a_group_is_treated_by_its_own_status(self, tmp_path):
        now = SystemClock().now()
        over = webhook_alert("resolved", now - HOUR, now, service="shop-web")
        async with harness(tmp_path) as h:
            await h.post(webhook_message(over, webhook_alert(starts_at=now)))
            (run,) = await h.until("succeeded")
            assert run["labels"]["service"] == "shop-api"

    async def test_the_annotation_carries_the_run_tag_and_ends_with_the_outcome(self, tmp_path):
        async with harness(tmp_path) as h:
            await h.post(firing())
            (run,) = await h.until("succeeded")
            last = await annotation(h, "outcome:succeeded")
            assert f"run:{run['id']}" in last["tags"]
            assert last["time_end"] >= last["time"]
            assert not h.told[Channel.ESCALATION].messages

    async def test_metrics_count_the_action_and_its_verification(self, tmp_path):
        async with harness(tmp_path) as h:
            await h.post(firing())
            await h.until("succeeded")
            metrics = await h.metrics()
            assert 'remediator_actions_total{outcome="done",playbook="api-down",step="restart"} 1.0' in metrics
            assert 'remediator_verifications_total{outcome="verified",playbook="api-down"} 1.0' in metrics


class TestSuggestMode:
    async def test_nothing_is_performed_and_the_commands_and_the_evidence_are_shown(self, tmp_path):
        async with harness(tmp_path, playbooks=[LADDER + "diagnose: [stats]\n"], mode=Mode.SUGGEST) as h:
            await h.post(firing())
            (run,) = await h.until("suggested")
            evidence, decision, _ = await h.timeline(run["id"])
            assert h.platform.performed == []
            assert decision["data"]["commands"][0] == "docker restart -t 1 shop-api-1"
            assert [each["text"] for each in evidence["data"]["evidence"]] == ["it is down"]

    async def test_a_webhook_without_authentication_keeps_the_mode_at_suggest_whatever_is_configured(self, tmp_path):
        async with harness(tmp_path, mode=Mode.AUTO, webhook_token_file=None) as h:
            await h.post(firing())
            await h.until("suggested")
            assert h.platform.performed == []
            assert 'remediator_mode_info{mode="suggest"} 1.0' in await h.metrics()
            assert "webhook.unauthenticated" in h.log.names()

    async def test_the_operator_can_lower_one_playbook(self, tmp_path):
        async with harness(tmp_path, playbook_modes={"api-down": Mode.OFF}) as h:
            await h.post(firing())
            (run,) = await h.until("refused")
            assert run["reason"] == "mode_off"


class TestLadder:
    async def test_a_restart_that_does_not_help_is_followed_by_a_rollback(self, tmp_path):
        platform = FakePlatform(cures=frozenset({"rollback"}))
        await previous_release(tmp_path, platform, "sha256:v1")
        async with harness(tmp_path, platform, [LADDER]) as h:
            await h.post(firing())
            (run,) = await h.until("succeeded")
            assert platform.performed == ["restart", "rollback"]
            assert platform.release == "sha256:v1"
            assert run["step"] == 2

    async def test_what_was_rolled_back_from_is_not_rolled_back_to(self, tmp_path):
        platform = FakePlatform(cures=frozenset({"rollback"}))
        await previous_release(tmp_path, platform, "sha256:v1")
        async with harness(tmp_path, platform, [LADDER]) as h:
            await h.post(firing())
            await h.until("succeeded")
            assert await h.app.store.run(lambda ledger: ledger.releases.previous(platform.workload())) == ""

    async def test_an_exhausted_ladder_escalates_opens_the_breaker_and_the_next_alert_does_not_act(self, tmp_path):
        platform = FakePlatform(cures=frozenset())
        await previous_release(tmp_path, platform, "sha256:v1")
        async with harness(tmp_path, platform, [LADDER]) as h:
            await h.post(firing())
            (run,) = await h.until("escalated")
            assert run["reason"] == "ladder_exhausted"
            h.clock.shift += timedelta(minutes=11)  # past the cooldown; the breaker is open for 15 minutes
            await h.post(firing(instance="other"))
            _, second = await h.until("escalated", count=2)
            assert second["reason"] == "breaker_open"
            assert platform.performed == ["restart", "rollback"]

    async def test_a_rollback_without_a_release_to_go_back_to_is_passed_over(self, tmp_path):
        rollback_first = PLAYBOOK.replace(RESTART, "  - rollback: {}\n" + RESTART)
        async with harness(tmp_path, playbooks=[rollback_first]) as h:
            await h.post(firing())
            await h.until("succeeded")
            assert h.platform.performed == ["restart"]

    async def test_a_rung_whose_condition_does_not_hold_is_passed_over(self, tmp_path):
        conditional = PLAYBOOK.replace(RESTART, "  - prune: {}\n    when: stats.memory_ratio > 0.9\n" + RESTART)
        platform = FakePlatform(allow=frozenset({"*"}))
        async with harness(tmp_path, platform, [conditional + "diagnose: [stats]\n"]) as h:
            await h.post(firing())
            await h.until("succeeded")
            assert platform.performed == ["restart"]

    async def test_a_ladder_of_which_no_rung_applies_goes_to_people(self, tmp_path):
        conditional = PLAYBOOK.replace(RESTART, RESTART + "    when: stats.memory_ratio > 0.9\n")
        async with harness(tmp_path, playbooks=[conditional + "diagnose: [stats]\n"]) as h:
            await h.post(firing())
            (run,) = await h.until("escalated")
            assert run["reason"] == "no_rung_applies"

    async def test_what_cannot_be_verified_goes_to_people_without_climbing(self, tmp_path):
        platform = FakePlatform()
        async with harness(tmp_path, platform, [LADDER]) as h:
            platform.fail_with = lambda: setattr(platform, "unreachable", True)
            await h.post(firing())
            (run,) = await h.until("escalated")
            assert run["reason"] == "unverified"
            assert platform.performed == ["restart"]

    async def test_a_step_that_failed_is_looked_at_once_and_the_ladder_climbed(self, tmp_path):
        platform = FakePlatform(cures=frozenset({"rollback"}), fail_with=failing(PermanentError("no such container")))
        await previous_release(tmp_path, platform, "sha256:v1")
        async with harness(tmp_path, platform, [LADDER]) as h:
            await h.post(firing())
            await h.until("succeeded")
            assert platform.performed == ["rollback"]

    async def test_the_escalation_tells_what_was_tried_and_whom_it_is_for(self, tmp_path):
        async with harness(tmp_path, FakePlatform(cures=frozenset()), [PLAYBOOK + "escalate: shop team\n"]) as h:
            await h.post(firing())
            (run,) = await h.until("escalated")
            told = await message(h, Channel.ESCALATION)
            assert (told["escalate_to"], told["run"], told["severity"]) == ("shop team", run["id"], "critical")
            assert "step 1: docker restart -t 1 shop-api-1" in told["tried"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("labels", "allow", "reason"),
        [
            ({"service": "shop-nothing"}, {"restart"}, "no_target"),
            ({"service": ""}, {"restart"}, "label_unusable"),
            ({"service": "shop-api; reboot"}, {"restart"}, "label_unusable"),
            ({}, set(), "not_opted_in"),
            ({}, {"rollback"}, "not_opted_in"),
        ],
    )
    async def test_a_target_that_is_not_exactly_one_opted_in_workload_is_refused(self, tmp_path, labels, allow, reason):
        async with harness(tmp_path, FakePlatform(allow=frozenset(allow))) as h:
            await h.post(firing(**labels))
            (run,) = await h.until("refused")
            assert run["reason"] == reason
            assert h.platform.performed == []

    async def test_two_workloads_are_one_too_many(self, tmp_path):
        async with harness(tmp_path, TwoOfAKind()) as h:
            await h.post(firing())
            (run,) = await h.until("refused")
            assert run["reason"] == "target_ambiguous"

    async def test_an_alert_that_no_playbook_matches_is_counted_and_begins_nothing(self, tmp_path):
        async with harness(tmp_path) as h:
            await h.post(webhook_message(webhook_alert(alertname="SomethingElse"), webhook_alert()))
            await h.until("succeeded")
            assert len(await h.runs()) == 1
            assert 'decision="refuse",playbook="",reason="no_playbook"} 1.0' in await h.metrics()


class TestWaiting:
    async def test_an_alert_settles_before_anything_is_done(self, tmp_path):
        async with harness(tmp_path, playbooks=[limits(settle="1m")]) as h:
            await h.post(firing())
            (run,) = await h.until("waiting")
            assert run["reason"] == "settling"
            await later(h, timedelta(minutes=1))
            await h.until("succeeded")

    async def test_an_alert_that_resolves_while_it_waits_is_cancelled(self, tmp_path):
        async with harness(tmp_path, playbooks=[limits(settle="1m")]) as h:
            await h.post(firing())
            await h.until("waiting")
            await h.post(resolved())
            (run,) = await h.until("cancelled")
            assert run["reason"] == "resolved"
            assert h.platform.performed == []

    async def test_a_target_cools_down_between_two_runs(self, tmp_path):
        async with harness(tmp_path, playbooks=[limits(cooldown="10m")]) as h:
            await h.post(firing())
            await h.until("succeeded")
            h.platform.healthy = False
            await h.post(firing(instance="other"))
            _, second = await h.until("waiting")
            assert second["reason"] == "cooldown"
            await later(h, timedelta(minutes=10))
            await h.until("succeeded", count=2)

    async def test_the_rate_limit_of_the_target_makes_the_next_alert_wait(self, tmp_path):
        async with harness(tmp_path, playbooks=[limits(max="[1 per 20m]")]) as h:
            await h.post(firing())
            await h.until("succeeded")
            await h.post(firing(instance="other"))
            _, second = await h.until("waiting")
            assert second["reason"] == "rate_target"
            await later(h, timedelta(minutes=20))
            await h.until("succeeded", count=2)

    async def test_a_symptom_waits_for_its_cause_and_goes_on_when_the_cause_is_over(self, tmp_path):
        cause = {"alertname": "HostDown", "service": "host"}
        async with harness(tmp_path, playbooks=[limits(hold_if="[alertname = HostDown]")]) as h:
            await h.post(firing(**cause))
            await h.post(firing())
            (run,) = await h.until("waiting")
            assert run["reason"] == "cause_open"
            await h.post(resolved(**cause))
            await h.until("succeeded")

    async def test_the_second_alert_of_a_busy_target_waits_and_is_cancelled_when_the_first_run_has_cured_it(self, tmp_path):
        platform = held_platform()
        async with harness(tmp_path, platform, [limits()]) as h:
            await h.post(firing())
            await h.until("called")
            await h.post(firing(instance="other"))
            _, second = await h.until("waiting")
            assert second["reason"] == "locked"
            await h.post(resolved(instance="other"))
            await h.until("cancelled")
            platform.hold.set()
            await h.until("succeeded")
            assert platform.performed == ["restart"]

    async def test_the_end_of_a_run_wakes_whoever_waits_for_its_target(self, tmp_path):
        platform = held_platform()
        async with harness(tmp_path, platform, [limits()]) as h:
            await h.post(firing())
            await h.until("called")
            await h.post(firing(instance="other"))
            await h.until("waiting")
            platform.hold.set()
            await h.until("succeeded", count=2)
            assert platform.performed == ["restart", "restart"]

    async def test_a_run_that_may_not_begin_until_its_deadline_goes_to_people(self, tmp_path):
        async with harness(tmp_path, playbooks=[limits(settle="1m", give_up="2m")]) as h:
            h.platform.unreachable = True
            await h.post(firing())
            await h.until("waiting")
            await later(h, timedelta(minutes=2))
            (run,) = await h.until("escalated")
            assert run["reason"] == "gave_up"

    async def test_an_engine_that_cannot_be_asked_is_asked_again(self, tmp_path):
        async with harness(tmp_path) as h:
            h.platform.unreachable = True
            await h.post(firing())
            (run,) = await h.until("waiting")
            assert run["reason"] == "target_unknown"
            h.platform.unreachable = False
            await later(h, timedelta(seconds=15))
            await h.until("succeeded")


class TestPause:
    async def test_while_paused_every_run_waits_and_resume_wakes_them(self, tmp_path):
        async with harness(tmp_path) as h:
            assert await h.command("pause") == 200
            await h.post(firing())
            (run,) = await h.until("waiting")
            assert run["reason"] == "paused"
            assert await h.command("resume") == 200
            await h.until("succeeded")

    async def test_a_pause_between_claim_and_call_holds_the_call_back(self, tmp_path):
        platform = PlatformHeldBeforeGo()
        async with harness(tmp_path, platform) as h:
            await h.post(firing())
            await h.until("claimed")
            await h.command("pause")
            platform.marking.set()
            await later(h, timedelta(seconds=2))
            assert platform.performed == []
            await h.command("resume")
            await later(h, timedelta(seconds=2))
            await h.until("succeeded")

    async def test_an_alert_that_resolves_while_remediator_is_paused_is_cancelled_and_wakes_nobody(self, tmp_path):
        async with harness(tmp_path) as h:
            await h.command("pause")
            await h.post(firing())
            await h.until("waiting")
            await h.post(resolved())
            await h.until("cancelled")

    async def test_a_claimed_run_whose_alert_resolves_while_paused_is_cancelled(self, tmp_path):
        platform = PlatformHeldBeforeGo()
        async with harness(tmp_path, platform) as h:
            await h.post(firing())
            await h.until("claimed")
            await h.command("pause")
            await h.post(resolved())
            await resolves_are_heard(h)
            platform.marking.set()
            await h.until("cancelled")


class TestResolvedInTime:
    async def test_an_alert_that_resolves_between_claim_and_call_is_not_acted_on(self, tmp_path):
        platform = PlatformHeldBeforeGo()
        async with harness(tmp_path, platform) as h:
            await h.post(firing())
            await h.until("claimed")
            await h.post(resolved())
            await resolves_are_heard(h)
            platform.marking.set()
            (run,) = await h.until("cancelled")
            assert run["reason"] == "resolved"
            assert platform.performed == []

    async def test_an_alert_that_resolves_after_a_failed_rung_ends_the_climb(self, tmp_path):
        platform = FakePlatform(cures=frozenset())
        slow = limits(max="[1 per 20m]").replace(RESTART, RESTART + "  - start: {}\n")
        platform.allow = frozenset({"restart", "start"})
        async with harness(tmp_path, platform, [slow]) as h:
            await h.post(firing())
            await h.until("waiting")
            await h.post(resolved())
            (run,) = await h.until("cancelled")
            assert (run["step"], platform.performed) == (2, ["restart"])


class TestNotSent:
    async def test_a_call_that_was_proven_not_sent_is_made_again(self, tmp_path):
        platform = FakePlatform(fail_with=failing(TransientError("connection refused")))
        async with harness(tmp_path, platform) as h:
            await h.post(firing())
            await h.until("claimed")
            await later(h, timedelta(seconds=2))
            await h.until("succeeded")
            assert platform.performed == ["restart"]

    async def test_a_call_that_cannot_be_sent_three_times_goes_to_people_and_frees_the_target(self, tmp_path):
        platform = FakePlatform(fail_with=lambda: TransientError("connection refused"))
        async with harness(tmp_path, platform) as h:
            await h.post(firing())
            for goes in (1, 2):
                await until_calls(h, "not_sent", goes)
                await later(h, timedelta(seconds=2))
            (run,) = await h.until("escalated")
            assert run["reason"] == "not_sent"
            assert await locks(h) == 0


class TestInDoubt:
    async def test_a_step_that_is_seen_to_have_happened_is_verified_and_not_repeated(self, tmp_path):
        platform = FakePlatform(fail_with=failing(OutcomeUnknown("no answer")))
        async with harness(tmp_path, platform) as h:
            await h.post(firing())
            await h.until("succeeded")
            assert platform.performed == ["restart"]

    async def test_a_step_that_is_seen_not_to_have_happened_is_taken_once_its_time_is_over(self, tmp_path):
        platform = Lossy()
        async with harness(tmp_path, platform) as h:
            await h.post(firing())
            await h.until("in_doubt")
            assert platform.performed == []
            await h.as_time_passes("succeeded")
            assert platform.performed == ["restart"]

    async def test_what_cannot_be_found_out_in_time_reaches_a_person_and_holds_the_target_until_the_alert_ends(self, tmp_path):
        platform = FakePlatform(fail_with=lambda: breaking_off(platform))
        async with harness(tmp_path, platform, [limits()]) as h:
            await h.post(firing())
            await h.until("in_doubt")
            await eventually(lambda: platform.observed)
            await later(h, timedelta(minutes=30))
            assert (await message(h, Channel.ESCALATION))["reason"] == "in_doubt"
            assert await locks(h) == 1
            await h.post(resolved())
            (run,) = await h.until("escalated")
            assert run["reason"] == "in_doubt"
            assert await locks(h) == 0

    async def test_what_is_in_doubt_is_told_once_however_often_it_is_looked_at(self, tmp_path):
        platform = FakePlatform(fail_with=lambda: breaking_off(platform))
        async with harness(tmp_path, platform) as h:
            await h.post(firing())
            await h.until("in_doubt")
            await eventually(lambda: platform.observed)
            for minutes in (30, 2, 2):
                await later(h, timedelta(minutes=minutes))
                await message(h, Channel.ESCALATION)
            assert len(h.told[Channel.ESCALATION].messages) == 1

    async def test_an_engine_that_comes_back_settles_the_doubt(self, tmp_path):
        platform = FakePlatform(fail_with=lambda: breaking_off(platform))
        async with harness(tmp_path, platform) as h:
            await h.post(firing())
            await h.until("in_doubt")
            platform.unreachable = False
            await later(h, timedelta(seconds=2))
            await h.until("succeeded")
            assert platform.performed == ["restart"]


class TestWithoutWords:
    async def test_a_step_that_no_command_describes_is_taken_all_the_same_and_says_why(self, tmp_path):
        class Wordless(FakePlatform):
            def describe(self, step, workload) -> str:
                raise PermanentError("there is no command for it")

        async with harness(tmp_path, Wordless()) as h:
            await h.post(firing())
            (run,) = await h.until("succeeded")
            (intent,) = [row for row in await h.timeline(run["id"]) if row["kind"] == "intent"]
            assert intent["data"]["command"] == "restart: there is no command for it"


class TestClock:
    @pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["forward", "back"])
    async def test_a_clock_that_jumps_during_the_call_does_not_call_twice(self, tmp_path, jump):
        platform = held_platform()
        async with harness(tmp_path, platform) as h:
            await h.post(firing())
            await h.until("called")
            h.clock.set_by += jump
            for other in "abc":  # each message is a turn of the worker
                await h.post(firing(service="shop-nothing", instance=other))
            await h.until("refused", count=3)
            platform.hold.set()
            await h.until("succeeded")
            assert platform.performed == ["restart"]

    async def test_a_clock_that_jumps_back_frees_neither_cooldown_nor_rate(self, tmp_path):
        async with harness(tmp_path, playbooks=[limits(cooldown="10m", max="[1 per 20m]")]) as h:
            await h.post(firing())
            await h.until("succeeded")
            h.clock.set_by -= 2 * HOUR
            await h.post(firing(instance="other"))
            runs = await h.until("escalated")  # both last beyond its deadline: people are told now
            assert "cooldown" in {run["reason"] for run in runs}
            assert h.platform.performed == ["restart"]

    @pytest.mark.parametrize(("limit", "reason"), [({"cooldown": "10m"}, "cooldown"), ({"max": "[1 per 20m]"}, "rate_target")])
    async def test_one_that_is_set_forward_does_neither(self, tmp_path, limit, reason):
        async with harness(tmp_path, playbooks=[limits(settle="0s", **limit)]) as h:
            await h.post(firing())
            await h.until("succeeded")
            h.clock.set_by += timedelta(minutes=25)
            await h.post(firing(instance="other"))
            runs = await h.until("waiting")
            assert (runs[-1]["reason"], h.platform.performed) == (reason, ["restart"])
            await later(h, timedelta(minutes=25))
            await h.until("succeeded", count=2)

    async def test_nor_has_an_alert_been_firing_for_longer(self, tmp_path):
        async with harness(tmp_path, playbooks=[limits(settle="10m")]) as h:
            await h.post(firing())
            await h.until("waiting")
            h.clock.set_by += timedelta(minutes=15)
            h.app.worker.wake()
            await h.post(firing(service="shop-nothing"))
            await h.until("refused")
            assert h.platform.performed == []
            await later(h, timedelta(minutes=11))
            await h.until("succeeded")


class TestLateResend:
    """A firing that began before the last resolve may have been delayed on its way."""

    async def test_it_waits_until_a_later_message_confirms_it(self, tmp_path):
        async with harness(tmp_path, playbooks=[limits()]) as h:
            await cured_and_resolved(h)
            await h.post(firing())
            _, second = await h.until("waiting")
            assert second["reason"] == "unconfirmed"
            h.clock.shift += timedelta(seconds=11)
            await h.post(firing())
            await h.until("succeeded", count=2)

    async def test_its_duplicate_confirms_nothing(self, tmp_path):
        async with harness(tmp_path, playbooks=[limits()]) as h:
            await cured_and_resolved(h)
            await h.post(firing())
            await h.post(firing())
            await h.until("waiting")
            assert h.platform.performed == ["restart"]

    async def test_alertmanager_confirms_it_at_once(self, tmp_path):
        async with harness(tmp_path, playbooks=[limits()], alerts=Alertmanager(fires=True)) as h:
            await cured_and_resolved(h)
            await h.post(firing())
            await h.until("succeeded", count=2)

    async def test_while_alertmanager_does_not_list_it_nothing_is_done(self, tmp_path):
        async with harness(tmp_path, playbooks=[limits()], alerts=Alertmanager(fires=False)) as h:
            await cured_and_resolved(h)
            await h.post(firing())
            _, second = await h.until("waiting")
            assert second["reason"] == "unconfirmed"

    async def test_its_resolve_cancels_it(self, tmp_path):
        async with harness(tmp_path, playbooks=[limits()]) as h:
            await cured_and_resolved(h)
            await h.post(firing())
            await h.until("waiting")
            await h.post(resolved())
            await h.until("cancelled")


class TestReload:
    async def test_a_run_keeps_the_playbook_that_it_was_admitted_with(self, tmp_path):
        async with harness(tmp_path, playbooks=[limits(settle="1m")]) as h:
            await h.post(firing())
            await h.until("waiting")
            (tmp_path / "playbooks" / "api-down.yaml").write_text(limits(settle="1m").replace("mode: auto", "mode: off"))
            assert h.app.shelf.load() == ()
            await later(h, timedelta(minutes=1))
            await h.until("succeeded")
            assert h.platform.performed == ["restart"]


class TwoOfAKind(FakePlatform):
    async def find(self, selection):
        (workload,) = await super().find(selection)
        return [workload, workload]


class PlatformHeldBeforeGo(FakePlatform):
    """Stops between the claim and the last look."""

    def __init__(self) -> None:
        super().__init__()
        self.marking = asyncio.Event()

    async def mark(self, step, workload) -> Facts:
        await self.marking.wait()
        return await super().mark(step, workload)


class Lossy(FakePlatform):
    """Loses the first call: no answer, and nothing done."""

    lost = 0

    async def perform(self, step, workload, mark) -> str:
        if not self.lost:
            self.lost += 1
            raise OutcomeUnknown("no answer")
        return await super().perform(step, workload, mark)


class Alertmanager:
    def __init__(self, *, fires: bool) -> None:
        self.fires = fires

    async def look(self, labels) -> Listing:
        return Listing(self.fires)

    async def everything(self) -> Everything:
        raise TransientError("only what it is asked about is told here")


def held_platform() -> FakePlatform:
    return FakePlatform(hold=asyncio.Event())


def breaking_off(platform: FakePlatform) -> OutcomeUnknown:
    platform.unreachable = True
    return OutcomeUnknown("the connection broke off")


async def later(h: Harness, passed: timedelta) -> None:
    """Let time pass, and the worker notice."""
    h.clock.shift += passed
    h.app.worker.wake()


async def cured_and_resolved(h: Harness) -> None:
    await h.post(firing(began_ago=HOUR))
    await h.until("succeeded")
    await h.post(resolved(began_ago=HOUR))
    await resolves_are_heard(h)


async def until(h: Harness, fact) -> None:
    await eventually(lambda: h.app.store.run(fact))


async def resolves_are_heard(h: Harness) -> None:
    await until(h, lambda ledger: ledger.episodes.count_open() == 0)


async def until_calls(h: Harness, outcome: str, count: int) -> None:
    (run,) = await h.runs()
    await until(h, lambda ledger: sum(row.data.get("outcome") == outcome for row in ledger.runs.timeline(run["id"])) >= count)


async def locks(h: Harness) -> int:
    return await h.app.store.run(lambda ledger: sum(bool(run.target) and not run.has_ended for run in ledger.runs.list(100)))


async def message(h: Harness, channel: Channel) -> Facts:
    """The newest payload of a channel, once there is one."""
    await eventually(lambda: h.told[channel].messages)
    return h.told[channel].messages[-1].payload


async def annotation(h: Harness, tag: str) -> Facts:
    told = h.told[Channel.ANNOTATION].messages
    await eventually(lambda: told and tag in told[-1].payload["tags"])
    return told[-1].payload
