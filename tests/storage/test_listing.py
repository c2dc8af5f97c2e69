"""What a store does with Alertmanager's list. Each test runs against each store and means the same."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from remediator.core.alert import EpisodeState, Heard, Listed
from remediator.core.run import RunEvent
from remediator.core.verdict import Reason
from remediator.ports import Store
from tests.builders import NOW, alert
from tests.storage.stores import STORES
from tests.storage.test_ledger import MINUTE, TEXT, admitted, claimed, leased

LONG_AGO = NOW - timedelta(hours=1)
SILENCED = "silenced in Alertmanager, by 1a2b"


@pytest.fixture(params=STORES)
async def store(request, tmp_path) -> AsyncIterator[Store]:
    async with STORES[request.param](request, tmp_path) as store:
        yield store


class TestListed:
    async def test_what_fires_and_no_message_told_of_opens_an_episode(self, store):
        listed, episode = await store.run(lambda ledger: ledger.episodes.listed(alert(starts_at=LONG_AGO), "", NOW))
        assert (listed, episode.is_open, episode.confirmed, episode.listed_at) == (Listed.OPENED, True, True, NOW)
        assert await store.run(lambda ledger: ledger.episodes.get(episode.id)) == episode

    @pytest.mark.parametrize(
        ("began_ago", "muted"), [(timedelta(hours=1), SILENCED), (timedelta(seconds=119), ""), (-MINUTE, "")]
    )
    async def test_what_is_muted_or_so_young_that_its_message_may_still_come_opens_none(self, store, began_ago, muted):
        young = alert(starts_at=NOW - began_ago)
        assert await store.run(lambda ledger: ledger.episodes.listed(young, muted, NOW)) == (Listed.LEFT_ALONE, None)
        assert await store.run(lambda ledger: ledger.episodes.count_open()) == 0

    async def test_what_is_known_is_heard_of(self, store):
        def work(ledger):
            ledger.episodes.hear(alert(starts_at=NOW), NOW)
            return ledger.episodes.listed(alert(starts_at=NOW), "", NOW + MINUTE)

        listed, episode = await store.run(work)
        assert (listed, episode.heard_at, episode.listed_at) == (Listed.KNOWN, NOW + MINUTE, NOW + MINUTE)

    async def test_news_is_not_made_older_by_a_list_from_before_it(self, store):
        def work(ledger):
            ledger.episodes.hear(alert(starts_at=NOW), NOW)
            _, episode = ledger.episodes.listed(alert(starts_at=NOW), "", NOW - MINUTE)
            return ledger.episodes.get(episode.id)

        assert (await store.run(work)).heard_at == NOW

    @pytest.mark.parametrize(("after", "listed"), [(timedelta(seconds=119), Listed.LEFT_ALONE), (2 * MINUTE, Listed.OPENED)])
    async def test_a_list_from_about_the_time_of_a_resolve_opens_nothing_anew(self, store, after, listed):
        """One of a pair of Alertmanagers may not know yet what the other has told."""

        def work(ledger):
            ledger.episodes.hear(alert(starts_at=LONG_AGO), LONG_AGO)
            ledger.episodes.hear(alert("resolved", starts_at=LONG_AGO, ends_at=NOW), NOW)
            return ledger.episodes.listed(alert(starts_at=LONG_AGO), "", NOW + after)

        assert (await store.run(work))[0] is listed

    async def test_an_episode_that_expired_goes_on(self, store):
        def work(ledger):
            _, episode = ledger.episodes.hear(alert(starts_at=LONG_AGO), LONG_AGO)
            ledger.episodes.expire(NOW, NOW)
            return episode, ledger.episodes.listed(alert(starts_at=LONG_AGO), "", NOW)

        before, (listed, after) = await store.run(work)
        assert (listed, after.id, after.is_open) == (Listed.OPENED, before.id, True)

    async def test_a_possible_late_resend_is_confirmed_by_a_later_list_only(self, store):
        def work(ledger, at):
            ledger.episodes.hear(alert(starts_at=LONG_AGO), LONG_AGO)
            ledger.episodes.hear(alert("resolved", starts_at=LONG_AGO, ends_at=NOW), NOW - MINUTE)
            assert ledger.episodes.hear(alert(starts_at=LONG_AGO), NOW)[0] is Heard.LATE
            ledger.episodes.listed(alert(starts_at=LONG_AGO), "", at)
            _, episode = ledger.episodes.listed(alert(starts_at=LONG_AGO), "", at)
            return episode.confirmed

        assert not await store.run(lambda ledger: work(ledger, NOW - MINUTE))
        assert await store.run(lambda ledger: ledger.episodes.listed(alert(starts_at=LONG_AGO), "", NOW + MINUTE)[1].confirmed)


class TestMuted:
    async def test_a_mute_is_kept_until_the_list_says_otherwise_and_wakes_the_run_each_time(self, store):
        def work(ledger):
            run = leased(ledger)
            run = ledger.runs.move(run, RunEvent.WAIT, NOW, reason=Reason.COOLDOWN)
            ledger.runs.release(run, NOW + 20 * MINUTE)
            seen = []
            for muted in (SILENCED, SILENCED, "inhibited", "", ""):
                listed, episode = ledger.episodes.listed(alert(service="shop-api"), muted, NOW + MINUTE)
                due = [each.id for each in ledger.runs.lease("me", NOW + MINUTE, NOW + 2 * MINUTE, 10)]
                for each in due:
                    ledger.runs.release(ledger.runs.get(each), NOW + 20 * MINUTE)
                seen.append((listed, episode.muted, due))
            return seen

        assert await store.run(work) == [
            (Listed.MUTED, SILENCED, ["r1"]),
            (Listed.KNOWN, SILENCED, []),
            (Listed.KNOWN, "inhibited", []),
            (Listed.UNMUTED, "", ["r1"]),
            (Listed.KNOWN, "", []),
        ]

    async def test_what_is_muted_is_not_sent(self, store):
        def work(ledger):
            run = claimed(ledger)
            ledger.episodes.listed(alert(), SILENCED, NOW)
            return ledger.claims.go(run, {}, NOW)[1]

        assert await store.run(work) is Reason.SILENCED

    async def test_where_nobody_is_asked_any_more_nothing_is_muted(self, store):
        def work(ledger):
            run = claimed(ledger)
            ledger.episodes.listed(alert(), SILENCED, NOW)
            return ledger.episodes.unmute_all(), ledger.claims.go(run, {}, NOW)[1]

        assert await store.run(work) == (1, Reason.CLEAR)


class TestUnlisted:
    async def test_only_what_was_listed_and_not_since_and_not_heard_of_since_is_closed(self, store):
        def work(ledger):
            for name in ("gone", "listed", "heard", "never"):
                ledger.episodes.hear(alert(starts_at=LONG_AGO, alertname=name), LONG_AGO)
            for name in ("gone", "listed", "heard"):
                ledger.episodes.listed(alert(starts_at=LONG_AGO, alertname=name), "", NOW)
            ledger.episodes.listed(alert(starts_at=LONG_AGO, alertname="listed"), "", NOW + MINUTE)
            ledger.episodes.hear(alert(starts_at=LONG_AGO, alertname="heard"), NOW + MINUTE)
            closed = ledger.episodes.unlisted(NOW + MINUTE, NOW + 2 * MINUTE)
            return closed, ledger.episodes.unlisted(NOW + MINUTE, NOW + 2 * MINUTE)

        closed, none = await store.run(work)
        assert [(episode.labels["alertname"], episode.state, episode.ends_at) for episode in closed] == [
            ("gone", EpisodeState.RESOLVED, NOW + 2 * MINUTE)
        ]
        assert not none

    async def test_its_run_is_woken_and_a_duplicate_of_its_last_message_is_late(self, store):
        def work(ledger):
            run = leased(ledger)
            ledger.episodes.listed(alert(), "", NOW)
            ledger.runs.release(run, NOW + 20 * MINUTE)
            ledger.episodes.unlisted(NOW + MINUTE, NOW + 2 * MINUTE)
            woken = ledger.runs.lease("me", NOW + 2 * MINUTE, NOW + 3 * MINUTE, 10)
            return [each.id for each in woken], ledger.episodes.hear(alert(), NOW + 3 * MINUTE)[0]

        assert await store.run(work) == (["r1"], Heard.LATE)


class TestPageOfOpen:
    async def test_every_open_episode_comes_once_with_why_its_newest_run_was_cancelled(self, store):
        def work(ledger):
            for number in range(450):
                admitted(ledger, f"r{number:03}", alertname=f"a{number}")
            cancelled = ledger.runs.lease("me", NOW, NOW + MINUTE, 3)
            for run, reason in zip(cancelled, (Reason.SILENCED, Reason.MAINTENANCE, Reason.RESOLVED), strict=True):
                ledger.runs.move(run, RunEvent.CANCEL, NOW, reason=reason)
            again = cancelled[1].episode
            ledger.runs.admit("s-again", again, TEXT, NOW, NOW + MINUTE)
            found, last = [], None
            while page := ledger.episodes.page_of_open(last):
                last = page[-1][0]
                found += [(episode.id, reason) for episode, reason in page]
            return [run.episode.id for run in cancelled], found

        cancelled, found = await store.run(work)
        assert len(found) == len(dict(found)) == 450
        assert {episode: reason for episode, reason in found if reason is not Reason.CLEAR} == {
            cancelled[0]: Reason.SILENCED,
            cancelled[2]: Reason.RESOLVED,
        }
