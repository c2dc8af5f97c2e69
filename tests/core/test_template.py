"""`$labels.x` is data: it never widens a selection, and never leaves its quotes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.core.step import Http, PromQL, Restart, bind
from remediator.core.target import Selector
from remediator.core.template import NAME, Unbound, bind_name, bind_promql, bind_relation, labels_in

BAD_NAMES = ["", " ", "a b", "a;b", "a/b", "../etc", "-rf", ".hidden", "a\n", "\na", "a\x00", "*", ".*", "a*", "{a,b}",
             "$labels.x", "${x}", "ä", "a" * 129, "%2e", "a:b", "a=b", "a,b"]  # fmt: skip


class TestNames:
    @pytest.mark.parametrize(
        ("text", "bound"),
        [
            ("$labels.service", "shop-api"),
            ("prod-$labels.service", "prod-shop-api"),
            ("$labels.service-$labels.zone", "shop-api-eu1"),
            ("fixed", "fixed"),
        ],
    )
    def test_labels_are_filled_in(self, text, bound):
        assert bind_name(text, {"service": "shop-api", "zone": "eu1"}) == bound

    @pytest.mark.parametrize("value", BAD_NAMES)
    def test_a_label_that_is_no_name_is_not_filled_in(self, value):
        assert isinstance(bind_name("$labels.service", {"service": value}), Unbound)
        assert isinstance(bind_name("prefix-$labels.service", {"service": value}), Unbound)

    def test_a_missing_label_is_not_an_empty_one_is_not_everything(self):
        assert bind_name("$labels.service", {}) == Unbound("service", "the alert has no label 'service'")

    def test_one_label_that_cannot_be_filled_in_spoils_the_whole_selection(self):
        selector = Selector({"project": "$labels.project", "service": "$labels.service"})
        assert isinstance(selector.bind({"service": "shop-api"}), Unbound)
        assert isinstance(selector.bind({"service": "shop-api", "project": ""}), Unbound)

    @given(st.text())
    def test_whatever_a_label_says_what_is_filled_in_is_a_name(self, value):
        bound = bind_name("$labels.service", {"service": value})
        assert isinstance(bound, Unbound) or (bound == value and NAME.fullmatch(bound))

    @given(st.dictionaries(st.sampled_from(["project", "service", "other"]), st.text()))
    def test_a_selection_has_all_the_fields_of_its_selector_or_does_not_come_about(self, labels):
        fields = {"project": "$labels.project", "service": "$labels.service"}
        selection = Selector(fields).bind(labels)
        assert isinstance(selection, Unbound) or selection.fields == {name: labels[name] for name in fields}

    def test_what_was_filled_in_is_not_read_again(self):
        assert isinstance(bind_name("$labels.a", {"a": "$labels.b", "b": "secret"}), Unbound)
        assert bind_promql("$labels.a", {"a": "$labels.b", "b": "secret"}) == "$labels.b"

    def test_a_refusal_quotes_no_more_than_a_person_wants_to_read(self):
        assert len(bind_name("$labels.a", {"a": "x " * 10_000}).why) < 200


class TestRelations:
    @pytest.mark.parametrize(
        ("text", "bound"),
        [
            ("$labels.relname", "orders"),
            ("$labels.schemaname.$labels.relname", "shop.orders"),
            ("public.$labels.relname", "public.orders"),
            ("$labels.both", "shop.orders"),
            ("_orders_2026$", "_orders_2026$"),
        ],
    )
    def test_labels_are_filled_in(self, text, bound):
        labels = {"schemaname": "shop", "relname": "orders", "both": "shop.orders"}
        assert bind_relation(text, labels) == bound

    @pytest.mark.parametrize("value", [*BAD_NAMES, "shop-api", "1st", "a.b.c", "a.", ".a", 'a"b', "a'b", "a" * 64])
    def test_a_label_that_is_no_identifier_is_not_filled_in(self, value):
        assert isinstance(bind_relation("$labels.relname", {"relname": value}), Unbound)
        assert isinstance(bind_relation("shop.$labels.relname", {"relname": value}), Unbound)

    def test_what_comes_of_several_labels_is_one_relation(self):
        assert isinstance(bind_relation("$labels.a.$labels.b", {"a": "x.y", "b": "z"}), Unbound)


class TestPromql:
    @given(st.text(min_size=1))
    def test_a_label_stays_inside_its_quotes_and_means_itself(self, value):
        query = bind_promql('up{service="$labels.service"} == 1', {"service": value})
        head, tail = 'up{service="', '"} == 1'
        assert query.startswith(head)
        assert query.endswith(tail)
        assert go_string(query[len(head) : -len(tail)]) == value

    @pytest.mark.parametrize("value", ['"} or vector(1) or up{a="', "\\", '\\"', "\n", "a\\"])
    def test_the_usual_ways_out_are_shut(self, value):
        query = bind_promql('up{service="$labels.service"}', {"service": value})
        assert go_string(query[len('up{service="') : -len('"}')]) == value

    def test_a_missing_label_does_not_become_a_query_for_everything(self):
        assert isinstance(bind_promql('up{service="$labels.service"}', {}), Unbound)
        assert isinstance(bind_promql('up{service="$labels.service"}', {"service": ""}), Unbound)


def go_string(inner: str) -> str:
    """What Go's lexer reads between two double quotes, of the escapes that are used: `\\\\`, `\\"` and `\\n`.

    Raises ValueError for a string that ends early or holds an escape that Go does not know.
    """
    read, rest = [], iter(inner)
    for character in rest:
        if character == '"' or character == "\n":
            raise ValueError(f"the string ends early in {inner!r}")
        if character == "\\":
            character = {"\\": "\\", '"': '"', "n": "\n"}[next(rest)]
        read.append(character)
    return "".join(read)


class TestSteps:
    def test_only_the_parameters_that_say_so_take_labels(self):
        assert bind(Restart(), {"service": "x"}) == Restart()
        assert bind(Http(endpoint="$labels.service", path="/$labels.service"), {"service": "x"}) == Http(
            "x", "/$labels.service"
        )

    def test_a_query_is_quoted_and_an_endpoint_must_be_a_name(self):
        assert bind(PromQL('up{a="$labels.a"}'), {"a": '"'}) == PromQL('up{a="\\""}')
        assert isinstance(bind(Http("$labels.a"), {"a": "evil.example.com/x"}), Unbound)

    def test_which_labels_a_text_needs(self):
        assert labels_in("$labels.a-$labels.b_c $label.d $labels.1") == ("a", "b_c")


@given(st.text(min_size=1, alphabet=st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])))
def test_the_quoting_agrees_with_json_s_for_printable_text(value):
    """A second opinion: for text without control characters JSON escapes as Go does."""
    assert bind_promql('"$labels.a"', {"a": value}) == json.dumps(value, ensure_ascii=False)
