"""What an alert means, given the last episode of the same identity; and what an identity is."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.core.alert import EpisodeState, Heard, episode_key, hear
from tests.builders import NOW, alert, episode

MINUTE = timedelta(minutes=1)
OPEN, RESOLVED, EXPIRED = EpisodeState
LABELS = st.dictionaries(st.text(max_size=6), st.text(max_size=6), max_size=5)


class TestHear:
    @pytest.mark.parametrize(
        ("last", "heard"),
        [
            (None, Heard.OPENED),
            (episode(), Heard.REFRESHED),
            (episode(confirmed=False), Heard.CONFIRMED),
            (episode(state=EXPIRED), Heard.CONTINUED),
            (episode(state=EXPIRED, ends_at=NOW + MINUTE), Heard.CONTINUED),
            (episode(state=EXPIRED, heard_at=NOW - MINUTE), Heard.OPENED),  # another firing than the one that expired
            (episode(state=RESOLVED, ends_at=NOW - MINUTE), Heard.OPENED),
            (episode(state=RESOLVED, ends_at=NOW), Heard.OPENED),
            (episode(state=RESOLVED, ends_at=NOW + MINUTE), Heard.LATE),
            (episode(state=RESOLVED, ends_at=None), Heard.OPENED),
        ],
    )
    def test_a_firing_alert_that_began_now(self, last, heard):
        assert hear(alert(starts_at=NOW), last) is heard

    @pytest.mark.parametrize(
        ("last", "heard"),
        [
            (None, Heard.IGNORED),
            (episode(), Heard.CLOSED),
            (episode(confirmed=False), Heard.CLOSED),
            (episode(state=EXPIRED), Heard.CLOSED),
            (episode(state=RESOLVED, ends_at=NOW), Heard.IGNORED),
            (episode(starts_at=NOW + 2 * MINUTE), Heard.IGNORED),  # the resolve of the firing before this one
            (episode(starts_at=NOW + MINUTE), Heard.CLOSED),
        ],
    )
    def test_a_resolved_alert_that_ended_a_minute_from_now(self, last, heard):
        assert hear(alert("resolved", NOW, NOW + MINUTE), last) is heard

    def test_a_resolve_that_names_no_end_closes(self):
        assert hear(alert("resolved"), episode()) is Heard.CLOSED

    def test_a_start_that_moves_does_not_make_another_episode(self):
        for moved in (-MINUTE, MINUTE):
            assert hear(alert(starts_at=NOW + moved), episode(starts_at=NOW)) is Heard.REFRESHED

    @given(st.sampled_from([OPEN, RESOLVED, EXPIRED]), st.booleans(), st.integers(-5, 5), st.none() | st.integers(-5, 5))
    def test_a_firing_alert_is_never_ignored(self, state, confirmed, starts, ends):
        ends_at = None if ends is None else NOW + ends * MINUTE
        last = replace(episode(state=state, confirmed=confirmed), ends_at=ends_at)
        assert hear(alert(starts_at=NOW + starts * MINUTE), last) is not Heard.IGNORED


class TestIdentity:
    @given(LABELS, st.randoms(use_true_random=False))
    def test_the_order_of_the_labels_does_not_matter(self, labels, shuffled):
        items = list(labels.items())
        shuffled.shuffle(items)
        assert episode_key(dict(items)) == episode_key(labels)

    @given(LABELS, LABELS)
    def test_label_sets_that_differ_have_different_keys(self, one, other):
        assert (episode_key(one) == episode_key(other)) == (one == other)

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ({"a": "bc"}, {"ab": "c"}),
            ({"a": "b", "c": "d"}, {"a": "bcd"}),
            ({"a": "b\xffc\xffd"}, {"a": "b", "c": "d"}),
            ({"a": ""}, {}),
            ({"a": "b", "": ""}, {"a": "b"}),
            ({"a": "é"}, {"a": "e\u0301"}),
        ],
    )
    def test_nobody_can_write_labels_that_look_like_others_put_together(self, one, other):
        assert episode_key(one) != episode_key(other)

    def test_a_key_is_short_and_the_same_for_ever(self):
        assert episode_key({"alertname": "APIDown", "service": "shop-api"}) == "d458d7acee70ea04bc9385dabd3293af"
