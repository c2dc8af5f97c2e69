"""Housekeeping: the gauges say what is in force now."""

from remediator.core.playbook import PlaybookIndex
from remediator.housekeeping import Housekeeping
from remediator.telemetry import Metrics, Telemetry
from tests.builders import playbook
from tests.fakes import SettableClock, SilentLog
from tests.storage.stores import policy, sqlite


async def test_a_playbook_that_a_reload_took_away_has_no_gauges_any_more(tmp_path):
    in_force = [playbook(name="stays"), playbook(name="goes")]
    metrics, clock = Metrics(), SettableClock()
    async with sqlite(tmp_path) as store:
        house = Housekeeping(store, [], lambda: PlaybookIndex(in_force), policy, clock, Telemetry(metrics, SilentLog()))
        await house.tidy()
        in_force.pop()
        await house.tidy()
    for name in ("remediator_breakers_open", "remediator_rate_remaining"):
        assert metrics.registry.get_sample_value(name, {"playbook": "stays"}) is not None
        assert metrics.registry.get_sample_value(name, {"playbook": "goes"}) is None
