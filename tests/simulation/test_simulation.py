"""The simulation finds every planted fault, and finds nothing where none is planted; a seed replays exactly."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from remediator.lab.simulation.story import Outcome, play
from tests.simulation.mutations import MUTATIONS

SEEDS = int(os.environ.get("REMEDIATOR_SIMULATION_SEEDS", "300"))
SEEDS_TO_FIND = 600
"""A planted fault that is not found by then counts as not found."""
CHUNK = 10
WINDOWS = (
    "killed_before_commit",
    "killed_after_commit",
    "stopped_at_commit",
    "connection_lost",
    "clock_jumps",
    "call_happens_late",
    "storms",
    "breaker opened",
    "observed yes",
    "observed no",
    "observed unknown",
    "outcome not_sent",
    "approvals used",
    "limit per target reached",
    "limit per playbook reached",
    "limit per all reached",
    "taken over",
)

pytestmark = [pytest.mark.simulation, pytest.mark.timeout(900)]


def played_with(mutation: str, seeds: Sequence[int]) -> list[Outcome]:
    """These seeds, to the first that breaks a promise."""
    if not mutation:
        return play(seeds)
    with MUTATIONS[mutation].plant():
        return play(seeds, sure=MUTATIONS[mutation].shows_in)


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        yield pool


def played(pool: ProcessPoolExecutor, seeds: int, mutation: str = "") -> Iterator[Outcome]:
    """So many seeds, on all cores, a few at a time: a fault that is found at once costs no more than that."""
    ahead = os.cpu_count() or 1
    chunks = [range(first, min(first + CHUNK, seeds + 1)) for first in range(1, seeds + 1, CHUNK)]
    waiting = [pool.submit(played_with, mutation, chunk) for chunk in chunks[:ahead]]
    for number in range(len(chunks)):
        yield from waiting[number].result()
        if number + ahead < len(chunks):
            waiting.append(pool.submit(played_with, mutation, chunks[number + ahead]))


def test_no_promise_is_broken_and_every_dangerous_window_was_hit(pool):
    hits: Counter[str] = Counter()
    for outcome in played(pool, SEEDS):
        assert outcome.broken is None, "\n".join([*outcome.timeline, f"seed {outcome.seed}: {outcome.broken}"])
        hits.update(outcome.hits)
    print({window: hits[window] for window in WINDOWS})
    assert [window for window in WINDOWS if not hits[window]] == []


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_planted_fault_is_found(pool, mutation):
    broken = next((outcome.broken for outcome in played(pool, SEEDS_TO_FIND, mutation) if outcome.broken), None)
    assert broken is not None, f"{SEEDS_TO_FIND} seeds did not find it"
    assert broken.promise in MUTATIONS[mutation].breaks, broken


def test_a_seed_replays_exactly(pool):
    mutation = "cooldown guard is asleep"
    first = next(outcome for outcome in played(pool, SEEDS_TO_FIND, mutation) if outcome.broken)
    again = pool.submit(played_with, mutation, [first.seed]).result()[-1]
    assert (again.broken, again.callbacks, again.timeline) == (first.broken, first.callbacks, first.timeline)
