"""`python -m remediator.lab.simulation`: many seeds on all cores, or one of them with its timeline."""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from time import perf_counter

from remediator.lab.simulation.story import Outcome, play

CHUNK = 25


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m remediator.lab.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many (1000)")
    parser.add_argument("--first", type=int, default=1, help="the first of them (1)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (one for each core)")
    parser.add_argument("--timeline", action="store_true", help="print what happened even where it is clean")
    given = parser.parse_args(arguments)
    last = given.first + given.seeds
    chunks = [range(first, min(first + CHUNK, last)) for first in range(given.first, last, CHUNK)]
    began_at = perf_counter()
    outcomes: list[Outcome] = []
    with ProcessPoolExecutor(given.jobs, get_context("spawn")) as pool:
        for some in pool.map(partial(play, keeps_timeline=given.timeline), chunks):
            outcomes += some
            if some[-1].broken:
                pool.shutdown(wait=False, cancel_futures=True)
                break
    print(summary(outcomes, perf_counter() - began_at))
    broken = [outcome for outcome in outcomes if outcome.broken]
    if given.timeline:
        print(*(line for outcome in outcomes for line in outcome.timeline), sep="\n")
    if broken:
        print(failure(broken[0]))
    return 1 if broken else 0


def summary(outcomes: Iterable[Outcome], took: float) -> str:
    hits: Counter[str] = Counter()
    seeds, seconds, callbacks = 0, 0.0, 0
    for outcome in outcomes:
        hits.update(outcome.hits)
        seeds, seconds, callbacks = seeds + 1, seconds + outcome.simulated_seconds, callbacks + outcome.callbacks
    lines = [f"{seeds} seeds, {seconds / 3600:.1f} simulated hours, {callbacks} callbacks in {took:.1f} s"]
    return "\n".join([*lines, *(f"  {times:8}  {what}" for what, times in sorted(hits.items()))])


def failure(outcome: Outcome) -> str:
    assert outcome.broken is not None
    head = f"seed {outcome.seed}: {outcome.broken.promise} is broken: {outcome.broken.how}"
    return "\n".join([*outcome.timeline, head, f"again: python -m remediator.lab.simulation --first {outcome.seed} --seeds 1"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
