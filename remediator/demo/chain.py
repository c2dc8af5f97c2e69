"""What notices that the service is down and tells remediator: the real Prometheus and Alertmanager, or the demo itself."""

import json
import shutil
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from remediator.demo.stage import Stage, free_port, status_of
from remediator.demo.victim import Victim

PROMETHEUS = """
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: [rules.yml]
alerting:
  alertmanagers: [{{static_configs: [{{targets: ['{alertmanager}']}}]}}]
scrape_configs:
  - job_name: demo
    static_configs: [{{targets: ['{victim}'], labels: {{service: {service}}}}}]
"""
RULES = """
groups:
  - name: demo
    rules:
      - alert: APIDown
        expr: up{{job="demo"}} == 0
        for: 2s
        labels: {{severity: critical}}
        annotations: {{summary: 'demo-api does not answer'}}
"""
ALERTMANAGER = """
route: {{receiver: remediator, group_by: [alertname, service], group_wait: 1s, group_interval: 2s, repeat_interval: 1h}}
receivers:
  - name: remediator
    webhook_configs:
      - url: http://127.0.0.1:{remediator}/webhook
        http_config: {{authorization: {{credentials_file: {token_file}}}}}
"""


class Chain(Protocol):
    """Whoever raises the alert."""

    what: str
    addresses: dict[str, str]

    def settings(self) -> dict[str, Any]:
        """What remediator's configuration file needs to say about it."""
        ...

    def start(self, remediator_port: int) -> None: ...

    def notice(self) -> None:
        """The service is down: see to it that remediator is told, now or by and by."""
        ...

    def notice_recovery(self) -> None: ...


class RealChain:
    """Prometheus scrapes every second, a rule fires after two, Alertmanager posts a second later."""

    def __init__(self, stage: Stage, victim: Victim, token_file: Path, prometheus: str, alertmanager: str) -> None:
        self._stage = stage
        self._victim = victim
        self._token_file = token_file
        self._programs = (prometheus, alertmanager)
        self._prometheus, self._alertmanager = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        self.what = "real Prometheus and Alertmanager"
        self.addresses = {"Prometheus": f"http://{self._prometheus}", "Alertmanager": f"http://{self._alertmanager}"}

    def settings(self) -> dict[str, Any]:
        return {"prometheus_url": self.addresses["Prometheus"], "alertmanager_url": self.addresses["Alertmanager"]}

    def start(self, remediator_port: int) -> None:
        stage = self._stage
        target, service = self._victim.url.removeprefix("http://"), self._victim.service
        stage.write("rules.yml", RULES.format())
        stage.write("prometheus.yml", PROMETHEUS.format(alertmanager=self._alertmanager, victim=target, service=service))
        stage.write("alertmanager.yml", ALERTMANAGER.format(remediator=remediator_port, token_file=self._token_file))
        prometheus, alertmanager = self._programs
        flags = [f"--web.listen-address={self._alertmanager}", "--cluster.listen-address=", "--storage.path=alertmanager"]
        stage.start("alertmanager", [alertmanager, "--config.file=alertmanager.yml", *flags])
        flags = [f"--web.listen-address={self._prometheus}", "--storage.tsdb.path=prometheus"]
        stage.start("prometheus", [prometheus, "--config.file=prometheus.yml", *flags])
        stage.wait_for("alertmanager", f"{self.addresses['Alertmanager']}/-/ready")
        stage.wait_for("prometheus", f"{self.addresses['Prometheus']}/-/ready")

    def notice(self) -> None:
        """They see for themselves."""

    def notice_recovery(self) -> None:
        """They see for themselves."""


class PostedChain:
    """No Prometheus here: the demo looks itself, and posts what Alertmanager would have posted."""

    def __init__(self, victim: Victim, token: str) -> None:
        self._victim = victim
        self._token = token
        self._url = ""
        self._began_at = datetime.now(UTC)  # noqa: TID251 - stands in for Prometheus's clock
        self.what = "messages posted by the demo itself (prometheus and prometheus-alertmanager are not on the PATH)"
        self.addresses: dict[str, str] = {}

    def settings(self) -> dict[str, Any]:
        return {}

    def start(self, remediator_port: int) -> None:
        self._url = f"http://127.0.0.1:{remediator_port}/webhook"

    def notice(self) -> None:
        self._began_at = datetime.now(UTC)  # noqa: TID251
        if status_of(self._victim.url + "/health") != 200:
            self._post("firing", "0001-01-01T00:00:00Z")

    def notice_recovery(self) -> None:
        self._post("resolved", datetime.now(UTC).isoformat())  # noqa: TID251

    def _post(self, status: str, ends_at: str) -> None:
        alert = {
            "status": status,
            "labels": {"alertname": "APIDown", "service": self._victim.service, "severity": "critical"},
            "annotations": {},
            "startsAt": self._began_at.isoformat(),
            "endsAt": ends_at,
        }
        body = json.dumps({"version": "4", "status": status, "receiver": "remediator", "alerts": [alert]}).encode()
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        request = urllib.request.Request(self._url, body, headers)  # noqa: S310 - the demo's own address
        urllib.request.urlopen(request, timeout=10).close()  # noqa: S310


def make_chain(stage: Stage, victim: Victim, token: str, token_file: Path) -> Chain:
    """The real one if both programs are here."""
    prometheus = shutil.which("prometheus")
    alertmanager = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if prometheus and alertmanager:
        return RealChain(stage, victim, token_file, prometheus, alertmanager)
    return PostedChain(victim, token)
