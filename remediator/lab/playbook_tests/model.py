"""What a cases file may say, as pydantic models; `files.py` turns them into `case.Case`, whose defaults they take."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from pydantic_core.core_schema import no_info_before_validator_function

from remediator.core.playbook import Mode
from remediator.core.snapshot import Score
from remediator.durations import Duration, parse_duration
from remediator.lab.playbook_tests.case import Alertmanager, Deed, Outcome, Presence, Prometheus, StepScript, Verb
from remediator.lab.playbook_tests.story import sentence_of
from remediator.maintenance_file import WindowPart
from remediator.playbook_model import UpToMonth, in_notation
from remediator.playbook_steps import Bounds, Part, Text, either
from remediator.ports import Happened, Probe
from remediator.services_file import ServicePart
from remediator.settings import Settings
from remediator.yaml_lines import instead, shown

CASES_MAX, EVENTS_MAX, LINES_MAX, HISTORY_MAX = 500, 500, 500, 200
STORM_MAX = 200
LONGEST = timedelta(days=31)
ALERT_NAME = "[A-Za-z][A-Za-z0-9_-]*"


class OneOrSeveral:
    """Marks a list of which a single item may stand without its brackets."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_before_validator_function(
            lambda value: value if isinstance(value, list | tuple) else [value], handler(source)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        several = handler(schema)
        return {"anyOf": [several["items"], several]}


def _time(value: str) -> str:
    if parse_duration(value) > LONGEST:
        raise ValueError(f"must be at most {in_notation(LONGEST)}")
    return value


def _ascending(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """In the order of time, as a story is told: what stands out of order would be read wrongly."""
    before = ""
    for at in given:
        if before and parse_duration(at) <= parse_duration(before):
            raise ValueError(f"{at} must stand before {before}, in the order of time")
        before = at
    return given


# --- What happens -----------------------------------------------------------------------------------------------------

_DEEDS: Mapping[Verb, str] = {
    **dict.fromkeys((Verb.FIRE, Verb.RESOLVE, Verb.SILENCE, Verb.UNSILENCE), rf"(?: (?P<alert>{ALERT_NAME}))?"),
    **dict.fromkeys((Verb.APPROVE, Verb.REJECT), rf" by (?P<by>\S+)(?: for (?P<alert>{ALERT_NAME}))?"),
    **dict.fromkeys((Verb.PAUSE, Verb.RESUME, Verb.WATCHDOG), ""),
    Verb.RESET: " breakers",
    Verb.STORM: r" of (?P<count>\d{1,3})",
}
"""What stands behind each verb."""
_EXAMPLES = (
    "fire",
    "resolve web",
    "silence",
    "approve by ann",
    "reject by ann",
    "reset breakers",
    "pause",
    "resume",
    "storm of 21",
    "watchdog",
)


def _deed(value: Any) -> Deed:
    text = value if isinstance(value, str) else shown(value)
    verb = text.split(" ")[0]
    if verb not in set(Verb):
        raise ValueError(f"{shown(text)} is nothing that can happen; {instead(verb, map(str, Verb))}")
    found = re.fullmatch(_DEEDS[Verb(verb)], text[len(verb) :])
    if found is None:
        example = next(example for example in _EXAMPLES if example.split(" ")[0] in (verb, _LIKE.get(verb)))
        raise ValueError(f"{shown(text)} is not understood; write it as: {example}")
    said = {name: part for name, part in found.groupdict().items() if part}
    count = int(said.pop("count", 0))
    if count > STORM_MAX:
        raise ValueError(f"a storm of more than {STORM_MAX} alerts shows nothing more")
    return Deed(Verb(verb), **said, count=count, text=text)


_LIKE = {"unsilence": "silence"}


class StepPart(Part):
    """What comes of a step when it is called. An outcome may stand alone: `restart: failed`."""

    outcome: Annotated[tuple[Outcome, ...], OneOrSeveral()] = Field(
        default=StepScript().outcome, min_length=1, max_length=20, description="One for each call in turn; the last one stays."
    )
    takes: UpToMonth = Field(default=timedelta(), description="How long the call takes.")
    happened: Happened = Field(
        default=Happened.YES, description="Of a call in doubt: whether it happened, or `unknown`: nobody can find out."
    )

    @model_validator(mode="before")
    @classmethod
    def _from_short_form(cls, given: Any) -> Any:
        return {"outcome": given} if isinstance(given, str | list) else given

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler.resolve_ref_schema(handler(core_schema))
        return either(schema, schema["properties"]["outcome"])


Steps = Annotated[frozenset[Text], OneOrSeveral()]


class WorldPart(Part):
    """What is the case round remediator; in `happens`, what changes. What is left out stays as it is."""

    target: Presence = Field(default=Presence.PRESENT, description="What the playbook's selection finds.")
    allow: Steps = Field(default=frozenset(), description="Steps that the targets opted in to; by default all of the playbook.")
    instances: Annotated[int, Field(strict=True, ge=1, le=100)] = Field(default=1, description="Of each service.")
    healthy: Annotated[int, Field(strict=True, ge=0, le=100)] = Field(
        default=0, description="Instances that stay healthy while the fault lasts."
    )
    releases: Mapping[Text, Annotated[Duration, AfterValidator(Bounds(most=timedelta(days=366)))]] = Field(
        default_factory=dict, description="What the services ran, and how long before the start each release came."
    )
    numbers: Mapping[Text, float] = Field(default_factory=dict, description="What diagnoses find.")
    checks: Mapping[Text, Probe] = Field(
        default_factory=dict, description="What checks see whatever else is the case; others hold once the fault is gone."
    )
    cured_by: Steps = Field(default=frozenset(), description="The steps after which the fault is gone; by default none.")
    cures_after: UpToMonth = Field(default=timedelta(), description="From the end of that step to the end of the fault.")
    resolves_after: UpToMonth = Field(default=timedelta(), description="From the end of the fault to the end of its alert.")
    lasts: UpToMonth | None = Field(default=None, description="The fault is back this long after its end.")
    steps: Mapping[Text, StepPart] = Field(default_factory=dict, description="What comes of each step; by default `done`.")
    alertmanager: Alertmanager = Field(default=Alertmanager.ON, description="Its API; the messages come anyway.")
    prometheus: Prometheus = Field(default=Prometheus.ON, description="Whether it says so, too.")
    scraped: float = Field(default=1.0, ge=0, le=1, description="Share of Prometheus's targets that answer.")


class Happening(WorldPart):
    """A deed as text (`fire`, `approve by ann`), or what is otherwise in the world from now on."""

    deed: Annotated[Deed, BeforeValidator(_deed), WithJsonSchema({"type": "string", "examples": list(_EXAMPLES)})] | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        return given if isinstance(given, dict) else {"deed": given}

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return either(handler.resolve_ref_schema(handler(core_schema)), {"type": "string", "examples": list(_EXAMPLES)})


Result = Literal[Score.SUCCESS, Score.FAILURE]


class RepairPart(Part):
    """A step that was taken on a target before the case begins, in a run that is over; or several, at equal distances."""

    ago: Annotated[Duration, AfterValidator(Bounds(timedelta(seconds=1), LONGEST))] = Field(
        description="The first one, before the start."
    )
    step: Text = Field(description="A step of the ladder.")
    result: Annotated[tuple[Result, ...], OneOrSeveral()] = Field(
        default=(Score.SUCCESS,),
        min_length=1,
        max_length=HISTORY_MAX,
        description="What it came to; a list is gone through in turn.",
    )
    alert: Text = Field(default="", description="On whose target; by default the alert's own.")
    times: Annotated[int, Field(strict=True, ge=1, le=HISTORY_MAX)] = Field(default=1, description="How many there were.")
    every: Annotated[Duration, AfterValidator(Bounds(most=LONGEST))] = Field(
        default=timedelta(), description="Their distance in time."
    )

    @model_validator(mode="after")
    def _is_over(self) -> Self:
        if (self.times > 1) != bool(self.every):
            raise ValueError("times and every stand together, for instance {times: 3, every: 10m}")
        if self.ago <= self.every * (self.times - 1):
            raise ValueError("the last one would be after the start")
        return self


# --- What should come of it, and the file -----------------------------------------------------------------------------

Labels = Mapping[Text, str]
Time = Annotated[str, AfterValidator(_time)]
Sentence = Annotated[str, AfterValidator(sentence_of)]
Happenings = Annotated[tuple[Happening, ...], OneOrSeveral()]
Sentences = Annotated[tuple[Sentence, ...], OneOrSeveral()]


class CaseSettings(Settings):
    """Settings as in the configuration file, but that the mode is `auto` unless a case says otherwise."""

    mode: Mode = Mode.AUTO


class Given(Part):
    """What is given: in a case, or for all cases of a file."""

    alert: Labels = Field(
        default_factory=dict, description="Labels of the alert that the case is about; an empty value takes one away."
    )
    others: Mapping[Annotated[str, Field(pattern=f"^{ALERT_NAME}$")], Labels] = Field(
        default_factory=dict, description="Further alerts, by a name: those of their labels that differ from the alert's."
    )
    settings: CaseSettings = Field(default_factory=CaseSettings, description="As in the configuration file; `mode` is `auto`.")
    begins_at: AwareDatetime | None = Field(default=None, description="The time of the start; only maintenance cares.")
    maintenance: tuple[WindowPart, ...] = Field(default=(), max_length=20, description="As in the maintenance file.")
    services: tuple[ServicePart, ...] = Field(default=(), max_length=20, description="As in the services file: who needs whom.")
    history: tuple[RepairPart, ...] = Field(default=(), max_length=HISTORY_MAX, description="What was done before the start.")
    world: WorldPart = Field(default_factory=WorldPart, description="What is the case round remediator.")


class CasePart(Given):
    """One case."""

    name: Annotated[Text, Field(max_length=200)] = Field(description="What it shows, as a sentence.")
    happens: Annotated[Mapping[Time, Happenings], AfterValidator(_ascending)] = Field(
        default_factory=lambda: {"0s": (Happening.model_validate("fire"),)},
        max_length=EVENTS_MAX,
        description="What happens when; by default the alert fires at 0s.",
    )
    expect: Annotated[Mapping[Time, Sentences], AfterValidator(_ascending)] = Field(
        max_length=LINES_MAX, description="What should come of it: all of it, at these times, in this order."
    )
    until: Annotated[Duration, AfterValidator(Bounds(timedelta(seconds=1), LONGEST))] | None = Field(
        default=None, description="Where the case ends; by default when nothing is left to happen and every run has ended."
    )


class CasesFile(Part):
    """The cases of one playbook: `<name>.cases.yaml` beside `<name>.yaml`."""

    model_config = ConfigDict(title="remediator playbook cases")

    given: Given = Field(default_factory=Given, description="What all cases share; a case may say otherwise.")
    cases: tuple[CasePart, ...] = Field(min_length=1, max_length=CASES_MAX, description="The cases.")

    @field_validator("cases")
    @classmethod
    def _each_named_once(cls, cases: tuple[CasePart, ...]) -> tuple[CasePart, ...]:
        names = [case.name for case in cases]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two cases are called {shown(twice)}")
        return cases
