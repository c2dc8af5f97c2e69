"""Promises S1, S2, S9, L1 and L3 on real parts: remediator and its database are struck, again and again, around a restart.

Each round posts alerts (each with a container of its own) to every replica, strikes one or all of them, sometimes strikes
again while they recover, and lets them go on: SIGKILL; SIGTERM; SIGSTOP beyond the lease, and SIGCONT; a crash of
PostgreSQL. However it goes: every alert that was answered 200 ends in a run with an explained decision, and no container
is restarted twice. REMEDIATOR_CRASH_ROUNDS says how many rounds each store sees, and REMEDIATOR_CRASH_SEED repeats the
choices of an earlier time (what meets them on a real machine is never the same twice).
"""

import os
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pytest

from tests.e2e.crashes.aims import Aim
from tests.e2e.crashes.blows import CALLED, Blow
from tests.e2e.crashes.lane import Lane
from tests.e2e.crashes.scene import LEASE_SECONDS, Scene, scene
from tests.e2e.crashes.tally import Tally

ROUNDS = int(os.environ.get("REMEDIATOR_CRASH_ROUNDS", "10"))
MANY_ROUNDS = 100
"""Few rounds now and then do not meet a rare window once, such as a stop just between go and call; so many do."""
LANES = 5
"""Scenes that are played side by side: most of a round is waiting."""
SLOW_LANES = (1, 3)
TAKEOVER_SECONDS_MAX = LEASE_SECONDS + 2.0
BUSY_SECONDS = 3.0
"""What the longest takeover may take more, on a machine on which ten remediators and five databases share two cores."""
pytestmark = [pytest.mark.crash, pytest.mark.docker, pytest.mark.timeout(300 + 20 * ROUNDS)]

KILLS = [
    (Blow.KILL, aim)
    for aim in (
        Aim.AT_RANDOM,
        Aim.DECIDED,
        Aim.AT_RANDOM,
        Aim.GOING,
        Aim.AT_RANDOM,
        Aim.RESTARTING,
        Aim.AT_RANDOM,
        Aim.POSTING,
    )
]
"""Half of them at a random moment, the others in the windows that matter."""
ALONE = [*KILLS, (Blow.TERMINATE, Aim.GOING)]
SHARED = [
    *KILLS[:2],
    (Blow.SUSPEND, Aim.GOING),
    (Blow.CRASH_DATABASE, Aim.GOING),
    *KILLS[2:4],
    (Blow.TERMINATE, Aim.GOING),
    (Blow.CRASH_DATABASE, Aim.POSTING),
    *KILLS[4:6],
    (Blow.SUSPEND, Aim.GOING),
    (Blow.CRASH_DATABASE, Aim.AT_RANDOM),
    *KILLS[6:],
    (Blow.SUSPEND, Aim.AT_RANDOM),
    (Blow.CRASH_DATABASE, Aim.RESTARTING),
]


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to run remediator, and what happens to it, in turns. No number of turns is a multiple of the lanes."""

    name: str
    on_postgres: bool
    replicas: int
    turns: Sequence[tuple[Blow, Aim]]


SQLITE = Variant("SQLite", False, 1, ALONE)
POSTGRES = Variant("PostgreSQL, one replica", True, 1, SHARED)
REPLICAS = Variant("PostgreSQL, two replicas", True, 2, SHARED)


@pytest.mark.parametrize("variant", [SQLITE, POSTGRES, REPLICAS], ids=["sqlite", "postgres", "replicas"])
def test_struck_at_any_moment_it_loses_no_alert_and_restarts_no_container_twice(
    variant: Variant, tmp_path: Path, capsys
) -> None:
    seed = int(os.environ.get("REMEDIATOR_CRASH_SEED", random.SystemRandom().randrange(10**6)))

    def drive(number: int) -> Scene:
        home = tmp_path / f"{number}"
        home.mkdir()
        chance = random.Random(seed + number)
        slow = number in SLOW_LANES
        with scene(home, variant.replicas, chance, on_postgres=variant.on_postgres, slow=slow) as played:
            lane = Lane(played)
            for each in range(number, ROUNDS, LANES):
                lane.round(each, *variant.turns[each % len(variant.turns)])
                if played.problems:
                    break
            if played.books.intents_most() != 1:
                played.problems.append("an episode's rung was begun twice")
        return played

    with ThreadPoolExecutor(LANES) as threads:
        lanes = list(threads.map(drive, range(min(LANES, ROUNDS))))
    total = Tally()
    for each in lanes:
        total.add(each.tally)
    with capsys.disabled():
        print(f"\n{variant.name}, seed {seed}\n{total.told()}")
    problems = [problem for each in lanes for problem in each.problems]
    assert not problems, f"seed {seed}:\n" + "\n\n".join(problems)
    assert total.rounds == ROUNDS
    assert not {count for count in total.restarts if count > 1}
    _was_dangerous(total, variant)


def _was_dangerous(total: Tally, variant: Variant) -> None:
    """The windows in which a wrong protocol would show were hit, or nothing was shown."""
    assert total.hit[CALLED] >= sum(total.kills.values()) / 5, "the window between go and outcome was hardly ever hit"
    assert total.observed["yes"], "no call was in doubt that had happened"
    if variant.replicas > 1:
        assert total.taken_over[CALLED], "no replica took over while another had called"
        assert median(total.takeovers) <= TAKEOVER_SECONDS_MAX
        assert max(total.takeovers) <= TAKEOVER_SECONDS_MAX + BUSY_SECONDS
    if ROUNDS >= MANY_ROUNDS:
        assert total.observed["no"], "no call was in doubt that had not happened"
        assert total.withheld or not variant.on_postgres, "no replica was stopped between its go and its call"
