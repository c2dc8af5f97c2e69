"""The alert rules: promtool agrees, every alert says what to do, and every playbook has an alert that it can answer."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from remediator.core.playbook import Playbook
from remediator.core.template import labels_in
from remediator.playbook_files import load_playbooks
from remediator.telemetry import Metrics
from tests.promtool import promtool

ROOT = Path(__file__).parents[2]
RULE_FILES = sorted((ROOT / "alert_rules").glob("*.rules.yaml"))
TEST_FILES = sorted((ROOT / "alert_rules").glob("*.test.yaml"))
ALERTS = [
    pytest.param(rule, id=f"{rule['alert']}-{rule['labels'].get('severity')}")
    for file in RULE_FILES
    for group in yaml.safe_load(file.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
]
PLAYBOOKS = [pytest.param(playbook, id=playbook.name) for playbook in load_playbooks(ROOT / "playbooks")]
RUNBOOK_URL = re.compile(r"https://runbooks\.example\.com/(?P<page>[a-z-]+\.md)(#(?P<section>[a-z]+))?")


def test_promtool_accepts_every_rule_file():
    promtool("check", "rules", *RULE_FILES)


@pytest.mark.parametrize("file", TEST_FILES, ids=lambda file: file.name)
def test_alerts_fire_when_they_should_and_only_then(file):
    promtool("test", "rules", file)


def test_every_rule_file_has_a_test_file():
    assert [file.name.replace(".rules.", ".test.") for file in RULE_FILES] == [file.name for file in TEST_FILES]


@pytest.mark.parametrize("rule", ALERTS)
def test_every_alert_is_shown_firing_and_not_firing(rule):
    firing = {bool(case["exp_alerts"]) for case in cases() if case["alertname"] == rule["alert"]}
    assert firing == ({True} if rule["alert"] == "Watchdog" else {True, False})


@pytest.mark.parametrize("rule", ALERTS)
def test_every_alert_says_how_bad_it_is_what_it_means_and_what_to_do(rule):
    assert rule["labels"]["severity"] in (("none",) if rule["alert"] == "Watchdog" else ("critical", "warning"))
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["description"].endswith((".", "}}."))
    found = RUNBOOK_URL.fullmatch(rule["annotations"]["runbook_url"])
    assert found, "runbook_url must be https://runbooks.example.com/PAGE.md, for a page of docs/runbooks/"
    page = ROOT / "docs/runbooks" / found["page"]
    assert page.is_file(), f"{page} is missing"
    if found["section"]:
        assert f"## {rule['alert']}\n" in page.read_text(), f"{page.name} has no section on {rule['alert']}"
        assert found["section"] == rule["alert"].lower()


def test_rules_about_remediator_use_only_metrics_that_it_has():
    known = {family.name + ("_total" if family.type == "counter" else "") for family in Metrics().registry.collect()}
    used = set(re.findall(r"\bremediator_[a-z_]+", (ROOT / "alert_rules/remediator.rules.yaml").read_text()))
    assert used - known == set()


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_some_alert_meets_the_playbook_and_carries_every_label_that_it_uses(playbook):
    met = [labels for labels in alerts_that_fire() if all(matcher.matches(labels) for matcher in playbook.matchers)]
    assert met, f"no alert of alert_rules/ meets {', '.join(map(str, playbook.matchers))}"
    used = labels_used_by(playbook)
    assert any(used <= labels.keys() for labels in met), f"none of these has all of {sorted(used)}: {met}"


def cases() -> Iterator[Mapping]:
    for file in TEST_FILES:
        for test in yaml.safe_load(file.read_text())["tests"]:
            yield from test.get("alert_rule_test", ())


def alerts_that_fire() -> Iterator[dict[str, str]]:
    """The labels of alerts that promtool has seen firing: `test_alerts_fire_when_they_should_and_only_then` proves it."""
    for case in cases():
        for alert in case["exp_alerts"]:
            yield {"alertname": case["alertname"], **alert["exp_labels"]}


def labels_used_by(playbook: Playbook) -> set[str]:
    """Every `$labels.x` of the playbook: in its target, its rungs' targets, and the parameters of its steps and checks."""
    selectors = [playbook.target, *(rung.target for rung in playbook.ladder if rung.target)]
    steps = [*(rung.step for rung in playbook.ladder), *playbook.diagnose, *playbook.verify.checks]
    templates = [template for selector in selectors for template in selector.fields.values()]
    templates += [value for step in steps for field in fields(step) if isinstance(value := getattr(step, field.name), str)]
    return {label for template in templates for label in labels_in(template)}
