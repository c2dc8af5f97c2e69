"""The services file: YAML -> pydantic -> `core.dependencies.Dependencies`, and what `remediator rules` makes rules of.

Every error names file, line, field and what to write.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema, model_validator

from remediator.core.dependencies import CAUSES, RECOVERY, Dependencies, cycle_in, everything_needed
from remediator.core.template import NAME
from remediator.durations import Duration
from remediator.playbook_files import schema_of
from remediator.playbook_model import Match, UpToDay
from remediator.playbook_steps import Bounds, Part, Text
from remediator.yaml_lines import FileProblem, Place, Problem, dotted, instead, load_yaml, problems_of, read_text, shown

SERVICES_MAX = 1_000
NEEDS_MAX = 100
RUNBOOKS = "https://runbooks.example.com"


def load_services(path: Path) -> "ServicesFile":
    """What the file says. Raises FileProblem with all that is wrong."""
    return parse_services(read_text(path), str(path))


def load_dependencies(path: Path | None) -> Dependencies:
    """Who needs whom, by the file; without one nobody needs anybody. Raises FileProblem with all that is wrong."""
    return Dependencies() if path is None else load_services(path).dependencies


def parse_services(text: str, file: str) -> "ServicesFile":
    """What `text` says. `file` is what messages call it. Raises FileProblem with all that is wrong."""
    value, lines = load_yaml(text, file)
    try:
        model = ServicesFile.model_validate(value)
    except ValidationError as error:
        raise FileProblem(problems_of(error, file, lines, ServicesFile)) from error
    wrong = wrong_between(model.services)
    if problems := [Problem(file, lines.at(place), dotted(place), message) for place, message in wrong]:
        raise FileProblem(problems)
    return model


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a services file, for editors. It is a little laxer than the parser."""
    return schema_of(ServicesFile, "remediator services")


# --- Texts and numbers that need more than a type ---------------------------------------------------------------------


class Kind(StrEnum):
    """What answers, and so which alerts there are about it."""

    HTTP = "http"
    POSTGRES = "postgres"
    REDIS = "redis"


class Priority(StrEnum):
    """How urgent an outage is: P0 at once, by night too, to P3 on the next working day."""

    P0 = "P0"
    P1 = "P1"
    P2 = "P2"
    P3 = "P3"


def _written_as(pattern: str, what: str) -> Callable[[str], str]:
    """A validator. `what` says what the text should be, and what to write."""

    def validated(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"{shown(text)} is not {what}")
        return text

    return validated


def _percent(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 100:
        raise ValueError(f"{shown(value)} is not a share of the requests; write one between 0 and 100, for instance 99.9")
    return Decimal(str(value))


ServiceName = Annotated[str, AfterValidator(_written_as(NAME.pattern, "a name; write one as shop-api"))]
LabelName = Annotated[Text, AfterValidator(_written_as("[a-zA-Z_][a-zA-Z0-9_]*", "the name of a label; write one as job"))]
MetricName = Annotated[
    Text, AfterValidator(_written_as("[a-zA-Z_:][a-zA-Z0-9_:]*", "the name of a metric; write one as http_requests_total"))
]
Address = Annotated[
    Text, AfterValidator(_written_as(r"https?://[^\s{}]+", "an address; write one as https://wiki.example.org/runbooks"))
]
Percent = Annotated[
    Decimal,
    BeforeValidator(_percent),
    WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 100, "examples": [99.9]}),
]
UpToAMinute = Annotated[Duration, AfterValidator(Bounds(timedelta(milliseconds=1), timedelta(minutes=1)))]

# --- The parts of a file ----------------------------------------------------------------------------------------------


class LatencyPart(Part):
    """So many of the requests are answered within this time."""

    percent: Percent = Field(examples=["99"], description="Share of the requests, in per cent.")
    within: UpToAMinute = Field(examples=["300ms"], description="Must be the upper bound of a bucket of the histogram.")


class ObjectivesPart(Part):
    """Service level objectives over 30 days: what is missing to 100 % is the error budget."""

    availability: Percent | None = Field(default=None, description="Share of requests without a 5xx status, in per cent.")
    latency: LatencyPart | None = Field(default=None, description="How many requests are answered how fast.")

    @model_validator(mode="after")
    def _is_some_objective(self) -> Self:
        if self.availability is None and self.latency is None:
            raise ValueError("asks for nothing; give availability, latency, or both")
        return self


class MetricsPart(Part):
    """What the service calls its metrics, where it differs from the usual."""

    requests: MetricName = Field(default="http_requests_total", description="Counter with the label `status` or `code`.")
    duration: MetricName = Field(default="http_request_duration_seconds", description="Histogram, without `_bucket`.")


class ServicePart(Part):
    """One service."""

    name: ServiceName = Field(examples=["shop-api"], description="The value of the label `service` of its alerts.")
    kind: Kind = Field(default=Kind.HTTP, description="What answers, and so which alerts there are about it.")
    job: Text | None = Field(default=None, max_length=200, description="Prometheus's job: short for `selector: {job: …}`.")
    selector: Mapping[LabelName, Text] | None = Field(
        default=None, min_length=1, max_length=20, description="Labels of its series in Prometheus."
    )
    probe: Text | None = Field(
        default=None, max_length=1000, description="The address that the blackbox exporter asks: its label `instance`."
    )
    priority: Priority = Field(default=Priority.P2, description="How urgent an outage is.")
    objectives: ObjectivesPart | None = Field(default=None, description="Service levels that were promised.")
    metrics: MetricsPart = Field(default=MetricsPart(), description="What it calls its metrics.")
    needs: tuple[ServiceName, ...] = Field(
        default=(), max_length=NEEDS_MAX, description="Services without which it cannot work, by their names here."
    )

    @model_validator(mode="after")
    def _can_be_measured(self) -> Self:
        if self.job and self.selector:
            raise ValueError("job and selector are two ways to say one thing; write the job into selector")
        if self.kind is not Kind.HTTP and (self.probe or self.objectives):
            raise ValueError(f"probe and objectives are about HTTP; a {self.kind} service has its exporter")
        if self.objectives and not self.labels:
            raise ValueError("has objectives and nothing to measure them by; give its job or selector")
        return self

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels by which Prometheus knows its series; empty if nobody said so."""
        return {"job": self.job} if self.job else self.selector or {}


class ServicesFile(Part):
    """The services, what each needs, and what is promised of it."""

    model_config = ConfigDict(title="remediator services")

    services: tuple[ServicePart, ...] = Field(
        min_length=1, max_length=SERVICES_MAX, examples=["[{name: shop-api, job: shop}]"], description="The services."
    )
    causes: tuple[Match, ...] = Field(
        default=CAUSES,
        min_length=1,
        max_length=20,
        description="Which alerts of a service hold back what needs it: those that meet all of these.",
    )
    recovery: UpToDay = Field(
        default=RECOVERY, description="How long a service may get well by itself after what it needs has done so."
    )
    runbooks: Address = Field(default=RUNBOOKS, description="Where docs/runbooks/ is published, for `runbook_url`.")

    @property
    def dependencies(self) -> Dependencies:
        return Dependencies(needs_of(self.services), self.causes, self.recovery)


# --- Between the services ---------------------------------------------------------------------------------------------


def wrong_between(services: Sequence[ServicePart]) -> Iterator[tuple[Place, str]]:
    """Names that are given twice or to nobody, and services that need each other: where, and what is wrong."""
    places = {service.name: index for index, service in reversed(list(enumerate(services)))}
    for index, service in enumerate(services):
        if places[service.name] != index:
            yield ("services", index, "name"), f"{service.name!r} is the name of an earlier service, too"
        for position, need in enumerate(service.needs):
            if need not in places:
                yield ("services", index, "needs", position), f"there is no service {need!r}; {instead(need, places)}"
    if cycle := cycle_in(_needs(services)):
        first, *others = cycle
        circle = f"{first} needs {', which needs '.join(others)}"
        yield ("services", places[first], "needs"), f"nothing could ever be repaired first: {circle}; leave one of these out"


def needs_of(services: Sequence[ServicePart]) -> Mapping[str, frozenset[str]]:
    """Each service with all that it needs, directly or not. Nothing must be wrong between them."""
    return everything_needed(_needs(services))


def _needs(services: Sequence[ServicePart]) -> Mapping[str, Sequence[str]]:
    return {service.name: service.needs for service in services}
