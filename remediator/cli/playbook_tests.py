"""`test`: play the cases of playbooks on virtual time and show where what happens is not what was expected."""

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from time import perf_counter

from remediator.core.playbook import brief
from remediator.lab.playbook_tests.case import Case
from remediator.lab.playbook_tests.files import CasesOf, load_cases
from remediator.lab.playbook_tests.report import Verdict, judge, lines_of
from remediator.settings import load_settings
from remediator.yaml_lines import FileProblem, Problem


def test(arguments: argparse.Namespace) -> int:
    """0: every case passes. 1: some case fails. 2: there is nothing to test, or a file cannot be used."""
    began_at = perf_counter()
    try:
        chosen = _choose([Path(path) for path in arguments.paths], arguments.only)
    except FileProblem as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return 2
    verdicts = [verdict for of, cases in chosen for verdict in _play(of, cases)]
    failed = sum(not verdict.passed for verdict in verdicts)
    count = f"{len(verdicts)} case{'s' if len(verdicts) > 1 else ''}"
    played = brief(sum((verdict.outcome.lasted for verdict in verdicts), start=timedelta()))
    outcome = f"{failed} of {count} failed" if failed else f"{count} passed"
    print(f"{outcome}: {played} played in {perf_counter() - began_at:.1f} s")
    return 1 if failed else 0


def _choose(paths: Sequence[Path], only: str) -> list[tuple[CasesOf, list[Case]]]:
    """The cases with `only` in their names, by file. Raises FileProblem if there is none, or a file cannot be used."""
    paths = paths or [load_settings(os.environ).playbooks]
    found = [each for path in paths for each in load_cases(path)]
    chosen = [(of, [case for case in of.cases if only.lower() in case.name.lower()]) for of in found]
    if not any(cases for _, cases in chosen):
        said = f"no case has {only!r} in its name" if only else "there are no cases to play"
        raise FileProblem([Problem(str(path), 0, "", said) for path in paths])
    return [(of, cases) for of, cases in chosen if cases or not only]


def _play(of: CasesOf, cases: Sequence[Case]) -> list[Verdict]:
    """Each verdict is shown as soon as it is known."""
    print(of.file or f"{of.playbook.name}: it has no cases")
    verdicts = []
    for case in cases:
        verdicts.append(judge(case))
        print("\n".join(lines_of(verdicts[-1])), flush=True)
    return verdicts
