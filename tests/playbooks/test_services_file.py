"""The services file: what it says, and what it refuses and with which words."""

from datetime import timedelta
from decimal import Decimal

import jsonschema
import pytest
import yaml

from remediator.core.dependencies import Dependencies
from remediator.core.matching import parse_matcher
from remediator.services_file import Kind, Priority, json_schema, load_dependencies, load_services, parse_services
from remediator.yaml_lines import FileProblem

WHOLE = """
runbooks: https://wiki.example.org/runbooks
services:
  - name: shop-api
    selector: {job: shop, component: api}
    probe: http://shop-api:8080/health
    priority: P0
    metrics: {requests: shop_requests_total, duration: shop:request_seconds}
    objectives: {availability: 99.95, latency: {percent: 99, within: 300ms}}
    needs: [shop-db]
  - {name: shop-db, kind: postgres, job: postgres}
"""


def problems(text: str) -> list[str]:
    with pytest.raises(FileProblem) as refused:
        parse_services(text, "services.yaml")
    return [str(problem) for problem in refused.value.problems]


def test_every_field_is_understood(tmp_path):
    path = tmp_path / "services.yaml"
    path.write_text(WHOLE)
    file = load_services(path)
    api, database = file.services
    assert (api.name, api.kind, api.priority, api.needs) == ("shop-api", Kind.HTTP, Priority.P0, ("shop-db",))
    assert (api.labels, api.probe) == ({"job": "shop", "component": "api"}, "http://shop-api:8080/health")
    assert (api.metrics.requests, api.metrics.duration) == ("shop_requests_total", "shop:request_seconds")
    assert api.objectives.availability == Decimal("99.95")
    assert (api.objectives.latency.percent, api.objectives.latency.within) == (Decimal(99), timedelta(milliseconds=300))
    assert (database.kind, database.labels, database.priority) == (Kind.POSTGRES, {"job": "postgres"}, Priority.P2)


def test_who_needs_whom_is_known_to_the_guards():
    known = parse_services("recovery: 2m\ncauses: ['severity = page']\n" + WHOLE, "services.yaml").dependencies
    assert known == Dependencies(
        {"shop-db": frozenset(), "shop-api": frozenset({"shop-db"})}, (parse_matcher("severity = page"),), timedelta(minutes=2)
    )


def test_without_a_file_nobody_needs_anybody():
    assert load_dependencies(None) == Dependencies()


def test_editors_are_told_the_same():
    schema = json_schema()
    jsonschema.validate(yaml.safe_load(WHOLE), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(WHOLE.replace("priority", "prority")), schema)


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("jobs: shop", "jobs: unknown field 'jobs'; did you mean 'job'?"),
        ("availability: 99", "availability: unknown field 'availability'; it belongs inside objectives"),
        ("job: ''", "job: must not be empty"),
        ("selector: {}", "selector: must not be empty"),
        ("selector: {a-b: c}", "selector.a-b: 'a-b' is not the name of a label; write one as job"),
        ("{job: a, selector: {job: a}}", "job and selector are two ways to say one thing; write the job into selector"),
        ("kind: postgress", "kind: 'postgress' is not one of its values; did you mean 'postgres'?"),
        ("{kind: redis, job: a, probe: 'http://a/'}", "probe and objectives are about HTTP; a redis service has its exporter"),
        ("priority: P4", "priority: 'P4' is not one of its values; write one of: P0, P1, P2, P3"),
        ("priority: critical", "write one of: P0, P1, P2, P3"),
        ("{job: a, objectives: {}}", "objectives: asks for nothing; give availability, latency, or both"),
        ("objectives: {availability: 99}", "has objectives and nothing to measure them by; give its job or selector"),
        ("{job: a, objectives: {availability: 100}}", "100 is not a share of the requests; write one between 0 and 100"),
        ("{job: a, objectives: {availability: 99.9%}}", "'99.9%' is not a share of the requests"),
        ("{job: a, objectives: {availability: true}}", "true is not a share of the requests"),
        ("{job: a, objectives: {availability: .nan}}", "is not a share of the requests"),
        ("{job: a, objectives: {latency: {percent: 99}}}", "latency.within: is missing; write for instance within: 300ms"),
        ("{job: a, objectives: {latency: {percent: 99, within: 300}}}", "300 is not a duration"),
        ("{job: a, objectives: {latency: {percent: 99, within: 2h}}}", "within: must be at most 1m"),
        ("metrics: {requests: a-b}", "metrics.requests: 'a-b' is not the name of a metric; write one as http_requests_total"),
        ("needs: shop-db", "needs: must be a list, not 'shop-db'"),
        ("needs: ['shop db']", "needs[0]: 'shop db' is not a name; write one as shop-api"),
        ("needs: [shop-bd]", "needs[0]: there is no service 'shop-bd'; did you mean 'shop-db'?"),
        ("needs: [shop-api]", "needs: nothing could ever be repaired first: shop-api needs shop-api; leave one of these out"),
    ],
)
def test_what_is_wrong_is_named_with_its_line_and_what_to_write_instead(field, said):
    more = field.removeprefix("{").removesuffix("}") if field.startswith("{") else field
    (problem,) = problems(f"services:\n  - name: shop-db\n  - {{name: shop-api, {more}}}\n")
    assert problem.startswith("services.yaml:3: services[1]")
    assert said in problem


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["services.yaml: must be a mapping (name: value), not nothing"]),
        ("services: []", ["services.yaml:1: services: must not be empty"]),
        (
            "runbooks: https://a/",
            ["services.yaml:1: services: is missing; write for instance services: [{name: shop-api, job: shop}]"],
        ),
        ("services: [{name: a}]\ncauses: []", ["services.yaml:2: causes: must not be empty"]),
        (
            "services: [{name: a}]\ncauses: [severity page]",
            [
                "services.yaml:2: causes[0]: 'severity page' is not a matcher; write one as: alertname = RedisDown, or severity"
                ' =~ "critical|page"'
            ],
        ),
        ("services: [{name: a}]\nrecovery: 2d", ["services.yaml:2: recovery: must be at most 1d"]),
        (
            "services: [{name: a}]\nrunbooks: wiki",
            ["services.yaml:2: runbooks: 'wiki' is not an address; write one as https://wiki.example.org/runbooks"],
        ),
        (
            "services:\n- name: a\n- name: b\n- name: a",
            ["services.yaml:4: services[2].name: 'a' is the name of an earlier service, too"],
        ),
        (
            "services:\n- {name: a, needs: [b]}\n- {name: b, needs: [c]}\n- {name: c, needs: [b, d]}",
            [
                "services.yaml:4: services[2].needs[1]: there is no service 'd'; write one of: a, b, c",
                "services.yaml:3: services[1].needs: nothing could ever be repaired first: b needs c, which needs b;"
                " leave one of these out",
            ],
        ),
    ],
)
def test_all_that_is_wrong_is_said_at_once(text, said):
    assert problems(text) == said
