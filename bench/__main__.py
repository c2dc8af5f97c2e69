"""One run, one table: see docs/benchmarks.md for what each line means."""

import argparse
import asyncio
import os
import platform
import sys

from bench.measure import Plan, big_load, compared, react, start_up, throughput
from bench.replicas import replicas
from bench.report import Figure, table
from bench.storm import alone, in_progress, slow_disk, storm

MEASUREMENTS = (start_up, throughput, compared, react, big_load, storm, in_progress, slow_disk, alone, replicas)
QUICK = Plan(
    cells=((10, 16), (1, 64), (10, 64), (64, 64)),
    compared=(),
    rounds=2,
    slice_seconds=0.5,
    load_alerts=20_000,
    expand_seconds_max=10.0,
    reaction_seconds=4,
    ledger_rows=(1_000, 100_000),
    drained_alerts=10_000,
)
FULL = Plan(rounds=5, slice_seconds=1.0, load_alerts=1_000_000, expand_seconds_max=600.0, reaction_seconds=30)


def main() -> int:
    arguments = _arguments()
    plan = QUICK if arguments.quick else FULL if arguments.full else Plan()
    figures: list[Figure] = []
    for measure in MEASUREMENTS:
        for figure in asyncio.run(measure(plan)):
            figures.append(figure)
            print(" ".join(cell for cell in figure.cells if cell), file=sys.stderr, flush=True)
    print(f"\n{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}\n\n{table(figures)}")
    missed = [figure.name for figure in figures if figure.met is False]
    if missed:
        print(f"\nmissed: {'; '.join(missed)}")
    return 1 if missed and arguments.strict else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure remediator against a floor of the same run.")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--quick", action="store_true", help="the figures that have targets, in a minute")
    length.add_argument("--full", action="store_true", help="1,000,000 alerts and longer slices, in some minutes")
    parser.add_argument("--assert", dest="strict", action="store_true", help="exit with 1 if a target is missed")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
