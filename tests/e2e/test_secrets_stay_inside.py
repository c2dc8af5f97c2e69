"""Secrets are planted wherever remediator looks, and looked for wherever it tells: a real service on a real engine."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from remediator.core.redaction_rules import REDACTED
from tests.builders import webhook_alert, webhook_message
from tests.e2e.chain import Escalations, escalation_receiver, in_a_thread
from tests.e2e.remediator_process import RemediatorProcess
from tests.grafana_fake import TOKEN as GRAFANA_TOKEN
from tests.grafana_fake import GrafanaFake, grafana_fake
from tests.images import Containers, engine_url, eventually, own_containers
from tests.planted_secrets import Planted, planted
from tests.servers import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.docker, pytest.mark.timeout(120)]

LOGGED, PRINTED, ANSWERED, FAILED, SAID = (planted(seed) for seed in range(5))
"""What the container logs, what its environment holds, what its service answers, what a command fails with, what people say."""
ADDRESS_PASSWORD = "tulip-and-crocus"

PLAYBOOK = """
name: leaky
summary: Look everywhere, and run a command that fails.
matchers: ['alertname = Leaky']
target: {service: $labels.service}
mode: auto
limits: {settle: 0s, cooldown: 0s}
diagnose: [inspect, logs: {tail: 1000}, exec: [env], exec: [cat, /tmp/answer], http, redis.info]
ladder:
  - exec: {argv: [sh, -c, 'cat /tmp/failure; exit 3']}
verify: {within: 1s, stable_for: 1s, all: [healthy, http: {status: 204}, redis.ping]}
"""


@dataclass(frozen=True, slots=True)
class Scene:
    remediator: RemediatorProcess
    grafana: GrafanaFake
    escalations: Escalations
    service: str


def lines(of: Sequence[Planted]) -> str:
    return "\n".join(one.line for one in of)


@asynccontextmanager
async def answering(text: str) -> Iterator[str]:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=text, status=500)

    app = web.Application()
    app.router.add_get("/health", answer)
    async with TestServer(app) as server:
        yield str(server.make_url("/health").with_user("probe").with_password(ADDRESS_PASSWORD))


@contextmanager
def scene(home: Path) -> Iterator[Scene]:
    with (
        own_containers() as containers,
        in_a_thread(answering(lines(ANSWERED)[:2000])) as address,
        in_a_thread(grafana_fake()) as grafana,
        in_a_thread(escalation_receiver()) as escalations,
    ):
        service = f"leaky-{containers.unique}"
        _deploy(containers, service)
        token = home / "grafana-token"
        token.write_text(GRAFANA_TOKEN)
        remediator = RemediatorProcess(
            home,
            {"leaky": PLAYBOOK},
            docker_url=engine_url(),
            grafana_url=grafana.url,
            grafana_token_file=str(token),
            escalation_url=escalations.url,
            services={service: {"http": address, "redis": f"redis://:{ADDRESS_PASSWORD}@127.0.0.1:{free_port()}/0"}},
        )
        remediator.start()
        try:
            yield Scene(remediator, grafana, escalations, service)
        finally:
            remediator.stop()


def _deploy(containers: Containers, service: str) -> None:
    """Its log, its environment, its files and its health check all hold secrets, as soon as it returns."""
    environment = {f"V{number}": one.line for number, one in enumerate(PRINTED)}
    write = 'echo "$LOGGED"; echo "$ANSWER" > /tmp/answer; echo "$FAILURE" > /tmp/failure; sleep 600'
    environment |= {"LOGGED": lines(LOGGED), "ANSWER": lines(ANSWERED), "FAILURE": lines(FAILED)}
    leaky = containers.run(
        "leaky",
        Cmd=["sh", "-c", write],
        Env=[f"{name}={value}" for name, value in environment.items()],
        Labels={"remediator.io/service": service, "remediator.io/allow": "exec"},
        Healthcheck={"Test": ["CMD-SHELL", 'echo "$LOGGED"; exit 1'], "Interval": 10**9, "Retries": 1},
    )
    eventually(lambda: containers.told(leaky)["State"]["Health"]["Log"], "the health check has failed once")


def outputs(scene: Scene, run: str) -> Mapping[str, str]:
    """Everything that leaves the process, by where it can be read."""
    remediator = scene.remediator
    alert = remediator.home / "alert.json"
    alert.write_text(json.dumps({"labels": {"alertname": "Leaky", "service": scene.service}}))
    explained = subprocess.run(
        [sys.executable, "-m", "remediator", "explain", str(alert)],
        env={"REMEDIATOR_CONFIG": str(remediator.home / "remediator.yaml"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert explained.returncode == 0, explained.stderr
    paths = ("/api/v1/runs", f"/api/v1/runs/{run}", "/api/v1/openapi.json", "/metrics", "/-/ready")
    return {
        "database": "".join(path.read_bytes().decode(errors="replace") for path in remediator.home.glob("remediator.db*")),
        "log": remediator.log_text(),
        "Grafana": json.dumps(list(scene.grafana.annotations.values())),
        "escalations": json.dumps(list(scene.escalations.received)),
        "runs show": remediator.command("runs", "show", run, "--evidence"),
        "runs show as JSON": remediator.command("runs", "show", run, "--evidence", "--json"),
        "explain": explained.stdout + explained.stderr,
        **{path: urllib.request.urlopen(remediator.url + path, timeout=10).read().decode() for path in paths},
    }


def test_no_planted_secret_is_found_in_any_output(tmp_path: Path) -> None:
    with scene(tmp_path) as here:
        alert = webhook_alert(starts_at=datetime.now(UTC), alertname="Leaky", service=here.service)
        assert here.remediator.post(webhook_message(alert)) == 200
        run = here.remediator.ended_run()
        for one in SAID:
            here.remediator.command("pause", "--by", "ann", "--why", " ".join(one.line.split()))
        here.remediator.command("resume", "--by", "ann", "--why", "done")
        eventually(lambda: bool(here.escalations.received and here.grafana.annotations), "people and Grafana are told")

        assert run["state"] == "escalated"
        (evidence,) = here.remediator.told(run, "evidence")
        texts = [found["text"] for found in evidence["evidence"]]
        assert all(REDACTED in text for text in texts[:5]), "each of these was looked at, and held secrets"
        assert "exited with 3" in here.remediator.told(run, "outcome")[0]["said"]

        for place, told in outputs(here, run["id"]).items():
            for one in (*LOGGED, *PRINTED, *ANSWERED, *FAILED, *SAID):
                assert one.secret not in told, f"{one.kind} in {place}"
            assert ADDRESS_PASSWORD not in told, f"password of an address in {place}"
