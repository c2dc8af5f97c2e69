"""What a playbook file may say: the one source of its errors, its JSON Schema and its reference.

Shape and bounds, as pydantic models; `playbook_files.py` turns them into `core.playbook`, whose defaults they take.
"""

import re
from datetime import timedelta, tzinfo
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from remediator.core.matching import Matcher, MatchOp, parse_matcher
from remediator.core.playbook import (
    LOOK_BACK_MAX,
    BreakerLimits,
    Condition,
    Limits,
    Mode,
    RateLimit,
    Verification,
    brief,
    parse_condition,
)
from remediator.core.step_parts import Risk
from remediator.durations import Duration, Rate
from remediator.extensions.installed import checks, diagnoses, steps
from remediator.playbook_steps import Bounds, Item, Part, Text, item_model, name_template
from remediator.yaml_lines import shown

SHORTEST, DAY, MONTH = timedelta(milliseconds=1), timedelta(days=1), LOOK_BACK_MAX
RATE_MAX = RateLimit(1000, MONTH)
MASKING_MAX = 50
NAME_PATTERN = "[a-z0-9]+(-[a-z0-9]+)*"

# --- Texts that need more than a type ---------------------------------------------------------------------------------


def _name(text: str) -> str:
    if not re.fullmatch(NAME_PATTERN, text):
        example = re.sub("[^a-z0-9]+", "-", text.lower()).strip("-") or "redis-down"
        raise ValueError(f"{shown(text)} is not a name of small letters, digits and hyphens; write for instance {example[:63]}")
    return text


def _rate(rate: RateLimit) -> RateLimit:
    if rate.count > RATE_MAX.count or rate.window > RATE_MAX.window:
        raise ValueError(f"must be at most {RATE_MAX.count}, over at most {RATE_MAX.window.days}d")
    return rate


def _remembered(rate: RateLimit) -> RateLimit:
    if rate.count > MASKING_MAX:
        raise ValueError(f"must be at most {MASKING_MAX}: so many results of a target are looked at")
    return rate


class Share(float):
    """A part of a whole, 0 to 1; a file writes it as 50%."""


def _share(value: Any) -> Share:
    if isinstance(value, str) and (found := re.fullmatch(r"(\d{1,3})\s*%", value)) and int(found[1]) <= 100:
        return Share(int(found[1]) / 100)
    raise ValueError(f"{shown(value)} is not a share of the instances; write one as 50%")


def _matcher(value: Any) -> Matcher:
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is not a matcher; write one as text: 'alertname = RedisDown'")
    return parse_matcher(value)


def narrows(matcher: Matcher) -> bool:
    """Whether a matcher asks for something in particular. `!=`, `!~`, and patterns such as `.*` and `.+` do not."""
    positive = matcher.op in (MatchOp.EQUAL, MatchOp.REGEX)
    return positive and not any(matcher.matches({matcher.label: value}) for value in ("", "~", "~~"))


def _one_narrows(matchers: tuple[Matcher, ...]) -> tuple[Matcher, ...]:
    if not any(map(narrows, matchers)):
        raise ValueError("would match nearly every alert; ask for something in particular: 'alertname = RedisDown'")
    return matchers


def _each_narrows(matchers: tuple[Matcher, ...]) -> tuple[Matcher, ...]:
    for wide in (matcher for matcher in matchers if not narrows(matcher)):
        raise ValueError(f"{wide} is met by nearly every alert, and any one that is open holds the playbook back")
    return matchers


def _condition(value: Any) -> Condition:
    return parse_condition(value if isinstance(value, str) else shown(value))


def in_notation(value: Any) -> Any:
    """A value of these models as a file writes it: `10m`, `3 per 1h`."""
    match value:
        case timedelta():
            return brief(value)
        case RateLimit() | Matcher() | Condition():
            return str(value)
        case Share():
            return f"{value:.0%}"
        case tzinfo():
            return str(value)
        case tuple():
            return [in_notation(item) for item in value]
        case _:
            return value


Name = Annotated[str, Field(max_length=63, json_schema_extra={"pattern": f"^{NAME_PATTERN}$"}), AfterValidator(_name)]
NameTemplate = Annotated[Text, AfterValidator(name_template)]
Line = Annotated[str, Field(max_length=300)]
UpToDay = Annotated[Duration, AfterValidator(Bounds(most=DAY))]
UpToMonth = Annotated[Duration, AfterValidator(Bounds(most=MONTH))]
PositiveUpToDay = Annotated[Duration, AfterValidator(Bounds(SHORTEST, DAY))]
PositiveUpToMonth = Annotated[Duration, AfterValidator(Bounds(SHORTEST, MONTH))]
Count = Annotated[int, Field(strict=True, ge=1, le=1000)]
Limit = Annotated[Rate, AfterValidator(_rate)]
LimitList = Annotated[tuple[Limit, ...], Field(min_length=1, max_length=10)]
Match = Annotated[
    Matcher,
    BeforeValidator(_matcher),
    WithJsonSchema({"type": "string", "pattern": "=|!~", "examples": ["alertname = RedisDown"]}),
]
When = Annotated[
    Condition,
    BeforeValidator(_condition),
    WithJsonSchema({"type": "string", "pattern": "[<>=]", "examples": ["redis.info.memory_ratio > 0.95"]}),
]

# --- The parts of a file ----------------------------------------------------------------------------------------------


class Target(Part):
    """Selects exactly one opted-in workload: the one that fits all the fields given."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    service: NameTemplate = Field(default="", description="A service, on whichever platform it runs.")
    name: NameTemplate = Field(default="", description="A container or a command target, by its name.")
    project: NameTemplate = Field(default="", description="A compose project, where two of them have the same service.")
    namespace: NameTemplate = Field(default="", description="A Kubernetes namespace.")
    deployment: NameTemplate = Field(default="", description="A Kubernetes Deployment.")
    statefulset: NameTemplate = Field(default="", description="A Kubernetes StatefulSet.")
    daemonset: NameTemplate = Field(default="", description="A Kubernetes DaemonSet.")
    pod: NameTemplate = Field(default="", description="The Kubernetes workload that this pod belongs to.")
    cronjob: NameTemplate = Field(default="", description="A Kubernetes CronJob.")
    node: NameTemplate = Field(default="", description="A Kubernetes node.")
    database: NameTemplate = Field(default="", description="A configured PostgreSQL database.")
    cache: NameTemplate = Field(default="", description="A configured Redis.")

    @model_validator(mode="after")
    def _selects_something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("selects nothing; write for instance {service: $labels.service}")
        return self


class Rung(Item):
    """One step of the ladder, with a condition, an approval and a target of its own where it needs them."""

    when: When | None = Field(
        default=None, description="Take the step only if this fact of the diagnosis is so: `fact > number`."
    )
    approval: Literal["required"] | None = Field(default=None, description="A person must approve the step, whatever the mode.")
    target: Target | None = Field(default=None, description="What this step is taken on, if not the playbook's target.")

    @field_validator("when", "approval", "target", mode="before")
    @classmethod
    def _not_blank(cls, value: Any) -> Any:
        if value is None:
            raise ValueError("is empty; give it a value or leave it out")
        return value

    @model_validator(mode="after")
    def _destructive_asks(self) -> Self:
        if (step := self.made()).risk is Risk.DESTRUCTIVE and not self.approval:
            raise ValueError(f"{step.name} is destructive; add approval: required")
        return self


if TYPE_CHECKING:  # mypy sees the bases of what is derived at run time
    LadderItem = Rung
    DiagnoseItem = Item
    VerifyItem = Item
else:
    LadderItem = item_model("LadderItem", Rung, "step", steps())
    DiagnoseItem = item_model("DiagnoseItem", Item, "diagnosis", diagnoses())
    VerifyItem = item_model("VerifyItem", Item, "check", checks())

_BREAKER, _LIMITS, _VERIFY = BreakerLimits(), Limits(), Verification(checks=())


class BreakerPart(Part):
    """When the playbook stops trusting itself: while the breaker is open, its alerts escalate and nothing is done."""

    failures: Count = Field(default=_BREAKER.failures, description="Opens after this many failures in a row on one target.")
    targets: Count = Field(default=_BREAKER.targets, description="Opens when this many targets have failed within `window`.")
    window: PositiveUpToMonth = Field(default=_BREAKER.window, description="The time for `targets`.")
    open_for: PositiveUpToMonth = Field(default=_BREAKER.open_for, description="How long it stays open before one trial.")
    open_for_at_most: PositiveUpToMonth = Field(default=_BREAKER.open_for_at_most, description="`open_for` doubles up to this.")
    min_healthy_period: UpToMonth = Field(
        default=_BREAKER.min_healthy_period, description="A target that fires again within this was not repaired."
    )

    @field_validator("open_for_at_most")
    @classmethod
    def _not_below_open_for(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        if value < info.data.get("open_for", value):
            raise ValueError("must be at least open_for")
        return value


class LimitsPart(Part):
    """The brakes. Every one has a safe default; `remediator check` prints the effective ones."""

    settle: UpToDay = Field(default=_LIMITS.settle, description="The alert must have been firing for this long.")
    cooldown: UpToMonth = Field(default=_LIMITS.cooldown, description="How long a target rests between two runs.")
    max: LimitList = Field(default=_LIMITS.max, description="Steps on one target in any such window; failed ones count too.")
    max_all_targets: LimitList = Field(
        default=_LIMITS.max_all_targets, description="The same, over all targets of the playbook."
    )
    min_healthy: Annotated[float, BeforeValidator(_share), WithJsonSchema({"type": "string", "pattern": "^[0-9]+%$"})] = Field(
        default=Share(_LIMITS.min_healthy),
        description="Share of the service's instances that stay healthy while a step takes a healthy one down.",
    )
    masking: Annotated[Limit, AfterValidator(_remembered)] = Field(
        default=_LIMITS.masking, description="A target repaired this often has a fault that repairs hide: people are told."
    )
    corroborate: bool = Field(
        default=_LIMITS.corroborate,
        strict=True,
        description="Prometheus must say so, too. Off for alerts that its rules do not raise, such as Grafana's.",
    )
    hold_if: Annotated[tuple[Match, ...], AfterValidator(_each_narrows)] = Field(
        default=_LIMITS.hold_if,
        max_length=50,
        description="Causes: wait while an alert that meets any of these matchers is open.",
    )
    give_up: PositiveUpToDay = Field(default=_LIMITS.give_up, description="Escalate when nothing was decided by then.")
    breaker: BreakerPart = Field(default_factory=BreakerPart, description="Stops a playbook that does not help.")

    @field_validator("give_up")
    @classmethod
    def _after_settling(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        if value <= info.data.get("settle", timedelta()):
            raise ValueError("must be longer than settle, or nothing is ever done")
        return value


class VerifyPart(Part):
    """How it is known that a step worked. The checks stand in one list: `all` must hold, or `any` of them."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["all"]}, {"required": ["any"]}]})

    within: PositiveUpToDay = Field(default=_VERIFY.within, description="They must hold no later than this after the step.")
    stable_for: PositiveUpToDay = Field(default=_VERIFY.stable_for, description="And must go on holding for this long.")
    all: tuple[VerifyItem, ...] = Field(default=(), min_length=1, max_length=20, description="Checks that must hold together.")
    any: tuple[VerifyItem, ...] = Field(default=(), min_length=1, max_length=20, description="Checks of which one must hold.")

    @model_validator(mode="after")
    def _all_or_any(self) -> Self:
        if bool(self.all) == bool(self.any):
            what = "has both all and any" if self.all else "has no checks"
            raise ValueError(f"{what}; write one list, for instance all: [healthy, alert_resolved]")
        return self


class PlaybookFile(Part):
    """One playbook: which alerts, which target, how much at most, what to look at, what to do, how to know that it worked."""

    name: Name = Field(description="Its name everywhere. The file is called so, with `.yaml`.", examples=["redis-down"])
    summary: Text = Field(description="What it does, in a line.", examples=["Restart a Redis cache that stopped answering."])
    runbook: Line = Field(default="", description="The page for the person who is woken: a path or an address.")
    matchers: Annotated[tuple[Match, ...], AfterValidator(_one_narrows)] = Field(
        max_length=50,
        description="Which alerts: Alertmanager's matchers, all of which must hold.",
        examples=["['alertname = RedisDown']"],
    )
    target: Target = Field(description="What it acts on.", examples=["{service: $labels.service}"])
    mode: Mode = Field(default=Mode.SUGGEST, description="The most that it may do. The operator's mode caps it.")
    limits: LimitsPart = Field(default_factory=LimitsPart, description="The brakes.")
    diagnose: tuple[DiagnoseItem, ...] = Field(
        default=(), max_length=20, description="Evidence, gathered before anything is changed."
    )
    ladder: tuple[LadderItem, ...] = Field(
        min_length=1, max_length=10, description="Steps, taken in order until one is verified.", examples=["[restart]"]
    )
    verify: VerifyPart = Field(
        description="How it is known that a step worked.", examples=["{within: 2m, all: [healthy, alert_resolved]}"]
    )
    escalate: Line = Field(default="", description="Whom to tell when the ladder is exhausted.")
