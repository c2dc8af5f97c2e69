"""Who needs whom."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from remediator.core.dependencies import cycle_in

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
