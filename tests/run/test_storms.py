"""Storms of alerts, in process: too much fails at once, so the monitor is suspected, and nothing is restarted for it."""

from datetime import timedelta

from remediator.ports import Channel
from tests.builders import PLAYBOOK, webhook_alert, webhook_message
from tests.fakes import FakePlatform, Harness, harness
from tests.run.test_approvals import ASKS, asked, rows, staffed
from tests.run.test_remediate import firing, later, limits, resolved
from tests.waiting import eventually

MINUTE = timedelta(minutes=1)
STORM = {"storm": {"targets": 3, "window": "2m", "calm": 1}}
PATIENT = limits(give_up="10m")


class Asked(FakePlatform):
    """Counts how often it was asked for a workload."""

    def __init__(self) -> None:
        super().__init__()
        self.finds = 0

    async def find(self, selection):
        self.finds += 1
        return await super().find(selection)


def blown(h: Harness, count: int = 4, begin: int = 0) -> bytes:
    """Alerts of that many targets, in one message."""
    now = h.clock.now()
    return webhook_message(*(webhook_alert(starts_at=now, service=f"shop-{begin + number}") for number in range(count)))


def summaries(h: Harness) -> list[str]:
    return [message.payload["summary"] for message in h.told[Channel.ESCALATION].messages]


async def over(h: Harness) -> None:
    """The alerts of the storm leave its window, and it is looked at."""
    await later(h, 2 * MINUTE)
    await eventually(lambda: "storm.over" in h.log.names())


async def test_up_to_the_threshold_every_alert_is_acted_on(tmp_path):
    async with harness(tmp_path, playbooks=[PATIENT], **STORM) as h:
        await h.post(blown(h, 3))
        await h.until("succeeded", count=3)
        assert summaries(h) == []


async def test_above_it_every_new_run_is_held_with_an_explained_decision_and_no_platform_is_asked(tmp_path):
    platform = Asked()
    async with harness(tmp_path, platform, [PATIENT], **STORM) as h:
        await h.post(blown(h))
        runs = await h.until("waiting", count=4)
        assert {run["reason"] for run in runs} == {"storm"}
        for run in runs:
            (decision,) = await h.timeline(run["id"])
            assert decision["text"].startswith("decided to wait (storm): a storm of alerts since")
        assert (platform.finds, platform.performed) == (0, [])


async def test_what_comes_later_in_the_storm_is_held_too(tmp_path):
    platform = Asked()
    async with harness(tmp_path, platform, [PATIENT], **STORM) as h:
        await h.post(blown(h))
        await h.until("waiting", count=4)
        await h.post(blown(h, 1, begin=9))
        await h.until("waiting", count=5)
        assert platform.finds == 0


async def test_people_get_one_message_at_its_beginning_and_one_at_its_end(tmp_path):
    async with harness(tmp_path, playbooks=[PATIENT], **STORM) as h:
        await h.post(blown(h))
        await eventually(lambda: summaries(h))
        await h.post(blown(h, 4, begin=4))
        await h.until("waiting", count=8)
        assert len(summaries(h)) == 1
        await over(h)
        await h.until("succeeded", count=8)
        await eventually(lambda: len(summaries(h)) == 2)
        begun, ended = summaries(h)
        assert begun.endswith("4 targets when it began; its runs are held")
        assert "it is over, 8 runs are taken up again" in ended


async def test_it_does_not_end_just_below_where_it_began(tmp_path):
    async with harness(tmp_path, playbooks=[PATIENT], **STORM) as h:
        await h.post(blown(h))
        await h.until("waiting", count=4)
        h.clock.shift += MINUTE
        await h.post(blown(h, 2, begin=4))
        runs = await h.until("waiting", count=6)
        assert {run["reason"] for run in runs} == {"storm"}
        h.clock.shift += MINUTE  # the first four leave the window
        await h.post(blown(h, 1, begin=4))
        await eventually(lambda: h.app.store.run(lambda ledger: ledger.inbox.oldest() is None))
        assert "storm.over" not in h.log.names()
        await over(h)
        await h.until("succeeded", count=6)


async def test_what_resolves_meanwhile_is_cancelled_and_asks_no_platform(tmp_path):
    platform = Asked()
    async with harness(tmp_path, platform, [PATIENT], **STORM) as h:
        await h.post(blown(h))
        await h.until("waiting", count=4)
        await h.post(resolved(service="shop-0"))
        await h.until("cancelled")
        assert platform.finds == 0


async def test_what_it_outlasts_is_escalated_without_a_message_for_each(tmp_path):
    async with harness(tmp_path, playbooks=[limits(give_up="1m")], **STORM) as h:
        await h.post(blown(h))
        await h.until("waiting", count=4)
        await later(h, MINUTE)
        runs = await h.until("escalated", count=4)
        assert {run["reason"] for run in runs} == {"storm"}
        await over(h)
        await eventually(lambda: len(summaries(h)) == 2)
        assert "it is over, 0 runs are taken up again" in summaries(h)[1]
        assert h.platform.performed == []


async def test_a_step_that_is_under_way_is_verified_though_a_storm_begins(tmp_path):
    platform = FakePlatform(cures=frozenset())
    text = PATIENT.replace("within: 300ms", "within: 1m")
    async with harness(tmp_path, platform, [text], **STORM) as h:
        await h.post(firing())
        await h.until("verifying")
        await h.post(blown(h))
        await h.until("waiting", count=4)
        platform.healthy = True
        await h.until("succeeded")
        assert platform.performed == ["restart"]


async def test_a_question_to_people_waits_for_the_end_and_is_not_put_twice(tmp_path):
    web = PLAYBOOK.replace("api-down", "web-down").replace("APIDown", "WebDown")
    async with staffed(tmp_path, playbooks=[ASKS.replace("give_up: 30m", "give_up: 10m"), web], **STORM) as h:
        await h.post(firing())
        before = await asked(h)
        now = h.clock.now()
        alerts = [webhook_alert(starts_at=now, alertname="WebDown", service=f"shop-{number}") for number in range(4)]
        await h.post(webhook_message(*alerts))
        await h.until("waiting", count=4)
        await later(h, MINUTE)
        await h.until("waiting", count=5)
        await over(h)
        assert await asked(h, (await h.runs())[0]["id"]) == before
        assert len(await rows(h, "ask")) == 1
