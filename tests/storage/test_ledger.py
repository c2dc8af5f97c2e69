"""What every store promises, in one transaction at a time. Each test runs against each store and means the same."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from remediator.core.alert import EpisodeState, Heard
from remediator.core.matching import parse_matcher
from remediator.core.playbook import Limits
from remediator.core.run import Run, RunEvent, RunState
from remediator.core.snapshot import Candidate, Found, Paused, Score
from remediator.core.step import Restart
from remediator.core.target import Health, Instance
from remediator.core.verdict import Reason
from remediator.ports import Channel, Fenced, Ledger, LedgerKind, LedgerRow, Message, PlaybookText, Store
from tests.builders import NOW, alert, playbook, workload
from tests.storage.stores import STORES

MINUTE = timedelta(minutes=1)
TEXT = PlaybookText("api-down", "v1", "name: api-down\n")
INTENT = LedgerRow(NOW, LedgerKind.INTENT, data={"step": "restart"})
API = "docker:service/shop/api"
API_ALERT = {"service": "shop-api"}


@pytest.fixture(params=STORES)
async def store(request, tmp_path) -> AsyncIterator[Store]:
    async with STORES[request.param](request, tmp_path) as store:
        yield store


# --- What tests do with a ledger, in words ---------------------------------------------------------------------------


def opened(ledger: Ledger, at: datetime = NOW, **labels: str):
    _, episode = ledger.episodes.hear(alert(starts_at=at, **labels), at)
    return episode


def admitted(ledger: Ledger, run: str = "r1", at: datetime = NOW, **labels: str) -> None:
    ledger.runs.admit(run, opened(ledger, at, **labels), TEXT, at, at + 30 * MINUTE)


def leased(ledger: Ledger, run: str = "r1", at: datetime = NOW, **labels: str) -> Run:
    """A new run, in this worker's hands."""
    admitted(ledger, run, at, **labels)
    return next(each for each in ledger.runs.lease("me", at, at + MINUTE, 100) if each.id == run)


def claimed(ledger: Ledger, run: str = "r1", at: datetime = NOW, target: str = API, **labels: str) -> Run:
    intent = replace(INTENT, at=at)
    return ledger.claims.claim(replace(leased(ledger, run, at, **labels), target=target), [target], at, intent)


def called(ledger: Ledger, run: str = "r1", at: datetime = NOW, target: str = API, **labels: str) -> Run:
    gone, reason = ledger.claims.go(claimed(ledger, run, at, target, **labels), {"mark": 1}, at)
    assert reason is Reason.CLEAR
    return gone


def ended(ledger: Ledger, run: Run, score: Score = Score.SUCCESS, at: datetime = NOW) -> Run:
    verifying = ledger.runs.move(run, RunEvent.OUTCOME, at)
    result = LedgerRow(at, LedgerKind.RESULT, data={"score": score})
    return ledger.runs.move(verifying, RunEvent.VERIFIED, at, result, reason=Reason.VERIFIED)


def next_run(ledger: Ledger, last: Run, run: str = "r2") -> Run:
    """Another run of the same episode."""
    ledger.runs.admit(run, last.episode, TEXT, NOW, NOW + MINUTE)
    return ledger.runs.get(run)


def facts(ledger: Ledger, run: str = "another", limits: Limits | None = None):
    asked = playbook(limits=limits or Limits())
    return ledger.claims.facts(Candidate(run, opened(ledger, alertname="Asking"), asked, 0, Restart(), Found((workload(),))))


# --- Inbox ------------------------------------------------------------------------------------------------------------


class TestInbox:
    async def test_messages_come_out_as_they_went_in_and_in_that_order(self, store):
        for body in (b"first", b"second \x00\xff"):
            await store.put(body, NOW)
        taken = await store.run(lambda ledger: ledger.inbox.take(10))
        assert [(message.body, message.received_at) for message in taken] == [(b"first", NOW), (b"second \x00\xff", NOW)]

    async def test_taking_does_not_remove(self, store):
        await store.put(b"kept", NOW)
        for _ in range(2):
            assert len(await store.run(lambda ledger: ledger.inbox.take(10))) == 1

    async def test_what_was_removed_is_gone_and_its_place_is_not_given_to_a_later_message_out_of_order(self, store):
        await store.put(b"first", NOW)
        await store.run(lambda ledger: ledger.inbox.remove(ledger.inbox.take(1)))
        await store.put(b"second", NOW)
        await store.put(b"third", NOW)
        assert [message.body for message in await store.run(lambda ledger: ledger.inbox.take(10))] == [b"second", b"third"]

    async def test_large_messages_are_taken_a_few_at_a_time_and_a_very_large_one_alone(self, store):
        at_once = 2 * 1024 * await store.run(lambda ledger: ledger.inbox.alerts_at_once)
        sizes = [at_once // 3, at_once - 1000, 5, 10 * at_once]
        for size in sizes:
            await store.put(bytes(size), NOW)

        def take(ledger: Ledger) -> list[int]:
            taken = ledger.inbox.take(10)
            ledger.inbox.remove(taken)
            return [len(message.body) for message in taken]

        assert [await store.run(take) for _ in range(4)] == [sizes[:2], sizes[2:], [], []]

    async def test_what_arrives_at_the_same_time_is_all_kept(self, store):
        await asyncio.gather(*(store.put(b"%d" % number, NOW) for number in range(100)))
        assert len(await store.run(lambda ledger: ledger.inbox.take(1000))) == 100


# --- Episodes ---------------------------------------------------------------------------------------------------------


class TestEpisodes:
    @pytest.mark.parametrize(
        "told",
        [
            # what is heard, in order: status, startsAt and endsAt (minutes), and when (minutes); then what it did
            [("firing", 0, None, 0, Heard.OPENED), ("firing", 0, None, 4, Heard.REFRESHED)],
            [("firing", 0, None, 0, Heard.OPENED), ("firing", 3, None, 4, Heard.REFRESHED)],  # Prometheus restarted
            [("resolved", 0, 1, 1, Heard.IGNORED)],
            [("firing", 0, None, 0, Heard.OPENED), ("resolved", 0, 1, 1, Heard.CLOSED), ("resolved", 0, 1, 1, Heard.IGNORED)],
            [("firing", 0, None, 0, Heard.OPENED), ("resolved", 0, 1, 1, Heard.CLOSED), ("firing", 2, None, 2, Heard.OPENED)],
            [("firing", 0, None, 0, Heard.OPENED), ("resolved", 0, 1, 1, Heard.CLOSED), ("firing", 0, None, 2, Heard.LATE)],
            [
                ("firing", 0, None, 0, Heard.OPENED), ("resolved", 0, 1, 1, Heard.CLOSED),
                ("firing", 0, None, 2, Heard.LATE), ("firing", 0, None, 3, Heard.CONFIRMED),
                ("firing", 0, None, 4, Heard.REFRESHED),
            ],
            [
                ("firing", 0, None, 0, Heard.OPENED), ("resolved", 0, 1, 1, Heard.CLOSED),
                ("firing", 0, None, 2, Heard.LATE), ("firing", 0, None, 2.1, Heard.REFRESHED),  # its duplicate
            ],
            [
                ("firing", 0, None, 0, Heard.OPENED), ("resolved", 0, 1, 1, Heard.CLOSED),
                ("firing", 2, None, 2, Heard.OPENED), ("resolved", 0, 1, 3, Heard.IGNORED),  # the old one, delayed
            ],
        ],
    )  # fmt: skip
    async def test_what_each_message_does_to_the_episode(self, store, told):
        for status, starts, ends, heard_at, expected in told:
            given = alert(status, NOW + starts * MINUTE, None if ends is None else NOW + ends * MINUTE)
            heard, _ = await store.run(lambda ledger, given=given, at=NOW + heard_at * MINUTE: ledger.episodes.hear(given, at))
            assert heard is expected

    async def test_an_episode_is_read_as_it_was_heard(self, store):
        odd = {"weird": 'quote " backslash \\ newline \n nul \x00 emoji 🙂', "empty": ""}
        episode = await store.run(lambda ledger: opened(ledger, **odd))
        assert await store.run(lambda ledger: ledger.episodes.get(episode.id)) == episode
        assert episode.labels["weird"] == odd["weird"]

    async def test_the_calendar_s_ends_are_kept(self, store):
        for year in (1, 9999):
            starts_at = NOW.replace(year=year)
            _, episode = await store.run(
                lambda ledger, at=starts_at: ledger.episodes.hear(alert(starts_at=at, service=str(at.year)), NOW)
            )
            kept = await store.run(lambda ledger, number=episode.id: ledger.episodes.get(number))
            assert kept.starts_at == starts_at

    async def test_labels_that_differ_in_anything_are_another_episode(self, store):
        one, other = await store.run(lambda ledger: (opened(ledger), opened(ledger, instance="b")))
        assert one.id != other.id
        assert await store.run(lambda ledger: ledger.episodes.count_open()) == 2

    async def test_what_is_silent_expires_and_what_was_heard_at_the_border_does_not(self, store):
        def work(ledger: Ledger) -> None:
            silent, heard = opened(ledger, NOW), opened(ledger, NOW + MINUTE, instance="b")
            assert [each.id for each in ledger.episodes.expire(NOW + MINUTE, NOW + MINUTE)] == [silent.id]
            assert ledger.episodes.get(silent.id).state is EpisodeState.EXPIRED
            assert ledger.episodes.get(heard.id).is_open

        await store.run(work)

    async def test_an_expired_episode_that_is_heard_again_is_continued_as_itself(self, store):
        def work(ledger: Ledger) -> None:
            first = opened(ledger)
            ledger.episodes.expire(NOW + MINUTE, NOW + MINUTE)
            heard, again = ledger.episodes.hear(alert(starts_at=NOW), NOW + 2 * MINUTE)
            assert (heard, again.id, again.opened_at, again.heard_at) == (Heard.CONTINUED, first.id, NOW, NOW + 2 * MINUTE)
            assert ledger.episodes.get(first.id).is_open

        await store.run(work)

    async def test_a_confirmation_from_elsewhere_is_kept(self, store):
        def work(ledger: Ledger) -> None:
            opened(ledger)
            ledger.episodes.hear(alert("resolved", NOW, NOW + MINUTE), NOW + MINUTE)
            _, late = ledger.episodes.hear(alert(starts_at=NOW), NOW + 2 * MINUTE)
            assert not ledger.episodes.get(late.id).confirmed
            ledger.episodes.confirm(late.id, firing=True, at=NOW)
            assert ledger.episodes.get(late.id).confirmed

        await store.run(work)


# --- Runs and leases ----------------------------------------------------------------------------------------------------


class TestAdmission:
    async def test_an_episode_has_one_live_run(self, store):
        def work(ledger: Ledger) -> None:
            episode = opened(ledger)
            ledger.runs.admit("r1", episode, TEXT, NOW, NOW + MINUTE)
            ledger.runs.admit("r2", episode, TEXT, NOW, NOW + MINUTE)
            assert [run.id for run in ledger.runs.list(10)] == ["r1"]

        await store.run(work)

    async def test_a_run_keeps_the_text_of_its_playbook(self, store):
        await store.run(admitted)
        assert await store.run(lambda ledger: ledger.runs.playbook("v1")) == TEXT

    async def test_a_continued_episode_goes_on_above_the_rungs_that_were_begun(self, store):
        def work(ledger: Ledger) -> None:
            ended(ledger, called(ledger))
            episode = ledger.episodes.get(ledger.runs.get("r1").episode.id)
            ledger.runs.admit("r2", episode, TEXT, NOW, NOW + MINUTE)
            assert ledger.runs.get("r2").rung == 1

        await store.run(work)

    async def test_an_alert_without_a_playbook_is_on_record(self, store):
        await store.run(lambda ledger: ledger.runs.unmatched(opened(ledger), NOW))
        assert await store.run(lambda ledger: ledger.runs.list(10)) == []


class TestLeases:
    async def test_a_run_is_leased_by_one_worker_at_a_time(self, store):
        await store.run(admitted)
        mine = await store.run(lambda ledger: ledger.runs.lease("me", NOW, NOW + MINUTE, 10))
        theirs = await store.run(lambda ledger: ledger.runs.lease("they", NOW, NOW + MINUTE, 10))
        assert ([run.id for run in mine], theirs) == (["r1"], [])

    async def test_a_lease_that_ran_out_passes_to_whoever_asks_with_a_new_fence(self, store):
        def work(ledger: Ledger) -> None:
            old = leased(ledger)
            assert ledger.runs.lease("they", NOW + MINUTE - timedelta(microseconds=1), NOW + 2 * MINUTE, 10) == []
            (new,) = ledger.runs.lease("they", NOW + MINUTE, NOW + 2 * MINUTE, 10)
            assert new.fence > old.fence

        await store.run(work)

    async def test_a_heartbeat_keeps_a_lease(self, store):
        def work(ledger: Ledger) -> None:
            assert ledger.runs.renew([leased(ledger)], NOW + 10 * MINUTE) == []
            assert ledger.runs.lease("they", NOW + 9 * MINUTE, NOW + 20 * MINUTE, 10) == []

        await store.run(work)

    async def test_a_heartbeat_keeps_no_other_lease_and_tells_which_were_lost(self, store):
        def work(ledger: Ledger) -> None:
            kept, lost = leased(ledger, "r1", instance="1"), leased(ledger, "r2", instance="2")
            ledger.runs.renew([kept], NOW + 10 * MINUTE)
            (taken,) = ledger.runs.lease("they", NOW + MINUTE, NOW + 20 * MINUTE, 10)
            assert taken.id == lost.id
            assert ledger.runs.renew([kept, lost], NOW + 30 * MINUTE) == [lost]
            assert ledger.runs.lease("they", NOW + 20 * MINUTE, NOW + 40 * MINUTE, 10)[0].id == "r2"

        await store.run(work)

    async def test_a_run_that_was_given_back_or_has_ended_is_neither_kept_nor_lost(self, store):
        def work(ledger: Ledger) -> None:
            over = ended(ledger, called(ledger, "r2", instance="2"))
            given_back = leased(ledger, "r1", instance="1")
            ledger.runs.release(given_back, NOW)
            assert ledger.runs.renew([given_back, over], NOW + 10 * MINUTE) == []
            assert [run.id for run in ledger.runs.lease("they", NOW, NOW + MINUTE, 10)] == ["r1"]

        await store.run(work)

    async def test_a_run_that_was_given_back_is_due_when_it_was_said(self, store):
        def work(ledger: Ledger) -> None:
            ledger.runs.release(leased(ledger), NOW + 5 * MINUTE)
            assert ledger.runs.next_due() == NOW + 5 * MINUTE
            assert ledger.runs.lease("me", NOW + 4 * MINUTE, NOW + 6 * MINUTE, 10) == []
            assert len(ledger.runs.lease("me", NOW + 5 * MINUTE, NOW + 6 * MINUTE, 10)) == 1

        await store.run(work)

    @pytest.mark.parametrize("heartbeat", [False, True], ids=["", "with a heartbeat in between"])
    async def test_a_wake_while_it_is_leased_is_not_lost(self, store, heartbeat):
        def work(ledger: Ledger) -> None:
            run = ledger.runs.move(leased(ledger), RunEvent.WAIT, NOW, reason=Reason.SETTLING)
            ledger.episodes.hear(alert("resolved", NOW, NOW + MINUTE), NOW + timedelta(seconds=1))
            if heartbeat:
                ledger.runs.renew([run], NOW + 2 * MINUTE)
            ledger.runs.release(run, NOW + 30 * MINUTE)
            assert [run.id for run in ledger.runs.lease("me", NOW + timedelta(seconds=1), NOW + MINUTE, 10)] == ["r1"]

        await store.run(work)

    async def test_a_wake_while_the_run_decides_on_what_it_knew_before_is_not_lost(self, store):
        def work(ledger: Ledger) -> None:
            run = leased(ledger)
            ledger.episodes.hear(alert("resolved", NOW, NOW + MINUTE), NOW + timedelta(seconds=1))
            waiting = ledger.runs.move(run, RunEvent.WAIT, NOW + timedelta(seconds=2), reason=Reason.SETTLING)
            ledger.runs.release(waiting, NOW + 30 * MINUTE)
            assert len(ledger.runs.lease("me", NOW + timedelta(seconds=2), NOW + MINUTE, 10)) == 1

        await store.run(work)

    async def test_the_oldest_due_come_first_and_no_more_than_asked_for(self, store):
        def work(ledger: Ledger) -> None:
            for number in (3, 1, 2):
                admitted(ledger, f"r{number}", NOW + number * MINUTE, instance=str(number))
            first = ledger.runs.lease("me", NOW + 5 * MINUTE, NOW + 6 * MINUTE, 2)
            assert sorted(run.id for run in first) == ["r1", "r2"]

        await store.run(work)

    async def test_abandoning_voids_every_lease_and_makes_the_runs_due(self, store):
        def work(ledger: Ledger) -> None:
            leased(ledger)
            assert ledger.runs.abandon_all(NOW) == 1
            assert len(ledger.runs.lease("me", NOW, NOW + MINUTE, 10)) == 1

        await store.run(work)

    async def test_a_run_that_has_ended_is_never_due_again(self, store):
        def work(ledger: Ledger) -> None:
            done = ended(ledger, called(ledger))
            ledger.runs.release(done, NOW)
            ledger.runs.abandon_all(NOW)
            ledger.episodes.hear(alert("resolved", NOW, NOW + MINUTE), NOW + MINUTE)
            assert ledger.runs.next_due() is None
            assert ledger.runs.lease("me", NOW + 60 * MINUTE, NOW + 61 * MINUTE, 10) == []

        await store.run(work)


class TestFence:
    """Whoever holds an older fence has lost the run, and writes nothing."""

    @pytest.mark.parametrize(
        "write",
        [
            lambda ledger, run: ledger.runs.move(run, RunEvent.WAIT, NOW, reason=Reason.COOLDOWN),
            lambda ledger, run: ledger.runs.append(run, LedgerRow(NOW, LedgerKind.EVIDENCE)),
            lambda ledger, run: ledger.claims.claim(replace(run, target=API), [API], NOW, INTENT),
        ],
        ids=["move", "append", "claim"],
    )
    async def test_nothing_is_written_with_an_old_fence(self, store, write):
        def setup(ledger: Ledger) -> Run:
            old = leased(ledger)
            ledger.runs.lease("they", NOW + MINUTE, NOW + 2 * MINUTE, 10)
            return old

        old = await store.run(setup)
        with pytest.raises(Fenced):
            await store.run(lambda ledger: write(ledger, old))
        assert await store.run(lambda ledger: ledger.runs.timeline("r1")) == []
        assert (await store.run(facts)).locked_by == ""
        assert (await store.run(lambda ledger: ledger.runs.get("r1"))).state is RunState.NEW

    async def test_nothing_goes_with_an_old_fence(self, store):
        def setup(ledger: Ledger) -> Run:
            old = claimed(ledger)
            ledger.runs.lease("they", NOW + MINUTE, NOW + 2 * MINUTE, 10)
            return old

        old = await store.run(setup)
        with pytest.raises(Fenced):
            await store.run(lambda ledger: ledger.claims.go(old, {}, NOW))

    async def test_an_old_holder_that_gives_the_run_back_changes_nothing(self, store):
        def work(ledger: Ledger) -> None:
            old = leased(ledger)
            ledger.runs.lease("they", NOW + MINUTE, NOW + 10 * MINUTE, 10)
            ledger.runs.release(old, NOW)
            assert ledger.runs.lease("me", NOW + 2 * MINUTE, NOW + 3 * MINUTE, 10) == []

        await store.run(work)


# --- Claim and go -------------------------------------------------------------------------------------------------------


class TestClaim:
    async def test_a_target_is_taken_by_one_run(self, store):
        await store.run(claimed)
        with pytest.raises(Fenced):
            await store.run(lambda ledger: claimed(ledger, "r2", instance="b"))
        assert (await store.run(facts)).locked_by == "r1"

    async def test_the_end_of_the_run_frees_the_target_and_wakes_who_waits_for_it(self, store):
        def work(ledger: Ledger) -> None:
            holder = called(ledger)
            other = replace(leased(ledger, "r2", instance="b"), target=API)
            waiting = ledger.runs.move(other, RunEvent.WAIT, NOW, reason=Reason.LOCKED)
            ledger.runs.release(waiting, NOW + 30 * MINUTE)
            ended(ledger, holder, at=NOW + MINUTE)
            assert facts(ledger).locked_by == ""
            assert [run.id for run in ledger.runs.lease("me", NOW + MINUTE, NOW + 2 * MINUTE, 10)] == ["r2"]

        await store.run(work)

    async def test_a_rung_of_an_episode_is_sent_once_whatever_the_guards_say(self, store):
        def first(ledger: Ledger) -> None:
            next_run(ledger, ended(ledger, called(ledger)))

        def again(ledger: Ledger) -> None:
            (run,) = ledger.runs.lease("me", NOW, NOW + MINUTE, 10)
            web = "docker:service/shop/web"
            ledger.claims.go(ledger.claims.claim(replace(run, rung=0, target=web), [web], NOW, INTENT), {}, NOW)

        await store.run(first)
        with pytest.raises(Exception, match=r"(?i)unique"):
            await store.run(again)
        assert (await store.run(lambda ledger: ledger.runs.get("r2"))).state is RunState.NEW

    async def test_a_rung_whose_calls_were_all_proven_not_to_have_happened_is_where_the_next_run_begins(self, store):
        def work(ledger: Ledger) -> None:
            run = called(ledger)
            for proof in (LedgerKind.OUTCOME, LedgerKind.OBSERVATION):
                run = ledger.runs.move(run, RunEvent.DID_NOT_HAPPEN, NOW, LedgerRow(NOW, proof))
                run, _ = ledger.claims.go(run, {}, NOW)
            run = ledger.runs.move(run, RunEvent.DID_NOT_HAPPEN, NOW, LedgerRow(NOW, LedgerKind.OUTCOME))
            assert next_run(ledger, ledger.runs.move(run, RunEvent.CANCEL, NOW)).rung == 0
            (run,) = ledger.runs.lease("me", NOW, NOW + MINUTE, 10)
            web = "docker:service/shop/web"
            run, _ = ledger.claims.go(ledger.claims.claim(replace(run, target=web), [web], NOW, INTENT), {}, NOW)
            assert next_run(ledger, ledger.runs.move(run, RunEvent.ESCALATE, NOW), "r3").rung == 1

        await store.run(work)

    @pytest.mark.parametrize(
        ("happens", "reason"),
        [
            (lambda ledger: ledger.episodes.hear(alert("resolved", NOW, NOW + MINUTE), NOW), Reason.RESOLVED),
            (lambda ledger: ledger.episodes.expire(NOW + MINUTE, NOW), Reason.STALE),
            (lambda ledger: ledger.switch.pause("ann", "migration", NOW), Reason.PAUSED),
        ],
        ids=["resolved", "expired", "paused"],
    )
    async def test_the_last_look_sees_what_happened_since_the_claim(self, store, happens, reason):
        def work(ledger: Ledger) -> None:
            run = claimed(ledger)
            happens(ledger)
            assert ledger.claims.go(run, {}, NOW) == (run, reason)
            assert ledger.runs.get("r1").state is RunState.CLAIMED

        await store.run(work)

    async def test_going_is_on_record_with_what_was_sent(self, store):
        def work(ledger: Ledger) -> None:
            run = called(ledger)
            assert (run.state, run.goes) == (RunState.CALLED, 1)
            go = ledger.runs.timeline("r1")[-1]
            assert (go.kind, go.data, go.target) == (LedgerKind.GO, {"mark": 1}, API)

        await store.run(work)


class TestFacts:
    async def test_instances_and_peers_that_another_run_is_at_work_on_are_in_flight(self, store):
        one, two, three = (Instance(f"id-{number}", f"shop-api-{number}", Health.HEALTHY) for number in (1, 2, 3))
        mine = workload(kind="container", name="shop-api-1", instances=(one,), peers=(two, three))
        theirs = workload(kind="container", name="shop-api-2", instances=(two,), peers=(one, three))

        def work(ledger):
            run = replace(leased(ledger), target=theirs.id)
            ledger.claims.claim(run, theirs.locks, NOW, INTENT)
            asking = Candidate("another", opened(ledger, alertname="Asking"), playbook(), 0, Restart(), Found((mine,)))
            return ledger.claims.facts(asking).in_flight

        assert await store.run(work) == {"shop-api-2"}

    """The answers to what guards ask."""

    async def test_an_empty_ledger_knows_nothing_against_anything(self, store):
        seen = await store.run(facts)
        assert (seen.paused, seen.locked_by, seen.last_finished_at, seen.intents_on_target, seen.others_in_flight) == (
            None, "", None, (), 0,
        )  # fmt: skip

    async def test_intents_are_newest_first_and_as_many_as_the_largest_limit(self, store):
        def work(ledger: Ledger) -> None:
            for number in range(12):
                at = NOW + number * MINUTE
                ended(ledger, called(ledger, f"r{number:02}", at, instance=str(number)), at=at)
            seen = facts(ledger)
            assert seen.intents_on_target == tuple(NOW + number * MINUTE for number in range(11, 1, -1))
            assert len(seen.intents_of_playbook) == 10
            assert len(seen.intents_of_all) == 12

        await store.run(work)

    async def test_intents_of_other_targets_count_only_where_they_belong(self, store):
        def work(ledger: Ledger) -> None:
            called(ledger, target="docker:service/shop/web")
            seen = facts(ledger)
            assert (seen.intents_on_target, seen.intents_of_playbook, seen.intents_of_all) == ((), (NOW,), (NOW,))
            assert seen.others_in_flight == 1

        await store.run(work)

    async def test_cooldown_counts_from_the_last_result_of_another_run_and_not_from_a_neutral_one(self, store):
        def work(ledger: Ledger) -> None:
            ended(ledger, called(ledger), at=NOW + MINUTE)
            neutral = LedgerRow(NOW + 2 * MINUTE, LedgerKind.RESULT, data={"score": Score.NEUTRAL})
            run = claimed(ledger, "r2", instance="b")
            ledger.runs.move(run, RunEvent.ESCALATE, NOW + 2 * MINUTE, neutral)
            assert facts(ledger).last_finished_at == NOW + MINUTE
            assert facts(ledger, run="r1").last_finished_at is None

        await store.run(work)

    async def test_results_are_oldest_first_with_their_score(self, store):
        def work(ledger: Ledger) -> None:
            ended(ledger, called(ledger), Score.FAILURE, NOW)
            ended(ledger, called(ledger, "r2", instance="b"), Score.SUCCESS, NOW + MINUTE)
            assert [(each.score, each.at) for each in facts(ledger).results_on_target] == [
                (Score.FAILURE, NOW), (Score.SUCCESS, NOW + MINUTE),
            ]  # fmt: skip

        await store.run(work)

    async def test_a_cause_is_open_as_long_as_its_episode(self, store):
        limits = Limits(hold_if=(parse_matcher("alertname = HostDown"), parse_matcher('severity =~ "page|.*critical"')))

        def work(ledger: Ledger) -> None:
            opened(ledger, alertname="HostDown", severity="info")
            opened(ledger, alertname="Other", severity="info")
            assert facts(ledger, limits=limits).open_causes == ("HostDown",)
            ledger.episodes.hear(alert("resolved", NOW, NOW, alertname="HostDown", severity="info"), NOW + MINUTE)
            assert facts(ledger, limits=limits).open_causes == ()

        await store.run(work)

    async def test_the_newest_word_on_the_switch_holds_with_who_and_why(self, store):
        def work(ledger: Ledger) -> None:
            ledger.switch.pause("ann", "migration", NOW)
            assert ledger.claims.paused() == Paused("ann", "migration")
            ledger.switch.resume("bob", "done", NOW + MINUTE)
            assert ledger.claims.paused() is None
            ledger.switch.pause("eve", "again", NOW - MINUTE)  # the clock was set back: the order of the rows counts
            assert ledger.claims.paused() == Paused("eve", "again")

        await store.run(work)

    async def test_resume_wakes_what_the_pause_holds(self, store):
        def work(ledger: Ledger) -> None:
            ledger.switch.pause("ann", "migration", NOW)
            run = ledger.runs.move(leased(ledger), RunEvent.WAIT, NOW, reason=Reason.PAUSED)
            ledger.runs.release(run, NOW + 30 * MINUTE)
            ledger.switch.resume("ann", "done", NOW + MINUTE)
            assert len(ledger.runs.lease("me", NOW + MINUTE, NOW + 2 * MINUTE, 10)) == 1

        await store.run(work)

    async def test_where_a_playbook_stands(self, store):
        def work(ledger: Ledger) -> None:
            for number in range(2):
                ended(ledger, called(ledger, f"r{number}", instance=str(number)), Score.FAILURE)
            standing = ledger.claims.standing(playbook(), NOW)
            assert (standing.breakers_open, standing.rate_remaining) == (1, 8)

        await store.run(work)


class TestTimeline:
    async def test_rows_come_back_in_the_order_of_writing_and_as_they_were_written(self, store):
        def work(ledger: Ledger) -> None:
            run = leased(ledger)
            rows = [LedgerRow(NOW - number * MINUTE, LedgerKind.EVIDENCE, data={"n": number, "t": "ä"}) for number in range(3)]
            ledger.runs.append(run, *rows)
            assert [(row.at, row.data) for row in ledger.runs.timeline("r1")] == [(row.at, row.data) for row in rows]

        await store.run(work)

    async def test_runs_are_listed_newest_first_and_by_state(self, store):
        def work(ledger: Ledger) -> None:
            for number in range(3):
                admitted(ledger, f"r{number}", instance=str(number))
            ended(ledger, called(ledger, "r9", instance="b"))
            assert [run.id for run in ledger.runs.list(2)] == ["r9", "r2"]
            assert [run.id for run in ledger.runs.list(10, RunState.SUCCEEDED)] == ["r9"]

        await store.run(work)

    async def test_only_runs_in_doubt_that_have_not_ended_are_counted_as_such(self, store):
        def work(ledger: Ledger) -> None:
            admitted(ledger, "r1", instance="a")
            for name in ("r2", "r3", "r4"):
                gone = called(ledger, name, target=f"docker:service/shop/{name}", instance=name)
                ledger.runs.move(gone, RunEvent.DOUBT, NOW, reason=Reason.IN_DOUBT)
            assert ledger.runs.count_in_doubt() == 3
            ledger.runs.move(ledger.runs.get("r4"), RunEvent.ESCALATE, NOW, reason=Reason.IN_DOUBT)
            assert ledger.runs.count_in_doubt() == 2

        await store.run(work)


# --- Releases and outbox ------------------------------------------------------------------------------------------------


class TestReleases:
    async def test_the_release_before_the_current_one_is_remembered(self, store):
        def work(ledger: Ledger) -> None:
            for release in ("v1", "v1", "v2"):
                ledger.releases.record(workload(release=release), NOW)
            assert ledger.releases.previous(workload(release="v2")) == "v1"

        await store.run(work)

    async def test_there_is_none_before_the_first(self, store):
        def work(ledger: Ledger) -> None:
            assert ledger.releases.record(workload(release="v1"), NOW)
            assert not ledger.releases.record(workload(release="v1"), NOW)
            assert ledger.releases.previous(workload(release="v1")) == ""

        await store.run(work)

    async def test_a_release_that_was_rolled_back_from_is_never_rolled_back_to(self, store):
        def work(ledger: Ledger) -> None:
            for release in ("v1", "v2", "v3"):
                ledger.releases.record(workload(release=release), NOW)
            ledger.releases.forget(API, "v3")
            ledger.releases.record(workload(release="v2"), NOW)
            assert ledger.releases.previous(workload(release="v2")) == "v1"

        await store.run(work)

    async def test_a_release_that_is_not_known_has_no_previous_one(self, store):
        def work(ledger: Ledger) -> None:
            ledger.releases.record(workload(release="v1"), NOW)
            assert ledger.releases.previous(workload(release="")) == ""
            assert not ledger.releases.record(workload(release=""), NOW)

        await store.run(work)


class TestOutbox:
    MESSAGE = Message("annotation:r1", Channel.ANNOTATION, {"text": "first"})

    async def test_a_message_is_due_until_it_is_delivered(self, store):
        def work(ledger: Ledger) -> None:
            ledger.outbox.put(self.MESSAGE, NOW)
            (due,) = ledger.outbox.due(NOW, 10)
            assert (due.key, due.payload, due.attempts) == ("annotation:r1", {"text": "first"}, 0)
            ledger.outbox.delivered(due, "42")
            assert ledger.outbox.due(NOW + 999 * MINUTE, 10) == []

        await store.run(work)

    async def test_the_newest_payload_of_a_key_replaces_the_old_and_the_receipt_is_kept(self, store):
        def work(ledger: Ledger) -> None:
            ledger.outbox.put(self.MESSAGE, NOW)
            ledger.outbox.delivered(ledger.outbox.due(NOW, 1)[0], "42")
            ledger.outbox.put(replace(self.MESSAGE, payload={"text": "second"}), NOW)
            (due,) = ledger.outbox.due(NOW, 10)
            assert (due.payload, due.receipt) == ({"text": "second"}, "42")

        await store.run(work)

    @pytest.mark.parametrize("answer", ["delivered", "dropped", "retry", "attempt"])
    async def test_a_payload_that_was_replaced_while_the_old_one_was_on_its_way_stays_due(self, store, answer):
        def work(ledger: Ledger) -> None:
            ledger.outbox.put(self.MESSAGE, NOW)
            (on_its_way,) = ledger.outbox.due(NOW, 1)
            ledger.outbox.put(replace(self.MESSAGE, payload={"text": "second"}), NOW)
            match answer:
                case "delivered":
                    ledger.outbox.delivered(on_its_way, "42")
                case "dropped":
                    ledger.outbox.dropped(on_its_way, "refused")
                case "retry":
                    ledger.outbox.retry(on_its_way, NOW + 999 * MINUTE)
                case "attempt":
                    ledger.outbox.attempt(on_its_way, NOW + 999 * MINUTE)
            (due,) = ledger.outbox.due(NOW, 10)
            assert due.payload == {"text": "second"}

        await store.run(work)

    async def test_an_attempt_is_counted_and_puts_the_message_off(self, store):
        def work(ledger: Ledger) -> None:
            ledger.outbox.put(self.MESSAGE, NOW)
            ledger.outbox.attempt(ledger.outbox.due(NOW, 1)[0], NOW + MINUTE)
            assert ledger.outbox.due(NOW, 10) == []
            (due,) = ledger.outbox.due(NOW + MINUTE, 10)
            assert due.attempts == 1

        await store.run(work)
