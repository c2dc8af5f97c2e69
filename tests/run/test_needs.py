"""A service that needs another: held while that is ill, looked at again when it is well, and restarted in its turn."""

import asyncio
from datetime import timedelta
from pathlib import Path

from remediator.clock import SystemClock
from tests.builders import PLAYBOOK, webhook_alert, webhook_message
from tests.fakes import FakePlatform, Harness, harness

MINUTE = timedelta(minutes=1)
DATABASE = {"alertname": "DatabaseDown", "service": "shop-db"}
NEEDS = """
services:
  - {name: shop-api, needs: [shop-db]}
  - {name: shop-web, needs: [shop-db]}
  - {name: shop-db}
"""


def services(directory: Path, text: str = NEEDS) -> Path:
    path = directory / "services.yaml"
    path.write_text(text)
    return path


async def post(h: Harness, status: str, **labels: str) -> None:
    now = SystemClock().now()
    ends_at = now if status == "resolved" else None
    await h.post(webhook_message(webhook_alert(status, now - MINUTE, ends_at, **labels)))


async def time_passes(h: Harness, passed: timedelta) -> None:
    h.clock.shift += passed
    h.app.worker.wake()


async def until_reason(h: Harness, *reasons: str) -> list[dict]:
    """The waiting runs, once these are what they wait for."""
    async with asyncio.timeout(10):
        while True:
            waiting = [run for run in await h.runs() if run["state"] == "waiting"]
            if sorted(run["reason"] for run in waiting) == sorted(reasons):
                return waiting
            await asyncio.sleep(0.01)


async def why(h: Harness, run: str, guard: str) -> str:
    """What the guard said when the run was last decided about."""
    decisions = [row["data"] for row in await h.timeline(run) if row["kind"] == "decision"]
    return decisions[-1]["verdicts"][guard][1]


async def test_a_service_waits_for_what_it_needs_and_then_for_itself_to_get_well_and_is_restarted_if_it_does_not(tmp_path):
    async with harness(tmp_path, services_file=services(tmp_path)) as h:
        await post(h, "firing", **DATABASE)
        await post(h, "firing")
        (run,) = await until_reason(h, "cause_open")
        assert (await why(h, run["id"], "hold")).startswith("first its cause: shop-db (DatabaseDown since ")
        await post(h, "resolved", **DATABASE)
        await until_reason(h, "settling")
        assert "shop-db has been well since" in await why(h, run["id"], "hold")
        assert h.platform.performed == []
        await time_passes(h, MINUTE)
        await h.until("succeeded")
        assert h.platform.performed == ["restart"]


async def test_one_that_is_well_again_with_what_it_needs_is_not_touched(tmp_path):
    async with harness(tmp_path, services_file=services(tmp_path)) as h:
        await post(h, "firing", **DATABASE)
        await post(h, "firing")
        await until_reason(h, "cause_open")
        await post(h, "resolved", **DATABASE)
        await until_reason(h, "settling")
        await post(h, "resolved")
        (run,) = await h.until("cancelled")
        assert (run["reason"], h.platform.performed) == ("resolved", [])


async def test_a_clock_that_is_set_forward_leaves_it_the_time_to_get_well(tmp_path):
    async with harness(tmp_path, services_file=services(tmp_path)) as h:
        await post(h, "firing", **DATABASE)
        await post(h, "firing")
        await until_reason(h, "cause_open")
        await post(h, "resolved", **DATABASE)
        await until_reason(h, "settling")
        h.clock.set_by += 10 * MINUTE
        h.app.worker.wake()
        await post(h, "firing", service="shop-nothing")
        await h.until("refused")
        assert h.platform.performed == []
        await time_passes(h, MINUTE)
        await h.until("succeeded")


async def test_of_two_that_need_the_same_one_waits_until_the_other_is_done(tmp_path):
    platform = FakePlatform(hold=asyncio.Event())
    async with harness(tmp_path, platform, services_file=services(tmp_path)) as h:
        await post(h, "firing", **DATABASE)
        await post(h, "firing")
        await post(h, "firing", service="shop-web")
        await until_reason(h, "cause_open", "cause_open")
        await post(h, "resolved", **DATABASE)
        await until_reason(h, "settling", "settling")
        await time_passes(h, MINUTE)
        await h.until("called")
        (waiting,) = await until_reason(h, "in_turn")
        first = {"shop-api": "shop-web", "shop-web": "shop-api"}[waiting["labels"]["service"]]
        assert await why(h, waiting["id"], "in_turn") == f"one at a time: {first} is being repaired"
        platform.hold.set()
        await h.until("succeeded", count=2)
        assert platform.performed == ["restart", "restart"]


async def test_without_a_services_file_nobody_waits_for_anybody(tmp_path):
    async with harness(tmp_path, playbooks=[PLAYBOOK]) as h:
        await post(h, "firing", **DATABASE)
        await post(h, "firing")
        await h.until("succeeded")


async def test_the_services_are_read_again_and_a_file_that_is_wrong_changes_nothing(tmp_path):
    async with harness(tmp_path, services_file=services(tmp_path)) as h:
        services(tmp_path, NEEDS.replace("shop-db}", "shop-db, needs: [shop-web]}"))
        problems = h.app.shelf.load()
        assert [problem.partition("services.yaml:")[2] for problem in problems] == [
            "4: services[1].needs: nothing could ever be repaired first: shop-web needs shop-db, which needs shop-web;"
            " leave one of these out"
        ]
        assert h.app.shelf.policy.dependencies.needs["shop-web"] == {"shop-db"}
        services(tmp_path, NEEDS.replace("shop-web, needs: [shop-db]", "shop-web"))
        assert h.app.shelf.load() == ()
        assert h.app.shelf.policy.dependencies.needs["shop-web"] == frozenset()
        assert ("services.loaded", {"count": 3, "needing": 1}) in h.log.events
