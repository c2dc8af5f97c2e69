"""The life of a run: a table without dead ends, without loose ends, and with a page that says the same."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.core.run import ENDED, HOLDING, LIFE_CYCLE, ImpossibleTransition, RunEvent, RunState, after
from remediator.run_diagram import render

PAIRS = [(state, event) for state in RunState for event in RunEvent]


def reachable(begin: RunState) -> set[RunState]:
    found, fresh = set(), {begin}
    while fresh:
        found |= fresh
        fresh = {following for (state, _), following in LIFE_CYCLE.items() if state in fresh} - found
    return found


def test_every_state_can_be_reached():
    assert reachable(RunState.NEW) == set(RunState)


@pytest.mark.parametrize("state", sorted(set(RunState) - ENDED))
def test_from_every_state_an_end_can_be_reached_and_so_can_a_person(state):
    assert reachable(state) & ENDED
    assert LIFE_CYCLE[state, RunEvent.ESCALATE] is RunState.ESCALATED


@pytest.mark.parametrize("state", sorted(ENDED))
def test_what_has_ended_goes_nowhere(state):
    assert [event for given_state, event in LIFE_CYCLE if given_state is state] == []


@pytest.mark.parametrize(("state", "event"), [pair for pair in PAIRS if pair not in LIFE_CYCLE])
def test_a_pair_that_is_not_in_the_table_raises(state, event):
    with pytest.raises(ImpossibleTransition, match=f"a run that is {state} cannot {event}"):
        after(state, event)


def test_every_event_is_of_use():
    assert {event for _, event in LIFE_CYCLE} == set(RunEvent)


def test_nothing_is_called_that_was_not_claimed_and_nothing_succeeds_that_was_not_verified():
    assert {state for (state, _), following in LIFE_CYCLE.items() if following is RunState.CALLED} == {RunState.CLAIMED}
    assert {state for (state, _), following in LIFE_CYCLE.items() if following is RunState.SUCCEEDED} == {RunState.VERIFYING}


def test_once_it_was_called_a_run_cannot_be_cancelled_any_more():
    assert {state for state, event in LIFE_CYCLE if event is RunEvent.CANCEL} == {
        RunState.NEW, RunState.WAITING, RunState.ASKED, RunState.CLAIMED,
    }  # fmt: skip


def test_a_target_is_taken_by_a_claim_and_kept_until_the_end_or_the_next_rung():
    for (state, event), following in LIFE_CYCLE.items():
        if following in HOLDING and state not in HOLDING:
            assert event is RunEvent.CLAIM
        if state in HOLDING and following not in HOLDING | ENDED:
            assert event is RunEvent.CLIMB


@given(st.lists(st.sampled_from(RunEvent), max_size=30))
def test_two_calls_have_between_them_the_word_that_the_first_did_not_happen_or_a_new_claim(events):
    state, allowed = RunState.NEW, False
    for event in events:
        if (state, event) not in LIFE_CYCLE:
            continue
        if event is RunEvent.GO:
            assert allowed
            allowed = False
        if event in (RunEvent.CLAIM, RunEvent.DID_NOT_HAPPEN):
            allowed = True
        state = after(state, event)


def test_the_page_about_it_is_fresh():
    page = Path(__file__).parents[2] / "docs" / "run-life-cycle.md"
    assert page.read_text() == render(), "write it anew: python -m remediator.run_diagram > docs/run-life-cycle.md"
