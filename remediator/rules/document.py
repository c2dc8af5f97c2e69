"""Rules as the text of a Prometheus rule file. Pure."""

from collections.abc import Mapping
from typing import Any, assert_never

import yaml

from remediator.rules.alerts import alerts_about
from remediator.rules.burn_rate import burn_rates_of
from remediator.rules.rule import Alert, Record, Rule
from remediator.services_file import ServicePart, ServicesFile

HEAD = "# Written by `remediator rules`. Change the services file, not this one.\n"
WIDTH = 10_000
"""Nothing is folded: a line of a rule stays one."""


def rule_file(file: ServicesFile) -> str:
    """A group for each service that has rules, in the order of the file."""
    groups = [group for service in file.services if (group := _group(service, file.runbooks))["rules"]]
    return HEAD + yaml.dump({"groups": groups}, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=WIDTH)


def _group(service: ServicePart, runbooks: str) -> dict[str, Any]:
    rules = [*alerts_about(service), *burn_rates_of(service)]
    return {"name": service.name, "rules": [_rule(rule, service, runbooks) for rule in rules]}


def _rule(rule: Rule, service: ServicePart, runbooks: str) -> dict[str, Any]:
    match rule:
        case Record(name, expr, labels):
            return {"record": name, "expr": expr, "labels": dict(labels)}
        case Alert():
            return {
                "alert": rule.name,
                "expr": rule.expr,
                **({"for": rule.lasts} if rule.lasts else {}),
                "labels": _labels(rule, service),
                "annotations": {
                    "summary": rule.summary,
                    "description": rule.description,
                    "runbook_url": f"{runbooks.rstrip('/')}/{rule.page}.md",
                },
            }
        case _:
            assert_never(rule)


def _labels(alert: Alert, service: ServicePart) -> Mapping[str, str]:
    about = alert.labels or {"service": service.name}
    return {**about, "severity": str(alert.severity), "priority": str(alert.severity.priority(service))}


class _Dumper(yaml.SafeDumper):
    """Text of several lines as a block, as a person writes it."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
