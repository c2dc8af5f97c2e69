"""Who needs whom."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from remediator.core.dependencies import Dependencies, cycle_in, everything_needed

services = st.sampled_from("abcdef")
graphs = st.dictionaries(services, st.lists(services, max_size=3, unique=True))


def test_a_service_may_need_several_and_be_needed_by_several():
    assert cycle_in({"web": ["api"], "api": ["db", "cache"], "reports": ["db"]}) == ()


def test_a_cycle_is_told_from_a_service_to_itself():
    cycle = cycle_in({"web": ["api"], "api": ["db"], "db": ["api"]})
    assert set(cycle) == {"api", "db"}
    assert len(cycle) == 3


def test_nothing_needs_itself():
    assert cycle_in({"db": ["db"]}) == ["db", "db"]


def test_what_is_needed_by_what_one_needs_is_needed_too():
    needs = everything_needed({"web": ["api"], "api": ["db", "cache"], "db": [], "cache": [], "reports": ["db"]})
    assert needs["web"] == {"api", "db", "cache"}
    assert needs["reports"] == {"db"}
    assert needs["db"] == frozenset()


def test_several_need_what_each_of_them_needs_and_a_stranger_nothing():
    known = Dependencies(everything_needed({"api": ["db"], "web": ["cache"], "db": [], "cache": []}))
    assert known.needed_by(["api", "web"]) == {"db", "cache"}
    assert known.needed_by(["billing"]) == known.needed_by([]) == frozenset()


@given(graphs)
def test_needing_is_passed_on_and_nothing_needs_itself(needs):
    if not cycle_in(needs):
        found = everything_needed(needs)
        for service, needed in found.items():
            assert service not in needed
            assert needed == set(needs.get(service, ())).union(*(found[each] for each in needs.get(service, ())))


@given(graphs)
def test_in_a_cycle_each_needs_the_next_one_and_without_one_there_is_an_order(needs):
    cycle = cycle_in(needs)
    if cycle:
        assert cycle[0] == cycle[-1]
        assert all(after in needs[before] for before, after in pairwise(cycle))
    else:
        left = set(needs)
        while first := {service for service in left if not left.intersection(needs[service])}:
            left -= first
        assert left == set()
