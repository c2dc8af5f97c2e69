"""Retention on every store: what is over is forgotten, what is open or may be asked for is not, and guards answer as before."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from remediator.core.guards import GUARDS
from remediator.core.playbook import LOOK_BACK_MAX, BreakerLimits, Limits
from remediator.core.run import RunEvent
from remediator.core.snapshot import Candidate, Found, Policy, Score, Snapshot
from remediator.core.step import Restart
from remediator.core.target import Workload
from remediator.core.verdict import Reason
from remediator.ports import Channel, Ledger, LedgerKind, LedgerRow, Message, Store
from remediator.storage.breakers import RESULTS_REMEMBERED
from remediator.storage.retention import EPISODES_AT_ONCE
from tests.builders import NOW, alert, playbook, workload
from tests.storage.stores import STORES
from tests.storage.test_ledger import admitted, called, ended, opened

DAY = timedelta(days=1)
LONG_AGO = NOW - LOOK_BACK_MAX - 2 * DAY
BEFORE = NOW - LOOK_BACK_MAX


@pytest.fixture(params=STORES)
async def store(request, tmp_path) -> AsyncIterator[Store]:
    async with STORES[request.param](request, tmp_path) as store:
        yield store


def closed(ledger: Ledger, at: datetime, **labels: str) -> None:
    ledger.episodes.hear(alert("resolved", at, at, **labels), at)


def repaired(ledger: Ledger, number: int, at: datetime, target: str, score: Score = Score.SUCCESS) -> str:
    """A whole run on a target, from the alert to its end."""
    run, labels = f"run-{number:04d}", {"instance": str(number)}
    gone = called(ledger, run, at, target, **labels)
    evidence = LedgerRow(at, LedgerKind.EVIDENCE, data={"evidence": [{"name": "logs", "text": "x" * 1000}]})
    ledger.runs.append(gone, evidence)
    ended(ledger, gone, score, at)
    closed(ledger, at, **labels)
    return run


async def swept(store: Store, before: datetime = BEFORE) -> int:
    """Rounds until all was looked at; how many rows were deleted."""
    rows, goes_on = 0, None
    while True:
        result = await store.run(lambda ledger, goes_on=goes_on: ledger.retention.sweep(before, goes_on))
        rows, goes_on = rows + result.rows, result.goes_on
        if goes_on is None:
            return rows


class TestWhatIsForgotten:
    async def test_an_alert_that_was_over_before_then_with_its_explanation(self, store):
        def work(ledger: Ledger) -> int:
            episode = opened(ledger, LONG_AGO)
            ledger.runs.unmatched(episode, LONG_AGO)
            closed(ledger, LONG_AGO)
            return episode.id

        await store.run(work)
        assert await swept(store) == 2
        assert await swept(store) == 0

    async def test_a_run_that_found_no_target_with_everything_that_was_written_of_it(self, store):
        def work(ledger: Ledger) -> None:
            admitted(ledger, "r1", LONG_AGO)
            (run,) = ledger.runs.lease("me", LONG_AGO, LONG_AGO + DAY, 1)
            ledger.runs.move(run, RunEvent.REFUSE, LONG_AGO, LedgerRow(LONG_AGO, LedgerKind.DECISION))
            closed(ledger, LONG_AGO)

        await store.run(work)
        assert await swept(store) == 4  # the row, the run, its episode and its playbook's text
        assert await store.run(lambda ledger: ledger.runs.get("r1")) is None
        assert await store.run(lambda ledger: ledger.runs.timeline("r1")) == []

    async def test_as_much_as_there_is_in_rounds_of_a_few_episodes(self, store):
        def work(ledger: Ledger) -> None:
            for number in range(3 * EPISODES_AT_ONCE):
                opened(ledger, LONG_AGO, instance=str(number))
                closed(ledger, LONG_AGO, instance=str(number))

        await store.run(work)
        first = await store.run(lambda ledger: ledger.retention.sweep(BEFORE))
        assert (first.rows, first.goes_on is None) == (EPISODES_AT_ONCE, False)
        assert await swept(store) == 2 * EPISODES_AT_ONCE

    async def test_messages_that_were_told_but_not_those_that_still_must_be(self, store):
        told, due = (Message(key, Channel.ESCALATION, {}) for key in ("told", "due"))

        def work(ledger: Ledger) -> None:
            for message in (told, due):
                ledger.outbox.put(message, LONG_AGO)
            ledger.outbox.delivered(told, "receipt")

        await store.run(work)
        assert await swept(store) == 1
        assert [message.key for message in await store.run(lambda ledger: ledger.outbox.due(NOW, 10))] == ["due"]

    async def test_messages_that_could_not_be_expanded_but_not_those_that_wait_to_be(self, store):
        for body in (b"broken", b"waits"):
            await store.put(body, LONG_AGO)
        await store.run(lambda ledger: ledger.inbox.set_aside(ledger.inbox.oldest()))
        assert await swept(store) == 1
        assert [message.body for message in await store.run(lambda ledger: ledger.inbox.take(10))] == [b"waits"]

    async def test_releases_before_the_newest_twenty_of_a_workload_at_once(self, store):
        def work(ledger: Ledger) -> list[str]:
            for number in range(30):
                ledger.releases.record(workload(release=f"v{number:02d}"), NOW)
            return list(ledger.releases.all())

        assert await store.run(work) == [f"v{number:02d}" for number in range(10, 30)]


class TestWhatIsKept:
    async def test_what_is_open_however_long_it_has_been(self, store):
        def work(ledger: Ledger) -> None:
            gone = called(ledger, "r1", LONG_AGO)
            ended(ledger, gone, at=LONG_AGO)
            ledger.runs.unmatched(opened(ledger, LONG_AGO, instance="2"), LONG_AGO)

        await store.run(work)
        assert await swept(store) == 1  # the playbook's text, which only a run that goes on reads
        assert len(await store.run(lambda ledger: ledger.runs.timeline("r1"))) == 3
        assert await store.run(lambda ledger: ledger.episodes.count_open()) == 2

    async def test_a_run_that_has_not_ended_and_one_that_ended_lately_though_their_alerts_are_over(self, store):
        def work(ledger: Ledger) -> None:
            called(ledger, "lives", LONG_AGO, instance="1")
            closed(ledger, LONG_AGO, instance="1")
            gone = called(ledger, "ended", LONG_AGO, target="docker:service/other", instance="2")
            closed(ledger, LONG_AGO, instance="2")
            ended(ledger, gone, at=NOW - DAY)

        await store.run(work)
        assert await swept(store) == 0

    async def test_the_pause_and_the_storm_that_hold_but_not_those_before(self, store):
        def work(ledger: Ledger) -> None:
            for at in (LONG_AGO - DAY, LONG_AGO):
                ledger.switch.pause("ann", "maintenance", at)

        await store.run(work)
        assert await swept(store) == 1
        assert (await store.run(lambda ledger: ledger.claims.paused())).by == "ann"

    async def test_what_breakers_look_at_without_the_rest_of_those_runs(self, store):
        run = await store.run(lambda ledger: repaired(ledger, 1, LONG_AGO, "docker:service/shop/api"))
        assert await swept(store) > 0
        kinds = [row.kind for row in await store.run(lambda ledger: ledger.runs.timeline(run))]
        assert kinds == [LedgerKind.GO, LedgerKind.RESULT]
        assert (await store.run(lambda ledger: ledger.runs.get(run))).reason is Reason.VERIFIED

    async def test_not_more_of_it_than_breakers_look_at(self, store):
        def work(ledger: Ledger) -> None:
            for number in range(RESULTS_REMEMBERED + 30):
                repaired(ledger, number, LONG_AGO + number * timedelta(minutes=1), "docker:service/shop/api")

        await store.run(work)
        await swept(store)
        runs = await store.run(lambda ledger: ledger.runs.list(1000))
        assert [run.id for run in runs] == [f"run-{number:04d}" for number in range(RESULTS_REMEMBERED + 29, 29, -1)]


LIMITS = Limits(breaker=BreakerLimits(failures=2, open_for_at_most=LOOK_BACK_MAX), settle=timedelta())
HISTORIES = {
    "half-open for long": [(0, Score.FAILURE), (1, Score.FAILURE)],
    "one failure long ago": [(0, Score.SUCCESS), (1, Score.FAILURE)],
    "repaired, and again within minutes": [(0, Score.SUCCESS), (0.001, Score.FAILURE), (0.002, Score.SUCCESS)],
    "failures before and after": [(0, Score.FAILURE), (LOOK_BACK_MAX.days + 1.99, Score.FAILURE)],
    "often enough to be masking": [
        (days, Score.SUCCESS) for days in (0, *range(LOOK_BACK_MAX.days - 3, LOOK_BACK_MAX.days + 2))
    ],
}


@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES.keys())
@pytest.mark.parametrize("targets", [1, 3])
async def test_guards_answer_the_same_before_and_after(store, history, targets):
    places = [replace(workload(), name=f"shop/{number}") for number in range(targets)]

    def happened(ledger: Ledger) -> None:
        for number, (days, score) in enumerate(history):
            for place, where in enumerate(places):
                repaired(ledger, 10 * number + place, LONG_AGO + days * DAY, where.id, score)

    def verdicts(ledger: Ledger, place: Workload) -> list[object]:
        asked = playbook(limits=LIMITS)
        candidate = Candidate("asking", opened(ledger, alertname="Asking"), asked, 0, Restart(), Found((place,)))
        snapshot = Snapshot(ledger.claims.facts(candidate), Policy())
        spoken = {guard.__name__: guard(candidate, snapshot, NOW) for guard in GUARDS}
        # That nothing was ever done and that it was long ago are the same verdict in different words.
        return [verdict if name != "cooldown" else type(verdict) for name, verdict in spoken.items()]

    await store.run(happened)
    before = [await store.run(lambda ledger, place=place: verdicts(ledger, place)) for place in places]
    assert await swept(store) > 0
    assert [await store.run(lambda ledger, place=place: verdicts(ledger, place)) for place in places] == before
