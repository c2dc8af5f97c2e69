"""The parser of webhook messages: real ones are read to the last alert, anything else is refused in one way only."""

import copy
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from remediator.core.alert import AlertStatus
from remediator.ingress.payload import ALERTS_MAX, LABELS_MAX, NotAMessage, Parsed, Rejection, parse
from tests.builders import webhook_alert, webhook_message

DATA = Path(__file__).parent.parent / "data"
REAL = sorted(DATA.glob("alertmanager/*.json")) + sorted(DATA.glob("grafana/*.json"))


def one_bad(**changes) -> bytes:
    """A good alert, one with `changes`, and another good one."""
    bad = {name: value for name, value in {**webhook_alert(), **changes}.items() if value is not ...}
    return webhook_message(webhook_alert(), bad, webhook_alert(instance="b"))


class TestRealMessages:
    @pytest.mark.parametrize("path", REAL, ids=lambda path: f"{path.parent.name}/{path.stem}")
    def test_every_alert_is_read_or_rejected_with_a_reason(self, path):
        body = path.read_bytes()
        told = json.loads(body)["alerts"]
        parsed = parse(body)
        assert len(parsed.alerts) + len(parsed.rejected) == len(told)
        for alert, given_alert in zip(parsed.alerts, told, strict=False):
            assert alert.labels == given_alert["labels"]
            assert alert.status == given_alert["status"]

    @pytest.mark.parametrize("path", [path for path in REAL if "datasource" not in path.stem], ids=lambda path: path.stem)
    def test_none_is_rejected_but_grafana_s_alerts_about_itself(self, path):
        assert parse(path.read_bytes()).rejected == []

    @pytest.mark.parametrize("name", ["datasource-no-data", "datasource-error"])
    def test_grafana_s_trouble_with_its_data_source_is_not_a_service_s(self, name):
        parsed = parse((DATA / "grafana" / f"{name}.json").read_bytes())
        assert {rejected.reason for rejected in parsed.rejected} == {Rejection.DATASOURCE}

    def test_a_group_of_firing_and_resolved_alerts_is_taken_apart(self):
        parsed = parse((DATA / "alertmanager" / "mixed.json").read_bytes())
        assert {alert.status for alert in parsed.alerts} == {AlertStatus.FIRING, AlertStatus.RESOLVED}

    def test_a_firing_alert_has_no_end_and_a_resolved_one_has(self):
        for alert in parse((DATA / "alertmanager" / "mixed.json").read_bytes()).alerts:
            assert (alert.ends_at is None) == (alert.status is AlertStatus.FIRING)


class TestOneBadAlert:
    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"status": "pending"}, "malformed"),
            ({"status": ...}, "malformed"),
            ({"labels": ...}, "malformed"),
            ({"labels": []}, "malformed"),
            ({"labels": {"alertname": 7}}, "malformed"),
            ({"labels": {"alertname": None}}, "malformed"),
            ({"labels": {"": "empty name"}}, "malformed"),
            ({"labels": {"long": "x" * 20_000}}, "malformed"),
            ({"labels": {}}, "no_labels"),
            ({"labels": {f"l{number}": "x" for number in range(LABELS_MAX + 1)}}, "too_many_labels"),
            ({"labels": {"alertname": "DatasourceNoData"}}, "datasource"),
            ({"startsAt": "yesterday"}, "malformed"),
            ({"startsAt": "2026-03-01T03:00:00"}, "malformed"),  # of which zone?
            ({"startsAt": ...}, "malformed"),
            ({"startsAt": 10**400}, "malformed"),
            ({"endsAt": {"nested": [1]}}, "malformed"),
            ({"annotations": "none"}, "malformed"),
        ],
    )
    def test_it_is_rejected_with_its_place_and_its_neighbours_are_kept(self, changes, reason):
        parsed = parse(one_bad(**changes))
        assert len(parsed.alerts) == 2
        assert [(rejected.position, rejected.reason) for rejected in parsed.rejected] == [(1, reason)]
        assert parsed.rejected[0].why

    @pytest.mark.parametrize("bad", [None, 7, "alert", [], True, 1e999])
    def test_it_need_not_even_be_an_object(self, bad):
        parsed = parse(webhook_message(webhook_alert(), bad))
        assert (len(parsed.alerts), len(parsed.rejected)) == (1, 1)

    def test_what_is_said_of_it_is_short(self):
        parsed = parse(webhook_message(webhook_alert(status="x" * 100_000, **{"l" * 2000: "v"})))
        assert all(len(rejected.why) <= 300 for rejected in parsed.rejected)

    def test_unknown_fields_are_nobody_s_business(self):
        assert len(parse(webhook_message({**webhook_alert(), "silenceURL": "http://…", "values": {"A": 1.5}})).alerts) == 1


class TestTimes:
    @pytest.mark.parametrize(
        ("written", "read"),
        [
            ("2026-03-01T03:00:00Z", datetime(2026, 3, 1, 3, tzinfo=UTC)),
            ("2026-03-01T03:00:00.123456789Z", datetime(2026, 3, 1, 3, 0, 0, 123456, tzinfo=UTC)),
            ("2026-03-01T05:00:00+02:00", datetime(2026, 3, 1, 3, tzinfo=UTC)),
            ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
            ("9999-12-31T23:59:59Z", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ],
    )
    def test_they_are_read_to_the_microsecond_in_utc(self, written, read):
        assert parse(webhook_message({**webhook_alert(), "startsAt": written})).alerts[0].starts_at == read

    @pytest.mark.parametrize("field", ["startsAt", "endsAt"])
    @pytest.mark.parametrize("written", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
    def test_the_ends_of_the_calendar_do_not_fall_off_it(self, field, written):
        (alert,) = parse(webhook_message({**webhook_alert("resolved"), field: written})).alerts
        assert alert.starts_at.tzinfo is UTC

    def test_a_firing_alert_that_ends_in_the_year_1_has_no_end(self):
        assert parse(webhook_message()).alerts[0].ends_at is None


class TestNotMessages:
    @pytest.mark.parametrize(
        "body",
        [
            b"", b" ", b"null", b"7", b'"message"', b"[]", b"{}", b"{", b"\xff\xfe", b"\x00", b"<html>",
            b'{"version": "4"}', b'{"version": "4", "alerts": {}}', b'{"version": "4", "alerts": "none"}',
            b'{"version": "3", "alerts": []}', b'{"version": 4, "alerts": []}', b'{"alerts": []}',
            b'{"version": "4", "alerts": [' + b"1" * 5000,
            b"[" * 100_000, b'{"a":' * 100_000,
        ],
    )  # fmt: skip
    def test_they_are_refused_with_a_line_that_says_why(self, body):
        with pytest.raises(NotAMessage) as refused:
            parse(body)
        assert 0 < len(str(refused.value)) <= 300
        assert "\n" not in str(refused.value)

    @pytest.mark.parametrize("depth", [50, 1000, 100_000])
    def test_nesting_inside_an_alert_is_bounded(self, depth):
        deep = b"[" * depth + b"]" * depth
        body = webhook_message({**webhook_alert(), "extra": "HERE"}).replace(b'"HERE"', deep)
        outcome = outcome_of(body)
        assert outcome is NotAMessage or len(outcome.alerts) == 1

    @pytest.mark.parametrize("digits", [400, 5000, 1_000_000])
    def test_huge_numbers_are_no_trouble(self, digits):
        body = webhook_message({**webhook_alert(), "startsAt": "HERE"}).replace(b'"HERE"', b"9" * digits)
        outcome = outcome_of(body)
        assert outcome is NotAMessage or outcome.alerts == []

    def test_more_alerts_than_any_real_message_has_are_refused_before_they_are_looked_at(self):
        with pytest.raises(NotAMessage, match="at most"):
            parse(b'{"version": "4", "alerts": [' + b"0," * ALERTS_MAX + b"0]}")

    def test_half_a_surrogate_pair_is_no_text(self):
        outcome = outcome_of(webhook_message(webhook_alert(instance="HERE")).replace(b"HERE", rb"\ud800"))
        assert outcome is NotAMessage or outcome.alerts == []


def outcome_of(body: bytes) -> Parsed | type[NotAMessage]:
    try:
        return parse(body)
    except NotAMessage:
        return NotAMessage


def is_bounded(outcome: Parsed | type[NotAMessage], body: bytes) -> bool:
    """No more alerts than the body has room for, each with text that can be stored."""
    if outcome is NotAMessage:
        return True
    for alert in outcome.alerts:
        assert 0 < len(alert.labels) <= LABELS_MAX
        assert alert.starts_at.tzinfo is UTC
        for text in (*alert.labels, *alert.labels.values(), *alert.annotations.values()):
            text.encode()
    return len(outcome.alerts) + len(outcome.rejected) <= len(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
REAL_MESSAGES = [json.loads(path.read_bytes()) for path in REAL]


def places(value, path=()):
    """The path of every part of a JSON value."""
    yield path
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, key))


@st.composite
def mutated(draw) -> bytes:
    """A real message with some of its parts replaced, dropped or doubled."""
    message = copy.deepcopy(draw(st.sampled_from(REAL_MESSAGES)))
    for _ in range(draw(st.integers(1, 4))):
        *path, key = draw(st.sampled_from(list(places(message))[1:] or [("alerts",)]))
        parent = message
        for step in path:
            parent = parent[step]
        match draw(st.sampled_from(["replace", "drop", "double"])):
            case "replace":
                parent[key] = draw(JSON)
            case "drop":
                del parent[key]
            case "double" if isinstance(parent, list):
                parent.append(copy.deepcopy(parent[key]))
        if not message:
            break
    return json.dumps(message).encode()


class TestAnyBytes:
    @settings(max_examples=300, deadline=None)
    @given(st.binary(max_size=300))
    @example(b'{"version":"4","alerts":[{}]}')
    def test_anything_at_all_is_a_bounded_result_or_not_a_message(self, body):
        assert is_bounded(outcome_of(body), body)

    @settings(max_examples=300, deadline=None)
    @given(JSON)
    def test_any_json_is_too(self, value):
        body = json.dumps(value).encode()
        assert is_bounded(outcome_of(body), body)

    @settings(max_examples=300, deadline=None)
    @given(JSON)
    def test_any_alert_is_too(self, value):
        body = json.dumps({"version": "4", "alerts": [value, webhook_alert()]}).encode()
        outcome = outcome_of(body)
        assert is_bounded(outcome, body)
        assert outcome is NotAMessage or outcome.alerts

    @settings(max_examples=400, deadline=None)
    @given(mutated())
    def test_a_real_message_with_anything_changed_is_too(self, body):
        assert is_bounded(outcome_of(body), body)

    @settings(max_examples=200, deadline=None)
    @given(st.sampled_from(REAL), st.data())
    def test_a_real_message_cut_off_anywhere_is_not_one(self, path, data):
        body = path.read_bytes().strip()
        with pytest.raises(NotAMessage):
            parse(body[: data.draw(st.integers(0, len(body) - 1))])

    @settings(max_examples=200, deadline=None)
    @given(st.datetimes(timezones=st.timezones()))
    def test_any_time_in_any_zone_is_read(self, at):
        body = webhook_message({**webhook_alert("resolved"), "startsAt": at.isoformat(), "endsAt": at.isoformat()})
        assert is_bounded(outcome_of(body), body)
