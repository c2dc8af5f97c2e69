"""Housekeeping: gauges say what is in force now; what was over long ago is forgotten, unless the clock is not to be trusted."""

from datetime import datetime, timedelta

from remediator.core.playbook import PlaybookIndex
from remediator.housekeeping import SWEEP_EVERY, Housekeeping
from remediator.ports import Ledger, Store
from remediator.telemetry import Metrics, Telemetry
from tests.builders import alert, playbook
from tests.fakes import SettableClock, SilentLog
from tests.storage.stores import policy, sqlite

RETENTION = timedelta(days=90)


def housekeeping(store: Store, metrics: Metrics, clock: SettableClock, *playbooks) -> Housekeeping:
    return Housekeeping(store, [], lambda: PlaybookIndex(playbooks), policy, clock, Telemetry(metrics, SilentLog()), RETENTION)


def over(ledger: Ledger, at: datetime) -> int:
    """An episode that was opened and closed then."""
    _, episode = ledger.episodes.hear(alert(starts_at=at), at)
    ledger.episodes.hear(alert("resolved", at, at), at)
    return episode.id


def forgotten(metrics: Metrics) -> float | None:
    return metrics.registry.get_sample_value("remediator_forgotten_rows_total")


async def test_a_playbook_that_a_reload_took_away_has_no_gauges_any_more(tmp_path):
    metrics, clock = Metrics(), SettableClock()
    async with sqlite(tmp_path) as store:
        for in_force in (["stays", "goes"], ["stays"]):
            await housekeeping(store, metrics, clock, *(playbook(name=name) for name in in_force)).tidy()
    for name in ("remediator_breakers_open", "remediator_rate_remaining"):
        assert metrics.registry.get_sample_value(name, {"playbook": "stays"}) is not None
        assert metrics.registry.get_sample_value(name, {"playbook": "goes"}) is None


async def test_what_was_over_long_ago_is_forgotten_from_an_hour_after_the_start_on_and_counted(tmp_path):
    metrics, clock = Metrics(), SettableClock()
    async with sqlite(tmp_path) as store:
        house = housekeeping(store, metrics, clock)
        for age in (RETENTION, RETENTION - 2 * SWEEP_EVERY):
            await store.run(lambda ledger, age=age: over(ledger, clock.now() - age))
        clock.shift = SWEEP_EVERY
        await house.forget()
        assert forgotten(metrics) == 1
        await house.forget()  # an hour has not passed
        assert forgotten(metrics) == 1


async def test_a_clock_that_jumps_ahead_makes_nothing_be_forgotten(tmp_path):
    """Promise S12: what limits count must still be there when the clock is right again."""
    metrics, clock = Metrics(), SettableClock()
    async with sqlite(tmp_path) as store:
        episode = await store.run(lambda ledger: over(ledger, clock.now()))
        house = housekeeping(store, metrics, clock)
        for shift in (timedelta(), 2 * RETENTION, 2 * RETENTION, timedelta()):
            clock.shift = shift
            await house.forget()
        assert not (await store.run(lambda ledger: ledger.episodes.get(episode))).is_open
    assert forgotten(metrics) == 0
