"""`remediator rules`: promtool agrees, the alerts are those of `alert_rules/`, and service levels are watched as promised."""

import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from remediator.cli.main import main
from remediator.rules.document import rule_file
from remediator.services_file import load_services, parse_services
from tests.promtool import promtool

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests/data/services"
NAME = "shop-api"


def rules_of(text: str) -> list[Mapping[str, Any]]:
    """The rules for the services that `text` names."""
    return [rule for group in yaml.safe_load(rule_file(parse_services(text, "s")))["groups"] for rule in group["rules"]]


def alerts_in(rules: list[Mapping[str, Any]]) -> dict[tuple[str, str], Mapping[str, Any]]:
    return {(rule["alert"], rule["labels"]["severity"]): rule for rule in rules if "alert" in rule}


@pytest.mark.parametrize(("services", "tests"), [("services", "alerts"), ("services", "levels"), ("promised", "promised")])
def test_alerts_of_named_services_fire_when_they_should_and_only_then(services, tests, tmp_path):
    rules = tmp_path / f"{services}.rules.yaml"
    rules.write_text(rule_file(load_services(DATA / f"{services}.yaml")))
    promtool("check", "rules", "--lint=all", "--lint-fatal", rules)
    promtool("test", "rules", shutil.copy(DATA / f"{tests}.test.yaml", tmp_path))


SHIPPED = {
    (rule["alert"], rule["labels"]["severity"]): rule
    for file in ("services", "cache", "database")
    for group in yaml.safe_load((ROOT / f"alert_rules/{file}.rules.yaml").read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
}


def generated() -> Iterator[Mapping[str, Any]]:
    """An alert for a service of each kind."""
    for kind in ("http", "redis", "postgres"):
        probe = ", probe: 'http://a/'" if kind == "http" else ""
        yield alerts_in(rules_of(f"services: [{{name: {NAME}, kind: {kind}, job: a{probe}}}]"))


def test_every_alert_of_alert_rules_is_made_for_the_services_that_it_is_about():
    made = {key: rule for rules in generated() for key, rule in rules.items()}
    assert made.keys() - SHIPPED.keys() == {("ServiceNotWatched", "warning")}
    assert SHIPPED.keys() <= made.keys()
    del made["ServiceNotWatched", "warning"]
    for key, rule in made.items():
        assert rule["for"] == SHIPPED[key]["for"], key
        told = {name: as_if_about_it(text) for name, text in SHIPPED[key]["annotations"].items()}
        assert {name: " ".join(text.split()) for name, text in rule["annotations"].items()} == told, key


def as_if_about_it(text: str) -> str:
    """A shipped annotation with the service's name in place of its label."""
    filled = re.sub(r"{{ \$labels\.(service|database) }}", NAME, text)
    return " ".join(filled.split())


@pytest.mark.parametrize(
    ("priority", "critical", "warning"),
    [("P0", "P0", "P2"), ("P1", "P1", "P3"), ("P2", "P2", "P3"), ("P3", "P3", "P3")],
)
def test_an_outage_is_as_urgent_as_the_service_and_a_warning_two_steps_less(priority, critical, warning):
    made = alerts_in(rules_of(f"services: [{{name: a, job: a, priority: {priority}}}]"))
    found = {severity: rule["labels"]["priority"] for (name, severity), rule in made.items() if name == "HighErrorRate"}
    assert found == {"critical": critical, "warning": warning}


def test_a_value_that_is_not_plain_is_quoted_for_promql(tmp_path):
    rules = tmp_path / "rules.yaml"
    odd = r"""services: [{name: a, selector: {job: 'it''s "odd" \d'}}]"""
    rules.write_text(rule_file(parse_services(odd, "s")))
    promtool("check", "rules", rules)
    assert r'up{job="it' + "'" + r's \"odd\" \\d"}' in rules.read_text()


def test_runbooks_are_where_they_are_published():
    made = rules_of("{runbooks: 'https://wiki.example.org/runbooks/', services: [{name: a, job: a}]}")
    assert alerts_in(made)["ServiceDown", "critical"]["annotations"]["runbook_url"] == (
        "https://wiki.example.org/runbooks/api-down.md"
    )


def test_every_alert_leads_to_a_page_that_is_about_it():
    for rule in alerts_in(rules_of((DATA / "services.yaml").read_text())).values():
        page = ROOT / "docs/runbooks" / rule["annotations"]["runbook_url"].rpartition("/")[2]
        assert re.search(rf"^#.*\b{rule['alert']}\b", page.read_text(), re.MULTILINE), rule["alert"]


def test_a_service_of_which_nobody_said_how_it_is_seen_has_no_rules():
    assert rules_of("services: [{name: payments}]") == []


class TestCommand:
    def test_rules_are_printed(self, capsys):
        assert main(["rules", str(DATA / "services.yaml")]) == 0
        assert yaml.safe_load(capsys.readouterr().out)["groups"][0]["name"] == "shop-api"

    def test_or_written_to_a_file_of_which_nobody_ever_sees_a_part(self, tmp_path):
        out = tmp_path / "out.yaml"
        assert main(["rules", str(DATA / "services.yaml"), "--output", str(out)]) == 0
        assert out.read_text() == rule_file(load_services(DATA / "services.yaml"))
        assert list(tmp_path.iterdir()) == [out]

    def test_the_services_of_the_settings_are_meant_where_no_file_is_named(self, capsys, monkeypatch):
        monkeypatch.delenv("REMEDIATOR_SERVICES_FILE", raising=False)
        assert main(["rules"]) == 2
        assert "name one, or set REMEDIATOR_SERVICES_FILE" in capsys.readouterr().err
        monkeypatch.setenv("REMEDIATOR_SERVICES_FILE", str(DATA / "promised.yaml"))
        assert main(["rules"]) == 0
        assert capsys.readouterr().out == rule_file(load_services(DATA / "promised.yaml"))

    def test_a_file_that_cannot_be_used_leaves_the_rules_as_they_were(self, tmp_path, capsys):
        wrong, out = tmp_path / "services.yaml", tmp_path / "out.yaml"
        wrong.write_text("services:\n  - name: a\n    jobs: a\n")
        out.write_text("as it was")
        assert main(["rules", str(wrong), "--output", str(out)]) == 2
        assert "services.yaml:3: services[0].jobs: unknown field 'jobs'; did you mean 'job'?" in capsys.readouterr().err
        assert out.read_text() == "as it was"

    def test_nor_is_anything_written_where_that_is_not_possible(self, tmp_path, capsys):
        assert main(["rules", str(DATA / "services.yaml"), "--output", str(tmp_path / "no" / "out.yaml")]) == 2
        assert "No such file or directory" in capsys.readouterr().err
