"""Planned maintenance: windows of time in which alerts that meet some matchers are left to people. Pure.

Recurring times are Alertmanager's `time_intervals` and mean what they mean there
(https://prometheus.io/docs/alerting/latest/configuration/#time_interval-0), so that one text can be used in both.
"""

from calendar import monthrange
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from remediator.core.matching import Matcher, all_match

SUNDAY = 0
"""Alertmanager's week begins with it, Python's `isoweekday` ends with it as 7."""
DAYS_IN_WEEK = 7


@dataclass(frozen=True, slots=True)
class Span:
    """Whole numbers from `first` to `last`, both included."""

    first: int
    last: int

    def holds(self, number: int) -> bool:
        return self.first <= number <= self.last


@dataclass(frozen=True, slots=True)
class Period:
    """One stretch of time, half-open: [begins_at, ends_at)."""

    begins_at: datetime
    ends_at: datetime

    def contains(self, at: datetime) -> bool:
        return self.begins_at <= at < self.ends_at


ALWAYS = Period(datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


@dataclass(frozen=True, slots=True)
class Interval:
    """A recurring time: all of what is given must hold, and of each list any. What is empty is not asked.

    `times` are minutes of the day, the last one included. `weekdays` count from Sunday, 0. Negative `days_of_month` count
    from the end of the month: -1 is its last day. All are read from the clocks on the wall in `zone`.
    """

    times: tuple[Span, ...] = ()
    weekdays: tuple[Span, ...] = ()
    days_of_month: tuple[Span, ...] = ()
    months: tuple[Span, ...] = ()
    years: tuple[Span, ...] = ()
    zone: tzinfo = UTC

    def contains(self, at: datetime) -> bool:
        there = at.astimezone(self.zone)
        days = monthrange(there.year, there.month)[1]
        return (
            _any_holds(self.times, there.hour * 60 + there.minute)
            and _any_holds(self.weekdays, there.isoweekday() % DAYS_IN_WEEK)
            and _any_holds(tuple(_in_month(span, days) for span in self.days_of_month), there.day)
            and _any_holds(self.months, there.month)
            and _any_holds(self.years, there.year)
        )


@dataclass(frozen=True, slots=True)
class Window:
    """Maintenance that somebody planned: at any of `times`, but only `within`. No matchers: it is about every alert."""

    name: str
    times: tuple[Period | Interval, ...]
    matchers: tuple[Matcher, ...] = ()
    within: Period = ALWAYS
    who: str = ""

    def contains(self, at: datetime) -> bool:
        return self.within.contains(at) and any(times.contains(at) for times in self.times)

    @property
    def is_endless(self) -> bool:
        """Whether nothing but a change of the file ends it: what is forgotten there holds remediator back for ever."""
        return self.within.ends_at == ALWAYS.ends_at


def window_over(labels: Mapping[str, str], windows: Iterable[Window], now: datetime) -> Window | None:
    """The first of `windows` that is about an alert with these labels, now."""
    return next((each for each in windows if all_match(each.matchers, labels) and each.contains(now)), None)


def _any_holds(spans: tuple[Span, ...], number: int) -> bool:
    return not spans or any(span.holds(number) for span in spans)


def _in_month(span: Span, days: int) -> Span:
    """With days counted from its beginning. One that this month does not have is no day of it: the 31st of June is none."""
    return Span(*(days + 1 + day if day < 0 else day for day in (span.first, span.last)))
