"""What people are told of a run, and when they are not told again."""

from datetime import timedelta

import pytest

from remediator.announcements import messages, severity_of
from remediator.core.run import Run, RunState
from remediator.core.verdict import Reason
from remediator.ports import Channel, LedgerKind, LedgerRow
from tests.builders import NOW, episode, playbook

INTENT = LedgerRow(
    NOW, LedgerKind.INTENT, data={"command": "docker restart shop-api-1", "commands": ["docker restart shop-api-1"]}
)
TOLD = LedgerRow(NOW, LedgerKind.OBSERVATION, data={"happened": "unknown", "seen": "nobody knows", "told": True})


def run(state: RunState, reason: Reason, **labels: str) -> Run:
    alert = episode(labels={"alertname": "APIDown", **labels})
    return Run(
        "r1", alert, "api-down", "v1", state, 0, 1, NOW, NOW + timedelta(minutes=30), reason, "docker:container/shop-api-1"
    )


def channels(of: Run, *timeline: LedgerRow) -> list[Channel]:
    return [message.channel for message in messages(of, playbook(), timeline)]


def test_a_doubt_is_told_to_people():
    assert Channel.ESCALATION in channels(run(RunState.IN_DOUBT, Reason.IN_DOUBT), INTENT, TOLD)


def test_nobody_is_woken_again_when_a_told_doubt_ends_with_its_alert():
    assert channels(run(RunState.ESCALATED, Reason.IN_DOUBT), INTENT, TOLD) == [Channel.ANNOTATION]


def test_a_doubt_that_was_settled_and_then_failed_is_news():
    assert Channel.ESCALATION in channels(run(RunState.ESCALATED, Reason.LADDER_EXHAUSTED), INTENT, TOLD)


def decided(reason: Reason) -> LedgerRow:
    return LedgerRow(NOW, LedgerKind.DECISION, data={"decision": "wait", "reason": reason, "seen": ""})


@pytest.mark.parametrize("reason", [Reason.STORM, Reason.RATE_PLAYBOOK, Reason.GAVE_UP])
def test_what_a_storm_held_and_nothing_was_done_about_is_in_the_storm_s_message(reason):
    ended = run(RunState.ESCALATED, reason)
    assert channels(ended, decided(Reason.STORM), decided(reason)) == []
    assert Channel.ESCALATION in channels(ended, decided(Reason.STORM), decided(reason), INTENT)
    assert Channel.ESCALATION in channels(ended, decided(Reason.RATE_PLAYBOOK))


@pytest.mark.parametrize("reason", [Reason.BREAKER_OPEN, Reason.NOT_APPROVED, Reason.MASKING, Reason.BROKE_DOWN])
def test_what_ended_for_a_reason_of_its_own_is_told_though_a_storm_once_held_it(reason):
    assert Channel.ESCALATION in channels(run(RunState.ESCALATED, reason), decided(Reason.STORM), decided(reason))


def test_and_so_is_what_asked_people_something():
    asked = LedgerRow(NOW, LedgerKind.ASK, data={"plan": "1", "command": "redis-cli FLUSHDB", "until": 0})
    assert Channel.ESCALATION in channels(run(RunState.ESCALATED, Reason.GAVE_UP), decided(Reason.STORM), asked)


def test_what_was_over_before_anything_was_begun_is_no_news():
    assert channels(run(RunState.CANCELLED, Reason.RESOLVED)) == []


@pytest.mark.parametrize(
    ("given", "told"), [("critical", "critical"), ("Warning", "warning"), ("drop table", "other"), ("", "other")]
)
def test_an_alert_cannot_invent_the_label_of_a_metric(given, told):
    assert severity_of(run(RunState.ESCALATED, Reason.GAVE_UP, severity=given)) == told
