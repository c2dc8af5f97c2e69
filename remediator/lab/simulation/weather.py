"""How bad it gets in one seed: each kind of trouble is off in about half of the seeds, so that none hides another."""

from collections.abc import Collection
from dataclasses import dataclass, fields

from remediator.clock import Random


@dataclass(frozen=True, slots=True)
class Weather:
    """Chances between 0 and 1, of the event that each is named after."""

    # a process, each time that one of its callbacks is about to run
    killed: float = 0.0
    stopped: float = 0.0
    clock_jumps: float = 0.0
    # a transaction that changes something
    killed_before_commit: float = 0.0
    killed_after_commit: float = 0.0
    stopped_at_commit: float = 0.0
    slow_commit: float = 0.0
    connection_lost: float = 0.0
    done_again: float = 0.0
    # the store as a whole, each minute
    store_away: float = 0.0
    # one message on its way to remediator
    message_lost: float = 0.0
    message_late: float = 0.0
    answer_lost: float = 0.0
    resolve_lost: float = 0.0
    alertmanager_restarts: float = 0.0
    neighbour_unreachable: float = 0.0
    # one call of the platform
    read_slow: float = 0.0
    read_fails: float = 0.0
    read_hangs: float = 0.0
    check_lies: float = 0.0
    call_waits: float = 0.0
    call_not_sent: float = 0.0
    call_fails: float = 0.0
    call_without_answer: float = 0.0
    call_happens_late: float = 0.0
    call_slow: float = 0.0
    # a call that happens late
    clock_set_during_a_call: float = 0.0
    # an alert, at the moment when a run claims its target
    ends_at_the_claim: float = 0.0
    silenced_at_the_claim: float = 0.0
    # people, each minute
    paused: float = 0.0
    silenced: float = 0.0


WORST = Weather(
    killed=0.001,
    stopped=0.001,
    clock_jumps=0.002,
    killed_before_commit=0.015,
    killed_after_commit=0.02,
    stopped_at_commit=0.04,
    slow_commit=0.1,
    connection_lost=0.03,
    done_again=0.1,
    store_away=0.15,
    message_lost=0.2,
    message_late=0.2,
    answer_lost=0.1,
    resolve_lost=0.2,
    alertmanager_restarts=0.1,
    neighbour_unreachable=0.1,
    read_slow=0.1,
    read_fails=0.06,
    read_hangs=0.02,
    check_lies=0.1,
    call_waits=0.2,
    call_not_sent=0.15,
    call_fails=0.15,
    call_without_answer=0.3,
    call_happens_late=0.3,
    call_slow=0.3,
    clock_set_during_a_call=0.8,
    ends_at_the_claim=0.1,
    silenced_at_the_claim=0.1,
    paused=0.15,
    silenced=0.15,
)
CALM = Weather()


def forecast(random: Random, sure: Collection[str] = ()) -> Weather:
    """The weather of one seed. The troubles that are `sure` are never off."""
    comes = {each.name: random.random() < 0.5 or each.name in sure for each in fields(Weather)}
    return Weather(**{name: getattr(WORST, name) * on for name, on in comes.items()})
