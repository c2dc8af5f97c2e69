"""Windows of maintenance against a naive model of the same words: when Alertmanager's `time_intervals` hold, and when not."""

from calendar import monthrange
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.core.maintenance import Interval, Period, Span, Window, window_over
from remediator.core.matching import parse_matcher
from tests.builders import LABELS, NOW

HOUR = timedelta(hours=1)
MICROSECOND = timedelta(microseconds=1)
BERLIN = ZoneInfo("Europe/Berlin")
SHOP = (parse_matcher("service = shop-api"),)


def rising(least: int, most: int) -> st.SearchStrategy[Span]:
    return st.tuples(st.integers(least, most), st.integers(least, most)).map(lambda pair: Span(min(pair), max(pair)))


def some(spans: st.SearchStrategy[Span]) -> st.SearchStrategy[tuple[Span, ...]]:
    return st.lists(spans, max_size=3).map(tuple)


days = st.one_of(rising(1, 31), rising(-31, -1), st.tuples(st.integers(1, 31), st.integers(-31, -1)).map(lambda d: Span(*d)))
intervals = st.builds(
    Interval,
    times=some(rising(0, 1439)),
    weekdays=some(rising(0, 6)),
    days_of_month=some(days),
    months=some(rising(1, 12)),
    years=some(rising(2024, 2028)),
    zone=st.sampled_from([UTC, BERLIN, ZoneInfo("Pacific/Kiritimati"), ZoneInfo("Asia/Kathmandu")]),
)
moments = st.datetimes(datetime(2023, 12, 30), datetime(2029, 1, 2), timezones=st.just(UTC))


def holds(interval: Interval, at: datetime) -> bool:
    """The same, by writing down everything that each list means and looking whether the moment is among it."""
    there = at.astimezone(interval.zone)
    length = monthrange(there.year, there.month)[1]
    meant = [
        (interval.times, {minute for span in interval.times for minute in range(span.first, span.last + 1)}),
        (interval.weekdays, {day for span in interval.weekdays for day in range(span.first, span.last + 1)}),
        (interval.days_of_month, {day for span in interval.days_of_month for day in days_meant(span, length)}),
        (interval.months, {month for span in interval.months for month in range(span.first, span.last + 1)}),
        (interval.years, {year for span in interval.years for year in range(span.first, span.last + 1)}),
    ]
    is_now = [int(there.strftime("%H")) * 60 + int(there.strftime("%M")), int(there.strftime("%w")), *there.timetuple()[2:0:-1]]
    is_now.append(there.year)
    return all(not given or now in numbers for (given, numbers), now in zip(meant, is_now, strict=True))


def days_meant(span: Span, length: int) -> list[int]:
    """Each day has two numbers, one from the beginning and one from the end: 31 days are 1 to 31 and -31 to -1."""
    both = [(day, day - length - 1) for day in range(1, length + 1)]
    return [
        day
        for day, back in both
        if (day if span.first > 0 else back) >= span.first and (day if span.last > 0 else back) <= span.last
    ]


@given(intervals, moments)
def test_an_interval_holds_when_the_model_says_so(interval, at):
    assert interval.contains(at) is holds(interval, at)


@given(intervals, moments)
def test_what_is_asked_more_holds_less(interval, at):
    """Every further field narrows, every further entry of a list widens."""
    if interval.contains(at):
        for field in ("times", "weekdays", "days_of_month", "months", "years"):
            assert replace(interval, **{field: ()}).contains(at)
            if given := getattr(interval, field):
                assert replace(interval, **{field: (*given, given[0])}).contains(at)


@pytest.mark.parametrize(
    ("interval", "inside", "outside"),
    [
        (Interval(times=(Span(120, 239),)), "2026-03-01T02:00:00Z", "2026-03-01T04:00:00Z"),
        (Interval(times=(Span(0, 1439),)), "2026-03-01T23:59:59Z", None),
        (Interval(weekdays=(Span(0, 0),)), "2026-03-01T12:00:00Z", "2026-03-02T12:00:00Z"),
        (Interval(days_of_month=(Span(-1, -1),)), "2028-02-29T12:00:00Z", "2028-02-28T12:00:00Z"),
        (Interval(days_of_month=(Span(31, 31),)), "2026-03-31T12:00:00Z", "2026-02-28T12:00:00Z"),
        (Interval(days_of_month=(Span(29, 31),)), "2026-03-30T12:00:00Z", "2026-02-28T12:00:00Z"),
        (Interval(months=(Span(12, 12),), years=(Span(2026, 2026),)), "2026-12-24T00:00:00Z", "2027-12-24T00:00:00Z"),
        (Interval(times=(Span(120, 179),), zone=BERLIN), "2026-07-01T00:30:00Z", "2026-07-01T02:30:00Z"),
        (Interval(weekdays=(Span(1, 1),), zone=BERLIN), "2026-03-01T23:30:00Z", "2026-03-02T23:30:00Z"),
    ],
)
def test_what_people_write_means_what_they_expect(interval, inside, outside):
    assert interval.contains(datetime.fromisoformat(inside))
    assert outside is None or not interval.contains(datetime.fromisoformat(outside))


def test_an_hour_that_the_clocks_skip_does_not_happen_and_one_that_they_repeat_happens_twice():
    nightly = Interval(times=(Span(120, 179),), zone=BERLIN)  # 02:00 to 03:00
    spring, autumn = datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)
    minutes = [timedelta(minutes=minute) for minute in range(4 * 60)]
    assert sum(nightly.contains(spring + minute) for minute in minutes) == 0
    assert sum(nightly.contains(autumn + minute) for minute in minutes) == 120


def test_a_one_off_window_begins_with_its_first_moment_and_is_over_at_its_end():
    window = Window("upgrade", (Period(NOW, NOW + HOUR),), SHOP)
    assert [window.contains(NOW + at) for at in (-MICROSECOND, timedelta(), HOUR - MICROSECOND, HOUR)] == [
        False,
        True,
        True,
        False,
    ]


def test_a_recurring_window_with_an_end_recurs_until_then():
    nightly = Interval(times=(Span(NOW.hour * 60, NOW.hour * 60 + 59),))
    window = Window("nightly", (nightly,), SHOP, within=Period(NOW - HOUR, NOW + timedelta(days=2)))
    assert [window.contains(NOW + timedelta(days=day)) for day in range(-1, 4)] == [False, True, True, False, False]
    assert not window.is_endless
    assert Window("nightly", (nightly,), SHOP).is_endless


def test_a_window_is_about_the_alerts_that_meet_all_of_its_matchers():
    narrow = Window("cache", (Period(NOW, NOW + HOUR),), (*SHOP, parse_matcher("severity = page")))
    wide = Window("shop", (Period(NOW, NOW + HOUR),), SHOP)
    assert window_over(LABELS, [narrow], NOW) is None
    assert window_over(LABELS, [narrow, wide], NOW) is wide
    assert window_over(LABELS, [narrow, wide], NOW + HOUR) is None
