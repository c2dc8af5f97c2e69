"""The clock that follows the database's: what the host's own clock says is nowhere in it."""

from datetime import timedelta

import pytest

from remediator.storage.database_clock import DRIFT, DatabaseClock
from tests.builders import NOW


class Seconds:
    """Seconds that never jump, as a test lets them pass."""

    def __init__(self) -> None:
        self.passed = 1000.0

    def __call__(self) -> float:
        return self.passed


class Database:
    """Its clock, and how long a question and its answer are on their way."""

    def __init__(self) -> None:
        self.seconds = Seconds()
        self.clock = DatabaseClock(self.seconds)
        self.ahead = timedelta()
        self.rate = 1.0
        self._begun_at = self.seconds()

    def time(self) -> timedelta:
        return timedelta(seconds=(self.seconds() - self._begun_at) * self.rate) + self.ahead

    def ask(self, there: float = 0.001, back: float = 0.001) -> None:
        asked_at = self.seconds()
        self.seconds.passed += there
        said = NOW + self.time()
        self.seconds.passed += back
        self.clock.heard(said, asked_at, self.seconds())

    def wait(self, seconds: float) -> None:
        self.seconds.passed += seconds

    def error(self) -> float:
        """By how many seconds the clock is ahead of the database's."""
        return (self.clock.now() - NOW - self.time()).total_seconds()


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.mark.parametrize(("there", "back"), [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.2, 0.3)])
def test_it_is_never_behind_and_ahead_by_the_way_there_and_back_at_most(database, there, back):
    database.ask(there, back)
    assert -1e-5 <= database.error() <= there + back + 2 * DRIFT * (there + back) + 1e-5


@pytest.mark.parametrize("rate", [1 - DRIFT, 1.0, 1 + DRIFT])
def test_it_stays_so_while_nobody_asks_even_if_the_clocks_do_not_run_alike(database, rate):
    database.rate = rate
    database.ask()
    database.wait(3600)
    assert -1e-3 <= database.error() <= 0.002 + 2 * DRIFT * 3600 + 1e-3


def test_an_answer_that_took_long_does_not_make_it_worse(database):
    """A process that is stopped between question and answer would take its sleep for the answer's age."""
    database.ask()
    database.ask(there=0.0, back=60.0)
    assert database.error() <= 0.002 + 2 * DRIFT * 61


def test_an_answer_that_came_fast_makes_it_better(database):
    database.ask(there=0.5, back=0.0)
    assert database.error() > 0.4
    database.ask()
    assert database.error() < 0.01


@pytest.mark.parametrize("jump", [timedelta(hours=1), timedelta(hours=-1)])
def test_a_database_whose_own_clock_was_set_is_followed_at_once(database, jump):
    database.ask(there=0.0005, back=0.0005)
    database.ahead = jump
    database.ask(there=0.01, back=0.01)
    assert 0 <= database.error() <= 0.03


def test_it_has_nothing_to_say_before_the_first_answer(database):
    with pytest.raises(AssertionError, match="not asked yet"):
        database.clock.now()
