"""Each guard by itself: what it lets pass, what it holds back, and until when."""

from datetime import timedelta
from typing import ClassVar

import pytest

from remediator.core.alert import EpisodeState
from remediator.core.dependencies import Dependencies
from remediator.core.guards import GUARDS
from remediator.core.guards.alive import alive
from remediator.core.guards.approval import approval
from remediator.core.guards.breaker import breaker
from remediator.core.guards.cooldown import cooldown
from remediator.core.guards.hold import hold
from remediator.core.guards.in_turn import in_turn
from remediator.core.guards.lock import lock
from remediator.core.guards.mode import mode
from remediator.core.guards.rate import rate
from remediator.core.guards.settle import settle
from remediator.core.guards.switch import switch
from remediator.core.guards.target import target
from remediator.core.playbook import BreakerLimits, Limits, Mode, RateLimit
from remediator.core.redis_step import RedisFlush
from remediator.core.snapshot import Cause, Found, Paused, Policy, Result, Score, Unknown
from remediator.core.step import Exec, Restart, Rollback
from remediator.core.template import Unbound
from remediator.core.verdict import Ask, Pass, Reason, Refuse, Suggest, Wait
from tests.builders import NOW, candidate, episode, playbook, snapshot, workload

MICROSECOND = timedelta(microseconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
API = workload().id


def limited(**limits):
    return candidate(playbook=playbook(limits=Limits(**{"settle": timedelta(), **limits})))


def test_the_guards_speak_in_a_fixed_order_of_which_the_last_is_who_may():
    names = [guard.__name__ for guard in GUARDS]
    assert " ".join(names) == (
        "alive switch silence maintenance target hold settle corroborate lock in_turn cooldown rate breaker masking"
        " blast_radius storm mode approval"
    )


class TestSwitch:
    def test_not_paused(self):
        assert isinstance(switch(candidate(), snapshot(), NOW), Pass)

    def test_paused_waits_and_says_by_whom_and_why(self):
        verdict = switch(candidate(), snapshot(paused=Paused("ann", "migration")), NOW)
        assert (verdict.reason, verdict.seen) == (Reason.PAUSED, "paused by ann: migration")
        assert verdict.retry_at > NOW


class TestAlive:
    @pytest.mark.parametrize(
        ("changes", "verdict", "reason"),
        [
            ({}, Pass, Reason.CLEAR),
            ({"state": EpisodeState.RESOLVED}, Refuse, Reason.RESOLVED),
            ({"state": EpisodeState.EXPIRED}, Refuse, Reason.STALE),
            ({"heard_at": NOW - 5 * HOUR}, Pass, Reason.CLEAR),
            ({"heard_at": NOW - 5 * HOUR - MICROSECOND}, Refuse, Reason.STALE),
            ({"heard_at": NOW + HOUR}, Pass, Reason.CLEAR),  # the clock was set back
            ({"confirmed": False}, Wait, Reason.UNCONFIRMED),
            ({"confirmed": False, "state": EpisodeState.RESOLVED}, Refuse, Reason.RESOLVED),
            ({"confirmed": False, "heard_at": NOW - 6 * HOUR}, Refuse, Reason.STALE),
        ],
    )
    def test_only_what_still_fires_is_acted_on(self, changes, verdict, reason):
        given = alive(candidate(), snapshot(episode=episode(**changes)), NOW)
        assert (type(given), given.reason) == (verdict, reason)

    def test_the_episode_on_record_counts_and_not_the_one_that_the_run_began_with(self):
        given = alive(candidate(episode=episode()), snapshot(episode=episode(state=EpisodeState.RESOLVED)), NOW)
        assert given.reason is Reason.RESOLVED


class TestTarget:
    @pytest.mark.parametrize(
        ("lookup", "verdict", "reason"),
        [
            (Found((workload(),)), Pass, Reason.CLEAR),
            (Found(()), Refuse, Reason.NO_TARGET),
            (Found((workload(), workload(name="shop/web"))), Refuse, Reason.TARGET_AMBIGUOUS),
            (Unbound("service", "the alert has no label 'service'"), Refuse, Reason.LABEL_UNUSABLE),
            (Unknown("the engine cannot be reached"), Wait, Reason.TARGET_UNKNOWN),
            (Found((workload(protected="is remediator itself"),)), Refuse, Reason.TARGET_PROTECTED),
            (Found((workload(allow=frozenset()),)), Refuse, Reason.NOT_OPTED_IN),
            (Found((workload(allow=frozenset({"stop"})),)), Refuse, Reason.NOT_OPTED_IN),
            (Found((workload(allow=frozenset({"*"})),)), Pass, Reason.CLEAR),
            (Found((workload(allow=frozenset({"*"}), protected="is its store"),)), Refuse, Reason.TARGET_PROTECTED),
            (Found((workload(allow=frozenset({"*"}), lacks=frozenset({"restart"})),)), Refuse, Reason.NOT_OFFERED),
        ],
    )
    def test_exactly_one_that_has_agreed_to_the_step(self, lookup, verdict, reason):
        given = target(candidate(lookup=lookup), snapshot(), NOW)
        assert (type(given), given.reason) == (verdict, reason)

    def test_a_star_does_not_agree_to_what_is_destructive(self):
        everything = candidate(step=RedisFlush(), lookup=Found((workload(allow=frozenset({"*"})),)))
        assert target(everything, snapshot(), NOW).reason is Reason.NOT_OPTED_IN
        by_name = candidate(step=RedisFlush(), lookup=Found((workload(allow=frozenset({"*", "redis.flush"})),)))
        assert isinstance(target(by_name, snapshot(), NOW), Pass)

    def test_a_rollback_needs_a_release_to_go_back_to(self):
        back = candidate(step=Rollback())
        assert target(back, snapshot(previous_release=""), NOW).reason is Reason.NO_PREVIOUS_RELEASE
        assert isinstance(target(back, snapshot(previous_release="v1"), NOW), Pass)

    def test_a_crowd_is_not_listed_to_its_end(self):
        crowd = Found(tuple(workload(name=f"shop/{number}") for number in range(1000)))
        assert len(target(candidate(lookup=crowd), snapshot(), NOW).seen) < 500


class TestHold:
    def test_a_symptom_waits_for_its_cause_by_name(self):
        verdict = hold(candidate(), snapshot(open_causes=("HostDown",)), NOW)
        assert (verdict.reason, "HostDown" in verdict.seen) == (Reason.CAUSE_OPEN, True)

    def test_no_cause_is_open(self):
        assert isinstance(hold(candidate(), snapshot(), NOW), Pass)

    def test_a_service_waits_for_one_that_it_needs_and_is_told_which_and_since_when(self):
        ill = Cause("shop-db", "DatabaseDown", NOW - MINUTE)
        verdict = hold(candidate(), snapshot(needed=(ill,)), NOW)
        assert (verdict.reason, verdict.seen) == (Reason.CAUSE_OPEN, "first its cause: shop-db (DatabaseDown since 02:59:00)")

    def test_a_cause_that_is_known_both_ways_is_told_once(self):
        ill = Cause("shop-db", "DatabaseDown", NOW)
        verdict = hold(candidate(), snapshot(needed=(ill,), open_causes=("DatabaseDown", "HostDown")), NOW)
        assert verdict.seen == "first its cause: shop-db (DatabaseDown since 03:00:00), HostDown"

    @pytest.mark.parametrize(("ago", "passes"), [(timedelta(), False), (MINUTE - MICROSECOND, False), (MINUTE, True)])
    def test_then_it_has_the_time_of_its_recovery_to_get_well_by_itself(self, ago, passes):
        over = [Cause("shop-db", "DatabaseDown", NOW - HOUR, NOW - ago), Cause("cache", "RedisDown", NOW - HOUR, NOW - MINUTE)]
        policy = Policy(mode=Mode.AUTO, dependencies=Dependencies(recovery=MINUTE))
        verdict = hold(candidate(), snapshot(policy, needed=tuple(over)), NOW)
        assert isinstance(verdict, Pass) == passes
        assert passes or (verdict.reason, verdict.retry_at) == (Reason.SETTLING, NOW - ago + MINUTE)
        assert passes or verdict.seen.startswith("shop-db has been well since")

    def test_one_that_is_still_ill_counts_more_than_one_that_is_well_again(self):
        causes = (Cause("cache", "RedisDown", NOW, NOW), Cause("shop-db", "DatabaseDown", NOW))
        assert hold(candidate(), snapshot(needed=causes), NOW).reason is Reason.CAUSE_OPEN


class TestInTurn:
    def test_nothing_goes_first(self):
        assert isinstance(in_turn(candidate(), snapshot(), NOW), Pass)

    def test_what_goes_first_is_waited_for_by_name(self):
        verdict = in_turn(candidate(), snapshot(ahead=("reports",)), NOW)
        assert (verdict.reason, verdict.seen) == (Reason.IN_TURN, "one at a time: reports is being repaired")
        assert verdict.retry_at > NOW


class TestSettle:
    @pytest.mark.parametrize(
        ("age", "passes"), [(timedelta(), False), (MINUTE - MICROSECOND, False), (MINUTE, True), (HOUR, True)]
    )
    def test_it_counts_from_when_remediator_heard_of_it(self, age, passes):
        heard_of = episode(opened_at=NOW - age, starts_at=NOW - 9 * HOUR)
        verdict = settle(limited(settle=MINUTE), snapshot(episode=heard_of), NOW)
        assert isinstance(verdict, Pass) == passes
        assert passes or verdict.retry_at == NOW - age + MINUTE


class TestLock:
    @pytest.mark.parametrize(("holder", "passes"), [("", True), ("run-2", False)])
    def test_a_target_has_one_run_at_a_time(self, holder, passes):
        verdict = lock(candidate(), snapshot(locked_by=holder), NOW)
        assert isinstance(verdict, Pass) == passes
        assert passes or (verdict.reason, holder in verdict.seen) == (Reason.LOCKED, True)


class TestCooldown:
    @pytest.mark.parametrize(
        ("ended", "passes"),
        [(None, True), (10 * MINUTE, True), (10 * MINUTE - MICROSECOND, False), (timedelta(), False), (-HOUR, False)],
    )
    def test_a_target_rests_after_a_run(self, ended, passes):
        finished = None if ended is None else NOW - ended
        verdict = cooldown(limited(cooldown=10 * MINUTE), snapshot(last_finished_at=finished), NOW)
        assert isinstance(verdict, Pass) == passes
        assert passes or verdict.retry_at == finished + 10 * MINUTE


class TestRate:
    TWICE = (RateLimit(2, HOUR),)

    @pytest.mark.parametrize(
        ("scope", "limits", "reason"),
        [
            ("intents_on_target", {"max": TWICE}, Reason.RATE_TARGET),
            ("intents_of_playbook", {"max_all_targets": TWICE}, Reason.RATE_PLAYBOOK),
        ],
    )
    def test_each_scope_has_its_own_limit(self, scope, limits, reason):
        verdict = rate(limited(**limits), snapshot(**{scope: (NOW - MINUTE, NOW - 2 * MINUTE)}), NOW)
        assert (verdict.reason, verdict.retry_at) == (reason, NOW + 58 * MINUTE)

    def test_and_so_has_everything_together(self):
        policy = Policy(mode=Mode.AUTO, max_all=self.TWICE)
        verdict = rate(candidate(), snapshot(policy, intents_of_all=(NOW, NOW)), NOW)
        assert (verdict.reason, verdict.retry_at) == (Reason.RATE_GLOBAL, NOW + HOUR)

    def test_the_limit_that_lasts_longest_says_when(self):
        both = limited(max=(RateLimit(1, HOUR), RateLimit(2, 24 * HOUR)))
        verdict = rate(both, snapshot(intents_on_target=(NOW - 2 * HOUR, NOW - 3 * HOUR)), NOW)
        assert verdict.retry_at == NOW + 21 * HOUR

    def test_an_intent_leaves_the_window_exactly_when_it_is_as_old_as_the_window(self):
        seen = snapshot(intents_on_target=(NOW - HOUR,))
        assert isinstance(rate(limited(max=(RateLimit(1, HOUR),)), seen, NOW), Pass)
        assert isinstance(rate(limited(max=(RateLimit(1, HOUR),)), seen, NOW - MICROSECOND), Wait)

    def test_it_says_how_many_are_left(self):
        verdict = rate(limited(max=(RateLimit(3, HOUR),)), snapshot(intents_on_target=(NOW - MINUTE,)), NOW)
        assert verdict.seen == "2 more allowed on this target"


class TestBreaker:
    LIMITS = Limits(
        settle=timedelta(),
        breaker=BreakerLimits(failures=2, targets=2, window=HOUR, open_for=15 * MINUTE, open_for_at_most=40 * MINUTE),
    )

    def ask(self, **facts):
        return breaker(candidate(playbook=playbook(limits=self.LIMITS)), snapshot(**facts), NOW)

    def results(self, *scores: Score, ago=MINUTE, target: str = API) -> tuple[Result, ...]:
        return tuple(Result(NOW - ago, target, score) for score in scores)

    @pytest.mark.parametrize(
        ("scores", "closed"),
        [
            ((), True),
            ((Score.FAILURE,), True),
            ((Score.FAILURE, Score.FAILURE), False),
            ((Score.FAILURE, Score.SUCCESS, Score.FAILURE), True),
            ((Score.FAILURE, Score.NEUTRAL, Score.FAILURE), False),
            ((Score.FAILURE, Score.FAILURE, Score.RESET), True),
            ((Score.FAILURE, Score.RESET, Score.FAILURE), True),
        ],
    )
    def test_failures_in_a_row_open_it(self, scores, closed):
        verdict = self.ask(results_on_target=self.results(*scores))
        assert (type(verdict), verdict.reason) == ((Pass, Reason.CLEAR) if closed else (Refuse, Reason.BREAKER_OPEN))

    @pytest.mark.parametrize(("ago", "verdict"), [(15 * MINUTE - MICROSECOND, Refuse), (15 * MINUTE, Pass)])
    def test_after_its_time_it_lets_a_trial_through(self, ago, verdict):
        assert isinstance(self.ask(results_on_target=self.results(Score.FAILURE, Score.FAILURE, ago=ago)), verdict)

    @pytest.mark.parametrize(("trial_ago", "verdict"), [(30 * MINUTE - MICROSECOND, Refuse), (30 * MINUTE, Pass)])
    def test_a_failed_trial_opens_it_for_twice_as_long(self, trial_ago, verdict):
        opened = self.results(Score.FAILURE, Score.FAILURE, ago=9 * HOUR)
        trial = self.results(Score.FAILURE, ago=trial_ago)
        assert isinstance(self.ask(results_on_target=opened + trial), verdict)

    def test_but_never_for_longer_than_the_most(self):
        many = tuple(Result(NOW - (20 - number) * HOUR, API, Score.FAILURE) for number in range(19))
        assert isinstance(self.ask(results_on_target=(*many, Result(NOW - 40 * MINUTE, API, Score.FAILURE))), Pass)

    def test_a_success_that_fires_again_too_soon_was_a_failure(self):
        cured = (Result(NOW - 20 * MINUTE, API, Score.FAILURE), Result(NOW - 8 * MINUTE, API, Score.SUCCESS))
        assert isinstance(self.ask(results_on_target=cured), Pass)
        assert isinstance(self.ask(results_on_target=cured, openings_on_target=(NOW,)), Refuse)

    def test_failures_on_several_targets_open_it_for_the_whole_playbook(self):
        elsewhere = self.results(Score.FAILURE, target="docker:a") + self.results(Score.FAILURE, target="docker:b")
        verdict = self.ask(results_of_playbook=elsewhere)
        assert (verdict.reason, "playbook api-down" in verdict.seen) == (Reason.BREAKER_OPEN, True)

    def test_but_not_failures_on_one_target_and_not_ones_that_lie_far_apart(self):
        same = self.results(Score.FAILURE, Score.FAILURE, target="docker:a")
        apart = self.results(Score.FAILURE, target="docker:a", ago=2 * HOUR) + self.results(Score.FAILURE, target="docker:b")
        for results in (same, apart):
            assert isinstance(self.ask(results_of_playbook=results), Pass)

    def test_the_playbook_has_one_trial_at_a_time(self):
        half_open = self.results(Score.FAILURE, target="docker:a", ago=HOUR) + self.results(
            Score.FAILURE, target="docker:b", ago=HOUR
        )
        assert self.ask(results_of_playbook=half_open, others_in_flight=1).reason is Reason.BREAKER_TRIAL
        assert isinstance(self.ask(results_of_playbook=half_open), Pass)


class TestMode:
    VERDICTS: ClassVar = {Mode.OFF: Refuse, Mode.SUGGEST: Suggest, Mode.APPROVE: Pass, Mode.AUTO: Pass}

    @pytest.mark.parametrize("of_all", Mode)
    @pytest.mark.parametrize("own", Mode)
    @pytest.mark.parametrize("override", [None, *Mode])
    def test_the_lowest_of_all_that_apply_holds(self, of_all, own, override):
        overrides = () if override is None else (("api-down", override), ("other", Mode.OFF))
        given = mode(candidate(playbook=playbook(mode=own)), snapshot(Policy(of_all, overrides)), NOW)
        lowest = min((each for each in (of_all, own, override) if each is not None), key=list(Mode).index)
        assert isinstance(given, self.VERDICTS[lowest])

    def test_what_is_destructive_is_never_automatic(self):
        assert isinstance(approval(candidate(step=RedisFlush()), snapshot(), NOW), Ask)

    def test_a_rung_may_ask_for_approval_where_more_than_suggesting_is_allowed(self):
        assert isinstance(approval(candidate(approval_required=True), snapshot(), NOW), Ask)
        suggest = snapshot(Policy(Mode.SUGGEST))
        assert isinstance(mode(candidate(approval_required=True), suggest, NOW), Suggest)

    @pytest.mark.parametrize("step", [Restart(), Exec(("true",)), Rollback()])
    def test_what_is_only_disruptive_may_be(self, step):
        assert isinstance(mode(candidate(step=step), snapshot(), NOW), Pass)
