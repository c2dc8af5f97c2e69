"""Service levels: how fast the error budget of 30 days is spent, over several windows at once. Pure.

The factors and windows are those of the Site Reliability Workbook, chapter 5, "Multiwindow, Multi-Burn-Rate Alerts"
(https://sre.google/workbook/alerting-on-slos/): the long window says that it matters, the short one that it still goes on,
so that the alert ends soon after the errors do. Long windows are summed up from recorded rates: each costs one series, not
days of all series that a service has.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from remediator.rules.requests import failed, requests, slow, timed
from remediator.rules.rule import Alert, Record, Rule, Severity, series
from remediator.services_file import ServicePart

PERIOD_DAYS = 30
ALL = "service:slo_requests:rate5m"
BAD = "service:slo_bad_requests:rate5m"


@dataclass(frozen=True, slots=True)
class BurnRate:
    """The budget is spent this many times as fast as would just use it up in 30 days, over both windows."""

    factor: Decimal
    long: str
    short: str


BURN_RATES = {
    Severity.CRITICAL: (BurnRate(Decimal("14.4"), "1h", "5m"), BurnRate(Decimal(6), "6h", "30m")),
    Severity.WARNING: (BurnRate(Decimal(3), "1d", "2h"), BurnRate(Decimal(1), "3d", "6h")),
}
"""2 % of the budget in an hour, 5 % in six: somebody is woken. 10 % in a day or in three: a ticket."""
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")


@dataclass(frozen=True, slots=True)
class ServiceLevel:
    """One objective of a service, in per cent: `bad` of `all` requests a second miss it, both in PromQL."""

    name: str
    objective: Decimal
    all: str
    bad: str
    bad_in_words: str

    @property
    def budget(self) -> Decimal:
        """The share of bad requests that is allowed, 0 to 1."""
        return (100 - self.objective) / 100


def levels_of(service: ServicePart) -> Iterator[ServiceLevel]:
    """The service levels that the file promises."""
    if service.objectives is None:
        return
    if (availability := service.objectives.availability) is not None:
        yield ServiceLevel("availability", availability, requests(service), failed(service), "failed")
    if (latency := service.objectives.latency) is not None:
        too_slow = f"took longer than {latency.within.total_seconds():g} s"
        yield ServiceLevel("latency", latency.percent, timed(service), slow(service, latency), too_slow)


def burn_rates_of(service: ServicePart) -> Iterator[Rule]:
    """Recording rules and alerts for every service level of the service."""
    for level in levels_of(service):
        labels = {"service": service.name, "slo": level.name}
        yield Record(ALL, level.all, labels)
        yield Record(BAD, level.bad, labels)
        yield from (Record(_recorded(window), _share(window, labels), labels) for window in WINDOWS)
        for severity, rates in BURN_RATES.items():
            yield _burns(level, severity, rates, labels)
        yield _is_not_measured(level, labels)


def _share(window: str, labels: Mapping[str, str]) -> str:
    bad, all_of_them = series(BAD, labels), series(ALL, labels)
    if window == WINDOWS[0]:
        return f"{bad} / {all_of_them}"
    return f"sum_over_time({bad}[{window}])\n/ sum_over_time({all_of_them}[{window}])"


def _burns(level: ServiceLevel, severity: Severity, rates: Sequence[BurnRate], labels: Mapping[str, str]) -> Rule:
    days = PERIOD_DAYS / min(rate.factor for rate in rates)
    return Alert(
        "SLOBurnRateHigh",
        "\nor\n".join(_is_over(rate, level, labels) for rate in rates),
        severity,
        f"{labels['service']} spends its error budget of {level.name} too fast",
        f"{{{{ $value | humanizePercentage }}}} of the requests {level.bad_in_words}, where {100 - level.objective} % may."
        f" At this rate the budget of {PERIOD_DAYS} days is spent within {days:.0f}.",
        "slo-burn-rate-high",
        labels=labels,
    )


def _is_over(rate: BurnRate, level: ServiceLevel, labels: Mapping[str, str]) -> str:
    over_long, over_short = (series(_recorded(window), labels) for window in (rate.long, rate.short))
    most = f"{rate.factor} * {level.budget}"
    return f"(\n  {over_long} > {most}\n  and\n  {over_short} > {most}\n)"


def _is_not_measured(level: ServiceLevel, labels: Mapping[str, str]) -> Rule:
    """A metric that is called otherwise, or a bucket that is not there: the other alerts would be silent for ever."""
    return Alert(
        "SLONotMeasured",
        f"absent({series(_recorded(WINDOWS[0]), labels)})",
        Severity.WARNING,
        f"Nobody knows the {level.name} of {labels['service']}",
        f"Prometheus has had none of the series that the {level.name} of {labels['service']} is computed from for an hour.",
        "service-not-watched",
        lasts="1h",
        labels=labels,
    )


def _recorded(window: str) -> str:
    return f"service:slo_errors:ratio_rate{window}"
