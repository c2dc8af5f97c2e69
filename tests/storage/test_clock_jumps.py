"""A clock that is set forward: how long ago something was is what has truly passed."""

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from remediator.storage.clock_jumps import JumpWatch
from remediator.storage.codec import micros
from tests.builders import NOW

SECOND = 1_000_000
seconds = st.integers(0, 100_000)
forward = st.integers(2, 100_000)


class HostClock:
    def __init__(self) -> None:
        self.passed = 0
        self.set_by = 0
        self.late = 0
        """So many seconds pass between the next two readings of it."""

    def now(self) -> datetime:
        self.passed, self.late = self.passed + self.late, 0
        return NOW + timedelta(seconds=self.passed + self.set_by)

    def elapsed(self) -> float:
        return float(self.passed)


@given(st.lists(st.tuples(seconds, st.none() | forward), max_size=8))
def test_what_has_passed_since_a_row_is_what_has_truly_passed(history):
    clock = HostClock()
    watch = JumpWatch(clock)
    rows = [(watch.now(), clock.passed)]
    for passed, jump in history:
        clock.passed += passed
        clock.set_by += jump or 0
        rows.append((watch.now(), clock.passed))
    now = watch.now()
    assert [now - watch.steady(at) for at, _ in rows] == [(clock.passed - then) * SECOND for _, then in rows]


@given(st.lists(st.tuples(seconds, st.none() | forward), max_size=8), seconds)
def test_looking_back_finds_the_rows_that_were_truly_within_the_window(history, window):
    clock = HostClock()
    watch = JumpWatch(clock)
    rows = [watch.now()]
    for passed, jump in history:
        clock.passed += passed
        clock.set_by += jump or 0
        rows.append(watch.now())
    since = watch.now() - window * SECOND
    assert [at > watch.reaching_back(since) for at in rows] == [watch.steady(at) > since for at in rows]


def test_a_clock_that_is_set_back_and_small_steps_are_left_as_they_are():
    clock = HostClock()
    watch = JumpWatch(clock)
    at = watch.now()
    for step in (-3600, 1, 1):
        clock.set_by += step
        assert watch.steady(at) == at
        assert watch.now() == micros(NOW) + (clock.set_by * SECOND)


def test_a_process_that_is_stopped_between_two_readings_sees_no_jump():
    clock = HostClock()
    watch = JumpWatch(clock)
    at = watch.now()
    clock.late = 60
    watch.now()
    assert watch.steady(at) == at
