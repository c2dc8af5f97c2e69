"""The maintenance file: YAML -> pydantic -> `core.maintenance.Window`. Every error names file, line, field and what to write.

`time_intervals` have Alertmanager's syntax, and what it refuses is refused here. What it takes and what never holds (an
empty list, a month 13) or always (an interval that asks for nothing) is refused, too.
"""

import re
from collections.abc import Callable, Mapping
from datetime import MAXYEAR, MINYEAR, UTC, datetime, tzinfo
from pathlib import Path
from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema, model_validator

from remediator.core.maintenance import ALWAYS, Interval, Period, Span, Window
from remediator.playbook_model import Match
from remediator.yaml_lines import FileProblem, Problem, dotted, instead, load_yaml, problems_of, read_text, shown

WINDOWS_MAX = 1_000
WEEKDAYS = {"sunday": 0, "monday": 1, "tuesday": 2, "wednesday": 3, "thursday": 4, "friday": 5, "saturday": 6}
MONTHS = {
    "january": 1, "february": 2, "march": 3, "april": 4, "may": 5, "june": 6, "july": 7, "august": 8, "september": 9,
    "october": 10, "november": 11, "december": 12,
}  # fmt: skip
SHORTEST_MONTH = 28
LONGEST_MONTH = 31
_CLOCK = re.compile(r"(?:[01]\d|2[0-3]):[0-5]\d|24:00")
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d)", re.IGNORECASE)


def load_windows(path: Path | None) -> tuple[Window, ...]:
    """The windows of the file, none without one. Raises FileProblem with all that is wrong."""
    return () if path is None else parse_windows(read_text(path), str(path))


def parse_windows(text: str, file: str) -> tuple[Window, ...]:
    """The windows that `text` describes. `file` is what messages call it. Raises FileProblem with all that is wrong."""
    value, lines = load_yaml(text, file)
    try:
        parts = MaintenanceFile.model_validate(value).windows
    except ValidationError as error:
        raise FileProblem(problems_of(error, file, lines, MaintenanceFile)) from error
    places = [("windows", index, "name") for index in range(len(parts))]
    twice = [
        Problem(file, lines.at(place), dotted(place), f"{part.name!r} is the name of an earlier window, too")
        for index, (place, part) in enumerate(zip(places, parts, strict=True))
        if part.name in {earlier.name for earlier in parts[:index]}
    ]
    if twice:
        raise FileProblem(twice)
    return tuple(part.made() for part in parts)


# --- Texts that need more than a type ---------------------------------------------------------------------------------


def _text(value: Any) -> str:
    """A range as it was written: YAML makes a number of `2026` and of `-1`."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"{shown(value)} is not a range; write one as text")
    return str(value).strip().lower()


def _span(value: Any, number: Callable[[str], int]) -> Span:
    if isinstance(value, Span):
        return value
    first, colon, last = _text(value).partition(":")
    return Span(number(first), number(last if colon else first))


def _rising(span: Span, value: Any) -> Span:
    if span.first > span.last:
        raise ValueError(f"{shown(value)} ends before it begins; write two ranges for what goes over the end")
    return span


def _weekdays(value: Any) -> Span:
    return _rising(_span(value, lambda word: _number_of(word, WEEKDAYS)), value)


def _months(value: Any) -> Span:
    return _rising(_span(value, lambda word: _whole(word, 1, 12) if _is_number(word) else _number_of(word, MONTHS)), value)


def _years(value: Any) -> Span:
    return _rising(_span(value, lambda word: _whole(word, MINYEAR, MAXYEAR)), value)


def _days_of_month(value: Any) -> Span:
    """As Alertmanager: what can never be a range in any month is refused, the shortest one taken for what is counted back."""
    span = _span(value, _day)
    if span.first < 0 < span.last:
        raise ValueError(f"{shown(value)} begins at the end of the month and must end there: write the end as -1, too")
    first, last = (SHORTEST_MONTH + day if day < 0 else day for day in (span.first, span.last))
    if first > last:
        raise ValueError(f"{shown(value)} ends before it begins; write two ranges for what goes over the end")
    return span


def _day(word: str) -> int:
    day = _whole(word, -LONGEST_MONTH, LONGEST_MONTH)
    if day == 0:
        raise ValueError("0 is no day of a month; count from 1, or back from -1")
    return day


def _is_number(word: str) -> bool:
    return re.fullmatch(r"[-+]?\d{1,9}", word) is not None


def _whole(word: str, least: int, most: int) -> int:
    if not _is_number(word) or not least <= int(word) <= most:
        raise ValueError(f"{shown(word)} is not a number from {least} to {most}; write one, or a range as 1:5")
    return int(word)


def _number_of(word: str, known: Mapping[str, int]) -> int:
    if word not in known:
        raise ValueError(f"{shown(word)} is not one of its names; {instead(word, known)}")
    return known[word]


def _clock(value: Any) -> int:
    """Minutes since midnight."""
    found = _CLOCK.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"{shown(value)} is not a time of day; write one as 09:30, and the end of the day as 24:00")
    hours, minutes = value.split(":")
    return int(hours) * 60 + int(minutes)


def _zone(value: Any) -> tzinfo:
    try:
        return ZoneInfo(value) if isinstance(value, str) and value else _no_zone(value)
    except (KeyError, ValueError, OSError):
        return _no_zone(value)


def _no_zone(value: Any) -> tzinfo:
    raise ValueError(f"{shown(value)} is not a time zone that this machine knows; write one as Europe/Berlin, or UTC")


def _moment(value: Any) -> datetime:
    """RFC 3339, of which `fromisoformat` takes more than is meant: without a zone nobody knows which hour it is."""
    try:
        if not isinstance(value, str) or not _RFC_3339.fullmatch(value):
            raise ValueError
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{shown(value)} is not a time with its zone; write one as 2026-03-01T22:00:00+01:00") from error


_A_RANGE = WithJsonSchema({"type": ["string", "integer"]})
Weekdays = Annotated[Span, BeforeValidator(_weekdays), _A_RANGE]
DaysOfMonth = Annotated[Span, BeforeValidator(_days_of_month), _A_RANGE]
Months = Annotated[Span, BeforeValidator(_months), _A_RANGE]
Years = Annotated[Span, BeforeValidator(_years), _A_RANGE]
Clock = Annotated[int, BeforeValidator(_clock), WithJsonSchema({"type": "string", "examples": ["02:00"]})]
Zone = Annotated[tzinfo, BeforeValidator(_zone), WithJsonSchema({"type": "string", "examples": ["Europe/Berlin"]})]
Moment = Annotated[datetime, BeforeValidator(_moment), WithJsonSchema({"type": "string", "format": "date-time"})]
Some = Field(default=None, min_length=1, max_length=100)

# --- The parts of a file ----------------------------------------------------------------------------------------------


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, populate_by_name=False)


class TimeRange(_Section):
    """From one time of day up to another, which is not part of it any more."""

    start_time: Clock = Field(examples=["'02:00'"])
    end_time: Clock = Field(examples=["'04:00'"])

    @model_validator(mode="after")
    def _is_rising(self) -> Self:
        if self.start_time >= self.end_time:
            raise ValueError("end_time must come after start_time; write two ranges for a night: to 24:00, and from 00:00")
        return self


class TimeInterval(_Section):
    """Alertmanager's: every field that is given must hold, and of each list any."""

    times: tuple[TimeRange, ...] | None = Some
    weekdays: tuple[Weekdays, ...] | None = Some
    days_of_month: tuple[DaysOfMonth, ...] | None = Some
    months: tuple[Months, ...] | None = Some
    years: tuple[Years, ...] | None = Some
    location: Zone = UTC

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if not (self.times or self.weekdays or self.days_of_month or self.months or self.years):
            raise ValueError("would hold always; say when: times, weekdays, days_of_month, months or years")
        return self

    def made(self) -> Interval:
        times = tuple(Span(each.start_time, each.end_time - 1) for each in self.times or ())
        return Interval(
            times, self.weekdays or (), self.days_of_month or (), self.months or (), self.years or (), self.location
        )


class WindowPart(_Section):
    """Once, with `from` and `until`; or again and again, with `time_intervals`, and then only between the two if given."""

    name: str = Field(min_length=1, max_length=100, examples=["database-upgrade"])
    who: str = Field(min_length=1, max_length=200, examples=["ann"])
    """Whom to ask: what was planned is for somebody to answer for."""
    matchers: tuple[Match, ...] = Field(min_length=1, max_length=50, examples=["['service = shop-db']"])
    time_intervals: tuple[TimeInterval, ...] | None = Some
    begins_at: Moment | None = Field(default=None, alias="from")
    ends_at: Moment | None = Field(default=None, alias="until")

    @model_validator(mode="after")
    def _is_some_time(self) -> Self:
        if self.time_intervals is None and (self.begins_at is None or self.ends_at is None):
            raise ValueError("says not when; give from and until, or time_intervals")
        if self.begins_at and self.ends_at and self.begins_at >= self.ends_at:
            raise ValueError("until must come after from")
        return self

    def made(self) -> Window:
        within = Period(self.begins_at or ALWAYS.begins_at, self.ends_at or ALWAYS.ends_at)
        times = tuple(each.made() for each in self.time_intervals or ()) or (within,)
        return Window(self.name, times, self.matchers, within, self.who)


class MaintenanceFile(_Section):
    windows: tuple[WindowPart, ...] = Field(max_length=WINDOWS_MAX)
