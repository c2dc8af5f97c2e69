"""Playbook files: YAML -> `PlaybookFile` (pydantic) -> `core.Playbook`, and the rules between the parts and the files.

Every error names file, line and field, and what to write instead; all that can be found are reported at once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import WithDefaultSchema

from remediator.core.playbook import BreakerLimits, Limits, Need, Playbook, Rung, Verification, brief
from remediator.core.step import Diagnosis
from remediator.core.target import Selector
from remediator.extensions.installed import diagnoses, installed
from remediator.playbook_model import BreakerPart, LimitsPart, PlaybookFile, Target, VerifyPart, in_notation
from remediator.playbook_model import Rung as RungPart
from remediator.yaml_lines import FileProblem, Lines, Place, Problem, dotted, instead, load_yaml, problems_of, read_text

CASES_SUFFIX = ".cases.yaml"
SUFFIX = ".yaml"
VERSION_DIGITS = 12


def parse_playbook(text: str, file: str) -> Playbook:
    """The playbook that `text` describes. `file` is what messages call it. Raises FileProblem with all that is wrong."""
    return _parse(text, file).playbook


def load_playbooks(directory: Path) -> tuple[Playbook, ...]:
    """Every `*.yaml` of the directory but for `*.cases.yaml`, by name. Raises FileProblem with all problems of all files.

    While an installed extension cannot be used, nothing is loaded: which words a file may use would not be known.
    """
    _need_sound_extensions()
    if not directory.is_dir():
        raise FileProblem([Problem(str(directory), 0, "", "is not a directory of playbooks")])
    strays = [
        Problem(str(path), 0, "", f"is not read; call it {path.stem}{SUFFIX}") for path in sorted(directory.glob("*.yml"))
    ]
    if strays:
        raise FileProblem(strays)
    paths = sorted(path for path in directory.glob(f"*{SUFFIX}") if not path.name.endswith(CASES_SUFFIX))
    if not paths:
        raise FileProblem([Problem(str(directory), 0, "", "has no playbooks; they are called <name>.yaml")])
    read: list[_Read] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            read.append(_parse(read_text(path), str(path)))
        except FileProblem as error:
            problems += error.problems
    problems += [problem for one in read for problem in _wrongly_called(one)]
    problems += _doubles(read)
    if problems:
        raise FileProblem(problems)
    return tuple(sorted((one.playbook for one in read), key=lambda playbook: playbook.name))


def effective_limits(playbook: Playbook) -> list[tuple[str, str]]:
    """What applies to the playbook, defaults included, as (field, value) in the notation of the file."""
    limits, breaker, verify = playbook.limits, playbook.limits.breaker, playbook.verify
    return [
        ("mode", playbook.mode.value),
        ("limits.settle", brief(limits.settle)),
        ("limits.cooldown", brief(limits.cooldown)),
        ("limits.max", ", ".join(map(str, limits.max))),
        ("limits.max_all_targets", ", ".join(map(str, limits.max_all_targets))),
        ("limits.min_healthy", f"{limits.min_healthy:.0%}"),
        ("limits.masking", str(limits.masking)),
        ("limits.corroborate", "on" if limits.corroborate else "off"),
        ("limits.hold_if", ", ".join(map(str, limits.hold_if)) or "nothing"),
        ("limits.give_up", brief(limits.give_up)),
        ("limits.breaker.failures", str(breaker.failures)),
        ("limits.breaker.targets", str(breaker.targets)),
        ("limits.breaker.window", brief(breaker.window)),
        ("limits.breaker.open_for", brief(breaker.open_for)),
        ("limits.breaker.open_for_at_most", brief(breaker.open_for_at_most)),
        ("limits.breaker.min_healthy_period", brief(breaker.min_healthy_period)),
        ("verify.within", brief(verify.within)),
        ("verify.stable_for", brief(verify.stable_for)),
    ]


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a playbook file, for editors. It is a little laxer than the parser.

    Raises FileProblem while an installed extension cannot be used.
    """
    _need_sound_extensions()
    return schema_of(PlaybookFile, "remediator playbook")


def _need_sound_extensions() -> None:
    if problems := installed().problems:
        raise FileProblem(problems)


def schema_of(model: type[BaseModel], title: str) -> dict[str, Any]:
    """The same of any file that is described by a model."""
    schema = model.model_json_schema(schema_generator=_SchemaForEditors)
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema, "title": title}


class _SchemaForEditors(GenerateJsonSchema):
    """Defaults in the notation of the file, and no titles that only repeat the names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def default_schema(self, schema: WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"]) if schema.get("default", ...) is None else super().default_schema(schema)

    def encode_default(self, dft: Any) -> Any:
        return super().encode_default(in_notation(dft))


# --- One file ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Read:
    """A playbook, with what is needed to say where in its file something is."""

    playbook: Playbook
    file: str
    lines: Lines

    def problem(self, place: Place, message: str) -> Problem:
        return Problem(self.file, self.lines.at(place), dotted(place), message)


def _parse(text: str, file: str) -> _Read:
    value, lines = load_yaml(text, file)
    try:
        model = PlaybookFile.model_validate(value)
    except ValidationError as error:
        raise FileProblem(problems_of(error, file, lines, PlaybookFile)) from error
    read = _Read(_playbook(model, text), file, lines)
    if problems := list(_unfounded(read)):
        raise FileProblem(problems)
    return read


def _playbook(model: PlaybookFile, text: str) -> Playbook:
    return Playbook(
        name=model.name,
        summary=model.summary,
        matchers=model.matchers,
        target=_selector(model.target),
        ladder=tuple(map(_rung, model.ladder)),
        verify=_verification(model.verify),
        mode=model.mode,
        limits=_limits(model.limits),
        diagnose=tuple(item.made() for item in model.diagnose),
        escalate=model.escalate,
        runbook=model.runbook,
        version=sha256(text.encode()).hexdigest()[:VERSION_DIGITS],
        source=text,
    )


def _selector(part: Target) -> Selector:
    return Selector({name: getattr(part, name) for name in type(part).model_fields if name in part.model_fields_set})


def _rung(part: RungPart) -> Rung:
    return Rung(
        step=part.made(),
        target=_selector(part.target) if part.target else None,
        when=part.when,
        approval_required=part.approval == "required",
    )


def _verification(part: VerifyPart) -> Verification:
    return Verification(
        checks=tuple(item.made() for item in part.all or part.any),
        need=Need.ALL if part.all else Need.ANY,
        within=part.within,
        stable_for=part.stable_for,
    )


def _limits(part: LimitsPart) -> Limits:
    return Limits(
        settle=part.settle,
        cooldown=part.cooldown,
        max=part.max,
        max_all_targets=part.max_all_targets,
        min_healthy=part.min_healthy,
        masking=part.masking,
        corroborate=part.corroborate,
        hold_if=part.hold_if,
        give_up=part.give_up,
        breaker=_breaker(part.breaker),
    )


def _breaker(part: BreakerPart) -> BreakerLimits:
    return BreakerLimits(
        failures=part.failures,
        targets=part.targets,
        window=part.window,
        open_for=part.open_for,
        open_for_at_most=part.open_for_at_most,
        min_healthy_period=part.min_healthy_period,
    )


# --- Between the parts, and between the files -------------------------------------------------------------------------


def _unfounded(read: _Read) -> Iterator[Problem]:
    """Conditions on facts that nothing in the playbook finds out would never hold, and nobody would notice."""
    gathered = {fact for diagnosis in read.playbook.diagnose for fact in facts_of(type(diagnosis))}
    for index, rung in enumerate(read.playbook.ladder):
        if rung.when and rung.when.fact not in gathered:
            message = f"no diagnosis of this playbook finds {rung.when.fact!r}; {_source_of(rung.when.fact)}"
            yield read.problem(("ladder", index, "when"), message)


def facts_of(diagnosis: type[Diagnosis]) -> tuple[str, ...]:
    """The numbers that a diagnosis finds, for `when:`."""
    return getattr(diagnosis, "facts", ())


def _source_of(fact: str) -> str:
    sources = {known: kind.name for kind in diagnoses() for known in facts_of(kind)}
    return f"add {sources[fact]} to diagnose" if fact in sources else instead(fact, sources)


def _wrongly_called(read: _Read) -> Iterator[Problem]:
    name, stem = read.playbook.name, Path(read.file).name.removesuffix(SUFFIX)
    if name != stem:
        yield read.problem(
            ("name",), f"{name!r} is not what the file is called; name the playbook {stem} or the file {name}{SUFFIX}"
        )


def _doubles(read: Sequence[_Read]) -> Iterator[Problem]:
    """Two playbooks of one name, or for exactly the same alerts: which of them acts would be chance."""
    names: dict[str, _Read] = {}
    matchers: dict[frozenset[Any], _Read] = {}
    for one in read:
        first = names.setdefault(one.playbook.name, one)
        if first is not one:
            yield one.problem(("name",), f"{one.playbook.name!r} is the name of {first.file} already")
        twin = matchers.setdefault(frozenset(one.playbook.matchers), one)
        if twin is not one:
            yield one.problem(("matchers",), f"are those of {twin.file} exactly; let one of the two ask for more")
