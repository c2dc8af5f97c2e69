"""The worker: it drains on stop, keeps a broken run to itself, and outlives its store."""

import asyncio
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest

from remediator.core.playbook import Mode
from remediator.ports import Channel, OutcomeUnknown, StoreUnavailable
from remediator.worker import BREAKDOWN_RETRY
from tests.builders import PLAYBOOK, webhook_alert, webhook_message
from tests.fakes import FakePlatform, Harness, harness
from tests.waiting import eventually


class Broken(FakePlatform):
    """An adapter with a bug: it raises what no port allows, for one service only."""

    async def find(self, selection):
        if selection.fields["service"] == "shop-broken":
            raise ZeroDivisionError
        return await super().find(selection)


class Dark(FakePlatform):
    """Never finds out about one service whether it is there."""

    async def find(self, selection):
        if selection.fields["service"] == "shop-dark":
            await asyncio.Event().wait()
        return await super().find(selection)


async def lose_the_store(h: Harness, directory: Path) -> None:
    """The file cannot be opened any more, and the connection that was open fails."""

    def work(_ledger) -> None:
        (directory / "remediator.db").rename(directory / "away.db")
        (directory / "remediator.db").mkdir()
        raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(StoreUnavailable):
        await h.app.store.run(work)


def bring_the_store_back(directory: Path) -> None:
    (directory / "remediator.db").rmdir()
    (directory / "away.db").rename(directory / "remediator.db")


class TestDraining:
    async def test_what_is_under_way_is_finished_before_the_process_ends(self, tmp_path):
        platform = FakePlatform(hold=asyncio.Event())
        async with harness(tmp_path, platform) as h:
            await h.post(webhook_message())
            await h.until("called")
            stopped = asyncio.create_task(h.app.worker.stop(timedelta(seconds=10)))
            await asyncio.sleep(0)
            platform.hold.set()
            await stopped
            (run,) = await h.runs()
            assert run["state"] == "succeeded"

    async def test_nothing_new_is_begun(self, tmp_path):
        async with harness(tmp_path) as h:
            await h.app.worker.stop(timedelta())
            assert await h.post(webhook_message()) == 200
            h.app.worker.wake()
            assert {run["state"] for run in await h.runs()} <= {"new"}  # read from the inbox at most
            assert h.platform.performed == []
        async with harness(tmp_path, h.platform) as h:
            await h.until("succeeded")

    async def test_a_call_that_takes_longer_than_the_grace_is_left_in_doubt_and_not_lost(self, tmp_path):
        platform = FakePlatform(hold=asyncio.Event())
        async with harness(tmp_path, platform) as h:
            await h.post(webhook_message())
            await h.until("called")
            await h.app.worker.stop(timedelta())
            (run,) = await h.runs()
            assert run["state"] == "called"

    async def test_what_is_put_down_while_a_call_is_waited_for_is_free_for_others_at_the_end(self, tmp_path):
        platform = Dark(hold=asyncio.Event())
        async with harness(tmp_path, platform) as h:
            await h.post(webhook_message(webhook_alert(service="shop-dark"), webhook_alert()))
            await h.until("called")
            stopped = asyncio.create_task(h.app.worker.stop(timedelta(seconds=10)))
            await asyncio.sleep(0)
            platform.hold.set()
            await stopped
            (dark,) = [run["id"] for run in await h.runs() if run["state"] == "new"]
            assert (await h.app.store.run(lambda ledger: ledger.runs.get(dark))).lease_until is None


class TestBreakdown:
    async def test_a_run_that_breaks_down_hurts_no_other(self, tmp_path):
        async with harness(tmp_path, Broken()) as h:
            await h.post(webhook_message(webhook_alert(service="shop-broken"), webhook_alert()))
            await h.until("succeeded")
            assert "run.broke_down" in h.log.names()

    async def test_it_is_tried_again_and_left_to_people_at_its_deadline(self, tmp_path):
        async with harness(tmp_path, Broken()) as h:
            await h.post(webhook_message(webhook_alert(service="shop-broken")))
            await h.until("new")
            await eventually(lambda: "run.broke_down" in h.log.names())
            h.clock.shift += timedelta(minutes=31)
            h.app.worker.wake()
            (run,) = await h.until("escalated")
            assert run["reason"] == "broke_down"

    async def test_a_playbook_that_this_version_cannot_read_is_left_to_people_at_once(self, tmp_path):
        async with harness(tmp_path) as h:
            await h.command("pause")
            await h.post(webhook_message())
            await h.until("waiting")
            await h.app.store.run(lambda ledger: ledger.runs._db.run("UPDATE playbooks SET source = 'name: api-down'"))
        async with harness(tmp_path) as h:  # another version of remediator, say
            await h.command("resume")
            (run,) = await h.until("escalated")
            assert (run["reason"], h.platform.performed) == ("broke_down", [])
            (problems,) = [facts["problems"] for name, facts in h.log.events if name == "run.playbook_unreadable"]
            assert any("ladder" in problem for problem in problems)

    async def test_a_run_that_cannot_even_be_left_to_people_is_given_back_and_tried_again(self, tmp_path):
        async with harness(tmp_path, Broken()) as h:
            await h.post(webhook_message(webhook_alert(service="shop-broken")))
            await eventually(lambda: "run.broke_down" in h.log.names())
            (run,) = await h.runs()
            unknown = f"""
                INSERT INTO ledger (at, kind, run_id, episode_id, playbook, rung, target, score, who, data)
                VALUES (0, 'of a later version', '{run["id"]}', 1, '', 0, '', '', '', '{{}}')
            """
            await h.app.store.run(lambda ledger: ledger.runs._db.run(unknown))
            h.clock.shift += timedelta(minutes=31)
            h.app.worker.wake()
            await eventually(lambda: "run.abandon_failed" in h.log.names())
            h.clock.shift += BREAKDOWN_RETRY
            h.app.worker.wake()
            await eventually(lambda: h.log.names().count("run.abandon_failed") == 2)

    async def test_no_more_runs_are_advanced_at_once_than_configured_and_the_others_follow(self, tmp_path):
        platform = FakePlatform(hold=asyncio.Event())
        unlimited = PLAYBOOK.replace("give_up: 30m", "give_up: 30m, max: [100 per 1h], max_all_targets: [100 per 1h]")
        async with harness(tmp_path, platform, [unlimited], max_concurrent_runs=2) as h:
            await h.post(webhook_message(*(webhook_alert(service=f"shop-{number}") for number in range(5))))
            await h.until("called", count=2)
            assert [run["state"] for run in await h.runs()].count("new") == 3
            platform.hold.set()
            await h.until("succeeded", count=5)


class TestStoreOutage:
    async def test_alerts_are_refused_with_503_and_readiness_says_why(self, tmp_path):
        async with harness(tmp_path) as h:
            await lose_the_store(h, tmp_path)
            assert await h.post(webhook_message()) == 503
            async with h.session.get(f"{h.url}/-/ready") as response:
                assert (response.status, await response.text()) == (503, "the store cannot be written\n")
            async with h.session.get(f"{h.url}/api/v1/runs") as response:
                assert response.status == 503
            assert "remediator_store_up 0.0" in await h.metrics()
            bring_the_store_back(tmp_path)

    async def test_a_store_that_comes_back_is_used_again_without_a_restart(self, tmp_path):
        async with harness(tmp_path) as h:
            await lose_the_store(h, tmp_path)
            await h.post(webhook_message())
            bring_the_store_back(tmp_path)
            assert await h.post(webhook_message()) == 200
            await h.until("succeeded")
            assert "remediator_store_up 1.0" in await h.metrics()

    async def test_an_outage_during_the_call_ends_in_an_observation_and_not_in_a_second_call(self, tmp_path):
        platform = FakePlatform(hold=asyncio.Event())
        async with harness(tmp_path, platform) as h:
            await h.post(webhook_message())
            await h.until("called")
            await lose_the_store(h, tmp_path)
            platform.hold.set()
            await eventually(lambda: "store.unavailable" in h.log.names() and platform.performed)
            bring_the_store_back(tmp_path)
            await h.until("succeeded")
            assert platform.performed == ["restart"]


class TestPoison:
    async def test_a_message_that_cannot_be_expanded_is_kept_aside_and_the_others_go_on(self, tmp_path):
        async with harness(tmp_path) as h:
            put = f"INSERT INTO inbox (received_at, body) VALUES ({10**18}, '')"  # a time that no calendar has
            await h.app.store.run(lambda ledger: ledger.inbox._db.run(put))
            await h.post(webhook_message())
            await h.until("succeeded")
            assert "inbox.set_aside" in h.log.names()
            kept = "SELECT count(*) AS kept FROM inbox WHERE set_aside = 1"
            assert (await h.app.store.run(lambda ledger: ledger.inbox._db.one(kept)["kept"])) == 1


class TestBreakdowns:
    async def test_a_call_that_cannot_be_settled_goes_to_a_person_and_keeps_its_target(self, tmp_path):
        class Blind(FakePlatform):
            async def observe(self, step, workload, mark):
                raise ZeroDivisionError

        platform = Blind(fail_with=lambda: OutcomeUnknown("the line broke"))
        async with harness(tmp_path, platform) as h:
            h.clock.shift = timedelta()
            await h.post(webhook_message())
            await h.until("in_doubt")
            h.clock.shift = timedelta(hours=1)  # past its deadline
            await eventually(lambda: h.told[Channel.ESCALATION].messages, seconds=15)
            (run,) = await h.runs()
            assert run["state"] == "in_doubt"
            locked = await h.app.store.run(lambda ledger: ledger.claims._other_holder([run["target"]], "another"))
            assert locked == run["id"]

    async def test_what_was_begun_in_auto_and_would_only_be_suggested_now_reaches_people(self, tmp_path):
        still_down = PLAYBOOK.replace("within: 300ms", "within: 2s").replace(
            "  - restart: {timeout: 1s}", "  - restart\n  - start"
        )
        platform = FakePlatform(cures=frozenset(), allow=frozenset({"restart", "start"}))
        async with harness(tmp_path, platform, [still_down]) as h:
            await h.post(webhook_message())
            await h.until("verifying")
        async with harness(tmp_path, platform, [still_down], mode=Mode.SUGGEST) as h:
            (run,) = await h.until("escalated")
            assert run["reason"] == "mode_suggest"
            assert platform.performed == ["restart"]
