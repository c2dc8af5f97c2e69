"""The index finds what a look at every playbook would find, and always the same one."""

from hypothesis import given
from hypothesis import strategies as st

from remediator.core.matching import Matcher, MatchOp, all_match, parse_matcher
from remediator.core.playbook import PlaybookIndex
from tests.builders import playbook

VALUES = st.sampled_from(["", "A", "B", "C"])
LABELS = st.dictionaries(st.sampled_from(["alertname", "service", "severity"]), VALUES)
MATCHERS = st.lists(
    st.builds(Matcher, st.sampled_from(["alertname", "service", "severity"]), st.sampled_from(MatchOp), VALUES),
    max_size=4,
)


def named(name: str, *matchers: str):
    return playbook(name=name, matchers=tuple(map(parse_matcher, matchers)))


def scan(playbooks, labels):
    """The most matchers, then the first by name."""
    found = [each for each in playbooks if all_match(each.matchers, labels)]
    return min(found, key=lambda each: (-len(each.matchers), each.name), default=None)


@given(st.lists(MATCHERS, max_size=8), LABELS)
def test_it_finds_what_a_scan_finds(several, labels):
    playbooks = [playbook(name=f"p{number}", matchers=tuple(matchers)) for number, matchers in enumerate(several)]
    assert PlaybookIndex(playbooks).find(labels) is scan(playbooks, labels)


@given(
    st.permutations([named("a", "alertname = A"), named("b", "alertname =~ A|B"), named("c", "alertname = A", "service = B")])
)
def test_the_order_in_which_they_are_read_does_not_matter(playbooks):
    index = PlaybookIndex(playbooks)
    assert index.find({"alertname": "A", "service": "B"}).name == "c"
    assert index.find({"alertname": "A"}).name == "a"
    assert index.find({"alertname": "B"}).name == "b"
    assert index.find({"alertname": "C"}) is None
    assert [each.name for each in index.playbooks] == ["a", "b", "c"]


def test_the_more_exact_playbook_wins_even_over_one_that_names_the_alert():
    index = PlaybookIndex([named("general", "alertname = A"), named("exact", "alertname =~ A.*", "service = B")])
    assert index.find({"alertname": "A", "service": "B"}).name == "exact"


def test_two_names_for_one_alert_match_nothing():
    assert PlaybookIndex([named("odd", "alertname = A", "alertname = B")]).find({"alertname": "A"}) is None


def test_an_empty_index_finds_nothing():
    assert PlaybookIndex([]).find({"alertname": "A"}) is None
