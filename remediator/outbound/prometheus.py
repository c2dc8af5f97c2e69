"""Prometheus: instant queries, as evidence and as checks (https://prometheus.io/docs/prometheus/latest/querying/api/).

Only what Prometheus knows completely counts: an answer with warnings (a remote store that did not answer, samples left
out) is UNKNOWN to a check.
"""

import asyncio
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientSession

from remediator.core.snapshot import Corroboration
from remediator.core.step import Check, Diagnosis, PromQL, Step
from remediator.core.target import Selection, Workload
from remediator.outbound.exchange import Neighbour
from remediator.ports import Evidence, Facts, Observation, PermanentError, PortError, Probe, Reading, TransientError

EVALUATION_TIMEOUT = "4s"
"""Prometheus gives up before we do, and then says why."""
SAMPLES_SHOWN = 20

HINT = "PromQL info"
"""Notes on style that older servers put among the warnings (Prometheus 2.48 to 2.53); nothing is missing because of them."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One series' value now; without labels for a scalar."""

    labels: Mapping[str, str]
    value: float

    def __str__(self) -> str:
        labels = dict(self.labels)
        name = labels.pop("__name__", "")
        inner = ", ".join(f'{label}="{value}"' for label, value in labels.items())
        return f"{name}{{{inner}}} {self.value:g}" if inner or name else f"{self.value:g}"


@dataclass(frozen=True, slots=True)
class QueryResult:
    """What an instant query returned. A warning means that the samples may be incomplete."""

    samples: tuple[Sample, ...]
    is_scalar: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """As an alert expression fires: any sample, whatever its value; for a scalar, neither zero nor NaN."""
        if self.is_scalar:
            return any(sample.value != 0 and not math.isnan(sample.value) for sample in self.samples)
        return bool(self.samples)

    def __str__(self) -> str:
        lines = [str(sample) for sample in self.samples[:SAMPLES_SHOWN]] or ["no samples"]
        if len(self.samples) > SAMPLES_SHOWN:
            lines.append(f"… and {len(self.samples) - SAMPLES_SHOWN} more")
        return "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings)])


class PrometheusClient:
    """One Prometheus, or whatever speaks its API; implements `ports.Witness`. It finds no targets and takes no steps."""

    name = "prometheus"

    def __init__(self, session: ClientSession, url: str) -> None:
        self._prometheus = Neighbour("Prometheus", session, url)

    async def query(self, expression: str) -> QueryResult:
        """An instant query. Raises TransientError, or PermanentError with Prometheus's own words for a bad query."""
        parameters = [("query", expression), ("timeout", EVALUATION_TIMEOUT)]
        answer = await self._prometheus.ask("GET", "/api/v1/query", query=parameters)
        if not answer.ok:
            raise self._prometheus.refusal(answer)
        content = answer.json()
        try:
            return _result(content["data"], content.get("warnings", ()))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PermanentError(f"not the answer of a Prometheus: {answer.said!r}") from error

    async def corroborate(self, labels: Mapping[str, str]) -> Corroboration:
        """What its rules say of an alert with these labels, and how many of its targets it reaches.

        `ALERTS` has no external labels, and relabelling on the way to Alertmanager may drop or change others, so an alert
        is the same when no label that both have differs. Raises TransientError or PermanentError.
        """
        alertname = json.dumps(labels.get("alertname", ""), ensure_ascii=False)
        firing, up = await asyncio.gather(
            self._complete(f'ALERTS{{alertstate="firing", alertname={alertname}}}'),
            self._complete('count_values("value", up)'),
        )
        return Corroboration(
            firing=any(_agree(sample.labels, labels) for sample in firing.samples),
            targets=sum(int(sample.value) for sample in up.samples),
            up=sum(int(sample.value) for sample in up.samples if sample.labels.get("value") == "1"),
        )

    async def _complete(self, expression: str) -> QueryResult:
        """An answer without warnings: what may be incomplete proves nothing. Raises TransientError or PermanentError."""
        result = await self.query(expression)
        if result.warnings:
            raise TransientError(f"Prometheus does not know everything now: {'; '.join(result.warnings)}")
        return result

    async def find(self, selection: Selection) -> Sequence[Workload]:
        return ()

    async def diagnose(self, diagnosis: Diagnosis, workload: Workload) -> Evidence:
        if not isinstance(diagnosis, PromQL):
            raise PermanentError(f"prometheus has no diagnosis {diagnosis.name}")
        result = await self.query(diagnosis.query)
        numbers = {"promql.value": result.samples[0].value} if result.samples else {}
        return Evidence(diagnosis.name, f"{diagnosis.query}\n{result}", numbers)

    async def check(self, check: Check, workload: Workload) -> Reading:
        if not isinstance(check, PromQL):
            return Reading(Probe.UNKNOWN, f"prometheus has no check {check.name}")
        try:
            result = await self.query(check.query)
        except PortError as error:
            return Reading(Probe.UNKNOWN, str(error))
        if result.warnings:
            return Reading(Probe.UNKNOWN, str(result))
        return Reading(Probe.HOLDS if result.holds else Probe.FAILS, str(result))

    def describe(self, step: Step | Diagnosis, workload: Workload) -> str:
        if not isinstance(step, PromQL):
            return f"# prometheus has no step {step.name}"
        return shlex.join(["promtool", "query", "instant", self._prometheus.url, step.query])

    async def mark(self, step: Step, workload: Workload) -> Facts:
        raise PermanentError(f"prometheus is only read: there is no step {step.name}")

    async def observe(self, step: Step, workload: Workload, mark: Facts) -> Observation:
        raise PermanentError(f"prometheus is only read: there is no step {step.name}")


def _agree(series: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return all(labels[name] == value for name, value in series.items() if name in labels)


def _result(data: Mapping[str, Any], warnings: Sequence[str]) -> QueryResult:
    """Raises KeyError, TypeError or ValueError for what is not documented, PermanentError for what is of no use here."""
    kept = tuple(warning for warning in warnings if not warning.startswith(HINT))
    match data["resultType"]:
        case "scalar":
            return QueryResult((Sample({}, float(data["result"][1])),), is_scalar=True, warnings=kept)
        case "vector":
            return QueryResult(tuple(_sample(entry) for entry in data["result"]), warnings=kept)
        case other:
            raise PermanentError(f"the query returns a {other}; write one that returns an instant vector or a scalar")


def _sample(entry: Mapping[str, Any]) -> Sample:
    """A native histogram has no single value; NaN stands for it."""
    return Sample(entry["metric"], float(entry["value"][1]) if "value" in entry else math.nan)
