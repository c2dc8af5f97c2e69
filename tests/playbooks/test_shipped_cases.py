"""The cases in `playbooks/`: all pass, and whoever takes a guard away, or moves a limit by the least, breaks one."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from remediator import remediate
from remediator.core.decide import decide
from remediator.core.guards import GUARDS
from remediator.core.playbook import Limits, Playbook, RateLimit
from remediator.core.step_parts import Risk
from remediator.lab.playbook_tests.case import Case
from remediator.lab.playbook_tests.files import load_cases
from remediator.lab.playbook_tests.report import judge, lines_of

ROOT = Path(__file__).parents[2]
CASES = {of.playbook.name: of.cases for of in load_cases(ROOT / "playbooks")}
PLAYBOOKS = {name: cases[0].playbook for name, cases in CASES.items()}
SECOND = timedelta(seconds=1)
THE_DEFAULTS = "redis-down"
"""Whose cases try out the limits that a playbook has by default, as well."""

each_case = pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{name}: {case.name}") for name, cases in CASES.items() for case in cases]
)


def test_every_playbook_has_cases():
    assert set(CASES) == {path.stem for path in (ROOT / "playbooks").glob("*.yaml") if ".cases" not in path.name}
    assert all(len(cases) > 20 for cases in CASES.values())


@each_case
def test_a_shipped_playbook_does_what_its_cases_say(case: Case):
    verdict = judge(case)
    assert verdict.passed, "\n".join(lines_of(verdict))


def somebody_notices(cases: Iterable[Case]) -> bool:
    return any(not judge(case).passed for case in cases)


# --- Guards -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", GUARDS, ids=lambda guard: guard.__name__)
def test_a_guard_that_is_taken_away_is_missed(missing, monkeypatch):
    def without(candidate, snapshot, now, guards=GUARDS):
        return decide(candidate, snapshot, now, [guard for guard in guards if guard is not missing])

    monkeypatch.setattr(remediate, "decide", without)
    assert somebody_notices(case for cases in reversed(CASES.values()) for case in cases)


# --- Limits -----------------------------------------------------------------------------------------------------------


def moved(value: object, by: int) -> Iterator[object]:
    """The value, a little more or less: by a second, by one, or by what makes a difference among a few instances."""
    match value:
        case bool():
            yield not value
        case timedelta():
            yield value + by * SECOND
        case RateLimit(count, window):
            if count + by > 0:
                yield RateLimit(count + by, window)
            yield RateLimit(count, window + by * SECOND)
        case int():
            yield value + by
        case float():
            yield value + by * 0.25
        case tuple():
            for index, item in enumerate(value):
                for other in moved(item, by) if isinstance(item, RateLimit) else ():
                    yield (*value[:index], other, *value[index + 1 :])
                if not isinstance(item, RateLimit):
                    yield (*value[:index], *value[index + 1 :])


LIMITS = ("settle", "cooldown", "max", "max_all_targets", "min_healthy", "masking", "corroborate", "hold_if", "give_up")
BREAKER = ("failures", "targets", "window", "open_for", "open_for_at_most", "min_healthy_period")


def mutants_of_limits(playbook: Playbook) -> Iterator[tuple[str, Playbook]]:
    """The playbook with one of its limits moved; default limits in one playbook only."""
    limits, default = playbook.limits, Limits()
    all_of_them = playbook.name == THE_DEFAULTS
    for name in LIMITS:
        value = getattr(limits, name)
        if all_of_them or value != getattr(default, name):
            for by in (-1, 1):
                for other in moved(value, by):
                    yield f"{name} {shown(other)}", replace(playbook, limits=replace(limits, **{name: other}))
    for name in BREAKER:
        value = getattr(limits.breaker, name)
        if all_of_them or value != getattr(default.breaker, name):
            for by in (-1, 1):
                for other in moved(value, by):
                    breaker = replace(limits.breaker, **{name: other})
                    yield f"breaker.{name} {shown(other)}", replace(playbook, limits=replace(limits, breaker=breaker))


def shown(value: object) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, tuple) else str(value)


def mutants_of_ladder(playbook: Playbook) -> Iterator[tuple[str, Playbook]]:
    """The playbook with something else to do, or something else to know that it worked."""
    ladder, verify = playbook.ladder, playbook.verify
    for number, rung in enumerate(ladder):
        if rung.when is not None:
            yield f"no condition of step {number + 1}", with_rung(playbook, number, replace(rung, when=None))
        if rung.approval_required and rung.step.risk is not Risk.DESTRUCTIVE:  # its risk alone asks for one
            yield f"no approval of step {number + 1}", with_rung(playbook, number, replace(rung, approval_required=False))
        yield f"no step {number + 1}", replace(playbook, ladder=ladder[:number] + ladder[number + 1 :])
    for number, check in enumerate(verify.checks):
        rest = replace(verify, checks=verify.checks[:number] + verify.checks[number + 1 :])
        yield f"no check {check.name}", replace(playbook, verify=rest)
    for name in ("within", "stable_for"):
        for by in (-1, 1):
            value = getattr(verify, name) + by * SECOND
            yield f"verify.{name} {value}", replace(playbook, verify=replace(verify, **{name: value}))
    yield "escalate", replace(playbook, escalate="somebody else")


def with_rung(playbook: Playbook, number: int, rung: object) -> Playbook:
    return replace(playbook, ladder=(*playbook.ladder[:number], rung, *playbook.ladder[number + 1 :]))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("playbook", PLAYBOOKS.values(), ids=PLAYBOOKS)
def test_a_playbook_that_is_changed_by_the_least_is_noticed(playbook: Playbook):
    mutants = [*mutants_of_limits(playbook), *mutants_of_ladder(playbook)]
    assert len(mutants) > 20
    cases, unnoticed = list(CASES[playbook.name]), []
    for what, mutant in mutants:
        steps = {rung.step.name for rung in mutant.ladder}
        fit = [case for case in cases if all(repair.step in steps for repair in case.history)]
        failing = next((case for case in fit if not judge(replace(case, playbook=mutant)).passed), None)
        if failing is None:
            unnoticed.append(what)
        else:  # what noticed one will likely notice the next
            cases.remove(failing)
            cases.insert(0, failing)
    assert unnoticed == []
