"""The whole chain on real parts: a container, Prometheus that scrapes it, Alertmanager, remediator, and who is told.

Everything is quick: scrapes and rules every second, notifications a second later.
"""

import asyncio
import json
import threading
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.e2e.engine_events import EngineEvents, engine_events
from tests.e2e.remediator_process import RemediatorProcess
from tests.grafana_fake import TOKEN as GRAFANA_TOKEN
from tests.grafana_fake import GrafanaFake, grafana_fake
from tests.images import Containers, engine_url, eventually, own_containers
from tests.servers import alertmanager_server, free_port, prometheus_server

T = TypeVar("T")

PLAYBOOK = """
name: web-down
summary: Restart a web service, then put back what ran before.
matchers: ['alertname =~ "WebDown|WebSlow"']
target: {service: $labels.service}
mode: auto
limits: {settle: 0s, cooldown: 0s}
diagnose: [inspect, logs: {tail: 20}]
ladder:
  - restart: {timeout: 2s}
  - rollback
verify: {within: 10s, stable_for: 1s, all: [healthy, http: {endpoint: $labels.service}, alert_resolved]}
escalate: web-team
"""
SCRAPE = """
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
alerting: {alertmanagers: [{static_configs: [{targets: %(alertmanagers)s}]}]}
scrape_configs:
  - job_name: web
    static_configs: [{targets: ['127.0.0.1:%(port)d'], labels: {service: %(service)s}}]
"""
RULES = """
groups:
  - name: web
    rules:
      - {alert: WebDown, expr: 'up{job="web"} == 0 or web_ok{job="web"} == 0', for: 1s, labels: {severity: critical}}
"""
NOTIFY = """
route: {receiver: remediator, group_by: [alertname, service], group_wait: 1s, group_interval: 2s, repeat_interval: 1h}
receivers:
  - name: remediator
    webhook_configs:
      - url: http://127.0.0.1:%(port)d/webhook
        send_resolved: %(send_resolved)s
        http_config: {authorization: {credentials_file: %(token_file)s}}
"""


@dataclass(slots=True)
class Escalations:
    """Somebody's receiver of escalations, and what it was sent."""

    url: str = ""
    received: list[Mapping[str, Any]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        self.received.append(await request.json())
        return web.Response(status=204)


@dataclass(slots=True)
class Chain:
    containers: Containers
    events: EngineEvents
    remediator: RemediatorProcess
    grafana: GrafanaFake
    escalations: Escalations
    prometheus_url: str
    alertmanager_url: str
    service: str
    port: int
    metrics_page: Path

    @property
    def name(self) -> str:
        """The service's container."""
        return self.containers.name("web")

    def deploy(self, tag: str, **body: Any) -> str:
        """Run the service from this image, in the place of what ran before; the container's id."""
        if self.name in self.containers.all_names():
            self.containers.client.remove_container(self.name, force=True)
        host = body.pop("host", {}) | {
            "PortBindings": {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(self.port)}]},
            "Binds": [f"{self.metrics_page}:/www/metrics:ro", *body.pop("binds", ())],
        }
        labels = {"remediator.io/service": self.service, "remediator.io/allow": "restart,rollback"} | body.pop("Labels", {})
        ports = {"8080/tcp": {}}
        return self.containers.run("web", tag, host=host, Labels=labels, ExposedPorts=ports, **body)

    def break_data(self) -> None:
        """The service says that it is not well, whichever release and container it runs in."""
        self.metrics_page.write_text("web_ok 0\n")

    def mend_data(self) -> None:
        self.metrics_page.write_text("web_ok 1\n")

    def kill(self) -> None:
        self.containers.client.kill(self.name)

    def answers(self, path: str = "/health") -> str:
        """What the service answers, or empty."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=2) as answer:
                return str(answer.read().decode()).strip()
        except OSError:
            return ""

    def is_up(self) -> bool:
        """Whether Prometheus, by its last scrape, thinks so."""
        query = f"{self.prometheus_url}/api/v1/query?query=up%7Bjob%3D%22web%22%7D%3D%3D1"
        with urllib.request.urlopen(query, timeout=5) as answer:
            return bool(json.load(answer)["data"]["result"])

    def wait_until_scraped(self) -> None:
        eventually(lambda: self.answers() == "ok" and self.is_up(), "Prometheus scrapes the service")

    def was(self, *of: str, container: str = "") -> Sequence[str]:
        """Which of these actions the engine did to the service's container, in order."""
        return [action for action in self.events.actions(container or self.name) if action in of]


@contextmanager
def whole_chain(
    home: Path, alertmanagers: int = 1, playbook: str = PLAYBOOK, send_resolved: str = "true", **settings: Any
) -> Iterator[Chain]:
    """Everything runs but the service, which is to be deployed, and remediator, which is to be started."""
    with ExitStack() as stack:
        containers = stack.enter_context(own_containers())
        remediator = RemediatorProcess(home, {"web-down": playbook})
        port, service = free_port(), f"web-{containers.unique}"
        notify = NOTIFY % {
            "port": remediator.port, "token_file": remediator.token_file, "send_resolved": send_resolved,
        }  # fmt: skip
        urls = [stack.enter_context(alertmanager_server(notify)) for _ in range(alertmanagers)]
        targets = [url.removeprefix("http://") for url in urls]
        scrape = SCRAPE % {"alertmanagers": targets, "port": port, "service": service}
        prometheus = stack.enter_context(prometheus_server(scrape, RULES))
        grafana = stack.enter_context(in_a_thread(grafana_fake()))
        escalations = stack.enter_context(in_a_thread(escalation_receiver()))
        token = home / "grafana-token"
        token.write_text(GRAFANA_TOKEN)
        metrics_page = home / "metrics"
        metrics_page.write_text("web_ok 1\n")
        remediator.configured(
            docker_url=engine_url(),
            prometheus_url=prometheus,
            alertmanager_url=urls[0],
            grafana_url=grafana.url,
            grafana_token_file=str(token),
            escalation_url=escalations.url,
            services={service: {"http": f"http://127.0.0.1:{port}/health"}},
            **settings,
        )
        stack.callback(remediator.stop)
        events = stack.enter_context(engine_events(containers))
        yield Chain(containers, events, remediator, grafana, escalations, prometheus, urls[0], service, port, metrics_page)


@contextmanager
def in_a_thread(served: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """Serve on a loop and thread of its own: the tests of this directory wait for other processes and block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(_enter(served), loop).result(30)
    finally:
        asyncio.run_coroutine_threadsafe(_exit(served), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


async def _enter(served: AbstractAsyncContextManager[T]) -> T:
    return await served.__aenter__()


async def _exit(served: AbstractAsyncContextManager[Any]) -> None:
    await served.__aexit__(None, None, None)


@asynccontextmanager
async def escalation_receiver() -> AsyncIterator[Escalations]:
    escalations, app = Escalations(), web.Application()
    app.router.add_post("/", escalations.take)
    async with TestServer(app) as server:
        escalations.url = str(server.make_url("/"))
        yield escalations
