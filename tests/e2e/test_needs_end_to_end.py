"""Services that need the same one, all of them down: on a real engine, with rules made of the services file."""

import json
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import urlencode

import pytest

from remediator.rules.document import rule_file
from remediator.services_file import parse_services
from tests.e2e.chain import NOTIFY
from tests.e2e.remediator_process import ENDED, RemediatorProcess
from tests.images import Containers, engine_url, eventually, own_containers
from tests.servers import alertmanager_server, free_port, prometheus_server

pytestmark = [pytest.mark.e2e, pytest.mark.docker, pytest.mark.timeout(180)]

DATABASE, NEEDING = "db", ("api", "web", "jobs")
PLAYBOOK = """
name: service-down
summary: Restart a service that is down.
matchers: ['alertname = ServiceDown']
target: {service: $labels.service}
mode: auto
limits: {settle: 4s, cooldown: 0s}
ladder:
  - restart: {timeout: 1s}
verify: {within: 30s, stable_for: 1s, all: [healthy, alert_resolved]}
"""
SCRAPE = "global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\n"
RECOVERY_SECONDS = 8
"""Longer than the news takes that an alert is over: a scrape, an evaluation, and Alertmanager's group_interval."""


@dataclass(slots=True)
class Shop:
    """Containers of services, whom remediator looks after."""

    containers: Containers
    remediator: RemediatorProcess
    ports: dict[str, int]
    metrics_page: Path

    def service(self, name: str) -> str:
        return f"{name}-{self.containers.unique}"

    def deploy(self, name: str) -> None:
        host = {
            "PortBindings": {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(self.ports[name])}]},
            "Binds": [f"{self.metrics_page}:/www/metrics:ro"],
        }
        labels = {"remediator.io/service": self.service(name), "remediator.io/allow": "restart"}
        self.containers.run(name, host=host, Labels=labels, ExposedPorts={"8080/tcp": {}})

    def started_at(self, name: str) -> datetime:
        """When its container last began to run; the engine writes more digits than Python reads."""
        said = str(self.containers.told(self.containers.name(name))["State"]["StartedAt"])
        return datetime.fromisoformat(said[:26] + "+00:00")

    def ended(self, name: str) -> dict:
        """How its run ended: its last row."""
        run = next(run for run in self.remediator.runs() if run["labels"]["service"] == self.service(name))
        return {"state": run["state"], "at": datetime.fromisoformat(self.remediator.timeline(run)[-1]["at"])}


@contextmanager
def shop(home: Path) -> Iterator[Shop]:
    """Everything is healthy, and Prometheus has seen that."""
    with ExitStack() as stack:
        containers = stack.enter_context(own_containers())
        remediator = RemediatorProcess(home, {"service-down": PLAYBOOK})
        it = Shop(containers, remediator, {name: free_port() for name in (DATABASE, *NEEDING)}, home / "metrics")
        it.metrics_page.write_text("ok 1\n")
        services = home / "services.yaml"
        services.write_text(
            f"recovery: {RECOVERY_SECONDS}s\nservices:\n  - {{name: {it.service(DATABASE)}, job: {DATABASE}}}\n"
            + "".join(f"  - {{name: {it.service(name)}, job: {name}, needs: [{it.service(DATABASE)}]}}\n" for name in NEEDING)
        )
        rules = rule_file(parse_services(services.read_text(), str(services))).replace("for: 1m", "for: 1s")
        told = {"port": remediator.port, "token_file": remediator.token_file, "send_resolved": "true"}
        alertmanager = stack.enter_context(alertmanager_server(NOTIFY % told))
        jobs = "".join(
            f"  - {{job_name: {name}, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}\n"
            for name, port in it.ports.items()
        )
        sent_to = (
            f"alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{alertmanager.removeprefix('http://')}']}}]}}]}}\n"
        )
        for name in it.ports:
            it.deploy(name)
        prometheus = stack.enter_context(prometheus_server(f"{SCRAPE}{sent_to}scrape_configs:\n{jobs}", rules))
        remediator.configured(
            docker_url=engine_url(), prometheus_url=prometheus, alertmanager_url=alertmanager, services_file=str(services)
        )
        stack.callback(remediator.stop)
        remediator.start()
        eventually(lambda: len(asked(prometheus, "up == 1 unless on () ALERTS")) == len(it.ports), "all is well", 60)
        yield it


def asked(prometheus: str, query: str) -> list:
    """What Prometheus answers."""
    with urllib.request.urlopen(f"{prometheus}/api/v1/query?{urlencode({'query': query})}", timeout=5) as answer:
        return json.load(answer)["data"]["result"]


def test_what_all_of_them_need_is_repaired_first_and_of_the_others_one_after_the_other_what_is_still_ill(
    tmp_path: Path,
) -> None:
    with shop(tmp_path) as it:
        for name in it.ports:
            it.containers.client.kill(it.containers.name(name))
        killed_at = max(it.started_at(name) for name in it.ports)
        it.remediator.run_when("they wait for their cause", lambda run: run["reason"] == "cause_open", 30)
        eventually(lambda: it.started_at(DATABASE) > killed_at, "what they need is restarted", 60)
        assert all(it.started_at(name) <= killed_at for name in NEEDING)
        it.containers.client.start(it.containers.name("jobs"))  # it gets well by itself
        eventually(lambda: len(it.remediator.runs()) == 4 and ended_all(it), "all is well", 90)
        assert it.ended("jobs")["state"] == "cancelled"
        assert {it.ended(name)["state"] for name in (DATABASE, "api", "web")} == {"succeeded"}
        assert it.remediator.metric("actions_total", outcome="done", step="restart") == 3
        first, second = sorted(("api", "web"), key=it.started_at)
        assert it.started_at(DATABASE) < it.started_at(first)
        assert it.ended(first)["at"] <= it.started_at(second)


def ended_all(it: Shop) -> bool:
    return all(run["state"] in ENDED for run in it.remediator.runs())
