"""deploy/compose/: every file parses by its own tool, and every name in one file exists in the other."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
import yaml

from remediator.settings import PREFIX, Settings
from remediator.telemetry import Metrics

HERE = Path(__file__).parents[2] / "deploy/compose"
COMPOSE = yaml.safe_load((HERE / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
services = pytest.mark.parametrize("service", [pytest.param(service, id=name) for name, service in SERVICES.items()])


def mounts(service: dict) -> dict[str, Path]:
    """Container path -> host path of every file or directory that is bind-mounted from the repository."""
    pairs = [volume.split(":") for volume in service.get("volumes", ()) if volume.startswith(".")]
    return {inside: (HERE / outside).resolve() for outside, inside, *_ in pairs}


def tool(*arguments: str | Path) -> None:
    if shutil.which(arguments[0]) is None and os.environ.get("CI") != "true":
        pytest.skip(f"{arguments[0]} is not installed")
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@services
def test_images_are_pinned_and_files_networks_volumes_and_secrets_exist(service):
    image = service["image"]
    assert ":" in image
    assert "build" in service or not image.endswith(":latest"), f"{image} is not pinned"
    for host in mounts(service).values():
        assert host.exists(), f"{host} is mounted and missing"
    named = {volume.split(":")[0] for volume in service.get("volumes", ()) if volume[0] not in "./"}
    assert named <= COMPOSE["volumes"].keys()
    assert set(service["networks"]) <= COMPOSE["networks"].keys()
    assert set(service.get("secrets", ())) <= COMPOSE["secrets"].keys()


@services
def test_nothing_listens_beyond_this_machine(service):
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_remediator_runs_hardened_and_only_with_settings_that_exist():
    remediator = SERVICES["remediator"]
    assert remediator["read_only"] is True
    assert remediator["cap_drop"] == ["ALL"]
    assert "user" not in remediator, "the image's own user is not root"
    known = {PREFIX + name.upper() for name in Settings.model_fields} | {f"{PREFIX}CONFIG"}
    assert set(remediator["environment"]) <= known
    assert remediator["environment"]["REMEDIATOR_MODE"] == "${REMEDIATOR_MODE:-suggest}"
    assert remediator["environment"]["REMEDIATOR_CONFIG"] in mounts(remediator)
    assert (HERE / remediator["build"] / "Dockerfile").is_file()


def test_the_configuration_file_is_accepted_and_names_services_of_the_example():
    settings = Settings.model_validate(yaml.safe_load((HERE / "remediator.yaml").read_text()))
    assert settings.services.keys() <= SERVICES.keys()
    for name, endpoints in settings.services.items():
        addresses = [address for address in (endpoints.http, endpoints.redis) if address]
        assert addresses
        assert all(f"//{name}:" in address for address in addresses)


def test_only_the_example_is_opted_in():
    opted_in = {name for name, service in SERVICES.items() if "remediator.io/allow" in service.get("labels", {})}
    assert opted_in == {"shop-api", "shop-cache"}


def test_addresses_between_services_reach_a_service_on_a_common_network():
    texts = {name: json.dumps(service.get("environment", {})) for name, service in SERVICES.items()}
    for name, service in SERVICES.items():
        files = [each for host in mounts(service).values() for each in ([host] if host.is_file() else host.glob("**/*.yaml"))]
        texts[name] += "".join(file.read_text() for file in files if file.is_relative_to(HERE))
    for name, text in texts.items():
        for host in re.findall(r"(?:\w://|[\"' ])([a-z-]+):\d{4}\b", text):
            assert host in SERVICES, f"{name} speaks of {host}"
            assert set(SERVICES[host]["networks"]) & set(SERVICES[name]["networks"]), f"{name} cannot reach {host}"


def test_promtool_accepts_the_configuration_with_the_rules_where_they_are_mounted(tmp_path):
    etc = tmp_path / "etc/prometheus"
    for inside, host in mounts(SERVICES["prometheus"]).items():
        target = tmp_path / inside.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(host, target) if host.is_dir() else shutil.copy(host, target)
    tool("promtool", "check", "config", etc / "prometheus.yml")
    (pattern,) = yaml.safe_load((etc / "prometheus.yml").read_text())["rule_files"]
    assert {file.name for file in etc.glob(pattern)} >= {"services.rules.yaml", "remediator.rules.yaml"}


def test_every_target_that_stands_for_a_service_names_one_that_exists():
    jobs = yaml.safe_load((HERE / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    labelled = [group["labels"]["service"] for job in jobs for group in job["static_configs"] if "labels" in group]
    assert sorted(set(labelled)) == ["shop-api", "shop-cache"]
    assert "remediator" in [job["job_name"] for job in jobs], "RemediatorDown looks for this job"


def test_amtool_accepts_the_route():
    tool("amtool", "check-config", HERE / "alertmanager/alertmanager.yml")


@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        (["alertname=APIDown", "service=shop-api"], "remediator,people"),
        (["alertname=Watchdog"], "remediator"),
        (["alertname=RemediatorDown"], "people"),
    ],
)
def test_alerts_are_routed_to(labels, receivers):
    tool("amtool", "config", "routes", "test", f"--config.file={HERE}/alertmanager/alertmanager.yml",
         f"--verify.receivers={receivers}", *labels)  # fmt: skip


def test_alertmanager_sends_the_token_that_remediator_expects():
    config = yaml.safe_load((HERE / "alertmanager/alertmanager.yml").read_text())
    (webhook,) = next(each for each in config["receivers"] if each["name"] == "remediator")["webhook_configs"]
    token_file = webhook["http_config"]["authorization"]["credentials_file"]
    assert token_file == SERVICES["remediator"]["environment"]["REMEDIATOR_WEBHOOK_TOKEN_FILE"] == "/run/secrets/webhook_token"
    assert all("webhook_token" in SERVICES[name]["secrets"] for name in ("remediator", "alertmanager"))


def test_grafana_has_its_datasource_and_a_dashboard_with_annotations_of_metrics_that_exist():
    grafana = mounts(SERVICES["grafana"])
    provisioning = grafana["/etc/grafana/provisioning"]
    (datasource,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioning / "dashboards/remediator.yaml").read_text())["providers"]
    dashboard = json.loads((grafana[provider["options"]["path"]] / "remediator.json").read_text())
    assert dashboard["annotations"]["list"][0]["target"]["tags"] == ["remediator"]
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {datasource["uid"]}
    expressions = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
    known = {family.name + suffix for family in Metrics().registry.collect() for suffix in suffixes.get(family.type, ("",))}
    assert set(re.findall(r"\bremediator_[a-z_]+", expressions)) <= known


def test_the_example_service_breaks_until_it_is_restarted():
    spec = importlib.util.spec_from_file_location("shop_api", HERE / "shop_api.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def status(path: str) -> int:
        try:
            with urlopen(f"http://127.0.0.1:{server.server_port}{path}", timeout=5) as answer:
                return answer.status
        except HTTPError as error:
            error.close()
            return error.code

    with module.shop(0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert [status(path) for path in ("/health", "/break", "/health")] == [200, 200, 503]
        with urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=5) as answer:
            assert b'http_requests_total{code="503"} 1' in answer.read()
        server.shutdown()
    with module.shop(0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert status("/health") == 200
        server.shutdown()
