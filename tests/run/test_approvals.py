"""Approvals, in process: what is asked, who may answer, and what an answer can and cannot do (promise S6)."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from remediator.core.playbook import Mode
from remediator.ports import Channel, OutcomeUnknown, TransientError
from tests.builders import PLAYBOOK
from tests.fakes import FakePlatform, Harness, harness
from tests.run.test_remediate import (
    HOUR,
    LADDER,
    RESTART,
    Lossy,
    PlatformHeldBeforeGo,
    failing,
    firing,
    later,
    limits,
    locks,
    previous_release,
    resolved,
    resolves_are_heard,
    until_calls,
)
from tests.waiting import eventually

MINUTE = timedelta(minutes=1)
ASKS = PLAYBOOK.replace(RESTART, RESTART + "    approval: required\n")
KILLED = {"shutdown_grace": timedelta()}
ROLL_BACK_ASKS = LADDER.replace("  - rollback: {}\n", "  - rollback: {}\n    approval: required\n")


@asynccontextmanager
async def staffed(
    directory: Path, platform: FakePlatform | None = None, playbooks: Sequence[str] = (ASKS,), **settings: Any
) -> AsyncIterator[Harness]:
    """A remediator that ann and bob may command; what is asked without a token is asked by ann."""
    operators = directory / "operators"
    operators.write_text("ann:token-of-ann\nbob:token-of-bob\n")
    async with harness(directory, platform, playbooks, operators_file=operators, **settings) as h:
        h.session.headers["Authorization"] = "Bearer token-of-ann"
        yield h


async def answer(
    h: Harness, verb: str, plan: str, run: str = "", whose: str = "ann", **said: Any
) -> tuple[int, dict[str, Any]]:
    """What `whose` token gets for an answer to the only run, or to `run`."""
    run = run or (await h.runs())[0]["id"]
    headers = {"Authorization": f"Bearer token-of-{whose}"}
    body = {"plan": plan, "why": "a test", **said}
    async with h.session.post(f"{h.url}/api/v1/runs/{run}/{verb}", json=body, headers=headers) as response:
        return response.status, await response.json()


async def asked(h: Harness, run: str = "") -> dict[str, Any]:
    """What the only run, or `run`, asks now; awaited until it asks."""
    run = run or (await h.until("asked"))[0]["id"]
    found: list[dict[str, Any]] = []

    async def is_asked() -> bool:
        async with h.session.get(f"{h.url}/api/v1/runs/{run}") as response:
            shown = (await response.json())["run"]["asked"]
        found[:] = [shown] if shown else []
        return bool(found)

    await eventually(is_asked)
    return found[0]


async def approve(h: Harness, **options: Any) -> None:
    plan = (await asked(h))["plan"]
    status, said = await answer(h, "approve", plan, **options)
    assert status == 200, said


async def reached(h: Harness, state: str, reason: str) -> None:
    async def is_there() -> bool:
        return any((run["state"], run["reason"]) == (state, reason) for run in await h.runs())

    await eventually(is_there)


async def told(h: Harness, count: int) -> list[dict[str, Any]]:
    """What people were told, once it is `count` messages or more."""
    kept = h.told[Channel.ESCALATION].messages
    await eventually(lambda: len(kept) >= count)
    return [dict(message.payload) for message in kept]


async def rows(h: Harness, kind: str) -> list[dict[str, Any]]:
    (run, *_) = await h.runs()
    return [row for row in await h.timeline(run["id"]) if row["kind"] == kind]


class TestAsking:
    async def test_nothing_is_done_before_somebody_approves(self, tmp_path):
        async with staffed(tmp_path) as h:
            await h.post(firing())
            question = await asked(h)
            assert question["command"] == "docker restart -t 1 shop-api-1"
            assert h.platform.performed == []

    async def test_people_are_told_what_would_be_done_how_to_answer_and_until_when(self, tmp_path):
        async with staffed(tmp_path) as h:
            await h.post(firing())
            question = await asked(h)
            (message,) = await told(h, 1)
            (run,) = await h.runs()
            assert message["commands"] == [question["command"]]
            assert message["approve"].startswith(f"remediator approve {run['id']} --plan {question['plan']} --by ")
            assert message["reject"].startswith(f"remediator reject {run['id']} --plan {question['plan']} --by ")
            assert message["answer_until"][:19] == question["until"][:19]

    async def test_they_are_told_once_however_often_it_is_looked_at_and_the_evidence_is_kept_once(self, tmp_path):
        async with staffed(tmp_path, playbooks=[ASKS + "diagnose: [stats]\n"]) as h:
            await h.post(firing())
            await asked(h)
            for _ in range(5):
                await later(h, MINUTE)
                await looked_at(h)
            assert len(await told(h, 1)) == 1
            assert [len(await rows(h, kind)) for kind in ("ask", "evidence", "decision")] == [1, 1, 1]

    async def test_what_only_suggests_asks_nobody(self, tmp_path):
        async with staffed(tmp_path, mode=Mode.SUGGEST) as h:
            await h.post(firing())
            await h.until("suggested")
            assert await rows(h, "ask") == []
            assert h.told[Channel.ESCALATION].messages == []

    async def test_a_refused_plan_is_not_asked_about(self, tmp_path):
        async with staffed(tmp_path, FakePlatform(allow=frozenset())) as h:
            await h.post(firing())
            await h.until("refused")
            assert await rows(h, "ask") == []

    @pytest.mark.parametrize("settings", [{"mode": Mode.APPROVE}, {"playbook_modes": {"api-down": Mode.APPROVE}}])
    async def test_in_mode_approve_every_playbook_asks(self, tmp_path, settings):
        async with staffed(tmp_path, playbooks=[PLAYBOOK], **settings) as h:
            await h.post(firing())
            await approve(h)
            await h.until("succeeded")
            assert h.platform.performed == ["restart"]

    async def test_how_many_wait_for_an_answer_is_a_gauge(self, tmp_path):
        async with staffed(tmp_path) as h:
            await h.post(firing())
            await asked(h)
            assert await h.app.store.run(lambda ledger: ledger.approvals.count_pending()) == 1
            assert "remediator_approvals_pending" in await h.metrics()


class TestApproved:
    async def test_it_is_decided_again_and_done_once(self, tmp_path):
        async with staffed(tmp_path) as h:
            await h.post(firing())
            await approve(h)
            await h.until("succeeded")
            assert h.platform.performed == ["restart"]
            decisions = [row["data"]["decision"] for row in await rows(h, "decision")]
            assert decisions == ["ask", "act"]
            (given,) = await rows(h, "approval")
            assert given["text"] == "approved by ann: a test"
            assert 'remediator_approvals_total{answer="approved"} 1.0' in await h.metrics()
            assert "plan.approved" in h.log.names()

    async def test_an_approval_is_no_reason_to_act_on_what_has_resolved(self, tmp_path):
        platform = PlatformHeldBeforeGo()
        async with staffed(tmp_path, platform) as h:
            await h.post(firing())
            await approve(h)
            await h.until("claimed")
            await h.post(resolved())
            await resolves_are_heard(h)
            platform.marking.set()
            (run,) = await h.until("cancelled")
            assert (run["reason"], platform.performed) == ("resolved", [])

    async def test_nor_to_act_sooner_than_the_cooldown_allows(self, tmp_path):
        text = limits(cooldown="5m").replace(RESTART, RESTART + "    approval: required\n    when: stats.memory_ratio > 0\n")
        async with staffed(tmp_path, playbooks=[text + "diagnose: [stats]\n"]) as h:
            await h.post(firing())
            await h.post(firing(instance="other"))
            first, second = await h.until("asked", count=2)
            for run in (first, second):
                assert (await answer(h, "approve", (await asked(h, run["id"]))["plan"], run["id"]))[0] == 200
                await h.until("succeeded", "waiting", count=2 if run is second else 1)
            await reached(h, "waiting", "cooldown")
            assert h.platform.performed == ["restart"]
            h.platform.healthy = False
            await later(h, 5 * MINUTE)
            await h.until("succeeded", count=2)  # the approval has lived on
            assert h.platform.performed == ["restart", "restart"]

    async def test_while_paused_it_waits_and_acts_after_the_resume_while_the_approval_lives(self, tmp_path):
        async with staffed(tmp_path) as h:
            await h.post(firing())
            question = await asked(h)
            await h.command("pause")
            assert (await answer(h, "approve", question["plan"]))[0] == 200
            await reached(h, "waiting", "paused")
            assert h.platform.performed == []
            await h.command("resume")
            await h.until("succeeded")
            assert h.platform.performed == ["restart"]

    async def test_when_the_pause_outlasts_the_approval_people_are_asked_anew(self, tmp_path):
        async with staffed(tmp_path) as h:
            await h.post(firing())
            question = await asked(h)
            await h.command("pause")
            assert (await answer(h, "approve", question["plan"]))[0] == 200
            await reached(h, "waiting", "paused")
            h.clock.shift += 11 * MINUTE
            await h.command("resume")
            await told(h, 2)
            assert h.platform.performed == []
            assert len({message.key for message in h.told[Channel.ESCALATION].messages}) == 2
            await approve(h)
            await h.until("succeeded")
            assert h.platform.performed == ["restart"]

    async def test_a_pause_that_ends_before_anybody_answered_is_not_news(self, tmp_path):
        async with staffed(tmp_path) as h:
            await h.post(firing())
            await asked(h)
            await h.command("pause")
            await later(h, MINUTE)
            await reached(h, "waiting", "paused")
            await h.command("resume")
            await approve(h)
            await h.until("succeeded")
            assert len(await rows(h, "ask")) == 1
            assert len(await told(h, 1)) == 1

    async def test_an_approval_after_give_up_counts_as_long_as_people_are_waited_for(self, tmp_path):
        patient = PLAYBOOK.replace("give_up: 30m", "give_up: 1m").replace(RESTART, RESTART + "    approval: required\n")
        async with staffed(tmp_path, playbooks=[patient]) as h:
            await h.post(firing())
            await asked(h)
            await later(h, 29 * MINUTE)
            await approve(h)
            await h.until("succeeded")


class TestUsedOnce:
    async def test_a_call_that_was_not_sent_has_used_it_up(self, tmp_path):
        platform = FakePlatform(fail_with=failing(TransientError("connection refused")))
        async with staffed(tmp_path, platform) as h:
            await h.post(firing())
            await approve(h)
            await until_calls(h, "not_sent", 1)
            await later(h, timedelta(seconds=2))
            (run,) = await h.until("escalated")
            assert (run["reason"], platform.performed) == ("approval_required", [])
            assert "used up" in (await rows(h, "decision"))[-1]["text"]
            assert len(await told(h, 2)) == 2

    async def test_so_has_one_that_is_seen_not_to_have_happened(self, tmp_path):
        platform = Lossy()
        async with staffed(tmp_path, platform) as h:
            await h.post(firing())
            await approve(h)
            await h.until("in_doubt")
            (run,) = await h.as_time_passes("escalated")
            assert (run["reason"], platform.performed) == ("approval_required", [])

    async def test_one_in_doubt_that_did_happen_is_verified_and_not_repeated(self, tmp_path):
        platform = FakePlatform(fail_with=failing(OutcomeUnknown("no answer")))
        async with staffed(tmp_path, platform) as h:
            await h.post(firing())
            await approve(h)
            await h.until("succeeded")
            assert platform.performed == ["restart"]

    async def test_a_crash_between_the_call_and_its_outcome_does_not_renew_it(self, tmp_path):
        platform = FakePlatform(hold=asyncio.Event())
        async with staffed(tmp_path, platform, **KILLED) as h:
            await h.post(firing())
            await approve(h)
            await h.until("called")
        platform.hold = None
        async with staffed(tmp_path, platform) as h:
            (run,) = await h.as_time_passes("escalated")
            assert (run["reason"], platform.performed) == ("approval_required", [])

    async def test_a_crash_between_the_claim_and_the_call_leaves_it_as_it_was(self, tmp_path):
        async with staffed(tmp_path, PlatformHeldBeforeGo(), **KILLED) as h:
            await h.post(firing())
            await approve(h)
            await h.until("claimed")
        async with staffed(tmp_path) as h:
            await h.until("succeeded")
            assert h.platform.performed == ["restart"]

    async def test_but_not_beyond_its_time(self, tmp_path):
        async with staffed(tmp_path, PlatformHeldBeforeGo(), **KILLED) as h:
            await h.post(firing())
            await approve(h)
            await h.until("claimed")
        async with staffed(tmp_path, away=11 * MINUTE) as h:
            (run,) = await h.until("escalated")
            assert (run["reason"], h.platform.performed) == ("approval_required", [])

    async def test_an_approval_that_runs_out_between_the_claim_and_the_call_is_seen_at_the_last_look(self, tmp_path):
        platform = PlatformHeldBeforeGo()
        async with staffed(tmp_path, platform, approval_lasts=timedelta(seconds=20)) as h:  # shorter than a lease
            await h.post(firing())
            await approve(h)
            await h.until("claimed")
            h.clock.shift += timedelta(seconds=20)
            platform.marking.set()
            (run,) = await h.until("escalated")
            assert (run["reason"], platform.performed) == ("not_approved", [])


class TestAnotherPlan:
    async def test_another_target_is_another_plan_and_the_old_approval_is_void(self, tmp_path):
        platform = Moving()
        async with staffed(tmp_path, platform) as h:
            await h.post(firing())
            old = await asked(h)
            await h.command("pause")
            assert (await answer(h, "approve", old["plan"]))[0] == 200
            await reached(h, "waiting", "paused")
            platform.place = "shop-api-2"
            await h.command("resume")
            await told(h, 2)
            new = await asked(h)
            assert platform.performed == []
            assert (new["command"], new["plan"] == old["plan"]) == ("docker restart -t 1 shop-api-2", False)
            assert new["until"] == old["until"]  # asking anew does not prolong the wait
            assert (await answer(h, "approve", old["plan"]))[0] == 409
            assert (await answer(h, "approve", new["plan"]))[0] == 200
            await h.until("succeeded")

    async def test_a_plan_that_has_changed_unnoticed_is_not_carried_out_on_the_old_approval(self, tmp_path):
        platform = Moving()
        async with staffed(tmp_path, platform) as h:
            await h.post(firing())
            old = await asked(h)
            platform.place = "shop-api-2"
            assert (await answer(h, "approve", old["plan"]))[0] == 200
            await told(h, 2)
            assert (await asked(h))["command"] == "docker restart -t 1 shop-api-2"
            assert platform.performed == []

    async def test_a_reload_changes_no_plan(self, tmp_path):
        async with staffed(tmp_path) as h:
            await h.post(firing())
            before = await asked(h)
            (tmp_path / "playbooks" / "api-down.yaml").write_text(ASKS.replace("timeout: 1s", "timeout: 9s"))
            assert h.app.shelf.load() == ()
            await later(h, MINUTE)
            await looked_at(h)
            assert await asked(h) == before
            await approve(h)
            await h.until("succeeded")


class TestRejected:
    async def test_it_is_refused_and_says_by_whom_and_why(self, tmp_path):
        async with staffed(tmp_path) as h:
            await h.post(firing())
            assert (await answer(h, "reject", (await asked(h))["plan"], whose="bob", why="we look at it"))[0] == 200
            (run,) = await h.until("refused")
            assert run["reason"] == "rejected"
            assert (await rows(h, "decision"))[-1]["text"] == "decided to refuse (rejected): rejected by bob: we look at it"
            assert h.platform.performed == []
            assert len(await told(h, 1)) == 1  # who rejected it knows


class TestNobodyAnswers:
    async def test_it_is_escalated_in_time_and_people_were_told_at_the_question_and_at_the_end(self, tmp_path):
        async with staffed(tmp_path) as h:
            await h.post(firing())
            await asked(h)
            await later(h, 30 * MINUTE - timedelta(seconds=5))
            await looked_at(h)
            assert (await h.runs())[0]["state"] == "asked"
            await later(h, timedelta(seconds=5))
            (run,) = await h.until("escalated")
            question, end = await told(h, 2)
            assert (run["reason"], end["reason"]) == ("not_approved", "not_approved")
            assert question["commands"][0] in end["commands"]

    async def test_an_answer_that_comes_too_late_is_refused(self, tmp_path):
        async with staffed(tmp_path) as h:
            await h.post(firing())
            question = await asked(h)
            h.clock.shift += 30 * MINUTE
            status, said = await answer(h, "approve", question["plan"])
            assert status == 409
            assert "until" in said["error"] or "escalated" in said["error"]
            await h.until("escalated")
            assert h.platform.performed == []

    async def test_an_alert_that_resolves_meanwhile_ends_the_question(self, tmp_path):
        async with staffed(tmp_path) as h:
            await h.post(firing())
            question = await asked(h)
            await h.post(resolved())
            await h.until("cancelled")
            status, said = await answer(h, "approve", question["plan"])
            assert (status, "cancelled (resolved)" in said["error"]) == (409, True)

    async def test_a_restart_of_remediator_asks_nobody_again(self, tmp_path):
        async with staffed(tmp_path, **KILLED) as h:
            await h.post(firing())
            before = await asked(h)
            await told(h, 1)
        async with staffed(tmp_path) as h:
            await later(h, MINUTE)
            await looked_at(h)
            assert await asked(h) == before
            assert len(await rows(h, "ask")) == 1
            assert h.told[Channel.ESCALATION].messages == []
            await approve(h)
            await h.until("succeeded")
            assert h.platform.performed == ["restart"]


class TestRungAbove:
    """A rung that asks, after one that was taken and did not help."""

    @asynccontextmanager
    async def climbed(self, directory: Path) -> AsyncIterator[Harness]:
        platform = FakePlatform(cures=frozenset({"rollback"}))
        await previous_release(directory, platform, "sha256:v1")
        async with staffed(directory, platform, [ROLL_BACK_ASKS]) as h:
            await h.post(firing())
            assert (await asked(h))["command"] == "docker run --name shop-api-1 sha256:v1"
            yield h

    async def test_it_asks_while_it_holds_its_target(self, tmp_path):
        async with self.climbed(tmp_path) as h:
            await h.post(firing(instance="other"))
            await reached(h, "waiting", "locked")
            assert h.platform.performed == ["restart"]
            await approve(h, run=(await h.runs())[0]["id"])
            await h.until("succeeded")
            assert h.platform.performed[:2] == ["restart", "rollback"]

    async def test_an_approval_of_the_first_rung_says_nothing_about_the_second(self, tmp_path):
        platform = FakePlatform(cures=frozenset({"rollback"}))
        await previous_release(tmp_path, platform, "sha256:v1")
        async with staffed(tmp_path, platform, [LADDER], mode=Mode.APPROVE) as h:
            await h.post(firing())
            first = await asked(h)
            assert (await answer(h, "approve", first["plan"]))[0] == 200
            await told(h, 2)
            second = await asked(h)
            assert platform.performed == ["restart"]
            assert second["plan"] != first["plan"]
            assert (await answer(h, "approve", second["plan"]))[0] == 200
            await h.until("succeeded")

    async def test_a_rejection_frees_the_target(self, tmp_path):
        async with self.climbed(tmp_path) as h:
            assert (await answer(h, "reject", (await asked(h))["plan"]))[0] == 200
            await h.until("refused")
            assert await locks(h) == 0

    async def test_it_waits_for_people_as_long_as_the_first(self, tmp_path):
        async with self.climbed(tmp_path) as h:
            await later(h, 29 * MINUTE)
            await looked_at(h)
            assert (await h.runs())[0]["state"] == "asked"
            await later(h, HOUR)
            (run,) = await h.until("escalated")
            assert run["reason"] == "not_approved"


class TestWhoMay:
    async def test_two_at_once_are_one_answer(self, tmp_path):
        async with staffed(tmp_path) as h:
            await h.post(firing())
            plan = (await asked(h))["plan"]
            given = await asyncio.gather(*(answer(h, "approve", plan, whose=whose) for whose in ("ann", "bob")))
            assert sorted(status for status, _ in given) == [200, 409]
            await h.until("succeeded")
            assert len(await rows(h, "approval")) == 1
            assert h.platform.performed == ["restart"]

    async def test_yes_and_no_at_once_are_one_answer_too(self, tmp_path):
        async with staffed(tmp_path) as h:
            await h.post(firing())
            plan = (await asked(h))["plan"]
            given = await asyncio.gather(answer(h, "approve", plan), answer(h, "reject", plan, whose="bob"))
            assert sorted(status for status, _ in given) == [200, 409]
            (run,) = await h.until("succeeded", "refused")
            assert h.platform.performed == (["restart"] if run["state"] == "succeeded" else [])

    async def test_nobody_answers_in_another_s_name(self, tmp_path):
        async with staffed(tmp_path) as h:
            await h.post(firing())
            plan = (await asked(h))["plan"]
            status, said = await answer(h, "approve", plan, by="bob")
            assert (status, "nobody answers in another's name" in said["error"]) == (403, True)
            assert await rows(h, "approval") == []
            assert (await answer(h, "approve", plan, by="ann"))[0] == 200

    async def test_without_operators_nobody_can_and_the_answer_says_what_to_configure(self, tmp_path):
        async with harness(tmp_path, playbooks=[ASKS]) as h:
            await h.post(firing())
            await h.until("asked")
            status, said = await answer(h, "approve", (await asked(h))["plan"])
            assert (status, "REMEDIATOR_OPERATORS_FILE" in said["error"]) == (403, True)
            assert (await h.runs())[0]["state"] == "asked"
            assert await rows(h, "approval") == []


class Moving(FakePlatform):
    """The service is moved to another container."""

    place = "shop-api-1"

    def workload(self, service: str = "shop-api"):
        found = super().workload(service)
        return type(found)(found.platform, found.kind, self.place, service, found.allow, found.instances, found.release)


async def looked_at(h: Harness) -> None:
    """Every run that was due has been looked at."""

    def all_given_back(ledger) -> bool:
        next_due = ledger.runs.next_due()
        return next_due is not None and next_due > ledger.now

    await eventually(lambda: h.app.store.run(all_given_back))
