"""The playbooks in `playbooks/`: they load, do what the catalogue says, and every mistyped field in them is explained."""

import re
from datetime import timedelta
from pathlib import Path

import jsonschema
import pytest

from remediator.core.playbook import Mode, Playbook, PlaybookIndex
from remediator.core.postgres_step import TerminateIdle
from remediator.core.redis_step import RedisFlush
from remediator.core.step import AlertResolved, PromQL, Restart, Rollback
from remediator.core.step_parts import Risk
from remediator.core.target import Selector
from remediator.playbook_files import json_schema, load_playbooks, parse_playbook
from remediator.playbook_reference import render
from remediator.yaml_lines import FileProblem, Place, dotted, load_yaml

ROOT = Path(__file__).parents[2]
PLAYBOOKS = {playbook.name: playbook for playbook in load_playbooks(ROOT / "playbooks")}
SCHEMA = jsonschema.Draft202012Validator(json_schema())

each_playbook = pytest.mark.parametrize("playbook", PLAYBOOKS.values(), ids=PLAYBOOKS)


def test_these_are_the_playbooks():
    assert set(PLAYBOOKS) == {"api-down", "database-connection-pool-exhausted", "high-error-rate", "redis-down"}


@pytest.mark.parametrize(
    ("alertname", "name"),
    [
        ("APIDown", "api-down"),
        ("ServiceDown", "api-down"),
        ("RedisDown", "redis-down"),
        ("HighErrorRate", "high-error-rate"),
        ("DatabaseConnectionPoolExhausted", "database-connection-pool-exhausted"),
        ("DatabaseDown", None),
    ],
)
def test_an_alert_finds_its_playbook(alertname, name):
    found = PlaybookIndex(PLAYBOOKS.values()).find({"alertname": alertname, "service": "shop"})
    assert (found and found.name) == name


def test_a_down_service_is_restarted_and_then_rolled_back():
    ladder = PLAYBOOKS["api-down"].ladder
    assert [type(rung.step) for rung in ladder] == [Restart, Rollback]


def test_a_full_redis_is_emptied_only_if_a_person_approves():
    restart, flush = PLAYBOOKS["redis-down"].ladder
    assert isinstance(restart.step, Restart)
    assert isinstance(flush.step, RedisFlush)
    assert flush.approval_required
    assert flush.when is not None
    assert not flush.when.holds({"redis.info.memory_ratio": 0.95})
    assert flush.when.holds({"redis.info.memory_ratio": 0.96})
    assert not flush.when.holds({}), "a memory that nobody could measure is no reason to empty it"


def test_errors_after_a_recent_roll_out_are_rolled_back_before_anything_is_restarted():
    rollback, restart = PLAYBOOKS["high-error-rate"].ladder
    assert isinstance(rollback.step, Rollback)
    assert rollback.when is not None
    assert rollback.when.holds({"rollout.age_seconds": 3599})
    assert not rollback.when.holds({"rollout.age_seconds": 3600})
    assert isinstance(restart.step, Restart)
    assert restart.when is None


@pytest.mark.parametrize("cause", ["DatabaseDown", "DatabaseConnectionPoolExhausted"])
def test_no_service_is_restarted_for_its_errors_while_the_database_is_their_cause(cause):
    hold_if = PLAYBOOKS["high-error-rate"].limits.hold_if
    assert any(matcher.matches({"alertname": cause}) for matcher in hold_if)
    assert not any(matcher.matches({"alertname": "HighErrorRate"}) for matcher in hold_if)


def test_idle_sessions_are_ended_in_the_database_before_the_leaking_service_is_restarted():
    playbook = PLAYBOOKS["database-connection-pool-exhausted"]
    terminate, restart = playbook.ladder
    assert terminate.step == TerminateIdle(older_than=timedelta(minutes=10), at_most=20)
    assert terminate.target == Selector({"database": "$labels.database"})
    assert isinstance(restart.step, Restart)
    assert restart.target is None
    assert playbook.target == Selector({"service": "$labels.service"})


def test_the_error_rate_is_verified_against_a_series_that_the_alert_rules_record():
    rules = (ROOT / "alert_rules" / "services.rules.yaml").read_text(encoding="utf-8")
    queries = [check.query for check in PLAYBOOKS["high-error-rate"].verify.checks if isinstance(check, PromQL)]
    assert queries
    for query in queries:
        assert f"record: {query.partition('{')[0]}\n" in rules


@each_playbook
def test_a_playbook_says_what_the_person_who_is_woken_needs(playbook: Playbook):
    page = (ROOT / playbook.runbook).read_text(encoding="utf-8")
    assert playbook.runbook == f"docs/runbooks/{playbook.name}.md"
    assert playbook.escalate
    for needed in (
        "## What remediator does",
        "remediator runs show",
        "## When it gave up",
        "## Stop remediator",
        playbook.name,
    ):
        assert needed in page


@each_playbook
def test_a_playbook_leaves_the_mode_to_the_operator_and_nothing_destructive_to_itself(playbook: Playbook):
    assert playbook.mode is Mode.AUTO
    assert all(rung.approval_required for rung in playbook.ladder if rung.step.risk is Risk.DESTRUCTIVE)


@each_playbook
def test_a_ladder_can_be_climbed_to_its_end_before_the_playbook_gives_up_and_within_its_limits(playbook: Playbook):
    limits, verify = playbook.limits, playbook.verify
    assert limits.settle + len(playbook.ladder) * (verify.within + verify.stable_for) < limits.give_up
    assert all(limit.count >= len(playbook.ladder) for limit in limits.max)


@each_playbook
def test_an_open_breaker_outlasts_the_cooldown_or_it_would_hold_nothing_back(playbook: Playbook):
    assert playbook.limits.breaker.open_for > playbook.limits.cooldown


@each_playbook
def test_whoever_waits_for_the_alert_to_resolve_waits_longer_than_alertmanagers_default_group_interval(playbook: Playbook):
    if any(isinstance(check, AlertResolved) for check in playbook.verify.checks):
        assert playbook.verify.within > timedelta(minutes=5)


@each_playbook
def test_the_json_schema_takes_a_shipped_playbook(playbook: Playbook):
    SCHEMA.validate(load_yaml(playbook.source, playbook.name)[0])


# --- Every field, mistyped --------------------------------------------------------------------------------------------


def fields_of(playbook: Playbook) -> list[tuple[Place, int]]:
    starts = load_yaml(playbook.source, playbook.name)[1].starts
    return [(place, line) for place, line in starts.items() if place and isinstance(place[-1], str)]


def mistyped(word: str) -> str:
    """Without its second letter: `limits` becomes `lmits`."""
    return word[0] + word[2:]


every_field = pytest.mark.parametrize(
    ("playbook", "place", "line"),
    [
        pytest.param(playbook, place, line, id=f"{playbook.name}: {dotted(place)}")
        for playbook in PLAYBOOKS.values()
        for place, line in fields_of(playbook)
    ],
)


def broken_copy(playbook: Playbook, place: Place, line: int) -> str:
    lines = playbook.source.splitlines(keepends=True)
    field = str(place[-1])
    lines[line - 1], found = re.subn(rf"(?<![\w.$]){re.escape(field)}(?=:)", mistyped(field), lines[line - 1], count=1)
    assert found, "a field stands on its line"
    return "".join(lines)


@every_field
def test_a_mistyped_field_is_named_with_file_and_line_and_the_right_word(playbook: Playbook, place: Place, line: int):
    right = str(place[-1])
    wrong = mistyped(right)
    with pytest.raises(FileProblem) as caught:
        parse_playbook(broken_copy(playbook, place, line), "copy.yaml")
    assert f"copy.yaml:{line}: {dotted((*place[:-1], wrong))}: unknown field {wrong!r}; did you mean {right!r}?" in [
        str(problem) for problem in caught.value.problems
    ]


@every_field
def test_the_json_schema_refuses_a_mistyped_field(playbook: Playbook, place: Place, line: int):
    value, _ = load_yaml(broken_copy(playbook, place, line), "copy.yaml")
    assert not SCHEMA.is_valid(value)


def test_enough_fields_are_mistyped_to_mean_something():
    assert sum(len(fields_of(playbook)) for playbook in PLAYBOOKS.values()) > 100


# --- The reference ----------------------------------------------------------------------------------------------------


def test_the_reference_is_what_the_models_render():
    page = (ROOT / "docs" / "playbook-reference.md").read_text(encoding="utf-8")
    assert page == render(), "run: python -m remediator.playbook_reference > docs/playbook-reference.md"


def test_the_json_schema_is_itself_valid():
    jsonschema.Draft202012Validator.check_schema(json_schema())
