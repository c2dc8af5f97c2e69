"""The guards that speak last: masking, storm, approval. And the breaker where it is easily too lenient."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.core.decide import decide
from remediator.core.guards import AFTER_THE_CLAIM, GUARDS, WITHOUT_LOOKING
from remediator.core.guards.approval import approval
from remediator.core.guards.breaker import breaker, of_playbook, of_target
from remediator.core.guards.masking import masking
from remediator.core.guards.storm import LOOK_AGAIN, storm
from remediator.core.modes import needs_approval
from remediator.core.playbook import BreakerLimits, Limits, Mode, RateLimit
from remediator.core.redis_step import RedisFlush
from remediator.core.snapshot import Approval, Found, Policy, Result, Score, Storm
from remediator.core.step import Restart, Rollback
from remediator.core.verdict import Ask, DecisionKind, Pass, Reason, Refuse, Wait
from tests.builders import NOW, candidate, episode, playbook, snapshot, workload

MICROSECOND = timedelta(microseconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
API = workload().id
ASKS = candidate(approval_required=True)
times = st.integers(-50_000_000, 50_000_000).map(lambda value: NOW + timedelta(microseconds=value))


def limited(**limits):
    return candidate(playbook=playbook(limits=Limits(**{"settle": timedelta(), **limits})))


def said(plan: str = ASKS.plan, *, granted: bool = True, used: bool = False, lasts: timedelta = 10 * MINUTE) -> Approval:
    return Approval(plan, "ann", "a test", granted, NOW + lasts, used)


class TestApproval:
    @pytest.mark.parametrize(
        ("answer", "verdict", "reason"),
        [
            (None, Ask, Reason.APPROVAL_REQUIRED),
            (said(), Pass, Reason.CLEAR),
            (said(lasts=MICROSECOND), Pass, Reason.CLEAR),
            (said(lasts=timedelta()), Ask, Reason.APPROVAL_REQUIRED),
            (said(used=True), Ask, Reason.APPROVAL_REQUIRED),
            (said("another"), Ask, Reason.APPROVAL_REQUIRED),
            (said(granted=False), Refuse, Reason.REJECTED),
            (said(granted=False, lasts=-HOUR), Refuse, Reason.REJECTED),  # a no does not run out
            (said("another", granted=False), Ask, Reason.APPROVAL_REQUIRED),  # it was said of something else
        ],
    )
    def test_only_a_living_yes_to_exactly_this_plan_lets_it_pass(self, answer, verdict, reason):
        given_verdict = approval(ASKS, snapshot(approval=answer), NOW)
        assert (type(given_verdict), given_verdict.reason) == (verdict, reason)

    def test_it_says_who_and_why(self):
        assert approval(ASKS, snapshot(approval=said()), NOW).seen == "approved by ann: a test"
        assert approval(ASKS, snapshot(approval=said(granted=False)), NOW).seen == "rejected by ann: a test"

    def test_where_none_is_needed_nobody_is_asked(self):
        assert isinstance(approval(candidate(), snapshot(), NOW), Pass)

    @pytest.mark.parametrize(
        ("asked", "policy"),
        [
            (candidate(), Policy(Mode.APPROVE)),
            (candidate(), Policy(Mode.AUTO, (("api-down", Mode.APPROVE),))),
            (candidate(playbook=playbook(mode=Mode.APPROVE)), Policy(Mode.AUTO)),
            (candidate(step=RedisFlush()), Policy(Mode.AUTO)),
            (candidate(approval_required=True), Policy(Mode.AUTO)),
            (candidate(), Policy(Mode.AUTO, watchdog_within=HOUR)),  # and it was never heard of
        ],
        ids=["REMEDIATOR_MODE", "override", "playbook", "risk", "rung", "watchdog"],
    )
    def test_whatever_asks_for_one_is_enough(self, asked, policy):
        assert isinstance(approval(asked, snapshot(policy), NOW), Ask)
        assert needs_approval(asked, policy, None, NOW)
        assert isinstance(approval(asked, snapshot(policy, approval=said(asked.plan)), NOW), Pass)

    def test_what_is_destructive_stays_so_in_every_mode(self):
        for mode in Mode:
            policy = Policy(mode)
            decision = decide(candidate(step=RedisFlush(), lookup=redis_allowed()), snapshot(policy), NOW)
            assert decision.kind is not DecisionKind.ACT

    def test_it_is_the_last_to_speak(self):
        assert GUARDS[-1] is approval
        assert approval in AFTER_THE_CLAIM

    @given(st.booleans(), st.booleans(), times, times)
    def test_no_approval_is_ever_good_for_anything_once_it_is_used_or_over(self, granted, used, expires_at, now):
        answer = Approval(ASKS.plan, "ann", "", granted, expires_at, used)
        passes = isinstance(approval(ASKS, snapshot(approval=answer), now), Pass)
        assert passes == (granted and not used and now < expires_at)


def redis_allowed() -> Found:
    return Found((workload(allow=frozenset({"redis.flush"})),))


class TestPlan:
    """What a person approves: it changes with everything that would make another deed of it, and with nothing else."""

    @pytest.mark.parametrize(
        "other",
        [
            replace(ASKS, run="run-2"),
            replace(ASKS, episode=episode(id=2)),
            replace(ASKS, rung=1),
            replace(ASKS, step=Restart(timedelta(seconds=9))),
            replace(ASKS, step=Rollback("sha256:v1")),
            replace(ASKS, lookup=Found((workload(name="shop/web"),))),
            replace(ASKS, lookup=Found(())),
            replace(ASKS, playbook=playbook(version="v2")),
            replace(ASKS, playbook=playbook(name="other")),
        ],
        ids=["run", "episode", "rung", "parameter", "step", "target", "no target", "version", "playbook"],
    )
    def test_another_deed_is_another_plan(self, other):
        assert other.plan != ASKS.plan

    def test_two_rollbacks_to_different_releases_are_two_plans(self):
        assert replace(ASKS, step=Rollback("v1")).plan != replace(ASKS, step=Rollback("v2")).plan

    def test_what_is_only_seen_of_the_target_does_not_change_it(self):
        recreated = workload(instances=(), release="sha256:v3")
        assert replace(ASKS, lookup=Found((recreated,)), episode=episode(heard_at=NOW + HOUR)).plan == ASKS.plan


class TestMasking:
    BUDGET = RateLimit(3, 7 * DAY)

    def repaired(self, *ago: timedelta, score: Score = Score.SUCCESS) -> dict[str, tuple[Result, ...]]:
        return {"results_on_target": tuple(Result(NOW - each, API, score) for each in sorted(ago, reverse=True))}

    @pytest.mark.parametrize(
        ("ago", "passes"),
        [
            ((), True),
            ((DAY, 2 * DAY), True),
            ((DAY, 2 * DAY, 3 * DAY), False),
            ((DAY, 2 * DAY, 7 * DAY - MICROSECOND), False),
            ((DAY, 2 * DAY, 7 * DAY), True),  # as old as the window: it has left it
            ((DAY, 2 * DAY, 30 * DAY), True),
        ],
    )
    def test_what_works_too_often_hides_a_fault(self, ago, passes):
        verdict = masking(limited(masking=self.BUDGET), snapshot(**self.repaired(*ago)), NOW)
        assert (type(verdict), verdict.reason) == ((Pass, Reason.CLEAR) if passes else (Refuse, Reason.MASKING))

    @pytest.mark.parametrize("score", [Score.FAILURE, Score.NEUTRAL, Score.RESET])
    def test_only_repairs_count(self, score):
        seen = snapshot(**self.repaired(DAY, 2 * DAY, 3 * DAY, 4 * DAY, score=score))
        assert isinstance(masking(limited(masking=self.BUDGET), seen, NOW), Pass)

    def test_it_says_how_often_and_within_what_time(self):
        verdict = masking(limited(masking=self.BUDGET), snapshot(**self.repaired(DAY, 2 * DAY, 3 * DAY)), NOW)
        assert verdict.seen.startswith("repaired 3 times within 7d")

    @given(st.lists(times, max_size=8), st.integers(1, 5), st.integers(1, 10_000_000), times)
    def test_it_lets_pass_exactly_while_fewer_repairs_than_the_budget_lie_in_the_window(self, repairs, count, window, now):
        budget = RateLimit(count, timedelta(microseconds=window))
        seen = snapshot(results_on_target=tuple(Result(at, API, Score.SUCCESS) for at in sorted(repairs)))
        within = sum(now - at < budget.window for at in repairs)
        assert isinstance(masking(limited(masking=budget), seen, now), Pass) == (within < count)


class TestStorm:
    def test_while_none_blows_it_has_nothing_to_say(self):
        assert isinstance(storm(candidate(), snapshot(), NOW), Pass)

    def test_while_one_blows_everything_waits_and_says_since_when_and_how_many(self):
        verdict = storm(candidate(), snapshot(storm=Storm(NOW - MINUTE, 21)), NOW)
        assert (type(verdict), verdict.reason, verdict.retry_at) == (Wait, Reason.STORM, NOW + LOOK_AGAIN)
        assert "since 02:59:00, 21 targets" in verdict.seen

    def test_whoever_is_asked_without_looking_is_not_asked_about_a_target(self):
        unseen = candidate(lookup=Found(()))
        decision = decide(unseen, snapshot(storm=Storm(NOW, 21)), NOW, WITHOUT_LOOKING)
        assert (decision.kind, decision.reason) == (DecisionKind.WAIT, Reason.STORM)


class TestBreaker:
    LIMITS = BreakerLimits(
        failures=2, targets=2, window=HOUR, open_for=15 * MINUTE, open_for_at_most=4 * HOUR, min_healthy_period=10 * MINUTE
    )
    LIMITED = candidate(playbook=playbook(limits=Limits(settle=timedelta(), breaker=LIMITS)))

    def success(self, target: str, ago: timedelta = 20 * MINUTE) -> Result:
        return Result(NOW - ago, target, Score.SUCCESS)

    def test_repairs_of_several_targets_that_all_fired_again_too_soon_open_that_of_the_playbook(self):
        cured = (self.success("docker:a"), self.success("docker:b"))
        fired = tuple((target, NOW - 14 * MINUTE) for target in ("docker:a", "docker:b"))
        verdict = breaker(self.LIMITED, snapshot(results_of_playbook=cured, openings_of_playbook=fired), NOW)
        assert (type(verdict), verdict.reason) == (Refuse, Reason.BREAKER_OPEN)

    @pytest.mark.parametrize(
        "fired",
        [
            (("docker:a", NOW - 15 * MINUTE),),  # only one of them
            (("docker:a", NOW - 15 * MINUTE), ("docker:c", NOW - 15 * MINUTE)),  # the other is a third one
            (("docker:a", NOW - 10 * MINUTE), ("docker:b", NOW - 10 * MINUTE)),  # they were quiet for long enough
            (("docker:a", NOW - HOUR), ("docker:b", NOW - HOUR)),  # it fired before it was repaired
        ],
    )
    def test_otherwise_they_were_repairs(self, fired):
        cured = (self.success("docker:a"), self.success("docker:b"))
        assert isinstance(breaker(self.LIMITED, snapshot(results_of_playbook=cured, openings_of_playbook=fired), NOW), Pass)

    def test_a_trial_that_fires_again_too_soon_has_failed(self):
        results = (
            Result(NOW - 9 * HOUR, API, Score.FAILURE),
            Result(NOW - 9 * HOUR, API, Score.FAILURE),
            Result(NOW - 20 * MINUTE, API, Score.SUCCESS),
        )
        state = of_target(results, [NOW - 12 * MINUTE], self.LIMITS)
        assert (state.open_until, state.opened_times) == (NOW - 12 * MINUTE + 30 * MINUTE, 2)

    def test_after_any_number_of_failed_trials_it_is_open_for_the_most_and_no_longer(self):
        results = [Result(NOW + number * 5 * HOUR, API, Score.FAILURE) for number in range(100)]
        for state in (of_target(results, (), self.LIMITS), of_playbook(two_targets(results), replace(self.LIMITS, window=DAY))):
            assert state.open_until == results[-1].at + 4 * HOUR

    @pytest.mark.parametrize("scores", [[Score.NEUTRAL], [Score.NEUTRAL] * 9])
    def test_a_trial_that_came_to_nothing_leaves_it_half_open(self, scores):
        opened = [Result(NOW - HOUR, API, Score.FAILURE)] * 2
        results = (*opened, *(Result(NOW - 30 * MINUTE, API, score) for score in scores))
        verdict = breaker(self.LIMITED, snapshot(results_on_target=results), NOW)
        assert verdict.seen == "half-open: this is the trial"

    def test_while_its_one_trial_is_under_way_the_others_of_the_playbook_wait(self):
        failed = tuple(Result(NOW - HOUR, target, Score.FAILURE) for target in ("docker:a", "docker:b"))
        waits = breaker(self.LIMITED, snapshot(results_of_playbook=failed, others_in_flight=1), NOW)
        assert (type(waits), waits.reason) == (Wait, Reason.BREAKER_TRIAL)
        assert isinstance(breaker(self.LIMITED, snapshot(results_of_playbook=failed), NOW), Pass)

    def test_a_reset_forgives_a_re_fire_of_before(self):
        results = (*[Result(NOW - HOUR, API, Score.FAILURE)] * 2, self.success(API), Result(NOW, API, Score.RESET))
        assert of_target(results, [NOW - 15 * MINUTE], self.LIMITS).open_until is None


def two_targets(results: list[Result]) -> list[Result]:
    return [replace(result, target=f"docker:{number % 2}") for number, result in enumerate(results)]
