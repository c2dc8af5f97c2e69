"""The maintenance file: what it says, what it refuses and with which words, and that Alertmanager takes the same syntax."""

import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from textwrap import indent
from zoneinfo import ZoneInfo

import pytest
import yaml

from remediator.core.maintenance import ALWAYS, Interval, Period, Span, Window
from remediator.core.matching import parse_matcher
from remediator.maintenance_file import load_windows, parse_windows
from remediator.yaml_lines import FileProblem

WINDOW = """
  - name: nightly
    who: ann
    matchers: ['service = shop-db']
"""


def intervals(text: str) -> str:
    """A file with one window of these time intervals."""
    return f"windows:{WINDOW}    time_intervals:\n{indent(text.strip(chr(10)), ' ' * 6)}\n"


def window(text: str) -> Window:
    (made,) = parse_windows(text, "maintenance.yaml")
    return made


def problems(text: str) -> list[str]:
    with pytest.raises(FileProblem) as refused:
        parse_windows(text, "maintenance.yaml")
    return [str(problem) for problem in refused.value.problems]


def test_every_field_of_an_interval_is_understood():
    made = window(
        intervals("""
- times: [{start_time: '02:00', end_time: '24:00'}]
  weekdays: ['monday:Friday', sunday]
  days_of_month: [1, '-3:-1', '5:-5']
  months: ['january:3', 12]
  years: [2026, '2028:2030']
  location: Europe/Berlin
""")
    )
    interval = Interval(
        times=(Span(120, 1439),),
        weekdays=(Span(1, 5), Span(0, 0)),
        days_of_month=(Span(1, 1), Span(-3, -1), Span(5, -5)),
        months=(Span(1, 3), Span(12, 12)),
        years=(Span(2026, 2026), Span(2028, 2030)),
        zone=ZoneInfo("Europe/Berlin"),
    )
    assert made == Window("nightly", (interval,), (parse_matcher("service = shop-db"),), ALWAYS, "ann")


def test_a_planned_window_is_once_and_in_the_zone_that_it_says():
    made = window(f"windows:{WINDOW}    from: 2026-03-01T22:00:00+01:00\n    until: 2026-03-02T03:30:00Z\n")
    assert made.times == (Period(datetime(2026, 3, 1, 21, tzinfo=UTC), datetime(2026, 3, 2, 3, 30, tzinfo=UTC)),)
    assert not made.is_endless


def test_a_recurring_window_may_have_an_end():
    made = window(intervals("- weekdays: [sunday]") + "    until: 2026-04-01T00:00:00Z\n")
    sunday = datetime(2026, 3, 29, 12, tzinfo=UTC)
    assert made.contains(sunday)
    assert not made.contains(sunday + timedelta(weeks=1))
    assert not made.is_endless


def test_no_file_and_a_file_without_windows_plan_nothing(tmp_path):
    assert load_windows(None) == ()
    assert parse_windows("windows: []", "maintenance.yaml") == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- times: [{start_time: '9:00', end_time: '10:00'}]", "write one as 09:30"),
        ("- times: [{start_time: '22:00', end_time: '04:00'}]", "write two ranges for a night"),
        ("- times: [{start_time: '22:00'}]", "end_time: is missing; write for instance end_time: '04:00'"),
        ("- times: []", "must not be empty"),
        ("- weekdays: [fryday]", "did you mean 'friday'?"),
        ("- weekdays: ['saturday:sunday']", "ends before it begins"),
        ("- weekdays: [1]", "'1' is not one of its names"),
        ("- days_of_month: [0]", "count from 1, or back from -1"),
        ("- days_of_month: ['-1:3']", "must end there"),
        ("- days_of_month: [32]", "not a number from -31 to 31"),
        ("- months: ['13']", "not a number from 1 to 12"),
        ("- months: [true]", "true is not a range"),
        ("- years: ['2027:2026']", "ends before it begins"),
        ("- location: Europe/Berlin", "would hold always"),
        ("- {weekdays: [sunday], location: Europe/Berln}", "'Europe/Berln' is not a time zone that this machine knows"),
        ("- {weekdays: [sunday], location: ../../etc/passwd}", "is not a time zone"),
        ("- {weekday: [sunday]}", "did you mean 'weekdays'?"),
    ],
)
def test_what_is_wrong_is_named_with_its_line_and_what_to_write_instead(text, said):
    (problem, *_) = problems(intervals(text))
    assert problem.startswith("maintenance.yaml:6: windows[0].time_intervals[0]")
    assert said in problem


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "says not when; give from and until, or time_intervals"),
        (["from: 2026-03-01T22:00:00Z"], "says not when"),
        (["from: 2026-03-01T22:00:00", "until: 2026-03-01T23:00:00Z"], "is not a time with its zone"),
        (["from: 2026-03-01T22:00:00Z", "until: 2026-03-01T22:00:00Z"], "until must come after from"),
        (["from: 2026-02-30T22:00:00Z", "until: 2026-03-01T22:00:00Z"], "'2026-02-30T22:00:00Z' is not a time"),
        (["until: tomorrow", "from: 2026-03-01T22:00:00Z"], "'tomorrow' is not a time"),
    ],
)
def test_a_planned_window_needs_a_beginning_and_an_end_in_a_zone(lines, said):
    (problem, *_) = problems("windows:" + WINDOW + "".join(f"    {line}\n" for line in lines))
    assert said in problem


def test_a_window_is_about_something_and_somebody_answers_for_it():
    said = problems("windows:\n  - {name: all, from: 2026-03-01T22:00:00Z, until: 2026-03-02T22:00:00Z}\n")
    assert [problem.split(": ")[1] for problem in said] == ["windows[0].who", "windows[0].matchers"]


def test_two_windows_of_one_name_are_refused():
    times = "    from: 2026-03-01T22:00:00Z\n    until: 2026-03-02T22:00:00Z\n"
    assert problems(f"windows:{WINDOW}{times}{WINDOW}{times}") == [
        "maintenance.yaml:8: windows[1].name: 'nightly' is the name of an earlier window, too"
    ]


def test_what_is_no_list_of_windows_is_refused():
    assert "windows: is missing" in problems("{}")[0]
    assert "must be a mapping" in problems("- name: nightly")[0]


# --- The same words in Alertmanager -----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def amtool() -> str:
    found = shutil.which("amtool")
    if found is None:
        pytest.skip("amtool is not installed")
    return found


SAME = [
    "times: [{start_time: '00:00', end_time: '24:00'}]",
    "times: [{start_time: '09:00', end_time: '17:00'}, {start_time: '20:00', end_time: '21:30'}]",
    "times: [{start_time: '17:00', end_time: '09:00'}]",
    "times: [{start_time: '09:00', end_time: '09:00'}]",
    "times: [{start_time: '9:00', end_time: '17:00'}]",
    "times: [{start_time: '24:00', end_time: '24:00'}]",
    "times: [{start_time: '09:00', end_time: '24:01'}]",
    "weekdays: ['monday:friday', 'Saturday']",
    "weekdays: ['friday:monday']",
    "weekdays: ['sunday:saturday']",
    "weekdays: ['mon']",
    "weekdays: ['1:5']",
    "days_of_month: ['1:5', '-3:-1', '31']",
    "days_of_month: ['1:-1']",
    "days_of_month: ['28:-1']",
    "days_of_month: ['29:-1']",
    "days_of_month: ['27:-1']",
    "days_of_month: ['-1:-5']",
    "days_of_month: ['-5:1']",
    "days_of_month: ['0']",
    "days_of_month: ['32']",
    "days_of_month: ['-31:-1']",
    "days_of_month: ['-32']",
    "days_of_month: [7]",
    "months: ['january:march', '5:8', 'December']",
    "months: ['march:january']",
    "months: ['jan']",
    "months: [3]",
    "years: ['2026', '2030:2035']",
    "years: ['2035:2030']",
    "years: ['next']",
    "years: ['2026:2027:2028']",
    "{weekdays: ['sunday'], location: 'Europe/Berlin'}",
    "{weekdays: ['sunday'], location: 'UTC'}",
    "{weekdays: ['sunday'], location: 'Nowhere/Else'}",
    "{weekdays: ['sunday'], place: 'UTC'}",
]


@pytest.mark.parametrize("interval", SAME)
def test_alertmanager_takes_and_refuses_the_same(amtool, tmp_path, interval):
    config = {
        "route": {"receiver": "nobody"},
        "receivers": [{"name": "nobody"}],
        "time_intervals": [{"name": "ours", "time_intervals": [yaml.safe_load(interval)]}],
    }
    path = tmp_path / "alertmanager.yml"
    path.write_text(yaml.safe_dump(config))
    theirs = subprocess.run([amtool, "check-config", str(path)], capture_output=True, text=True, check=False)
    try:
        parse_windows(intervals(f"- {interval}"), "maintenance.yaml")
        ours = ""
    except FileProblem as error:
        ours = str(error)
    assert (theirs.returncode == 0) is (not ours), f"{theirs.stdout}{theirs.stderr}\n{ours}"
