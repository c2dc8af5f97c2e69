"""Cases files: YAML -> `CasesFile` (pydantic) -> `case.Case`, and what only the playbook can say about them.

Every error names file, line and field, and what to write instead; all that can be found are reported at once.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from remediator.core.dependencies import Dependencies
from remediator.core.playbook import Playbook
from remediator.durations import parse_duration
from remediator.lab.playbook_tests.case import BEGINS_AT, THE_ALERT, Case, Change, Event, Line, Repair, StepScript, World
from remediator.lab.playbook_tests.model import CasePart, CasesFile, Given, Happening, RepairPart, StepPart, WorldPart
from remediator.playbook_files import CASES_SUFFIX, SUFFIX, facts_of, load_playbooks, schema_of
from remediator.services_file import needs_of, wrong_between
from remediator.settings import Settings
from remediator.yaml_lines import FileProblem, Lines, Place, Problem, dotted, instead, load_yaml, problems_of, read_text


@dataclass(frozen=True, slots=True)
class CasesOf:
    """The cases of one playbook. `file` is empty if it has none."""

    playbook: Playbook
    file: str
    cases: tuple[Case, ...]


def load_cases(path: Path) -> tuple[CasesOf, ...]:
    """The cases of every playbook of a directory, or of one `*.cases.yaml`. Raises FileProblem with all that is wrong."""
    directory = path if path.is_dir() else path.parent
    if not path.is_dir() and not path.name.endswith(CASES_SUFFIX):
        raise FileProblem([Problem(str(path), 0, "", f"is not called <playbook>{CASES_SUFFIX}, nor a directory")])
    playbooks = {playbook.name: playbook for playbook in load_playbooks(directory)}
    files = [path] if path != directory else sorted(directory.glob(f"*{CASES_SUFFIX}"))
    found: list[CasesOf] = []
    problems: list[Problem] = []
    for file in files:
        name = file.name.removesuffix(CASES_SUFFIX)
        if name not in playbooks:
            missing = f"there is no playbook {directory / (name + SUFFIX)}; {instead(name, playbooks)}"
            problems.append(Problem(str(file), 0, "", missing))
            continue
        try:
            found.append(CasesOf(playbooks[name], str(file), parse_cases(read_text(file), str(file), playbooks[name])))
        except FileProblem as error:
            problems += error.problems
    if problems:
        raise FileProblem(problems)
    without = playbooks.keys() - {each.playbook.name for each in found} if path == directory else set()
    found += [CasesOf(playbooks[name], "", ()) for name in without]
    return tuple(sorted(found, key=lambda each: each.playbook.name))


def parse_cases(text: str, file: str, playbook: Playbook) -> tuple[Case, ...]:
    """The cases that `text` describes. `file` is what messages call it. Raises FileProblem with all that is wrong."""
    value, lines = load_yaml(text, file)
    try:
        model = CasesFile.model_validate(value)
    except ValidationError as error:
        raise FileProblem(problems_of(error, file, lines, CasesFile)) from error
    words = _Words(playbook, file, lines)
    problems = [
        *words.wrong_in_given(model.given),
        *(p for n, case in enumerate(model.cases) for p in words.wrong_in(n, case, model.given)),
    ]
    if problems:
        raise FileProblem(problems)
    return tuple(
        _case(part, model.given, playbook, f"{file}:{lines.at(('cases', number))}") for number, part in enumerate(model.cases)
    )


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a cases file, for editors. It is a little laxer than the parser."""
    return schema_of(CasesFile, "remediator playbook cases")


# --- From parts to a case ---------------------------------------------------------------------------------------------


def _case(part: CasePart, given: Given, playbook: Playbook, place: str) -> Case:
    labels = _labels(given.alert, part.alert)
    others = {name: _labels(labels, more) for name, more in {**given.others, **part.others}.items()}
    return Case(
        name=part.name,
        place=place,
        playbook=playbook,
        settings=_settings(part, given),
        begins_at=part.begins_at or given.begins_at or datetime.fromisoformat(BEGINS_AT),
        alerts={THE_ALERT: labels, **others},
        maintenance=tuple(window.made() for window in part.maintenance or given.maintenance),
        dependencies=Dependencies(needs_of(part.services or given.services)),
        history=tuple(sorted(_repairs(part.history or given.history), key=lambda repair: repair.ago, reverse=True)),
        world=replace(replace(World(), **_said(given.world)), **_said(part.world)),
        events=tuple((parse_duration(at), _event(each)) for at, several in part.happens.items() for each in several),
        expected=tuple(Line(parse_duration(at), text) for at, several in part.expect.items() for text in several),
        until=part.until,
    )


def _labels(labels: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
    """A label without a value is none, as in Prometheus."""
    return {name: value for name, value in {**labels, **more}.items() if value}


def _settings(part: Given, given: Given) -> Settings:
    """Field by field, as the world is."""
    said = {name: getattr(part.settings, name) for name in part.settings.model_fields_set}
    return given.settings.model_copy(update=said)


def _repairs(parts: Iterable[RepairPart]) -> Iterator[Repair]:
    for part in parts:
        for number in range(part.times):
            result = part.result[number % len(part.result)]
            yield Repair(part.ago - number * part.every, part.step, result, part.alert)


def _said(part: WorldPart) -> dict[str, Any]:
    """The fields that were given, as `World` has them."""
    said: dict[str, Any] = {name: getattr(part, name) for name in part.model_fields_set if name in WorldPart.model_fields}
    if "steps" in said:
        said["steps"] = {name: _step(step) for name, step in part.steps.items()}
    return said


def _step(part: StepPart) -> StepScript:
    return StepScript(part.outcome, part.takes, part.happened)


def _event(part: Happening) -> Event:
    return part.deed or Change(_said(part))


# --- What only the playbook can say -----------------------------------------------------------------------------------


class _Words:
    """The names that may stand in the cases of one playbook."""

    def __init__(self, playbook: Playbook, file: str, lines: Lines) -> None:
        self._file = file
        self._lines = lines
        self._steps = {rung.step.name for rung in playbook.ladder}
        self._facts = {fact for diagnosis in playbook.diagnose for fact in facts_of(type(diagnosis))}
        self._checks = {check.name for check in playbook.verify.checks}

    def wrong_in_given(self, given: Given) -> Iterator[Problem]:
        yield from self._wrong_in_world(given.world, ("given", "world"))
        yield from self._wrong_in_history(given, ("given",), {THE_ALERT, *given.others})
        yield from self._wrong_in_services(given, ("given",))

    def wrong_in(self, number: int, case: CasePart, given: Given) -> Iterator[Problem]:
        here: Place = ("cases", number)
        alerts = {THE_ALERT, *given.others, *case.others}
        if not {**given.alert, **case.alert}:
            yield self._problem((*here, "alert"), "is missing; write its labels here or in given: {alertname: …, service: …}")
        if case.until is None and (case.world.lasts or given.world.lasts):
            yield self._problem(here, "the fault comes back for ever; say where the case ends, for instance until: 2h")
        yield from self._wrong_in_world(case.world, (*here, "world"))
        yield from self._wrong_in_history(case, here, alerts)
        yield from self._wrong_in_services(case, here)
        for at, several in case.happens.items():
            for index, each in enumerate(several):
                place: Place = (*here, "happens", at, index)
                yield from self._wrong_in_world(each, place)
                yield from self._wrong_in_event(each, place, alerts)
        for at, lines in case.expect.items():
            for index, line in enumerate(lines):
                _, about, name = line.rpartition(" for ")
                if about:
                    yield from self._unless_known(name, alerts - {THE_ALERT}, (*here, "expect", at, index), "another alert")

    def _wrong_in_event(self, each: Happening, place: Place, alerts: set[str]) -> Iterator[Problem]:
        if each.deed is not None:
            yield from self._unless_known(each.deed.alert, alerts, place, "another alert")
            if len(each.model_fields_set) > 1:
                yield self._problem(place, "is a deed and a change of the world at once; write them as two items of a list")
        elif "alertmanager" in each.model_fields_set and each.alertmanager == "off":
            yield self._problem(place, "Alertmanager cannot stop being configured in the middle of a case; write unreachable")

    def _wrong_in_world(self, world: WorldPart, place: Place) -> Iterator[Problem]:
        yield from self._unknown(world.numbers, self._facts, (*place, "numbers"), "a fact that the playbook's diagnoses find")
        yield from self._unknown(world.checks, self._checks, (*place, "checks"), "a check of the playbook's verification")
        for field in ("cured_by", "steps"):
            yield from self._unknown(getattr(world, field), self._steps, (*place, field), "a step of the playbook's ladder")

    def _wrong_in_history(self, given: Given, here: Place, alerts: set[str]) -> Iterator[Problem]:
        for index, repair in enumerate(given.history):
            place: Place = (*here, "history", index)
            yield from self._unless_known(repair.step, self._steps, (*place, "step"), "a step of the playbook's ladder")
            yield from self._unless_known(repair.alert, alerts, (*place, "alert"), "another alert")

    def _wrong_in_services(self, given: Given, here: Place) -> Iterator[Problem]:
        return (self._problem((*here, *place), message) for place, message in wrong_between(given.services))

    def _unknown(self, names: Iterable[str], known: set[str], place: Place, what: str) -> Iterator[Problem]:
        for name in names:
            yield from self._unless_known(name, known, (*place, name), what)

    def _unless_known(self, name: str, known: set[str], place: Place, what: str) -> Iterator[Problem]:
        if name not in known:
            yield self._problem(place, f"{name!r} is not {what}; {instead(name, known - {THE_ALERT})}")

    def _problem(self, place: Place, message: str) -> Problem:
        return Problem(self._file, self._lines.at(place), dotted(place), message)
