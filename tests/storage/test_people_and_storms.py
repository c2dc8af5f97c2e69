"""What every store promises about questions to people, breakers, storms and heartbeats; it means the same on each of them."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import pytest

from remediator.asking import Answer, Objection, ask, question_of, take
from remediator.core.playbook import BreakerLimits, Limits
from remediator.core.run import Run, RunEvent, RunState
from remediator.core.snapshot import Approval, Policy, Score, Storm
from remediator.core.verdict import Reason
from remediator.ports import Asked, Breaker, Fenced, Ledger, LedgerKind, LedgerRow, Store
from tests.builders import NOW, candidate, playbook
from tests.storage.stores import STORES
from tests.storage.test_ledger import API, INTENT, MINUTE, TEXT, called, ended, facts, leased, opened

WEB = "docker:service/shop/web"
HALF_AN_HOUR = 30 * MINUTE
MICROSECOND = timedelta(microseconds=1)
ROW = LedgerRow(NOW, LedgerKind.DECISION, data={"decision": "ask", "reason": "approval_required", "seen": ""})


@pytest.fixture(params=STORES)
async def store(request, tmp_path) -> AsyncIterator[Store]:
    async with STORES[request.param](request, tmp_path) as store:
        yield store


def asking(ledger: Ledger, run: str = "r1", plan: str = "p1", at: datetime = NOW, **labels: str) -> Run:
    """A run that asks about a plan."""
    new = replace(leased(ledger, run, at, **labels), target=API)
    return ledger.approvals.ask(new, Asked(plan, "docker restart shop-api-1", at + HALF_AN_HOUR), at)


def approval(plan: str = "p1", by: str = "ann", at: datetime = NOW, *, granted: bool = True) -> Approval:
    return Approval(plan, by, "a test", granted, at + 10 * MINUTE)


def gone(ledger: Ledger, run: Run, at: datetime = NOW, plan: str = "p1") -> tuple[Run, Reason]:
    """Claimed, and looked at for the last time."""
    taken = ledger.claims.claim(run, [API], at, replace(INTENT, at=at))
    return ledger.claims.go(taken, {}, at, plan)


class TestQuestions:
    async def test_a_run_that_asks_waits_for_an_answer_and_says_what_it_asks(self, store):
        def work(ledger: Ledger) -> None:
            run = asking(ledger)
            assert ledger.runs.get("r1").state is RunState.ASKED
            assert ledger.approvals.asked(run) == Asked("p1", "docker restart shop-api-1", NOW + HALF_AN_HOUR)
            assert ledger.approvals.count_pending() == 1

        await store.run(work)

    async def test_one_that_never_asked_has_no_question(self, store):
        def work(ledger: Ledger) -> None:
            run = leased(ledger)
            assert ledger.approvals.asked(run) is None
            assert ledger.approvals.given("r1", 0) is None
            assert ledger.approvals.count_pending() == 0

        await store.run(work)

    async def test_the_newest_question_counts_and_does_not_prolong_the_wait(self, store):
        def work(ledger: Ledger) -> None:
            run = asking(ledger)
            later = Asked("p2", "docker restart shop-api-2", NOW + 99 * MINUTE)
            run = ledger.approvals.ask(run, later, NOW + MINUTE)
            assert ledger.approvals.asked(run) == Asked("p2", "docker restart shop-api-2", NOW + HALF_AN_HOUR, number=2)

        await store.run(work)

    async def test_each_rung_asks_for_itself(self, store):
        def work(ledger: Ledger) -> None:
            run = asking(ledger)
            ledger.approvals.answer(run, approval(), NOW)
            above = replace(run, rung=1)
            assert ledger.approvals.asked(above) is None
            assert ledger.approvals.given("r1", 1) is None

        await store.run(work)

    async def test_nobody_asks_with_an_old_fence(self, store):
        def setup(ledger: Ledger) -> Run:
            old = leased(ledger)
            ledger.runs.lease("they", NOW + MINUTE, NOW + 2 * MINUTE, 10)
            return old

        old = await store.run(setup)
        with pytest.raises(Fenced):
            await store.run(lambda ledger: ledger.approvals.ask(old, Asked("p1", "x", NOW + HALF_AN_HOUR), NOW))
        assert await store.run(lambda ledger: ledger.runs.timeline("r1")) == []


class TestAnswers:
    async def test_an_answer_is_on_record_with_who_and_why_and_the_question_is_answered(self, store):
        def work(ledger: Ledger) -> None:
            run = asking(ledger)
            ledger.approvals.answer(run, approval(), NOW + MINUTE)
            assert ledger.approvals.given("r1", 0) == approval()
            assert ledger.approvals.asked(run).answered
            row = ledger.runs.timeline("r1")[-1]
            assert (row.kind, row.who, row.data["why"], row.data["granted"]) == (LedgerKind.APPROVAL, "ann", "a test", True)

        await store.run(work)

    async def test_it_wakes_the_run(self, store):
        def work(ledger: Ledger) -> None:
            run = asking(ledger)
            ledger.runs.release(run, NOW + HALF_AN_HOUR)
            ledger.approvals.answer(run, approval(), NOW + MINUTE)
            assert [each.id for each in ledger.runs.lease("me", NOW + MINUTE, NOW + 2 * MINUTE, 10)] == ["r1"]

        await store.run(work)

    async def test_the_newest_one_counts(self, store):
        def work(ledger: Ledger) -> None:
            run = asking(ledger)
            ledger.approvals.answer(run, approval(granted=False), NOW)
            ledger.approvals.answer(
                run, approval(by="bob"), NOW - MINUTE
            )  # the clock was set back: the order of the rows counts
            assert ledger.approvals.given("r1", 0).by == "bob"

        await store.run(work)

    async def test_a_question_that_is_put_anew_after_an_answer_is_open_again(self, store):
        def work(ledger: Ledger) -> None:
            run = asking(ledger)
            ledger.approvals.answer(run, approval(), NOW)
            run = ledger.approvals.ask(run, Asked("p1", "x", NOW + HALF_AN_HOUR), NOW + 11 * MINUTE)
            assert (ledger.approvals.asked(run).answered, ledger.approvals.asked(run).number) == (False, 2)

        await store.run(work)

    async def test_a_call_uses_it_up(self, store):
        def work(ledger: Ledger) -> None:
            run = asking(ledger)
            ledger.approvals.answer(run, approval(), NOW)
            assert not ledger.approvals.given("r1", 0).used
            assert gone(ledger, run)[1] is Reason.CLEAR
            assert ledger.approvals.given("r1", 0).used

        await store.run(work)

    async def test_only_who_waits_for_an_answer_is_held_for_one(self, store):
        def work(ledger: Ledger) -> None:
            run = asking(ledger)
            assert ledger.approvals.hold("r1", NOW)
            ledger.runs.move(run, RunEvent.WAIT, NOW, reason=Reason.PAUSED)
            assert not ledger.approvals.hold("r1", NOW)
            assert not ledger.approvals.hold("r2", NOW)

        await store.run(work)


class TestTheLastLookAtAnApproval:
    """Whatever the guards said: nothing is sent without a living approval of exactly this plan (promise S6)."""

    @pytest.mark.parametrize(
        ("given", "at", "reason"),
        [
            (approval(), NOW, Reason.CLEAR),
            (approval(), NOW + 10 * MINUTE - MICROSECOND, Reason.CLEAR),
            (approval(), NOW + 10 * MINUTE, Reason.NOT_APPROVED),
            (approval("p2"), NOW, Reason.NOT_APPROVED),
            (approval(granted=False), NOW, Reason.NOT_APPROVED),
            (None, NOW, Reason.NOT_APPROVED),
        ],
        ids=["alive", "to its last moment", "expired", "another plan", "rejected", "none"],
    )
    async def test_it_must_be_alive(self, store, given, at, reason):
        def work(ledger: Ledger) -> None:
            run = asking(ledger)
            ledger.runs.renew([run], NOW + HALF_AN_HOUR)
            if given is not None:
                ledger.approvals.answer(run, given, NOW)
            assert gone(ledger, run, at)[1] is reason

        await store.run(work)

    async def test_and_not_used(self, store):
        def work(ledger: Ledger) -> None:
            run = asking(ledger)
            ledger.approvals.answer(run, approval(), NOW)
            run, _ = gone(ledger, run)
            again = ledger.runs.move(run, RunEvent.DID_NOT_HAPPEN, NOW)
            assert ledger.claims.go(again, {}, NOW, "p1")[1] is Reason.NOT_APPROVED

        await store.run(work)

    async def test_a_step_that_needs_none_is_not_asked_for_one(self, store):
        assert await store.run(lambda ledger: gone(ledger, replace(leased(ledger), target=API), plan="")[1]) is Reason.CLEAR


class TestAskingAndTaking:
    """`asking.py` on a real store: the time is the store's own."""

    POLICY = Policy(approval_within=HALF_AN_HOUR, approval_lasts=10 * MINUTE)

    def ask(self, ledger: Ledger, run: Run | None = None, policy: Policy = POLICY):
        run = run or replace(leased(ledger, at=ledger.now), target=API)
        return ask(ledger, run, candidate(run=run.id), "docker restart shop-api-1", ROW, policy)

    async def test_a_plan_is_put_to_people_once(self, store):
        def work(ledger: Ledger) -> None:
            first = self.ask(ledger)
            again = self.ask(ledger, first.run)
            assert (len(first.posted), again.posted, again.asked) == (1, (), first.asked)

        await store.run(work)

    async def test_nobody_gives_up_while_people_are_waited_for(self, store):
        def work(ledger: Ledger) -> None:
            patient = replace(self.POLICY, approval_within=5 * HALF_AN_HOUR)
            asked = self.ask(ledger, policy=patient)
            assert ledger.runs.get("r1").deadline == asked.run.deadline == asked.asked.until + 10 * MINUTE

        await store.run(work)

    async def test_the_first_answer_is_taken_and_the_second_is_told_so(self, store):
        def work(ledger: Ledger) -> None:
            plan = self.ask(ledger).asked.plan
            taken = take(ledger, Answer("r1", plan, True, "ann", "a test"), self.POLICY)
            assert (taken.by, taken.granted, taken.plan) == ("ann", True, plan)
            second = take(ledger, Answer("r1", plan, False, "bob", "a test"), self.POLICY)
            assert isinstance(second, Objection)
            assert "answered already" in second.why
            assert ledger.approvals.given("r1", 0).by == "ann"

        await store.run(work)

    async def test_of_answers_that_come_at_once_one_is_taken(self, store):
        asked = (await store.run(self.ask)).asked
        given = [Answer("r1", asked.plan, number % 2 == 0, f"operator {number}", "a test") for number in range(8)]
        taken = await asyncio.gather(*(store.run(partial(take, answer=each, policy=self.POLICY)) for each in given))
        assert sorted(isinstance(each, Objection) for each in taken) == [False] + [True] * 7
        timeline = await store.run(lambda ledger: ledger.runs.timeline("r1"))
        assert sum(row.kind is LedgerKind.APPROVAL for row in timeline) == 1

    async def test_an_answer_to_another_plan_is_told_what_is_asked_now(self, store):
        def work(ledger: Ledger) -> None:
            asked = self.ask(ledger).asked
            said = take(ledger, Answer("r1", "another", True, "ann", "a test"), self.POLICY)
            assert said.asked == asked
            assert ledger.approvals.given("r1", 0) is None
            assert question_of(ledger, ledger.runs.get("r1")) == asked

        await store.run(work)

    async def test_an_answer_after_the_time_is_not_taken(self, store):
        def work(ledger: Ledger) -> None:
            run = replace(leased(ledger, at=ledger.now), target=API)
            over = Asked("p1", "x", ledger.now)
            ledger.approvals.ask(run, over, ledger.now)
            said = take(ledger, Answer("r1", "p1", True, "ann", "a test"), self.POLICY)
            assert "could be answered until" in said.why

        await store.run(work)

    async def test_of_a_run_that_asks_nothing_it_is_said_what_it_does(self, store):
        def work(ledger: Ledger) -> None:
            leased(ledger, at=ledger.now)
            said = take(ledger, Answer("r1", "p1", True, "ann", "a test"), self.POLICY)
            assert "asks nothing now: it is new" in said.why
            assert take(ledger, Answer("r2", "p1", True, "ann", "a test"), self.POLICY) is None

        await store.run(work)


class TestBreakers:
    LIMITS = Limits(breaker=BreakerLimits(failures=2, targets=2, open_for=15 * MINUTE))
    PLAYBOOK = playbook(limits=LIMITS)

    def failed(self, ledger: Ledger, *targets: str) -> None:
        for number, target in enumerate(targets):
            run = called(ledger, f"r{number}", NOW, target, instance=str(number))
            ended(ledger, run, Score.FAILURE, NOW)

    async def test_none_is_listed_while_all_are_closed(self, store):
        def work(ledger: Ledger) -> None:
            self.failed(ledger, API)
            assert ledger.breakers.of(self.PLAYBOOK) == []

        await store.run(work)

    async def test_those_of_targets_and_that_of_the_playbook_are_listed(self, store):
        def work(ledger: Ledger) -> None:
            self.failed(ledger, API, API, WEB)
            until = NOW + 15 * MINUTE
            assert ledger.breakers.of(self.PLAYBOOK) == [
                Breaker("api-down", "", until, 1), Breaker("api-down", API, until, 1),
            ]  # fmt: skip

        await store.run(work)

    @pytest.mark.parametrize(("which", "left"), [("", [API]), (API, [""])])
    async def test_a_reset_closes_the_one_that_was_named(self, store, which, left):
        def work(ledger: Ledger) -> None:
            self.failed(ledger, API, API, WEB)
            ledger.breakers.reset(Breaker("api-down", which, NOW, 1), "ann", "repaired", NOW)
            assert [each.target for each in ledger.breakers.of(self.PLAYBOOK)] == left

        await store.run(work)

    async def test_it_clears_no_limit_of_rate_and_no_cooldown(self, store):
        def work(ledger: Ledger) -> None:
            self.failed(ledger, API, API)
            before = facts(ledger)
            ledger.breakers.reset(Breaker("api-down", API, NOW, 1), "ann", "repaired", NOW + MINUTE)
            after = facts(ledger)
            assert after.intents_on_target == before.intents_on_target != ()
            assert after.last_finished_at == before.last_finished_at == NOW

        await store.run(work)

    async def test_it_wakes_what_waits_for_a_trial(self, store):
        def work(ledger: Ledger) -> None:
            run = ledger.runs.move(leased(ledger), RunEvent.WAIT, NOW, reason=Reason.BREAKER_TRIAL)
            ledger.runs.release(run, NOW + HALF_AN_HOUR)
            ledger.breakers.reset(Breaker("api-down", "", NOW, 1), "ann", "repaired", NOW + MINUTE)
            assert len(ledger.runs.lease("me", NOW + MINUTE, NOW + 2 * MINUTE, 10)) == 1

        await store.run(work)

    async def test_what_people_were_told_is_in_doubt_is_a_failure_of_its_playbook_until_it_is_settled(self, store):
        def work(ledger: Ledger) -> None:
            seen = LedgerRow(NOW + MINUTE, LedgerKind.OBSERVATION, data={"happened": "unknown", "seen": ""})
            doubt = ledger.runs.move(called(ledger), RunEvent.DOUBT, NOW, reason=Reason.CLEAR)
            assert facts(ledger).results_of_playbook == ()  # still being looked at
            doubt = ledger.runs.move(doubt, RunEvent.DOUBT, NOW, seen, reason=Reason.IN_DOUBT)
            (result,) = facts(ledger).results_of_playbook
            assert (result.at, result.target, result.score) == (NOW + MINUTE, API, Score.FAILURE)
            ledger.runs.move(doubt, RunEvent.HAPPENED, NOW)
            assert facts(ledger).results_of_playbook == ()

        await store.run(work)

    async def test_the_re_fires_of_a_playbook_are_known_by_target(self, store):
        def work(ledger: Ledger) -> None:
            called(ledger, target=WEB)
            assert (WEB, NOW) in facts(ledger).openings_of_playbook

        await store.run(work)


class TestStorms:
    """Of the default limits: more than 20 targets within two minutes begin one, five or fewer end it."""

    def alerts(self, ledger: Ledger, numbers: range, at: datetime = NOW) -> None:
        for number in numbers:
            episode = opened(ledger, at, instance=str(number))
            ledger.runs.admit(f"r{number}", episode, TEXT, at, at + HALF_AN_HOUR, aim=f"service=shop-{number}")

    async def test_it_begins_above_the_threshold_and_not_at_it(self, store):
        def work(ledger: Ledger) -> None:
            self.alerts(ledger, range(20))
            assert (ledger.storms.look(NOW), ledger.storms.current()) == (None, None)
            self.alerts(ledger, range(20, 21))
            assert ledger.storms.look(NOW) == ledger.storms.current() == Storm(NOW, 21)
            assert ledger.storms.look(NOW) is None  # it has begun once

        await store.run(work)

    async def test_many_alerts_of_one_target_are_none(self, store):
        def work(ledger: Ledger) -> None:
            for number in range(50):
                ledger.runs.admit(
                    f"r{number}", opened(ledger, instance=str(number)), TEXT, NOW, NOW + HALF_AN_HOUR, aim="service=shop-api"
                )
            assert ledger.storms.look(NOW) is None

        await store.run(work)

    async def test_nor_are_as_many_that_came_one_after_the_other(self, store):
        def work(ledger: Ledger) -> None:
            for number in range(50):
                at = NOW + number * 10 * timedelta(seconds=1)
                self.alerts(ledger, range(number, number + 1), at)
                assert ledger.storms.look(at) is None

        await store.run(work)

    async def test_new_runs_are_held_at_once_each_with_an_explained_decision(self, store):
        def work(ledger: Ledger) -> None:
            self.alerts(ledger, range(21))
            ledger.storms.look(NOW)
            runs = ledger.runs.list(50)
            assert {(run.state, run.reason) for run in runs} == {(RunState.WAITING, Reason.STORM)}
            assert ledger.runs.count_held() == 21
            (decision,) = ledger.runs.timeline("r7")
            assert (decision.kind, decision.data["decision"], decision.data["reason"]) == (LedgerKind.DECISION, "wait", "storm")
            assert "21 targets" in decision.data["seen"]
            assert ledger.runs.lease("me", NOW + MINUTE, NOW + 2 * MINUTE, 50) == []

        await store.run(work)

    async def test_a_run_that_a_worker_has_in_its_hands_is_left_to_it(self, store):
        def work(ledger: Ledger) -> None:
            mine = leased(ledger, "mine", alertname="Mine")
            self.alerts(ledger, range(21))
            ledger.storms.look(NOW)
            assert ledger.runs.get("mine") == mine

        await store.run(work)

    async def test_it_ends_far_below_where_it_began_and_wakes_what_it_held(self, store):
        def work(ledger: Ledger) -> None:
            self.alerts(ledger, range(21))
            ledger.storms.look(NOW)
            at = NOW + 2 * MINUTE  # the first 21 have left the window
            self.alerts(ledger, range(30, 36), at)
            assert ledger.storms.look(at) is None  # six are not calm
            assert ledger.storms.current() is not None
            at += 2 * MINUTE
            self.alerts(ledger, range(40, 45), at)
            assert ledger.storms.look(at) == Storm(NOW, 21, over_at=at)
            assert ledger.storms.current() is None
            assert len(ledger.runs.lease("me", at, at + MINUTE, 50)) == 21 + 6 + 5

        await store.run(work)

    async def test_what_it_held_too_long_is_due_at_its_deadline(self, store):
        def work(ledger: Ledger) -> None:
            self.alerts(ledger, range(21))
            ledger.storms.look(NOW)
            assert ledger.runs.next_due() == NOW + HALF_AN_HOUR

        await store.run(work)

    async def test_guards_see_it(self, store):
        def work(ledger: Ledger) -> None:
            self.alerts(ledger, range(21))
            ledger.storms.look(NOW)
            assert facts(ledger).storm == Storm(NOW, 21)

        await store.run(work)


class TestHeartbeats:
    async def test_what_was_never_heard_of_has_no_time(self, store):
        assert await store.run(lambda ledger: ledger.heartbeats.heard_at("Watchdog")) is None

    async def test_the_latest_time_is_kept_in_whatever_order_they_come(self, store):
        def work(ledger: Ledger) -> None:
            for minutes in (1, 3, 2):
                ledger.heartbeats.beat("Watchdog", NOW + minutes * MINUTE)
            ledger.heartbeats.beat("Other", NOW + 9 * MINUTE)
            assert ledger.heartbeats.heard_at("Watchdog") == NOW + 3 * MINUTE

        await store.run(work)
