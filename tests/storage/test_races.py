"""Eight at once for what may be had a limited number of times. Each racer has connections of its own where the store has any.

Between reading and writing the racers wait for each other for a moment: where nothing keeps them apart, all of them have
read before the first has written, and a promise that stands on luck is broken every time.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from threading import Barrier, BrokenBarrierError
from typing import TypeVar

import pytest

from remediator.core.guards.lock import lock
from remediator.core.guards.rate import rate
from remediator.core.playbook import Limits, RateLimit
from remediator.core.run import Run
from remediator.core.snapshot import Approval, Candidate, Found, Snapshot
from remediator.core.step import Restart
from remediator.core.target import Health, Instance, Workload
from remediator.core.verdict import Pass, Reason
from remediator.ports import Channel, Fenced, Ledger, LedgerKind, LedgerRow, Message, PlaybookText, Store
from tests.builders import NOW, alert, playbook, workload
from tests.storage.stores import policy, postgres, sqlite

T = TypeVar("T")
RACERS = 8
LIMIT = RateLimit(3, timedelta(hours=1))
MINUTE, MICROSECOND = timedelta(minutes=1), timedelta(microseconds=1)
TEXT = PlaybookText("api-down", "v1", "name: api-down\n")
PLAYBOOK = playbook(limits=Limits(settle=timedelta(), max_all_targets=(LIMIT,)))


@pytest.fixture(params=["sqlite", "postgres"])
async def racers(request, tmp_path) -> AsyncIterator[Sequence[Store]]:
    """The same database, as eight see it: through one store, or each through his own."""
    async with AsyncExitStack() as stack:
        if request.param == "sqlite":
            yield [await stack.enter_async_context(sqlite(tmp_path))] * RACERS
        else:
            yield await eight(stack, request)


@pytest.fixture
async def replicas(request) -> AsyncIterator[Sequence[Store]]:
    """Only where several processes can meet at all."""
    async with AsyncExitStack() as stack:
        yield await eight(stack, request)


async def eight(stack: AsyncExitStack, request: pytest.FixtureRequest) -> Sequence[Store]:
    address = stack.enter_context(request.getfixturevalue("postgres_databases").database())
    return [await stack.enter_async_context(postgres(address)) for _ in range(RACERS)]


async def race(racers: Sequence[Store], work: Callable[[int], Callable[[Ledger], T]]) -> list[T | BaseException]:
    """What became of each."""
    return await asyncio.gather(*(store.run(work(number)) for number, store in enumerate(racers)), return_exceptions=True)


class Meeting:
    """All racers meet, or the first one goes on alone after a moment, and nobody waits any more."""

    def __init__(self) -> None:
        self._barrier = Barrier(RACERS)

    def wait(self) -> None:
        with suppress(BrokenBarrierError):
            self._barrier.wait(timeout=0.2)


def leased(ledger: Ledger, run: str, at: datetime) -> Run:
    """A new run of an alert of its own."""
    _, episode = ledger.episodes.hear(alert(starts_at=at, instance=run), at)
    assert episode is not None
    ledger.runs.admit(run, episode, TEXT, at, at + 30 * MINUTE)
    return next(each for each in ledger.runs.lease(run, at, at + MINUTE, 100) if each.id == run)


def place(name: str) -> Workload:
    """A service with one instance."""
    return workload(name=f"shop/{name}", instances=(Instance(name, f"{name}-1", Health.STOPPED, NOW),))


def claim(run: Run, target: Workload, at: datetime, meeting: Meeting, *, alone: bool = True) -> Callable[[Ledger], bool]:
    """Decide by the guards about limits and locks, and claim; what `remediate` does, with a moment in the middle."""
    candidate = Candidate(run.id, run.episode, PLAYBOOK, 0, Restart(), Found((target,)))

    def work(ledger: Ledger) -> bool:
        if alone:
            ledger.claims.decide_alone(candidate)
        seen = Snapshot(ledger.claims.facts(candidate), policy())
        meeting.wait()
        if not all(isinstance(guard(candidate, seen, at), Pass) for guard in (lock, rate)):
            return False
        intent = LedgerRow(at, LedgerKind.INTENT, target=target.id, data={"step": "restart"})
        ledger.claims.claim(replace(run, target=target.id), target.locks, at, intent)
        return True

    return work


async def claims_at(racers: Sequence[Store], at: datetime, *, alone: bool = True, places: int = RACERS) -> int:
    """How many of eight runs, on so many targets, are claimed at this moment."""
    names = [f"{at:%d-%H%M%S%f}-{number}" for number in range(RACERS)]
    runs = await racers[0].run(lambda ledger: [leased(ledger, name, at) for name in names])
    targets = [place(names[number % places]) for number in range(RACERS)]
    meeting = Meeting()
    outcomes = await race(racers, lambda number: claim(runs[number], targets[number], at, meeting, alone=alone))
    assert all(isinstance(outcome, bool | Fenced) for outcome in outcomes), outcomes
    return outcomes.count(True)


class TestLimits:
    async def test_of_eight_at_once_a_limit_of_three_lets_exactly_three_through(self, racers):
        assert await claims_at(racers, NOW) == 3

    @pytest.mark.parametrize(
        "ages", [(0,), (1, 59), (20, 40), (59, 59), (10, 30, 50)], ids=lambda ages: f"after intents {ages} minutes ago"
    )
    async def test_wherever_the_window_lies_it_never_holds_more_than_three(self, racers, ages):
        """Together with those of before, and again at each moment at which one of them leaves the window."""
        before = sorted(NOW - age * MINUTE for age in ages)
        for number, at in enumerate(before):
            run = await racers[0].run(lambda ledger, at=at, number=number: leased(ledger, f"before-{number}", at))
            assert await racers[0].run(claim(run, place(f"before-{number}"), at, Meeting()))
        intents = before + [NOW] * await claims_at(racers, NOW)
        assert len(intents) == 3
        for first in sorted(set(intents)):
            leaves_at = first + LIMIT.window
            assert await claims_at(racers, leaves_at - MICROSECOND) == 0
            new = await claims_at(racers, leaves_at)
            intents = [at for at in intents if at + LIMIT.window > leaves_at] + [leaves_at] * new
            assert len(intents) == 3

    async def test_without_the_lock_of_the_scopes_the_limit_leaks(self, replicas):
        """What `decide_alone` is for: taken out, all eight count before any of them writes."""
        assert await claims_at(replicas, NOW, alone=False) > 3


class TestTargets:
    async def test_of_eight_runs_one_gets_the_target(self, racers):
        assert await claims_at(racers, NOW, places=1) == 1

    async def test_the_key_keeps_it_even_if_nobody_had_decided_alone(self, replicas):
        assert await claims_at(replicas, NOW, places=1, alone=False) == 1

    async def test_two_targets_are_two(self, racers):
        assert await claims_at(racers, NOW, places=2) == 2


class TestLeases:
    async def test_each_run_is_leased_by_one(self, racers):
        def admit(ledger: Ledger) -> None:
            for number in range(20):
                _, episode = ledger.episodes.hear(alert(instance=str(number)), NOW)
                assert episode is not None
                ledger.runs.admit(f"r{number:02}", episode, TEXT, NOW, NOW + MINUTE)

        await racers[0].run(admit)
        meeting = Meeting()

        def lease(number: int) -> Callable[[Ledger], list[str]]:
            def work(ledger: Ledger) -> list[str]:
                found = [run.id for run in ledger.runs.lease(f"racer {number}", NOW, NOW + MINUTE, 5)]
                meeting.wait()
                return found

            return work

        got = await race(racers, lease)
        assert sorted(run for runs in got for run in runs) == [f"r{number:02}" for number in range(20)]

    async def test_a_lease_that_ran_out_is_taken_over_by_one(self, racers):
        await racers[0].run(lambda ledger: leased(ledger, "r1", NOW))
        later = NOW + 2 * MINUTE
        taken = await race(racers, lambda number: lambda ledger: len(ledger.runs.lease("x", later, later + MINUTE, 5)))
        assert sorted(taken) == [0] * (RACERS - 1) + [1]


class TestGo:
    @pytest.mark.parametrize("plan", ["", "restart of just this"], ids=["", "with an approval, which is used once"])
    async def test_a_rung_is_sent_once_however_many_believe_that_it_is_theirs(self, racers, plan):
        run = await racers[0].run(lambda ledger: leased(ledger, "r1", NOW))
        assert await racers[0].run(claim(run, workload(), NOW, Meeting()))
        claimed = await racers[0].run(lambda ledger: ledger.runs.get("r1"))

        def approve(ledger: Ledger) -> None:
            ledger.approvals.answer(claimed, Approval(plan, "ann", "yes", True, NOW + MINUTE), NOW)

        await racers[0].run(approve)
        meeting = Meeting()

        def go(number: int) -> Callable[[Ledger], Reason]:
            def work(ledger: Ledger) -> Reason:
                meeting.wait()
                return ledger.claims.go(claimed, {"mark": number}, NOW, plan)[1]

            return work

        outcomes = await race(racers, go)
        assert outcomes.count(Reason.CLEAR) == 1
        refused = [outcome for outcome in outcomes if outcome is not Reason.CLEAR]
        assert all(isinstance(outcome, Exception) or (plan and outcome is Reason.NOT_APPROVED) for outcome in refused)
        timeline = await racers[0].run(lambda ledger: ledger.runs.timeline("r1"))
        assert [row.kind for row in timeline].count(LedgerKind.GO) == 1


class TestHearing:
    async def test_one_alert_that_all_hear_of_opens_one_episode(self, racers):
        heard = await race(racers, lambda number: lambda ledger: str(ledger.episodes.hear(alert(), NOW)[0]))
        assert sorted(heard) == ["opened"] + ["refreshed"] * (RACERS - 1)
        assert await racers[0].run(lambda ledger: ledger.episodes.count_open()) == 1

    async def test_an_episode_that_is_heard_of_just_now_does_not_expire(self, racers):
        await racers[0].run(lambda ledger: ledger.episodes.hear(alert(), NOW))
        later = NOW + timedelta(hours=6)

        def hear_or_expire(number: int) -> Callable[[Ledger], int]:
            if number % 2:
                return lambda ledger: len(ledger.episodes.expire(later - timedelta(hours=5), later))
            return lambda ledger: 0 * len(ledger.episodes.hear(alert(), later))

        await race(racers, hear_or_expire)
        assert await racers[0].run(lambda ledger: ledger.episodes.count_open()) == 1

    async def test_one_process_at_a_time_expands_the_inbox(self, replicas):
        await replicas[0].run(lambda ledger: ledger.inbox.reserve())  # from now on there is a row to lock
        meeting = Meeting()

        def reserve(_number: int) -> Callable[[Ledger], bool]:
            def work(ledger: Ledger) -> bool:
                got = ledger.inbox.reserve()
                meeting.wait()
                return got

            return work

        assert (await race(replicas, reserve)).count(True) == 1
        assert await replicas[0].run(lambda ledger: ledger.inbox.reserve())


class TestOutbox:
    async def test_a_message_is_taken_by_one(self, racers):
        messages = [Message(f"m{number}", Channel.ESCALATION, {}) for number in range(20)]
        await racers[0].run(lambda ledger: [ledger.outbox.put(message, NOW) for message in messages])
        meeting = Meeting()

        def take(_number: int) -> Callable[[Ledger], list[str]]:
            def work(ledger: Ledger) -> list[str]:
                due = ledger.outbox.due(NOW, 5)
                meeting.wait()
                for message in due:
                    ledger.outbox.attempt(message, NOW + MINUTE)
                return [message.key for message in due]

            return work

        taken = await race(racers, take)
        assert sorted(key for keys in taken for key in keys) == sorted(message.key for message in messages)
