"""What was expected against what happened, as people read it: a unified diff of two stories."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import unified_diff

from remediator.core.playbook import brief
from remediator.lab.playbook_tests.case import Case, Line
from remediator.lab.playbook_tests.rehearsal import Outcome, rehearse

CONTEXT_LINES = 3
SEEN_CHARACTERS_MAX = 100


@dataclass(frozen=True, slots=True)
class Verdict:
    """A case and what came of it. `difference` is empty if all is as expected."""

    case: Case
    outcome: Outcome
    difference: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.difference and not self.outcome.breakdowns


def judge(case: Case) -> Verdict:
    """Play the case, and compare."""
    outcome = rehearse(case)
    return Verdict(case, outcome, tuple(_difference(case, outcome.story)))


def lines_of(verdict: Verdict) -> Iterator[str]:
    """The verdict for a terminal: one line, and for a failure what differs."""
    case = verdict.case
    if verdict.passed:
        yield f"  ok      {case.name}"
        return
    yield f"  FAILED  {case.name}  ({case.place})"
    for line in (*verdict.difference, *(f"  broke down: {each}" for each in verdict.outcome.breakdowns)):
        yield f"            {line}".rstrip()


def _difference(case: Case, happened: Sequence[Line]) -> Iterator[str]:
    """What happens in the case stands on both sides, so that it can be read along; `#` says why, where it differs."""
    events = [Line(at, f"({event.text})") for at, event in case.events]
    expected, real = _told(events, case.expected), _told(events, happened)
    if expected == real:
        return
    seen = {_row(line): line.seen for line in happened}
    for row in unified_diff(expected, real, "expected", "what happened", n=CONTEXT_LINES, lineterm=""):
        why = seen.get(row[1:], "") if row.startswith("+") else ""
        yield f"{row:<60} # {why[:SEEN_CHARACTERS_MAX]}" if why else row


def _told(events: Sequence[Line], lines: Sequence[Line]) -> list[str]:
    """Both in the order of time, an event before what comes of it."""
    told = sorted([*((line.at, 0, line) for line in events), *((line.at, 1, line) for line in lines)], key=lambda x: x[:2])
    return [_row(line) for _, _, line in told]


def _row(line: Line) -> str:
    return f"{brief(line.at):>8}  {line.text}"
