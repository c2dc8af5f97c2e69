"""Planned maintenance: windows of time in which alerts that meet some matchers are left to people. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from remediator.core.matching import Matcher, all_match


@dataclass(frozen=True, slots=True)
class Period:
    """One stretch of time, half-open: [begins_at, ends_at)."""

    begins_at: datetime
    ends_at: datetime

    def contains(self, at: datetime) -> bool:
        return self.begins_at <= at < self.ends_at


@dataclass(frozen=True, slots=True)
class Window:
    """Maintenance that somebody planned. No matchers: it is about every alert."""

    name: str
    times: tuple[Period, ...]
    matchers: tuple[Matcher, ...] = ()


def window_over(labels: Mapping[str, str], windows: Iterable[Window], now: datetime) -> Window | None:
    """The first of `windows` that is about an alert with these labels, now."""
    return next(
        (
            window
            for window in windows
            if all_match(window.matchers, labels) and any(times.contains(now) for times in window.times)
        ),
        None,
    )
