"""What the guards promise at any times whatever: hypothesis looks for the one moment at which it does not hold."""

from collections import deque
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from remediator.core.decide import decide
from remediator.core.guards import GUARDS
from remediator.core.guards.breaker import of_playbook, of_target
from remediator.core.guards.cooldown import cooldown
from remediator.core.guards.rate import left, next_free_at, rate
from remediator.core.guards.settle import settle
from remediator.core.playbook import BreakerLimits, Limits, Mode, RateLimit, lowest
from remediator.core.snapshot import Cause, Found, Paused, Policy, Result, Score, Unknown
from remediator.core.verdict import DecisionKind, Pass, Reason, Wait
from tests.builders import NOW, candidate, episode, playbook, snapshot, workload

MICROSECOND = timedelta(microseconds=1)
spans = st.integers(0, 10_000_000).map(lambda value: timedelta(microseconds=value))
windows = st.integers(1, 10_000_000).map(lambda value: timedelta(microseconds=value))
times = st.integers(-50_000_000, 50_000_000).map(lambda value: NOW + timedelta(microseconds=value))
rate_limits = st.lists(st.builds(RateLimit, st.integers(1, 6), windows), min_size=1, max_size=3).map(tuple)


def limited(**limits):
    return candidate(playbook=playbook(limits=Limits(**{"settle": timedelta(), **limits})))


def newest(intents, limits):
    """As the ledger answers: newest first, as many as the largest limit."""
    return tuple(sorted(intents, reverse=True)[: max(limit.count for limit in limits)])


class TestRate:
    @given(st.lists(times, max_size=60).map(sorted), rate_limits)
    def test_whoever_claims_whenever_allowed_never_has_more_in_any_window_than_the_limit(self, arrivals, limits):
        claimed = []
        for now in arrivals:
            if isinstance(rate(limited(max=limits), snapshot(intents_on_target=newest(claimed, limits)), now), Pass):
                claimed.append(now)
        for limit in limits:
            for begin in claimed:  # a fullest window [begin, begin + window) begins with an intent
                assert sum(begin <= at < begin + limit.window for at in claimed) <= limit.count

    @given(st.lists(times, max_size=60), rate_limits)
    def test_nor_if_the_clock_jumps_back_and_forth_between_the_claims(self, arrivals, limits):
        claimed = []
        for now in arrivals:
            if isinstance(rate(limited(max=limits), snapshot(intents_on_target=newest(claimed, limits)), now), Pass):
                claimed.append(now)
        for limit in limits:
            for begin in claimed:
                assert sum(begin <= at < begin + limit.window for at in claimed) <= limit.count

    @given(st.lists(times, min_size=1, max_size=12), rate_limits, times)
    def test_when_it_is_free_again_is_exact_to_the_microsecond(self, intents, limits, now):
        seen = snapshot(intents_on_target=newest(intents, limits))
        verdict = rate(limited(max=limits), seen, now)
        if isinstance(verdict, Wait):
            assert verdict.retry_at > now
            assert isinstance(rate(limited(max=limits), seen, verdict.retry_at - MICROSECOND), Wait)
            assert isinstance(rate(limited(max=limits), seen, verdict.retry_at), Pass)

    @given(st.lists(times, max_size=12), st.builds(RateLimit, st.integers(1, 6), windows), times)
    def test_next_free_at_is_the_first_moment_that_the_definition_allows(self, intents, limit, now):
        known = newest(intents, [limit])
        free_at = next_free_at(known, limit, now)
        assert free_at >= now

        def allowed(at):
            return sum(at < intent + limit.window for intent in intents) < limit.count

        assert allowed(free_at)
        assert free_at == now or not allowed(free_at - MICROSECOND)

    @given(st.lists(times, max_size=12), rate_limits, times)
    def test_as_many_as_are_said_to_be_left_may_be_claimed_now_and_not_one_more(self, intents, limits, now):
        claimed = list(intents)
        for _ in range(left(newest(claimed, limits), limits, now)):
            assert all(next_free_at(newest(claimed, limits), limit, now) == now for limit in limits)
            claimed.append(now)
        assert left(newest(claimed, limits), limits, now) == 0


class TestCooldownAndSettle:
    @given(spans, spans, times)
    def test_the_moment_that_is_named_is_the_first_that_passes(self, pause, ago, now):
        waiting = [
            (cooldown, limited(cooldown=pause), snapshot(last_finished_at=now - ago)),
            (settle, limited(settle=pause), snapshot(episode=episode(opened_at=now - ago))),
        ]
        for guard, asked, seen in waiting:
            verdict = guard(asked, seen, now)
            assert isinstance(verdict, Pass) == (ago >= pause)
            if isinstance(verdict, Wait):
                assert isinstance(guard(asked, seen, verdict.retry_at), Pass)
                assert isinstance(guard(asked, seen, verdict.retry_at - MICROSECOND), Wait)


class TestClockBackwards:
    """Earlier means stricter: what is held back at a time is held back at every time before it."""

    @given(st.lists(times, max_size=8), times, spans, rate_limits, st.sampled_from(Score))
    def test_a_clock_that_is_set_back_loosens_nothing(self, past, now, back, limits, score):
        results = tuple(Result(at, workload().id, score) for at in sorted(past))
        tight = BreakerLimits(open_for=timedelta(seconds=5), open_for_at_most=timedelta(seconds=40))
        asked = limited(max=limits, cooldown=timedelta(seconds=3), breaker=tight)
        seen = snapshot(
            intents_on_target=newest(past, limits), last_finished_at=max(past, default=None), results_on_target=results
        )
        for guard in GUARDS:
            if not isinstance(guard(asked, seen, now), Pass):
                assert not isinstance(guard(asked, seen, now - back), Pass), guard.__name__


# --- The breaker against a model that is slow and plain ------------------------------------------------------------------

LIMITS = BreakerLimits(
    failures=2, targets=2, window=timedelta(seconds=8), open_for=timedelta(seconds=3), open_for_at_most=timedelta(seconds=10),
    min_healthy_period=timedelta(seconds=2),
)  # fmt: skip
scores = st.sampled_from(Score)
moments = st.integers(0, 60).map(lambda value: NOW + timedelta(seconds=value))


def target_is_open(results, openings, now) -> bool:
    """Walks through the results, with a memory of what matters, exactly as the text of the breaker tells it."""
    streak, opened_at, length = 0, None, None
    for result in results:
        at, score = result.at, result.score
        refires = [opening for opening in openings if at < opening < at + LIMITS.min_healthy_period]
        if score is Score.SUCCESS and refires:
            at, score = min(refires), Score.FAILURE
        if score in (Score.SUCCESS, Score.RESET):
            streak, opened_at, length = 0, None, None
        if score is Score.FAILURE:
            streak += 1
            if opened_at is None and streak >= LIMITS.failures:
                opened_at, length = at, LIMITS.open_for
            elif opened_at is not None and at >= opened_at + length:
                opened_at, length = at, min(2 * length, LIMITS.open_for_at_most)
    return opened_at is not None and now < opened_at + length


class TestBreaker:
    @given(st.lists(st.tuples(moments, scores), max_size=12), st.lists(moments, max_size=6), moments)
    def test_that_of_a_target_does_what_its_text_says(self, told, openings, now):
        results = [Result(at, "a", score) for at, score in sorted(told)]
        state = of_target(results, openings, LIMITS)
        assert (state.open_until is not None and now < state.open_until) == target_is_open(results, openings, now)

    @given(st.lists(st.tuples(moments, st.sampled_from("abc")), max_size=10))
    def test_that_of_a_playbook_opens_with_the_first_failure_that_makes_enough_targets_within_the_window(self, told):
        failures = [Result(at, target, Score.FAILURE) for at, target in sorted(told)]
        opens_at = None
        for result in failures:
            recent = {other.target for other in failures if result.at - LIMITS.window < other.at <= result.at}
            if len(recent) >= LIMITS.targets:
                opens_at = result.at
                break
        for count in range(len(failures) + 1):
            seen = failures[:count]
            is_open = of_playbook(seen, LIMITS).open_until is not None
            if not seen or opens_at is None or seen[-1].at < opens_at:
                assert not is_open
            elif seen[-1].at > opens_at:
                assert is_open

    @given(st.lists(st.tuples(moments, scores), max_size=12))
    def test_neutral_results_might_as_well_not_be_there(self, told):
        results = [Result(at, "a", score) for at, score in sorted(told)]
        counted = [result for result in results if result.score is not Score.NEUTRAL]
        assert of_target(results, (), LIMITS) == of_target(counted, (), LIMITS)
        assert of_playbook(results, LIMITS) == of_playbook(counted, LIMITS)

    @given(st.lists(st.tuples(moments, scores, st.sampled_from("abc")), max_size=12))
    def test_it_is_never_open_for_longer_than_the_most(self, told):
        results = [Result(*each[::2], each[1]) for each in sorted(told)]
        for state in (of_target(results, (), LIMITS), of_playbook(results, LIMITS)):
            if state.open_until is not None:
                assert state.open_until <= max(result.at for result in results) + LIMITS.open_for_at_most

    @given(st.lists(st.tuples(moments, scores, st.sampled_from("abc")), max_size=12))
    def test_a_reset_closes_it_whatever_came_before(self, told):
        results = [Result(*each[::2], each[1]) for each in sorted(told)] + [Result(NOW, "a", Score.RESET)]
        assert of_target(results, (), LIMITS).open_until is None
        assert of_playbook(results, LIMITS).open_until is None


# --- The decision --------------------------------------------------------------------------------------------------------

lookups = st.sampled_from([Found(()), Found((workload(),)), Found((workload(), workload())), Unknown("unreachable")])
snapshots = st.builds(
    snapshot,
    st.builds(Policy, st.sampled_from(Mode)),
    paused=st.sampled_from([None, Paused("ann", "migration")]),
    locked_by=st.sampled_from(["", "run-1", "run-2"]),
    last_finished_at=st.none() | times,
    intents_on_target=st.lists(times, max_size=10).map(lambda given: tuple(sorted(given, reverse=True))),
    open_causes=st.sampled_from([(), ("HostDown",)]),
    needed=st.lists(st.builds(Cause, st.just("shop-db"), st.just("DatabaseDown"), times, st.none() | times)).map(tuple),
    ahead=st.sampled_from([(), ("reports",)]),
)


class TestDecide:
    @given(st.builds(candidate, lookup=lookups), snapshots, times)
    def test_the_first_verdict_that_does_not_pass_decides_and_every_verdict_is_kept_in_order(self, asked, seen, now):
        decision = decide(asked, seen, now)
        assert [given_verdict.guard for given_verdict in decision.verdicts] == [guard.__name__ for guard in GUARDS]
        refused = deque(verdict.verdict for verdict in decision.verdicts if not isinstance(verdict.verdict, Pass))
        if refused:
            assert (decision.reason, decision.seen) == (refused[0].reason, refused[0].seen)
            assert decision.kind == type(refused[0]).__name__.lower()
        else:
            assert (decision.kind, decision.reason) == (DecisionKind.ACT, Reason.CLEAR)
        assert (decision.retry_at is not None) == (decision.kind is DecisionKind.WAIT)

    @given(st.builds(candidate, lookup=lookups), snapshots, times)
    def test_the_same_facts_lead_to_the_same_decision(self, asked, seen, now):
        assert decide(asked, seen, now) == decide(asked, seen, now)

    @given(st.builds(candidate, lookup=lookups), snapshots, times)
    def test_nothing_is_ever_done_below_mode_auto_while_paused_or_without_exactly_one_target(self, asked, seen, now):
        if decide(asked, seen, now).kind is DecisionKind.ACT:
            assert (seen.policy.mode, seen.ledger.paused, len(asked.lookup.workloads)) == (Mode.AUTO, None, 1)

    @given(st.lists(st.sampled_from(Mode), min_size=1))
    def test_the_lowest_of_modes_is_the_one_that_all_of_them_allow(self, modes):
        assert all(lowest(modes).rank <= mode.rank for mode in modes)
        assert lowest(modes) in modes
