"""A playbook: which alerts, which target, how much at most, what to look at, what to do, how to know that it worked."""

import operator
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from remediator.core.matching import Matcher, MatchOp, all_match
from remediator.core.step import Check, Diagnosis, Step
from remediator.core.target import Selector


class Mode(StrEnum):
    """How much may be done without a person, in rising order (design, section 2)."""

    OFF = "off"
    SUGGEST = "suggest"
    APPROVE = "approve"
    AUTO = "auto"

    @property
    def rank(self) -> int:
        return _RISING.index(self)


_RISING = tuple(Mode)


def lowest(modes: Iterable[Mode]) -> Mode:
    """The effective mode is the lowest of all that apply."""
    return min(modes, key=lambda mode: mode.rank)


LOOK_BACK_MAX = timedelta(days=30)
"""The longest time that any limit of a playbook looks back: what was before is nobody's business any more."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `count` intents in any half-open window [t, t + `window`): exact and sliding, never per calendar hour."""

    count: int
    window: timedelta

    def __str__(self) -> str:
        return f"{self.count} per {brief(self.window)}"


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """When a breaker opens and for how long (design, section 5)."""

    failures: int = 2
    """Failures in a row on one target."""
    targets: int = 3
    """Distinct targets of one playbook that failed within `window`."""
    window: timedelta = timedelta(hours=1)
    open_for: timedelta = timedelta(minutes=15)
    """Doubles with every failed trial, up to `open_for_at_most`."""
    open_for_at_most: timedelta = timedelta(hours=4)
    min_healthy_period: timedelta = timedelta(minutes=10)
    """A verified target that fires again within this was not repaired."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The brakes of a playbook. Every one has a safe default; `remediator check` prints the effective ones."""

    settle: timedelta = timedelta(seconds=30)
    cooldown: timedelta = timedelta(minutes=10)
    max: tuple[RateLimit, ...] = (RateLimit(3, timedelta(hours=1)), RateLimit(10, timedelta(days=1)))
    """Per target."""
    max_all_targets: tuple[RateLimit, ...] = (RateLimit(10, timedelta(hours=1)),)
    """Per playbook, over all of its targets."""
    min_healthy: float = 0.5
    """Share of the service's instances that must be left healthy, 0 to 1, when a step takes a healthy one down."""
    masking: RateLimit = RateLimit(5, timedelta(days=7))
    """A target repaired this often within this time has a fault that the repairs hide."""
    corroborate: bool = True
    """Ask Prometheus whether the alert still fires, where its address is configured."""
    hold_if: tuple[Matcher, ...] = ()
    """Cause first: wait while an alert that meets any of these is open."""
    give_up: timedelta = timedelta(minutes=30)
    breaker: BreakerLimits = BreakerLimits()


_CONDITION = re.compile(r"\s*(?P<fact>[a-z][a-z0-9_.]*)\s*(?P<op><=|>=|==|!=|<|>)\s*(?P<value>-?\d+(?:\.\d+)?)\s*")
_OPERATORS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne}


@dataclass(frozen=True, slots=True)
class Condition:
    """`when:` of a rung: one number of the evidence against a constant. Unknown evidence is not a reason to act."""

    fact: str
    op: str
    value: float

    def holds(self, facts: Mapping[str, float]) -> bool:
        return self.fact in facts and bool(_OPERATORS[self.op](facts[self.fact], self.value))

    def __str__(self) -> str:
        return f"{self.fact} {self.op} {self.value:g}"


def parse_condition(text: str) -> Condition:
    """Parse `fact op number`. Raises ValueError with what to write instead."""
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a condition; write one as: redis.info.memory_ratio > 0.95")
    return Condition(found["fact"], found["op"], float(found["value"]))


@dataclass(frozen=True, slots=True)
class Rung:
    """One step of a ladder, with its own target where it has one and the condition under which it is taken."""

    step: Step
    target: Selector | None = None
    when: Condition | None = None
    approval_required: bool = False


class Need(StrEnum):
    ALL = "all"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Verification:
    """The checks must hold, all or any, within `within` of the step's end, and then go on holding for `stable_for`."""

    checks: tuple[Check, ...]
    need: Need = Need.ALL
    within: timedelta = timedelta(minutes=2)
    stable_for: timedelta = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Playbook:
    """One file of `playbooks/`. `version` is a hash of its text: a run keeps the version that it was admitted with."""

    name: str
    summary: str
    matchers: tuple[Matcher, ...]
    target: Selector
    ladder: tuple[Rung, ...]
    verify: Verification
    mode: Mode = Mode.SUGGEST
    limits: Limits = Limits()
    diagnose: tuple[Diagnosis, ...] = ()
    escalate: str = ""
    runbook: str = ""
    version: str = ""
    source: str = ""


class PlaybookIndex:
    """Finds the playbook of an alert by one dictionary look-up on `alertname`, then the few candidates in order.

    Where several match, the one with more matchers wins, then the first by name: the more exact, then a fixed order.
    """

    def __init__(self, playbooks: Iterable[Playbook]) -> None:
        ordered = sorted(playbooks, key=lambda playbook: (-len(playbook.matchers), playbook.name))
        self.playbooks = tuple(sorted(ordered, key=lambda playbook: playbook.name))
        self._by_alertname: dict[str, list[Playbook]] = {}
        self._others: list[Playbook] = []
        self._rank = {playbook.name: rank for rank, playbook in enumerate(ordered)}
        for playbook in ordered:
            for alertname in (names := _alertnames(playbook)):
                self._by_alertname.setdefault(alertname, []).append(playbook)
            if not names:
                self._others.append(playbook)

    def find(self, labels: Mapping[str, str]) -> Playbook | None:
        """The playbook for an alert with these labels, or None."""
        named = next(
            (p for p in self._by_alertname.get(labels.get("alertname", ""), ()) if all_match(p.matchers, labels)), None
        )
        other = next((p for p in self._others if all_match(p.matchers, labels)), None)
        found = [playbook for playbook in (named, other) if playbook is not None]
        return min(found, key=lambda playbook: self._rank[playbook.name]) if found else None


_PLAIN_NAMES = re.compile(r"[A-Za-z0-9_]+(?:\|[A-Za-z0-9_]+)*")


def _alertnames(playbook: Playbook) -> frozenset[str]:
    """The names that the playbook's alerts can have, where `=` or a plain `=~ "A|B"` says so; empty for any name."""
    for matcher in playbook.matchers:
        if matcher.label == "alertname" and matcher.op is MatchOp.EQUAL and matcher.value:
            return frozenset({matcher.value})
        if matcher.label == "alertname" and matcher.op is MatchOp.REGEX and _PLAIN_NAMES.fullmatch(matcher.value):
            return frozenset(matcher.value.split("|"))
    return frozenset()


def brief(duration: timedelta) -> str:
    """A duration as Prometheus writes it: `90s` is `1m30s`, a day is `1d`."""
    seconds = duration.total_seconds()
    if seconds and seconds < 1:
        return f"{seconds * 1000:g}ms"
    seconds = round(seconds, 1) if seconds < 10 else round(seconds)
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{int(count)}{unit}")
    if seconds or not parts:
        parts.append(f"{seconds:g}s")
    return "".join(parts)
