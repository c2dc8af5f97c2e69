"""Alertmanager's matchers: its syntax, and what it means when a label is missing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.core.matching import Matcher, MatchOp, all_match, parse_matcher

NAMES = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,10}", fullmatch=True)


class TestSyntax:
    @pytest.mark.parametrize(
        ("text", "label", "op", "value"),
        [
            ("alertname = RedisDown", "alertname", "=", "RedisDown"),
            ("alertname=RedisDown", "alertname", "=", "RedisDown"),
            ('  alertname  =  "RedisDown"  ', "alertname", "=", "RedisDown"),
            ("severity!=info", "severity", "!=", "info"),
            ('severity =~ "critical|page"', "severity", "=~", "critical|page"),
            ("severity=~critical|page", "severity", "=~", "critical|page"),
            ('instance !~ "db-.*"', "instance", "!~", "db-.*"),
            ("job = ", "job", "=", ""),
            ('job = ""', "job", "=", ""),
            (r'path = "a\"b"', "path", "=", 'a"b'),
            (r'path = "a\\b"', "path", "=", "a\\b"),
            (r'path = "a\nb"', "path", "=", "a\nb"),
            (r'path =~ "a\\.b"', "path", "=~", r"a\.b"),
            (r'path =~ "a\.b"', "path", "=~", r"a\.b"),  # no escape that it knows: the backslash stands for itself
            (r"path =~ a\.b\d", "path", "=~", r"a\.b\d"),
            ('spaced = "two words, and {more}"', "spaced", "=", "two words, and {more}"),
            ("_private = x", "_private", "=", "x"),
            ('emoji = "🙂"', "emoji", "=", "🙂"),
        ],
    )  # fmt: skip
    def test_what_alertmanager_takes_is_taken(self, text, label, op, value):
        assert parse_matcher(text) == Matcher(label, MatchOp(op), value)

    @pytest.mark.parametrize(
        "text",
        ["", "alertname", "= x", "alertname == x", "alertname = a b", "1st = x", "a-b = x", 'a = "open', 'a = "b" c', "{a=b}",
         "a = b, c = d", "a ~ b", "a = 'b'", 'a = "b\\"', "a = b\nc = d"],
    )  # fmt: skip
    def test_what_it_does_not_take_is_refused_with_an_example(self, text):
        with pytest.raises(ValueError, match="write one as"):
            parse_matcher(text)

    @pytest.mark.parametrize("pattern", ["(", "[a", "*x", "a{2,1}", "(?P<n>a)(?P<n>b)"])
    def test_a_bad_regular_expression_is_refused_at_once_and_not_with_the_first_alert(self, pattern):
        with pytest.raises(ValueError, match="not a regular expression"):
            parse_matcher(f'a =~ "{pattern}"')

    @given(NAMES, st.sampled_from([MatchOp.EQUAL, MatchOp.NOT_EQUAL]), st.text())
    def test_any_value_can_be_written_in_quotes(self, label, op, value):
        quoted = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        assert parse_matcher(f'{label} {op} "{quoted}"') == Matcher(label, op, value)

    @given(NAMES, st.sampled_from([MatchOp.EQUAL, MatchOp.NOT_EQUAL]), st.text())
    def test_a_matcher_is_printed_as_it_can_be_read_again(self, label, op, value):
        matcher = Matcher(label, op, value)
        assert parse_matcher(str(matcher)) == matcher


class TestMeaning:
    @pytest.mark.parametrize(
        ("text", "value", "matches"),
        [
            ("a = x", "x", True),
            ("a = x", "X", False),
            ("a = x", "xy", False),
            ("a != x", "y", True),
            ("a != x", "x", False),
            ("a =~ x|y", "y", True),
            ("a =~ x", "axb", False),  # anchored at both ends
            ("a =~ x|yz", "xz", False),  # and not only the alternatives at the edges
            ('a =~ "x.*"', "x\ny", False),
            ("a !~ x", "axb", True),
            ("a !~ x", "x", False),
            ("a =~ x", "x\n", False),
        ],
    )
    def test_the_four_operators(self, text, value, matches):
        assert parse_matcher(text).matches({"a": value}) is matches

    @pytest.mark.parametrize(
        ("text", "matches"),
        [
            ("a = x", False),
            ('a = ""', True),
            ("a != x", True),
            ('a != ""', False),
            ('a =~ ".*"', True),
            ('a =~ ".+"', False),
            ("a !~ x", True),
        ],
    )
    def test_a_missing_label_counts_as_an_empty_one(self, text, matches):
        assert parse_matcher(text).matches({}) is matches
        assert parse_matcher(text).matches({"a": ""}) is matches

    def test_a_list_is_an_and(self):
        both = [parse_matcher("a = x"), parse_matcher("b = y")]
        assert all_match(both, {"a": "x", "b": "y"})
        assert not all_match(both, {"a": "x"})
        assert all_match([], {})

    @given(NAMES, st.text(), st.dictionaries(NAMES, st.text()))
    def test_not_equal_is_the_opposite_of_equal(self, label, value, labels):
        equal, not_equal = Matcher(label, MatchOp.EQUAL, value), Matcher(label, MatchOp.NOT_EQUAL, value)
        assert equal.matches(labels) != not_equal.matches(labels)
