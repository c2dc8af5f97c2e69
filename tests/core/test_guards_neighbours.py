"""The guards that ask neighbours and colleagues: silence, maintenance, corroborate, blast_radius, and the watchdog's say."""

from dataclasses import replace
from datetime import timedelta

import pytest

from remediator.core.guards.blast_radius import blast_radius
from remediator.core.guards.corroborate import corroborate
from remediator.core.guards.maintenance import maintenance
from remediator.core.guards.mode import mode
from remediator.core.guards.silence import silence
from remediator.core.maintenance import Period, Window
from remediator.core.matching import parse_matcher
from remediator.core.modes import watchdog_missing
from remediator.core.playbook import Limits, Mode
from remediator.core.redis_step import RedisFlush
from remediator.core.snapshot import Corroboration, Found, Listing, Neighbours, Off, Policy, Unknown
from remediator.core.step import Restart, Start
from remediator.core.target import Health, Instance
from remediator.core.verdict import Pass, Reason, Refuse, Wait
from tests.builders import NOW, candidate, playbook, snapshot, workload

MINUTE = timedelta(minutes=1)
GONE = Unknown("Alertmanager does not answer")
HARMLESS = candidate(step=Start())


OFF = Off()


def seeing(listing=OFF, corroboration=OFF):
    return replace(snapshot(), neighbours=Neighbours(listing, corroboration))


def test_the_harmless_step_of_these_tests_disturbs_nobody():
    assert candidate().disturbs
    assert not HARMLESS.disturbs


class TestSilence:
    @pytest.mark.parametrize(
        ("listing", "verdict", "reason"),
        [
            (Off(), Pass, Reason.CLEAR),
            (Listing(firing=True), Pass, Reason.CLEAR),
            (Listing(firing=False), Pass, Reason.CLEAR),  # whether it still fires is asked by others
            (Listing(True, "silenced in Alertmanager, by 1a2b", Reason.SILENCED), Refuse, Reason.SILENCED),
            (Listing(True, "inhibited in Alertmanager, by 3c4d", Reason.INHIBITED), Refuse, Reason.INHIBITED),
            (GONE, Wait, Reason.SILENCE_UNKNOWN),
        ],
    )
    def test_what_people_have_muted_is_left_alone_and_what_nobody_knows_waits(self, listing, verdict, reason):
        given = silence(candidate(), seeing(listing), NOW)
        assert (type(given), given.reason) == (verdict, reason)

    def test_a_step_that_disturbs_nobody_does_not_wait_for_alertmanager(self):
        assert isinstance(silence(HARMLESS, seeing(GONE), NOW), Pass)

    def test_but_it_heeds_a_silence_like_any_other(self):
        muted = Listing(True, "silenced in Alertmanager, by 1a2b", Reason.SILENCED)
        assert silence(HARMLESS, seeing(muted), NOW).seen == "silenced in Alertmanager, by 1a2b"

    def test_a_wait_is_looked_at_again_soon(self):
        assert NOW < silence(candidate(), seeing(GONE), NOW).retry_at <= NOW + MINUTE


class TestMaintenance:
    def during(self, *matchers, now=NOW):
        window = Window("upgrade", (Period(NOW, NOW + MINUTE),), tuple(map(parse_matcher, matchers)))
        return maintenance(candidate(), snapshot(Policy(maintenance=(window,))), now)

    def test_the_people_who_do_it_are_left_alone(self):
        given = self.during("service = shop-api")
        assert (type(given), given.reason, given.seen) == (Refuse, Reason.MAINTENANCE, "planned maintenance: upgrade")

    def test_other_services_go_on(self):
        assert isinstance(self.during("service = shop-db"), Pass)

    def test_it_is_over_at_its_end(self):
        assert isinstance(self.during("service = shop-api", now=NOW + MINUTE), Pass)

    def test_nothing_is_planned(self):
        assert isinstance(maintenance(candidate(), snapshot(), NOW), Pass)


class TestCorroborate:
    @pytest.mark.parametrize(
        ("said", "verdict", "reason"),
        [
            (Off(), Pass, Reason.CLEAR),
            (Corroboration(firing=True), Pass, Reason.CLEAR),
            (Corroboration(firing=True, targets=6, up=3), Pass, Reason.CLEAR),
            (Corroboration(firing=True, targets=6, up=2), Wait, Reason.MONITOR_SUSPECT),
            (Corroboration(firing=True, targets=5, up=0), Pass, Reason.CLEAR),  # of so few, the alert's own may be all
            (Corroboration(firing=False), Wait, Reason.UNCORROBORATED),
            (Corroboration(firing=False, targets=10, up=1), Wait, Reason.UNCORROBORATED),
            (Unknown("Prometheus does not answer"), Wait, Reason.CORROBORATION_UNKNOWN),
        ],
    )
    def test_prometheus_must_still_say_so_and_see_half_of_its_world(self, said, verdict, reason):
        given = corroborate(candidate(), seeing(corroboration=said), NOW)
        assert (type(given), given.reason) == (verdict, reason)

    def test_a_step_that_disturbs_nobody_does_not_wait_for_prometheus(self):
        assert isinstance(corroborate(HARMLESS, seeing(corroboration=Unknown("away")), NOW), Pass)

    def test_a_playbook_may_do_without(self):
        alone = candidate(playbook=playbook(limits=Limits(corroborate=False)))
        assert isinstance(corroborate(alone, seeing(corroboration=Corroboration(firing=False)), NOW), Pass)


def instances(*health):
    return tuple(Instance(f"id-{number}", f"shop-api-{number}", each) for number, each in enumerate(health, start=1))


UP, ILL, DOWN, STARTING = Health.HEALTHY, Health.UNHEALTHY, Health.STOPPED, Health.STARTING


class TestBlastRadius:
    def verdict(self, *health, peers=(), share=0.5, in_flight=(), step=None):
        found = workload(instances=instances(*health), peers=tuple(peers))
        taken = candidate(lookup=Found((found,)), playbook=playbook(limits=Limits(min_healthy=share)), step=step or Restart())
        return blast_radius(taken, snapshot(in_flight=frozenset(in_flight)), NOW)

    @pytest.mark.parametrize(
        ("health", "share", "passes"),
        [
            ([UP], 1.0, True),  # the only one: nobody stands in for it anyway
            ([DOWN], 0.5, True),
            ([UP, UP], 0.5, True),
            ([UP, UP], 0.51, False),
            ([UP, UP, UP], 0.5, True),
            ([UP, UP, UP], 0.67, False),
            ([UP, UP, ILL], 0.5, False),
            ([UP, ILL, ILL], 0.5, False),
            ([ILL, DOWN, STARTING], 1.0, True),  # no healthy one is taken down
            ([UP, UP, UP, UP], 0.75, True),
            ([UP, UP, STARTING, UP], 0.75, False),
        ],
    )
    def test_one_healthy_instance_at_a_time_may_go_while_enough_stay(self, health, share, passes):
        given = self.verdict(*health, share=share)
        assert isinstance(given, Pass) is passes, given
        assert passes or given.reason is Reason.BLAST_RADIUS

    def test_peers_count_where_the_target_is_one_container_of_a_service(self):
        ill, well = instances(UP, ILL, ILL)[1:], instances(UP, UP, UP)[1:]
        assert isinstance(self.verdict(UP, peers=well), Pass)
        given = self.verdict(UP, peers=ill)
        assert (type(given), given.seen) == (Wait, "only 0 of 3 instances would stay healthy; 2 must")

    def test_an_ill_container_may_be_repaired_whatever_its_peers_are(self):
        assert isinstance(self.verdict(DOWN, peers=instances(UP, ILL, ILL)[1:]), Pass)

    def test_what_another_run_is_at_work_on_counts_as_unhealthy(self):
        peers = instances(UP, UP, UP)[1:]
        assert isinstance(self.verdict(UP, peers=peers, in_flight=["shop-api-9"]), Pass)
        assert isinstance(self.verdict(UP, peers=peers, in_flight=["shop-api-2"]), Wait)

    def test_a_step_that_takes_nothing_down_is_not_asked(self):
        assert isinstance(self.verdict(UP, ILL, ILL, step=Start()), Pass)
        assert isinstance(self.verdict(UP, ILL, ILL, step=RedisFlush()), Wait)


class TestWatchdog:
    """It is the mode guard that hears it: what is missing takes `auto` away, and nothing else."""

    POLICY = Policy(mode=Mode.AUTO, watchdog_within=15 * MINUTE)

    @pytest.mark.parametrize(
        ("heard_at", "said"),
        [
            (NOW, ""),
            (NOW - 15 * MINUTE, ""),
            (NOW - 16 * MINUTE, "the Watchdog alert was last heard of 16m ago"),
            (NOW + 16 * MINUTE, "the Watchdog alert was last heard of 16m ago"),  # a clock that was set back proves nothing
            (None, "the Watchdog alert was never heard of"),
        ],
    )
    def test_it_is_missing_when_it_was_not_heard_of_lately(self, heard_at, said):
        assert watchdog_missing(heard_at, self.POLICY, NOW) == said
        assert watchdog_missing(heard_at, replace(self.POLICY, watchdog_within=None), NOW) == ""

    def test_without_it_everything_needs_approval_and_with_it_nothing_does(self):
        missing = mode(candidate(), snapshot(self.POLICY, watchdog_heard_at=None), NOW)
        assert missing.seen == "the mode is approve, by the dead man's switch: the Watchdog alert was never heard of"
        assert mode(candidate(), snapshot(self.POLICY, watchdog_heard_at=NOW), NOW).seen.startswith("the mode is auto")

    def test_it_never_raises_a_lower_mode(self):
        suggest = replace(self.POLICY, mode=Mode.SUGGEST)
        assert mode(candidate(), snapshot(suggest, watchdog_heard_at=None), NOW).reason is Reason.MODE_SUGGEST
