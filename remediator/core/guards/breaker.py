"""Breaker guard: what has not helped is not done again. Pure: the state is computed from the results in the ledger.

    closed --(failures in a row, or failures on several targets)--> open --(open_for has passed)--> half-open
    half-open --trial verified--> closed        half-open --trial failed--> open, for twice as long (capped)

Success is a verified step whose target stayed quiet for `min_healthy_period`; a re-fire within it turns the success
into a failure. A step in doubt is a failure for as long as nobody knows better. Neutral results (refused, cancelled,
proven not sent) do not count. A reset by a person closes it. The trial of a target is alone by the target's lock, that of
a playbook because no other run of it is in flight: from its claim to its end, its verification included.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from remediator.core.playbook import BreakerLimits
from remediator.core.snapshot import Candidate, Result, Score, Snapshot
from remediator.core.verdict import Pass, Reason, Refuse, Verdict, Wait

LOOK_AGAIN = timedelta(seconds=30)
DOUBLINGS_MAX = 20
"""Far beyond any `open_for_at_most`, and within what a timedelta holds."""

Opening = tuple[str, datetime]
"""A target, and when a run that aimed at it began."""


@dataclass(frozen=True, slots=True)
class BreakerState:
    """`open_until` is None while closed; once it has passed, the breaker is half-open until the next result."""

    open_until: datetime | None = None
    opened_times: int = 0

    @property
    def is_closed(self) -> bool:
        return self.open_until is None


CLOSED = BreakerState()


def breaker(candidate: Candidate, snapshot: Snapshot, now: datetime) -> Verdict:
    ledger, limits = snapshot.ledger, candidate.limits.breaker
    on_target = of_target(ledger.results_on_target, ledger.openings_on_target, limits)
    of_all = of_playbook(ledger.results_of_playbook, limits, ledger.openings_of_playbook)
    for state, what in ((on_target, f"target {candidate.target}"), (of_all, f"playbook {candidate.playbook.name}")):
        if state.open_until is not None and now < state.open_until:
            return Refuse(Reason.BREAKER_OPEN, f"the breaker of {what} is open until {state.open_until:%H:%M:%S}")
    if not of_all.is_closed and ledger.others_in_flight:
        return Wait(Reason.BREAKER_TRIAL, "the breaker is half-open and its one trial is under way", now + LOOK_AGAIN)
    return Pass("closed" if on_target.is_closed and of_all.is_closed else "half-open: this is the trial")


def of_target(results: Sequence[Result], openings: Sequence[datetime], limits: BreakerLimits) -> BreakerState:
    """The breaker of one target after `results` (oldest first), given when its episodes opened."""
    state = CLOSED
    for in_a_row, failed_at in enumerate(_failures_of_late(results, sorted(openings), limits), 1):
        if state.open_until is not None or in_a_row >= limits.failures:
            state = _opened_again(state, failed_at, limits)
    return state


def of_playbook(results: Sequence[Result], limits: BreakerLimits, openings: Sequence[Opening] = ()) -> BreakerState:
    """The breaker of one playbook over all of its targets: opens when enough distinct ones failed within the window."""
    state = CLOSED
    if len({result.target for result in results}) < limits.targets:
        return state  # so few targets cannot open it
    failed: dict[str, datetime] = {}
    for result in _scored(results, openings, limits):
        match result.score:
            case Score.SUCCESS:
                failed.pop(result.target, None)
                if state.open_until is None or result.at >= state.open_until:  # not of a run begun before it opened
                    state = CLOSED
            case Score.RESET:
                state, failed = CLOSED, {}
            case Score.FAILURE:
                failed[result.target] = result.at
                recent = [at for at in failed.values() if at > result.at - limits.window]
                if state.open_until is not None or len(recent) >= limits.targets:
                    state = _opened_again(state, result.at, limits)
            case Score.NEUTRAL:
                pass
    return state


def _opened_again(state: BreakerState, at: datetime, limits: BreakerLimits) -> BreakerState:
    """Open from `at`; a failure that arrives while it is open already (a run begun before) neither doubles nor shortens."""
    if state.open_until is not None and at < state.open_until:
        return state
    open_for = min(limits.open_for * 2 ** min(state.opened_times, DOUBLINGS_MAX), limits.open_for_at_most)
    return BreakerState(at + open_for, state.opened_times + 1)


def _failures_of_late(results: Sequence[Result], fired: Sequence[datetime], limits: BreakerLimits) -> list[datetime]:
    """When one target failed, oldest first, since its last success or reset: what was before that has no say any more."""
    failures: list[datetime] = []
    for result in reversed(results):
        again_at = _fired_again_at(result, fired, limits)
        if result.score is Score.RESET or (result.score is Score.SUCCESS and again_at is None):
            break
        if result.score is not Score.NEUTRAL:
            failures.append(again_at or result.at)
    failures.reverse()
    return failures


def _scored(results: Sequence[Result], openings: Sequence[Opening], limits: BreakerLimits) -> Iterator[Result]:
    """Results, with each success whose target fired again too soon turned into a failure, at the re-fire."""
    fired: dict[str, list[datetime]] = {}
    for target, at in openings:
        fired.setdefault(target, []).append(at)
    for each in fired.values():
        each.sort()
    for result in results:
        again_at = _fired_again_at(result, fired.get(result.target, ()), limits)
        yield result if again_at is None else Result(again_at, result.target, Score.FAILURE)


def _fired_again_at(result: Result, fired: Sequence[datetime], limits: BreakerLimits) -> datetime | None:
    """When the target of a success fired again within the healthy period; `fired` is in order. None: it did not."""
    if result.score is not Score.SUCCESS:
        return None
    following = bisect_right(fired, result.at)
    is_too_soon = following < len(fired) and fired[following] < result.at + limits.min_healthy_period
    return fired[following] if is_too_soon else None
