"""What Alertmanager's silence about an alert means: nothing, if it never listed it, and that it may be over, if it did."""

from datetime import timedelta

from remediator.clock import SystemClock
from remediator.ports import Channel
from tests.builders import PLAYBOOK
from tests.fakes import FakeAlertmanager, harness
from tests.run.test_approvals import approve, staffed
from tests.run.test_remediate import HOUR, firing, later, message, resolved

LONG = timedelta(minutes=10)
VERIFIES_THE_ALERT = PLAYBOOK.replace("[healthy]", "[healthy, alert_resolved]").replace("within: 300ms", "within: 1s")


def alertmanager(*, lists: bool) -> FakeAlertmanager:
    neighbour = FakeAlertmanager(SystemClock().now() - HOUR)
    if lists:
        neighbour.fires(SystemClock().now() - HOUR)
    return neighbour


class TestAnAlertOfSomebodyElse:
    """Grafana posts its own alerts; the Alertmanager that is configured never hears of them."""

    async def test_it_is_still_asked_about_long_after_its_last_message(self, tmp_path):
        async with staffed(tmp_path, alerts=alertmanager(lists=False)) as h:
            await h.post(firing())
            await h.until("asked")
            await later(h, LONG)
            await approve(h)
            await h.until("succeeded")
            assert h.platform.performed == ["restart"]

    async def test_it_is_not_over_because_nobody_lists_it(self, tmp_path):
        async with harness(tmp_path, playbooks=[VERIFIES_THE_ALERT], alerts=alertmanager(lists=False)) as h:
            await h.post(firing())
            (run,) = await h.until("escalated")
            assert run["reason"] == "ladder_exhausted"

    async def test_it_is_over_when_its_resolve_is_heard(self, tmp_path):
        patient = VERIFIES_THE_ALERT.replace("within: 1s", "within: 20s")
        async with harness(tmp_path, playbooks=[patient], alerts=alertmanager(lists=False)) as h:
            await h.post(firing())
            await h.until("verifying")
            await h.post(resolved())
            await h.until("succeeded")


class TestAnAlertThatItListed:
    async def test_its_end_there_is_the_alerts_end(self, tmp_path):
        neighbour = alertmanager(lists=True)
        patient = VERIFIES_THE_ALERT.replace("within: 1s", "within: 20s")
        async with harness(tmp_path, playbooks=[patient], alerts=neighbour) as h:
            await h.post(firing())
            await h.until("verifying")
            neighbour.firing.clear()
            await h.until("succeeded")

    async def test_people_who_were_asked_about_it_are_told_when_nothing_comes_of_it(self, tmp_path):
        neighbour = alertmanager(lists=True)
        async with staffed(tmp_path, alerts=neighbour) as h:
            await h.post(firing())
            await h.until("asked")
            await h.app.reconciliation.look()
            neighbour.firing.clear()
            await later(h, LONG)
            (run,) = await h.until("waiting")
            assert run["reason"] == "unconfirmed"
            await later(h, 4 * LONG)
            (run,) = await h.until("escalated")
            assert run["reason"] == "unconfirmed"
            assert (await message(h, Channel.ESCALATION))["reason"] == "unconfirmed"


async def test_an_alert_whose_run_was_left_as_stale_is_begun_again_when_it_is_heard_of(tmp_path):
    """The run was decided about before the episode was swept away as expired."""
    async with harness(tmp_path, playbooks=[PLAYBOOK.replace("settle: 0s", "settle: 1m")], shutdown_grace=timedelta()) as h:
        await h.post(firing())
        await h.until("waiting")
        await later(h, timedelta(hours=6))
        (run,) = await h.until("cancelled")
        assert run["reason"] == "stale"
        await h.post(firing(began_ago=HOUR))
        await h.until("succeeded")
        assert h.platform.performed == ["restart"]
