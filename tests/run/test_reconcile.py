"""Reconciliation: lost messages, silences and maintenance, over a real store and an Alertmanager in memory."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest

from remediator.clock import SystemClock
from remediator.core.alert import EpisodeState
from remediator.core.maintenance import Period, Window
from remediator.core.playbook import Mode, PlaybookIndex
from remediator.core.run import RunEvent, RunState
from remediator.core.snapshot import Policy
from remediator.core.verdict import Reason
from remediator.ingress.expand import Admission, expand
from remediator.reconcile import Reconciliation, Rhythm
from remediator.storage.migrate import upgrade
from remediator.storage.sqlite import SqliteStore
from remediator.telemetry import Metrics, Telemetry
from tests.builders import PLAYBOOK, playbook, webhook_alert, webhook_message
from tests.fakes import FakeAlertmanager, FakePlatform, SettableClock, SilentLog, harness
from tests.waiting import eventually

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


@dataclass
class Desk:
    """One reconciliation, what it stands on, and what tests ask of it."""

    store: SqliteStore
    clock: SettableClock
    alertmanager: FakeAlertmanager
    reconciliation: Reconciliation
    metrics: Metrics
    log: SilentLog
    policy: Policy
    wakes: int = 0

    async def look(self, after: timedelta = MINUTE) -> None:
        self.clock.shift += after
        await self.reconciliation.look()

    async def hear(self, status: str = "firing", began_ago: timedelta = HOUR, **labels: str) -> None:
        """A message comes in through the webhook, and is expanded."""
        now = self.clock.now()
        ends_at = now if status == "resolved" else None
        await self.store.put(webhook_message(webhook_alert(status, now - began_ago, ends_at, **labels)), now)
        index = PlaybookIndex((playbook(),))
        await self.store.run(lambda ledger: expand(ledger, index, lambda _: f"heard-{next(RUNS):04}", ledger.now))

    async def cancel_for(self, reason: Reason) -> None:
        """The newest run stands back, as `remediate` does when a guard says so."""

        def work(ledger):
            (run,) = ledger.runs.lease("me", ledger.now, ledger.now + MINUTE, 10)
            ledger.runs.move(run, RunEvent.CANCEL, ledger.now, reason=reason)

        await self.store.run(work)

    async def runs(self) -> list[tuple[RunState, Reason]]:
        """Oldest first."""
        found = await self.store.run(lambda ledger: ledger.runs.list(100))
        return [(run.state, run.reason) for run in reversed(found)]

    async def open(self) -> list[str]:
        """The names of the alerts whose episodes are open."""
        page = await self.store.run(lambda ledger: ledger.episodes.page_of_open(None))
        return sorted(episode.labels["alertname"] for episode, _ in page)

    def drift(self, kind: str) -> float:
        return self.metrics.registry.get_sample_value("remediator_reconcile_drift_total", {"kind": kind}) or 0

    def plan(self, *windows: Window) -> None:
        self.policy = replace(self.policy, maintenance=windows)


RUNS = count()


@pytest.fixture
async def desk(tmp_path) -> AsyncIterator[Desk]:
    async with a_desk(tmp_path) as desk:
        yield desk


@asynccontextmanager
async def a_desk(tmp_path, **changes: Any) -> AsyncIterator[Desk]:
    clock, metrics, log = SettableClock(), Metrics(), SilentLog()
    store = SqliteStore(tmp_path / "store.db", lambda: desk.policy, timedelta(seconds=10), clock)
    upgrade(tmp_path / "store.db")
    alertmanager = FakeAlertmanager(clock.now() - HOUR, clock)
    index = PlaybookIndex((playbook(),))

    def wake() -> None:
        desk.wakes += 1

    reconciliation = Reconciliation(
        store,
        changes.get("alerts", alertmanager),
        lambda: Admission(index, lambda: f"new-{next(RUNS):04}"),
        lambda: desk.policy,
        Rhythm(),
        wake,
        Telemetry(metrics, log),
    )
    desk = Desk(store, clock, alertmanager, reconciliation, metrics, log, Policy(mode=Mode.AUTO))
    yield desk
    await store.close()


def ago(passed: timedelta) -> datetime:
    return SystemClock().now() - passed


class TestLostMessages:
    async def test_what_fires_and_was_never_told_of_is_opened_and_becomes_a_run(self, desk):
        desk.alertmanager.fires(ago(HOUR))
        await desk.look()
        assert await desk.runs() == [(RunState.NEW, Reason.CLEAR)]
        assert (desk.drift("opened"), desk.wakes) == (1, 1)
        await desk.look()
        assert len(await desk.runs()) == 1
        assert (desk.drift("opened"), desk.wakes) == (1, 1)

    async def test_what_no_playbook_matches_is_opened_and_put_on_record(self, desk):
        desk.alertmanager.fires(ago(HOUR), alertname="Nobody's")
        await desk.look()
        assert await desk.open() == ["Nobody's"]
        refused = {"playbook": "", "decision": "refuse", "reason": "no_playbook"}
        assert desk.metrics.registry.get_sample_value("remediator_decisions_total", refused) == 1

    async def test_what_the_webhook_told_of_is_only_heard_of_again(self, desk):
        desk.alertmanager.fires(ago(HOUR))
        await desk.hear()
        await desk.look()
        assert len(await desk.runs()) == 1
        assert desk.drift("opened") == 0

    async def test_the_watchdog_and_what_is_no_alert_of_ours_open_nothing(self, desk):
        desk.alertmanager.fires(ago(HOUR), alertname="Watchdog")
        desk.alertmanager.fires(ago(HOUR), alertname="DatasourceNoData")
        await desk.look()
        assert await desk.open() == []

    async def test_ten_thousand_listed_alerts_are_taken_in_many_short_transactions(self, desk):
        for number in range(1_000):
            desk.alertmanager.fires(ago(HOUR), instance=str(number))
        transactions = 0
        run = desk.store.run

        async def counted(work):
            nonlocal transactions
            transactions += 1
            return await run(work)

        desk.store.run = counted
        await desk.look()
        assert desk.drift("opened") == 1_000
        assert transactions >= 10


class TestGone:
    async def test_an_alert_that_is_gone_for_two_looks_in_a_row_is_closed(self, desk):
        desk.alertmanager.fires(ago(HOUR))
        await desk.hear()
        await desk.look()
        desk.alertmanager.firing.clear()
        await desk.look()
        assert await desk.open() == ["APIDown"]
        await desk.look()
        assert await desk.open() == []
        assert desk.drift("closed") == 1
        unhandled = {"playbook": "api-down", "handled": "no"}
        assert desk.metrics.registry.get_sample_value("remediator_time_to_recovery_seconds_count", unhandled) == 1

    async def test_one_that_a_message_tells_of_meanwhile_stays_open(self, desk):
        desk.alertmanager.fires(ago(HOUR))
        await desk.hear()
        await desk.look()
        desk.alertmanager.firing.clear()
        for _ in range(3):
            await desk.hear()
            await desk.look()
        assert await desk.open() == ["APIDown"]

    async def test_one_that_was_never_listed_is_somebody_elses_and_left_alone(self, desk):
        await desk.hear()
        for _ in range(4):
            await desk.look()
        assert await desk.open() == ["APIDown"]

    async def test_an_alertmanager_that_has_just_started_knows_nothing_yet(self, desk):
        desk.alertmanager.fires(ago(HOUR))
        await desk.hear()
        await desk.look()
        desk.alertmanager.firing.clear()
        desk.alertmanager.up_since = desk.clock.now()
        for _ in range(5):  # minutes: the fifth is the first that counts
            await desk.look()
        assert await desk.open() == ["APIDown"]
        await desk.look()
        assert await desk.open() == []

    async def test_while_it_cannot_be_asked_nothing_is_closed_and_it_is_said_once(self, desk):
        desk.alertmanager.fires(ago(HOUR))
        await desk.hear()
        await desk.look()
        desk.alertmanager.unreachable = True
        for _ in range(3):
            await desk.look()
        up = "remediator_neighbour_up", {"neighbour": "alertmanager"}
        assert await desk.open() == ["APIDown"]
        assert desk.metrics.registry.get_sample_value(*up) == 0
        desk.alertmanager.unreachable = False
        await desk.look()
        assert desk.metrics.registry.get_sample_value(*up) == 1
        assert [name for name in desk.log.names() if name.startswith("reconcile")] == [
            "reconcile.failed",
            "reconcile.recovered",
        ]

    async def test_a_list_that_cannot_be_read_whole_ends_nothing(self, desk):
        desk.alertmanager.fires(ago(HOUR))
        await desk.hear()
        await desk.look()
        desk.alertmanager.firing.clear()
        desk.alertmanager.unreadable = 1
        for _ in range(3):
            await desk.look()
        assert await desk.open() == ["APIDown"]

    async def test_a_clock_that_is_set_back_closes_nothing_that_is_listed(self, desk):
        desk.alertmanager.fires(ago(2 * HOUR))
        await desk.hear()
        for passed in (MINUTE, -HOUR, MINUTE, MINUTE):
            await desk.look(after=passed)
        assert await desk.open() == ["APIDown"]

    async def test_nor_what_was_first_heard_of_after_that(self, desk):
        await desk.look()
        desk.clock.shift -= HOUR / 2
        desk.alertmanager.fires(ago(2 * HOUR))
        await desk.hear()
        await desk.look(after=MINUTE)
        assert await desk.open() == ["APIDown"]


class TestMutes:
    async def test_what_is_silenced_from_the_beginning_is_opened_when_the_silence_ends(self, desk):
        desk.alertmanager.fires(ago(HOUR), Reason.SILENCED)
        await desk.look()
        assert await desk.open() == []
        desk.alertmanager.unsilence()
        await desk.look()
        assert await desk.runs() == [(RunState.NEW, Reason.CLEAR)]

    @pytest.mark.parametrize("reason", [Reason.SILENCED, Reason.INHIBITED])
    async def test_a_run_that_was_cancelled_for_it_is_begun_anew_when_it_is_over(self, desk, reason):
        desk.alertmanager.fires(ago(HOUR), reason)
        await desk.hear()
        await desk.cancel_for(reason)
        for _ in range(3):
            await desk.look()
        assert len(await desk.runs()) == 1, "not while it is muted"
        desk.alertmanager.unsilence()
        await desk.look()
        assert await desk.runs() == [(RunState.CANCELLED, reason), (RunState.NEW, Reason.CLEAR)]
        assert [desk.drift(kind) for kind in ("muted", "unmuted", "taken_up")] == [1, 1, 1]
        await desk.look()
        assert len(await desk.runs()) == 2

    async def test_a_run_that_was_cancelled_for_another_reason_is_not(self, desk):
        desk.alertmanager.fires(ago(HOUR))
        await desk.hear()
        await desk.cancel_for(Reason.UNCORROBORATED)
        await desk.look()
        assert len(await desk.runs()) == 1

    async def test_nothing_is_begun_anew_while_nobody_can_say_that_the_silence_is_over(self, desk):
        desk.alertmanager.fires(ago(HOUR))
        await desk.hear()
        await desk.cancel_for(Reason.SILENCED)
        desk.alertmanager.unreachable = True
        await desk.look()
        assert len(await desk.runs()) == 1
        desk.alertmanager.unreachable = False
        await desk.look()
        assert len(await desk.runs()) == 2

    async def test_what_ended_during_its_silence_is_closed_and_not_begun_anew(self, desk):
        desk.alertmanager.fires(ago(HOUR), Reason.SILENCED)
        await desk.hear()
        await desk.cancel_for(Reason.SILENCED)
        await desk.look()
        desk.alertmanager.firing.clear()
        await desk.look()
        await desk.look()
        assert await desk.open() == []
        assert len(await desk.runs()) == 1

    async def test_a_silenced_alert_does_not_expire_while_it_is_listed(self, desk):
        desk.alertmanager.fires(ago(HOUR), Reason.SILENCED)
        await desk.hear()
        await desk.look(after=9 * HOUR)
        silent_since = desk.clock.now() - Policy().episode_expiry
        assert not await desk.store.run(lambda ledger: ledger.episodes.expire(silent_since, ledger.now))


class TestMaintenance:
    @pytest.mark.parametrize("configured", [True, False])
    async def test_what_was_cancelled_for_a_window_is_begun_anew_after_it_with_or_without_alertmanager(
        self, tmp_path, configured
    ):
        async with a_desk(tmp_path, **({} if configured else {"alerts": None})) as desk:
            now = desk.clock.now()
            desk.plan(Window("upgrade", (Period(now, now + 10 * MINUTE),)))
            desk.alertmanager.fires(ago(HOUR))
            await desk.hear()
            await desk.cancel_for(Reason.MAINTENANCE)
            await desk.look()
            assert len(await desk.runs()) == 1
            await desk.look(after=10 * MINUTE)
            assert await desk.runs() == [(RunState.CANCELLED, Reason.MAINTENANCE), (RunState.NEW, Reason.CLEAR)]

    async def test_a_window_that_a_reload_took_away_is_over(self, desk):
        await desk.hear()
        await desk.cancel_for(Reason.MAINTENANCE)
        await desk.look()
        assert len(await desk.runs()) == 2

    async def test_what_is_silenced_when_the_window_ends_waits_for_the_end_of_the_silence(self, desk):
        desk.alertmanager.fires(ago(HOUR), Reason.SILENCED)
        await desk.hear()
        await desk.cancel_for(Reason.MAINTENANCE)
        await desk.look()
        assert len(await desk.runs()) == 1
        desk.alertmanager.unsilence()
        await desk.look()
        assert len(await desk.runs()) == 2

    async def test_the_gauge_counts_the_windows_whose_time_it_is(self, desk):
        now = desk.clock.now()
        desk.plan(Window("now", (Period(now, now + HOUR),)), Window("later", (Period(now + HOUR, now + 2 * HOUR),)))
        await desk.look()
        for state in ("in_force", "waiting"):
            assert desk.metrics.registry.get_sample_value("remediator_maintenance_windows", {"state": state}) == 1


class TestStale:
    """The run was left because nothing was heard of its alert for long; then it is listed."""

    async def test_it_is_begun_anew_when_the_alert_is_listed(self, desk):
        await desk.hear()
        await desk.cancel_for(Reason.STALE)
        desk.alertmanager.fires(desk.clock.now() - HOUR)
        await desk.look()
        assert await desk.runs() == [(RunState.CANCELLED, Reason.STALE), (RunState.NEW, Reason.CLEAR)]

    async def test_it_is_not_while_nobody_lists_it(self, desk):
        await desk.hear()
        await desk.cancel_for(Reason.STALE)
        await desk.look()
        assert await desk.runs() == [(RunState.CANCELLED, Reason.STALE)]


class TestWholePath:
    """With the worker and the guards: what an operator's silence does to a run, and what its end does."""

    async def test_a_silence_cancels_the_run_that_waits_and_its_end_lets_it_be_made(self, tmp_path):
        alertmanager = FakeAlertmanager(ago(HOUR))
        alertmanager.fires(ago(HOUR))
        async with harness(tmp_path, playbooks=[PLAYBOOK.replace("settle: 0s", "settle: 10m")], alerts=alertmanager) as h:
            await h.post(webhook_message(webhook_alert(starts_at=ago(HOUR))))
            await h.until("waiting")
            alertmanager.silence()
            await h.app.reconciliation.look()
            (run,) = await h.until("cancelled")
            assert run["reason"] == "silenced"
            h.clock.shift += 11 * MINUTE  # it has settled
            alertmanager.unsilence()
            await h.app.reconciliation.look()
            runs = await h.until("succeeded")
            assert [one["state"] for one in runs] == ["cancelled", "succeeded"]
            assert h.platform.performed == ["restart"]

    async def test_a_run_during_maintenance_is_cancelled_and_made_after_it(self, tmp_path):
        now = SystemClock().now()
        plan = tmp_path / "maintenance.yaml"
        begins, ends = (now - MINUTE).isoformat(), (now + 10 * MINUTE).isoformat()
        matchers = "['service = shop-api']"
        plan.write_text(f"windows: [{{name: upgrade, who: ann, matchers: {matchers}, from: '{begins}', until: '{ends}'}}]")
        async with harness(tmp_path, maintenance_file=plan) as h:
            await h.post(webhook_message(webhook_alert(starts_at=ago(HOUR))))
            (run,) = await h.until("cancelled")
            (decision,) = [row for row in await h.timeline(run["id"]) if row["kind"] == "decision"]
            assert decision["data"]["seen"] == "planned maintenance: upgrade"
            await h.app.reconciliation.look()
            assert len(await h.runs()) == 1
            h.clock.shift += 11 * MINUTE
            await h.app.reconciliation.look()
            await h.until("succeeded")
            assert h.platform.performed == ["restart"]

    async def test_while_alertmanager_is_gone_the_disruptive_step_waits_and_goes_on_when_it_is_back(self, tmp_path):
        alertmanager = FakeAlertmanager(ago(HOUR))
        alertmanager.fires(ago(HOUR))
        alertmanager.unreachable = True
        async with harness(tmp_path, alerts=alertmanager) as h:
            await h.post(webhook_message(webhook_alert(starts_at=ago(HOUR))))
            (run,) = await h.until("waiting")
            assert (run["reason"], h.platform.performed) == ("silence_unknown", [])
            alertmanager.unreachable = False
            h.clock.shift += MINUTE
            h.app.worker.wake()
            await h.until("succeeded")

    async def test_a_loop_that_meets_a_bug_goes_on(self, tmp_path):
        class Odd(FakeAlertmanager):
            looks = 0

            async def everything(self):
                self.looks += 1
                if self.looks == 1:
                    raise ValueError("nobody has thought of this")
                return await super().everything()

        alertmanager = Odd(ago(HOUR))
        async with harness(tmp_path, FakePlatform(), alerts=alertmanager, reconcile_every=timedelta(seconds=1)) as h:
            await eventually(lambda: alertmanager.looks >= 2)
            assert h.log.names().count("reconcile.broke_down") == 1


async def test_closing_is_what_a_resolve_would_have_done(desk):
    """State, and what a later firing means."""
    desk.alertmanager.fires(ago(HOUR))
    await desk.hear()
    await desk.look()
    desk.alertmanager.firing.clear()
    await desk.look()
    await desk.look()
    last = await desk.store.run(lambda ledger: ledger.episodes.get(1))
    assert last.state is EpisodeState.RESOLVED
    await desk.hear(began_ago=timedelta())
    assert len(await desk.runs()) == 2
