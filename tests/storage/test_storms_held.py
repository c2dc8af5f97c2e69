"""Storms of alerts on every store: they begin above one number of aims, end at a lower one, and hold what is new meanwhile."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from remediator.core.run import RunState
from remediator.core.snapshot import StormLimits
from remediator.core.verdict import Reason
from remediator.ports import Ledger, LedgerKind, PlaybookText, Store
from tests.builders import NOW, alert
from tests.storage.stores import STORES

LIMITS = StormLimits()
SECOND = timedelta(seconds=1)
TEXT = PlaybookText("api-down", "v1", "name: api-down\n")
CALM_AT = NOW + LIMITS.window + SECOND


@pytest.fixture(params=STORES)
async def store(request, tmp_path) -> AsyncIterator[Store]:
    async with STORES[request.param](request, tmp_path) as store:
        yield store


def alerts(ledger: Ledger, aims: int, each: int = 1, at=NOW, first: int = 0) -> None:
    """Runs of `each` alerts on each of so many targets."""
    for number in range(first, first + aims):
        for instance in range(each):
            given = alert(starts_at=at, service=f"shop-{number}", instance=str(instance))
            _, episode = ledger.episodes.hear(given, at)
            run = f"r{number:05d}-{instance}"
            ledger.runs.admit(run, episode, TEXT, at, at + timedelta(minutes=30), f"service=shop-{number}")


async def test_a_storm_begins_above_the_number_of_distinct_aims_and_not_of_alerts(store):
    await store.run(lambda ledger: alerts(ledger, LIMITS.targets, each=3))
    assert await store.run(lambda ledger: ledger.storms.look(NOW)) is None
    await store.run(lambda ledger: alerts(ledger, 5, first=LIMITS.targets))
    begun = await store.run(lambda ledger: ledger.storms.look(NOW))
    assert (begun.targets, begun.since, begun.over_at) == (LIMITS.targets + 5, NOW, None)
    assert await store.run(lambda ledger: ledger.storms.look(NOW)) is None  # it goes on, and that is no news
    assert await store.run(lambda ledger: ledger.storms.current()) == begun


async def test_it_ends_at_the_lower_number_and_not_at_the_one_at_which_it_began(store):
    await store.run(lambda ledger: alerts(ledger, LIMITS.targets + 1))
    await store.run(lambda ledger: ledger.storms.look(NOW))
    await store.run(lambda ledger: alerts(ledger, LIMITS.calm + 1, at=CALM_AT - 2 * SECOND, first=100))
    assert await store.run(lambda ledger: ledger.storms.look(CALM_AT)) is None
    over = await store.run(lambda ledger: ledger.storms.look(CALM_AT + LIMITS.window))
    assert over.over_at == CALM_AT + LIMITS.window
    assert await store.run(lambda ledger: ledger.storms.current()) is None


async def test_runs_of_a_storm_are_held_and_explained_without_being_leased_and_woken_by_its_end(store):
    def blow(ledger: Ledger) -> None:
        alerts(ledger, LIMITS.targets + 1)
        ledger.storms.look(NOW)

    await store.run(blow)
    held = await store.run(lambda ledger: ledger.runs.list(100))
    assert {(run.state, run.reason) for run in held} == {(RunState.WAITING, Reason.STORM)}
    assert await store.run(lambda ledger: ledger.runs.count_held()) == len(held) == LIMITS.targets + 1
    for run in held:
        (row,) = await store.run(lambda ledger, run=run: ledger.runs.timeline(run.id))
        assert (row.kind, row.data["decision"], row.data["reason"]) == (LedgerKind.DECISION, "wait", "storm")
    assert await store.run(lambda ledger: ledger.runs.lease("me", NOW, NOW + SECOND, 100)) == []
    await store.run(lambda ledger: ledger.storms.look(CALM_AT))
    assert len(await store.run(lambda ledger: ledger.runs.lease("me", CALM_AT, CALM_AT + SECOND, 100))) == len(held)


async def test_a_run_that_is_in_a_worker_s_hands_when_a_storm_begins_is_left_there(store):
    await store.run(lambda ledger: alerts(ledger, 1))
    (taken,) = await store.run(lambda ledger: ledger.runs.lease("me", NOW, NOW + SECOND, 1))
    await store.run(lambda ledger: alerts(ledger, LIMITS.targets, first=1))
    await store.run(lambda ledger: ledger.storms.look(NOW))
    assert (await store.run(lambda ledger: ledger.runs.get(taken.id))).state is RunState.NEW
    assert await store.run(lambda ledger: ledger.runs.timeline(taken.id)) == []
