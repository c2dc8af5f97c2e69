"""`remediator demo` as somebody runs it who has just installed it: with everything there, and with nothing but Python."""

import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.images import docker_client, engine_url, eventually
from tests.servers import alertmanager_server, prometheus_server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def demo(home: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run it to its end with `home` for its scratch directory."""
    return subprocess.run(
        [sys.executable, "-m", "remediator", "demo", *arguments],
        env={**os.environ, "TMPDIR": str(home), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=150,
    )


def nothing_but_python(home: Path) -> Mapping[str, str]:
    """No Docker engine, and no program on the PATH."""
    empty = home / "bin"
    empty.mkdir()
    return {"REMEDIATOR_DOCKER_URL": "off", "PATH": str(empty)}


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.mark.docker
def test_the_demo_breaks_a_real_container_and_shows_the_real_chain_repairing_it(tmp_path: Path) -> None:
    with prometheus_server(), alertmanager_server(), docker_client():
        pass  # they are here; otherwise this test would have been skipped
    done = demo(tmp_path, REMEDIATOR_DOCKER_URL=engine_url())

    assert done.returncode == 0, done.stdout
    assert re.search("alerts +real Prometheus and Alertmanager", done.stdout)
    told = re.findall(r" \d+\.\d s  (?:you|service|remediator) +(.*)", done.stdout)
    name = told[0].removeprefix("docker kill ")
    assert f"service    container {name}, answers at" in done.stdout
    assert f"step 1: docker restart -t 1 {name}" in told
    assert "answers again" in told
    assert told[-1] == "ended as succeeded (verified)"
    assert "Repaired: the service answered again" in done.stdout
    assert 'remediator_actions_total{outcome="done",playbook="api-down",step="restart"} 1.0' in done.stdout
    with docker_client() as client:
        assert not client.containers(all=True, filters={"name": name}), "it takes its container away"


def test_with_nothing_but_python_the_demo_repairs_a_process_and_posts_the_messages_itself(tmp_path: Path) -> None:
    done = demo(tmp_path, **nothing_but_python(tmp_path))

    assert done.returncode == 0, done.stdout
    assert re.search("service +a process under the command platform", done.stdout)
    assert re.search("alerts +messages posted by the demo itself", done.stdout)
    assert "Repaired: the service answered again" in done.stdout


def test_settings_of_another_remediator_do_not_get_into_the_demo(tmp_path: Path) -> None:
    done = demo(tmp_path, REMEDIATOR_MODE="suggest", REMEDIATOR_LISTEN=":1", **nothing_but_python(tmp_path))
    assert done.returncode == 0, done.stdout


def test_kept_the_demo_leaves_everything_running_and_says_where_and_how_to_stop_it(tmp_path: Path) -> None:
    done = demo(tmp_path, "--keep", **nothing_but_python(tmp_path))
    stop = re.search("^  stop +(.*)$", done.stdout, re.MULTILINE)
    assert stop is not None, done.stdout
    try:
        assert done.returncode == 0
        left = dict(re.findall(r"^  (\S+) +(http://\S+)$", done.stdout, re.MULTILINE))
        assert answers(f"{left['remediator']}/-/ready")
        assert answers(f"{left['service']}/health")
        look = re.search(r"^  look +\S*remediator (.*)$", done.stdout, re.MULTILINE)
        assert look is not None
        listed = subprocess.run(
            [sys.executable, "-m", "remediator", *look[1].split()], capture_output=True, text=True, timeout=30
        )
        assert "succeeded  verified" in listed.stdout
    finally:
        subprocess.run(["sh", "-c", stop[1]], check=True, timeout=30)
    eventually(lambda: not answers(f"{left['remediator']}/-/ready"), "remediator has ended")
    eventually(lambda: not answers(f"{left['service']}/health"), "the service has ended")
