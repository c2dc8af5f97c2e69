"""One alert from the scrape that notices to the annotation that tells, on a real engine, Prometheus and Alertmanager."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socket
from time import perf_counter
from typing import Any

import pytest

from tests.builders import webhook_alert, webhook_message
from tests.e2e.chain import PLAYBOOK, Chain, whole_chain
from tests.e2e.remediator_process import RemediatorProcess, remediator_process
from tests.images import engine_url, eventually, image_id, own_containers

pytestmark = [pytest.mark.e2e, pytest.mark.docker, pytest.mark.timeout(180)]

HELPS = ("start", "restart")
BRIEF = PLAYBOOK.replace("within: 10s", "within: 4s")
"""No longer than it takes to see that nothing helps."""
LONG = PLAYBOOK.replace("stable_for: 1s", "stable_for: 4s")
"""Long enough to be interrupted."""
ONLY_RESTART = PLAYBOOK.replace("  - rollback\n", "").replace(", http: {endpoint: $labels.service}, alert_resolved", "")


def web_down(home: Path, **settings: Any) -> AbstractContextManager[RemediatorProcess]:
    """Remediator alone, with one playbook that asks nobody but the engine."""
    return remediator_process(home, {"web-down": ONLY_RESTART}, **settings)


def down(service: str) -> bytes:
    """What Alertmanager would post."""
    now = datetime.now(UTC)
    return webhook_message(webhook_alert(starts_at=now, alertname="WebDown", service=service))


def what_runs_is_on_record(chain: Chain) -> None:
    """The engine may have other workloads that opted in: theirs are recorded, too."""
    own = f"SELECT * FROM releases WHERE workload = 'docker:container/{chain.name}'"
    eventually(lambda: len(chain.remediator.ledger(own)) == 1, "remediator records what runs")


def running_chain_is_noticed(chain: Chain, tag: str = "good") -> None:
    """The service is deployed, remediator runs, and Prometheus has seen that all is well."""
    chain.deploy(tag)
    chain.remediator.start()
    chain.wait_until_scraped()


def test_a_killed_container_is_noticed_restarted_verified_and_told_of(tmp_path: Path) -> None:
    with whole_chain(tmp_path) as chain:
        running_chain_is_noticed(chain)
        remediator = chain.remediator
        chain.kill()
        run = remediator.ended_run()

        assert (run["state"], run["reason"]) == ("succeeded", "verified")
        assert chain.answers() == "ok"
        assert chain.was("start", "restart") == ["start", "start", "restart"], "deployed, and restarted once"
        (verification,) = remediator.told(run, "verification")
        healthy, answer, alert = verification["seen"].split("; ")
        assert (healthy, answer) == (f"{chain.name} is healthy", "200 OK")
        assert alert in ("the alert is resolved", "the alert has resolved"), "by the webhook, or by Alertmanager's API first"

        recovered = {"playbook": "web-down", "handled": "yes"}
        eventually(lambda: remediator.metric("time_to_recovery_seconds_count", **recovered) == 1, "the episode is closed")
        assert remediator.metric("actions_total", playbook="web-down", step="restart", outcome="done") == 1
        assert remediator.metric("actions_total") == 1
        assert remediator.metric("verifications_total", playbook="web-down", outcome="verified") == 1
        assert 1 <= remediator.metric("time_to_recovery_seconds_sum", **recovered) < 60
        assert [row["state"] for row in remediator.ledger("SELECT state FROM episodes")] == ["resolved"]

        eventually(lambda: len(chain.grafana.tagged("outcome:succeeded")) == 1, "Grafana is told how it ended")
        (annotation,) = chain.grafana.annotations.values()
        assert annotation["timeEnd"] > annotation["time"]
        assert {"remediator", "playbook:web-down", f"run:{run['id']}", "outcome:succeeded"} == set(annotation["tags"])
        assert f"docker restart -t 2 {chain.name}" in annotation["text"]
        assert chain.grafana.requests.count("POST /api/annotations") == 1
        assert not chain.escalations.received


def test_in_mode_suggest_nothing_is_touched_and_the_suggested_command_repairs_the_service(tmp_path: Path) -> None:
    if shutil.which("docker") is None:
        missing = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        missing("the docker command, which a person would type, is not installed")
    with whole_chain(tmp_path, mode="suggest") as chain:
        running_chain_is_noticed(chain)
        remediator = chain.remediator
        chain.kill()
        run = remediator.ended_run()

        assert (run["state"], run["reason"]) == ("suggested", "mode_suggest")
        (decision,) = remediator.told(run, "decision")
        (command,) = decision["commands"]  # no rollback: there is nothing to roll back to
        assert command == f"docker restart -t 2 {chain.name}"
        assert f"would do: {command}" in remediator.command("runs", "show", run["id"])
        eventually(lambda: len(chain.grafana.tagged("outcome:suggested")) == 1, "Grafana shows the suggestion")
        assert chain.was(*HELPS) == ["start"], "deployed, and not touched since"

        subprocess.run(shlex.split(command), check=True, capture_output=True, timeout=30)
        eventually(lambda: chain.answers() == "ok", "the service answers after the suggested command")
        by_a_person = {"playbook": "web-down", "handled": "no"}
        eventually(lambda: remediator.metric("time_to_recovery_seconds_count", **by_a_person) == 1, "the episode is closed")
        assert remediator.metric("actions_total") == 0
        assert chain.was(*HELPS) == ["start", "start", "restart"]


def test_a_bad_release_is_restarted_in_vain_and_rolled_back_to_the_recorded_one(tmp_path: Path) -> None:
    with whole_chain(tmp_path) as chain:
        network = chain.containers.network("shop")
        volume = chain.containers.name("data")
        chain.containers.volumes.add(volume)
        asked = {
            "host": {"NetworkMode": network},
            "binds": [f"{volume}:/data"],
            "Env": ["FROM_DEPLOYMENT=kept"],
            "Labels": {"team": "web"},
            "NetworkingConfig": {"EndpointsConfig": {network: {"Aliases": ["shop-web"]}}},
        }
        chain.deploy("v1", **asked)
        remediator = chain.remediator
        remediator.start()
        chain.wait_until_scraped()
        what_runs_is_on_record(chain)
        bad = chain.deploy("broken", **asked)
        run = remediator.ended_run()

        assert (run["state"], run["reason"]) == ("succeeded", "verified")
        assert [told["outcome"] for told in remediator.told(run, "verification")] == ["failed", "verified"]
        assert [told["step"] for told in remediator.told(run, "intent")] == ["restart", "rollback"]
        assert chain.answers("/version") == "1"
        told = chain.containers.told(chain.name)
        assert told["Id"] != bad
        assert told["Image"] == image_id(chain.containers.client, "v1")
        assert "FROM_DEPLOYMENT=kept" in told["Config"]["Env"]
        assert told["Config"]["Labels"]["team"] == "web"
        assert {mount["Destination"] for mount in told["Mounts"]} == {"/data", "/www/metrics"}
        assert {mount["Name"] for mount in told["Mounts"] if mount["Type"] == "volume"} == {volume}
        joined = told["NetworkSettings"]["Networks"]
        assert list(joined) == [network]
        assert "shop-web" in joined[network]["Aliases"]
        assert chain.was("restart") == ["restart"]
        assert chain.name in chain.containers.all_names()
        assert not [name for name in chain.containers.all_names() if "-remediator-" in name], "nothing is left behind"
        assert not chain.escalations.received


def test_what_nothing_cures_is_escalated_and_with_its_breaker_open_not_touched_again(tmp_path: Path) -> None:
    with whole_chain(tmp_path, playbook=BRIEF) as chain:
        running_chain_is_noticed(chain, "v1")
        remediator = chain.remediator
        what_runs_is_on_record(chain)
        chain.deploy("v2")
        chain.wait_until_scraped()
        chain.break_data()
        run = remediator.ended_run()

        assert (run["state"], run["reason"]) == ("escalated", "ladder_exhausted")
        assert [told["step"] for told in remediator.told(run, "intent")] == ["restart", "rollback"]
        assert [told["outcome"] for told in remediator.told(run, "verification")] == ["failed", "failed"]
        eventually(lambda: len(chain.escalations.received) == 1, "people are told")
        (told,) = chain.escalations.received
        assert (told["run"], told["reason"], told["escalate_to"]) == (run["id"], "ladder_exhausted", "web-team")
        assert any("docker restart" in line for line in told["tried"])
        assert any("rolled back" in line for line in told["tried"])
        # The gauge is set by housekeeping, every 15 s.
        eventually(lambda: remediator.metric("breakers_open", playbook="web-down") == 1, "the breaker is open", 30)
        before = chain.was("start", "restart", "die", "create")

        chain.mend_data()
        eventually(lambda: remediator.metric("time_to_recovery_seconds_count") == 1, "the first alert resolves")
        chain.break_data()
        again = remediator.run_when("the next alert's run ended", lambda one: one["id"] != run["id"] and one["finished_at"], 30)
        assert (again["state"], again["reason"]) == ("escalated", "breaker_open")
        assert remediator.told(again, "intent") == []
        eventually(lambda: len(chain.escalations.received) == 2, "people are told again")
        assert chain.escalations.received[1]["reason"] == "breaker_open"
        assert chain.was("start", "restart", "die", "create") == before, "nothing more is done"
        assert remediator.metric("escalations_total", outcome="raised", severity="critical") == 2


def test_an_alert_that_two_alertmanagers_send_is_acted_on_once(tmp_path: Path) -> None:
    with whole_chain(tmp_path, alertmanagers=2) as chain:
        running_chain_is_noticed(chain)
        remediator = chain.remediator
        chain.kill()
        run = remediator.ended_run()
        eventually(lambda: remediator.metric("alerts_total", status="firing") >= 2, "both have sent it")
        eventually(lambda: remediator.metric("alerts_total", status="resolved") >= 2, "both have sent that it is over")

        assert run["state"] == "succeeded"
        assert len(remediator.runs()) == 1
        assert chain.was("restart") == ["restart"]
        assert remediator.metric("actions_total") == 1
        assert remediator.metric("time_to_recovery_seconds_count") == 1
        assert len(remediator.ledger("SELECT * FROM episodes")) == 1


def test_a_run_that_sigterm_interrupts_while_it_is_verified_is_finished_after_the_start(tmp_path: Path) -> None:
    with whole_chain(tmp_path, playbook=LONG, shutdown_grace="200ms") as chain:
        running_chain_is_noticed(chain)
        remediator = chain.remediator
        chain.kill()
        run = remediator.run_when("the run is being verified", lambda one: one["state"] == "verifying", 30)
        assert remediator.terminate() == 0
        (left,) = remediator.ledger("SELECT state FROM runs")
        assert left["state"] == "verifying"

        remediator.start()
        ended = remediator.ended_run()
        assert (ended["id"], ended["state"]) == (run["id"], "succeeded")
        assert chain.was("restart") == ["restart"]
        eventually(lambda: len(chain.grafana.tagged("outcome:succeeded")) == 1, "Grafana is told how it ended")
        assert len(chain.grafana.annotations) == 1
        recovered = {"playbook": "web-down", "handled": "yes"}
        assert remediator.metric("verifications_total", playbook="web-down") == 1
        eventually(lambda: remediator.metric("time_to_recovery_seconds_count", **recovered) == 1, "the episode is closed")


def test_a_paused_remediator_waits_until_somebody_resumes_it(tmp_path: Path) -> None:
    with whole_chain(tmp_path) as chain:
        running_chain_is_noticed(chain)
        remediator = chain.remediator
        remediator.command("pause", "--by", "ann", "--why", "database migration")
        chain.kill()
        run = remediator.run_when("the run waits", lambda one: one["state"] == "waiting", 30)
        assert run["reason"] == "paused"
        assert chain.was(*HELPS) == ["start"], "deployed, and not touched since"

        said = remediator.command("resume", "--by", "ann", "--why", "migration done")
        assert said == "resumed by ann: migration done\n"
        ended = remediator.ended_run()
        assert (ended["id"], ended["state"]) == (run["id"], "succeeded")
        assert chain.was(*HELPS) == ["start", "start", "restart"]


# --- An engine that does not answer -----------------------------------------------------------------------------------

ALERTS = 100
SLOW_SECONDS = 0.5
"""Far above what a webhook takes on a busy machine, and far below the engine's deadline of 15 s."""


@contextmanager
def nobody_listens(socket_path: Path) -> Iterator[None]:
    yield


@contextmanager
def takes_calls_and_never_answers(socket_path: Path) -> Iterator[None]:
    with socket(AF_UNIX, SOCK_STREAM) as engine:
        engine.bind(str(socket_path))
        engine.listen(128)
        yield
    socket_path.unlink()


@pytest.mark.parametrize("engine", [nobody_listens, takes_calls_and_never_answers])
def test_while_the_engine_does_not_answer_the_webhook_does_and_the_runs_wait_for_it(tmp_path: Path, engine) -> None:
    path = tmp_path / "docker.sock"
    # Runs that a storm holds do not ask the engine at all.
    with engine(path), web_down(tmp_path, docker_url=f"unix://{path}", storm={"targets": ALERTS}) as remediator:
        remediator.start()
        seconds = []
        for number in range(ALERTS):
            began_at = perf_counter()
            assert remediator.post(down(f"web-{number}")) == 200
            seconds.append(perf_counter() - began_at)
        slowest, p99 = max(seconds), sorted(seconds)[int(ALERTS * 0.99) - 1]
        print(f"{engine.__name__}: {ALERTS} alerts, p99 {p99 * 1000:.1f} ms, slowest {slowest * 1000:.1f} ms")
        assert p99 < SLOW_SECONDS

        def all_wait() -> bool:
            return {(run["state"], run["reason"]) for run in remediator.runs()} == {("waiting", "target_unknown")}

        eventually(all_wait, "every run waits for its target", 60)
        assert len(remediator.runs()) == ALERTS
        remediator.kill()  # SIGTERM waits for the runs under way, and for the engine that they ask


def test_a_run_that_waited_for_the_engine_goes_on_when_the_engine_is_back(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    with own_containers() as containers, web_down(tmp_path, docker_url=f"unix://{path}") as remediator:
        service = containers.name("web")
        container = containers.run("web", Labels={"remediator.io/allow": "restart"})
        containers.client.kill(container)
        remediator.start()
        assert remediator.post(down(service)) == 200
        remediator.run_when("the run waits", lambda run: run["reason"] == "target_unknown", 10)

        path.symlink_to(engine_url().removeprefix("unix://"))
        run = remediator.ended_run()
        assert run["state"] == "succeeded"
        assert containers.told(container)["State"]["Running"]
