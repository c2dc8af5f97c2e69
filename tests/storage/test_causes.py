"""What every store knows of services that need each other: what is ill of what one needs, and who is repaired before it."""

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import TypeVar

import pytest

from remediator.core.dependencies import AFTERMATH
from remediator.core.run import RunEvent
from remediator.core.snapshot import Candidate, Cause, Found, LedgerFacts
from remediator.core.step import Restart
from remediator.core.verdict import Reason
from remediator.ports import Ledger, LedgerKind, LedgerRow, PlaybookText, Store
from tests.builders import alert, playbook, workload
from tests.storage.stores import STORES

T = TypeVar("T")
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
TEXT = PlaybookText("api-down", "v1", "name: api-down\n")
DATABASE = {"alertname": "DatabaseDown", "service": "shop-db"}


@pytest.fixture(params=STORES)
async def store(request, tmp_path) -> AsyncIterator[Store]:
    async with STORES[request.param](request, tmp_path) as store:
        yield store


def opened(ledger: Ledger, ago: timedelta = timedelta(), **labels: str):
    at = ledger.now - ago
    _, episode = ledger.episodes.hear(alert(starts_at=at, **labels), at)
    return episode


def closed(ledger: Ledger, ago: timedelta = timedelta(), **labels: str) -> None:
    at = ledger.now - ago
    ledger.episodes.hear(alert("resolved", at - MINUTE, at, **labels), at)


def facts(ledger: Ledger, service: str = "shop-api", run: str = "another", owner: str | None = None) -> LedgerFacts:
    """Of an alert of `service`, whose target belongs to `owner` if that is another one."""
    target = Found((workload(service=owner or service),))
    asking = opened(ledger, alertname="Asking", service=service)
    return ledger.claims.facts(Candidate(run, asking, playbook(), 0, Restart(), target))


def claimed(ledger: Ledger, run: str, service: str):
    """A run that is at work on this service."""
    now = ledger.now
    ledger.runs.admit(run, opened(ledger, service=service), TEXT, now, now + 30 * MINUTE)
    (leased,) = ledger.runs.lease("me", now, now + MINUTE, 1)
    intent = LedgerRow(now, LedgerKind.INTENT, data={"step": "restart"})
    return ledger.claims.claim(leased, [f"docker:service/{service}"], now, intent)


async def within(store: Store, work: Callable[[Ledger], T]) -> T:
    return await store.run(work)


async def test_an_open_alert_of_a_service_that_this_one_needs_is_its_cause(store):
    def work(ledger: Ledger) -> None:
        database = opened(ledger, 5 * MINUTE, **DATABASE)
        assert facts(ledger).needed == (Cause("shop-db", "DatabaseDown", database.opened_at),)

    await within(store, work)


async def test_so_is_one_of_what_is_needed_by_what_this_one_needs_and_the_oldest_comes_first(store):
    def work(ledger: Ledger) -> None:
        opened(ledger, MINUTE, service="shop-api")
        opened(ledger, 2 * MINUTE, **DATABASE)
        assert [str(cause).partition(" since")[0] for cause in facts(ledger, "shop-web").needed] == [
            "shop-db (DatabaseDown", "shop-api (APIDown",
        ]  # fmt: skip

    await within(store, work)


@pytest.mark.parametrize(
    "labels",
    [
        {"alertname": "DatabaseDown", "service": "billing-db"},
        {"alertname": "DatabaseDown", "service": "reports"},
        {"alertname": "DatabaseSlow", "service": "shop-db", "severity": "warning"},
        {"alertname": "SLOBurnRateHigh", "service": "shop-db", "slo": "availability"},
        {"alertname": "DatabaseDown", "service": ""},
    ],
    ids=["a service that nobody knows", "a service beside it", "a warning", "a service level", "no service"],
)
async def test_other_alerts_are_no_causes(store, labels):
    def work(ledger: Ledger) -> None:
        opened(ledger, **{name: value for name, value in labels.items() if value or name == "service"})
        assert facts(ledger).needed == ()

    await within(store, work)


async def test_a_service_has_no_cause_in_itself_and_one_that_needs_nothing_has_none(store):
    def work(ledger: Ledger) -> None:
        opened(ledger, service="shop-api")
        opened(ledger, **DATABASE)
        assert [cause.service for cause in facts(ledger).needed] == ["shop-db"]
        assert facts(ledger, "shop-db").needed == facts(ledger, "billing").needed == ()

    await within(store, work)


async def test_what_the_owner_of_the_target_needs_counts_as_well(store):
    def work(ledger: Ledger) -> None:
        opened(ledger, **DATABASE)
        assert [cause.service for cause in facts(ledger, "billing", owner="reports").needed] == ["shop-db"]

    await within(store, work)


async def test_a_cause_that_is_over_is_remembered_for_as_long_as_its_aftermath(store):
    def work(ledger: Ledger) -> None:
        opened(ledger, 2 * AFTERMATH, **DATABASE)
        closed(ledger, AFTERMATH - MINUTE, **DATABASE)
        (cause,) = facts(ledger).needed
        assert timedelta() <= ledger.now - cause.over_at - (AFTERMATH - MINUTE) < 10 * SECOND

    await within(store, work)


async def test_and_then_forgotten(store):
    def work(ledger: Ledger) -> None:
        opened(ledger, 2 * AFTERMATH, **DATABASE)
        closed(ledger, AFTERMATH + SECOND, **DATABASE)
        assert facts(ledger).needed == ()

    await within(store, work)


async def test_what_is_needed_is_repaired_before_what_needs_it(store):
    def work(ledger: Ledger) -> None:
        claimed(ledger, "r1", "shop-db")
        assert facts(ledger).ahead == facts(ledger, "shop-web").ahead == ("shop-db",)
        assert facts(ledger, "shop-db").ahead == facts(ledger, "billing").ahead == ()

    await within(store, work)


async def test_what_needs_the_same_is_ahead_only_once_that_was_ill(store):
    def work(ledger: Ledger) -> None:
        claimed(ledger, "r1", "reports")
        assert facts(ledger).ahead == ()
        opened(ledger, 5 * MINUTE, **DATABASE)
        assert facts(ledger).ahead == ()
        closed(ledger, **DATABASE)
        assert facts(ledger).ahead == facts(ledger, "shop-web").ahead == ("reports",)

    await within(store, work)


async def test_nothing_is_ahead_of_a_run_that_has_its_target_already(store):
    def work(ledger: Ledger) -> None:
        opened(ledger, 5 * MINUTE, **DATABASE)
        closed(ledger, **DATABASE)
        claimed(ledger, "r1", "reports")
        claimed(ledger, "r2", "shop-api")
        assert facts(ledger, run="r2").ahead == facts(ledger, "reports", run="r1").ahead == ()

    await within(store, work)


async def test_the_end_of_a_repair_wakes_the_next_in_turn(store):
    def work(ledger: Ledger) -> None:
        now = ledger.now
        repairing = claimed(ledger, "r1", "reports")
        ledger.runs.admit("r2", opened(ledger, service="shop-api"), TEXT, now, now + 30 * MINUTE)
        (waiting,) = ledger.runs.lease("me", now, now + MINUTE, 1)
        waiting = ledger.runs.move(waiting, RunEvent.WAIT, now, reason=Reason.IN_TURN)
        ledger.runs.release(waiting, now + MINUTE)
        assert ledger.runs.lease("me", now + SECOND, now + MINUTE, 1) == []
        ledger.runs.move(repairing, RunEvent.CANCEL, now + SECOND, reason=Reason.RESOLVED)
        assert [run.id for run in ledger.runs.lease("me", now + SECOND, now + MINUTE, 1)] == ["r2"]

    await within(store, work)
