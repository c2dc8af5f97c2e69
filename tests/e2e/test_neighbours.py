"""What operators say in Alertmanager and what it knows better, on real parts: silences, lost messages, its absence."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.builders import webhook_alert, webhook_message
from tests.e2e.chain import PLAYBOOK, whole_chain
from tests.e2e.engine_events import EngineEvents, engine_events
from tests.e2e.remediator_process import RemediatorProcess, remediator_process
from tests.images import Containers, eventually, own_containers
from tests.servers import alertmanager_server, amtool, free_port

pytestmark = [pytest.mark.e2e, pytest.mark.docker, pytest.mark.timeout(180)]

QUICK = {"reconcile_every": "1s", "alertmanager_warm_up": "1s"}
SETTLES = PLAYBOOK.replace("settle: 0s", "settle: 12s")
"""Long enough for an operator to think better of it."""
WAITS = PLAYBOOK.replace("settle: 0s", "settle: 1h")
ONLY_RESTART = PLAYBOOK.replace("  - rollback\n", "").replace(", http: {endpoint: $labels.service}, alert_resolved", "")
TO_US = """
route: {receiver: remediator, group_wait: 1s}
receivers: [{name: remediator, webhook_configs: [{url: 'http://127.0.0.1:%d/webhook'}]}]
"""


def test_a_silence_placed_with_amtool_stops_a_run_that_was_not_sent_and_once_it_is_expired_the_run_is_made(
    tmp_path: Path,
) -> None:
    with whole_chain(tmp_path, playbook=SETTLES, **QUICK) as chain:
        chain.deploy("good")
        remediator = chain.remediator
        remediator.start()
        chain.wait_until_scraped()
        chain.kill()
        waiting = remediator.run_when("the run settles", lambda run: run["reason"] == "settling", 30)

        about = ("alertname=WebDown", "--author=ann", "--comment=looking into it", "--duration=1h")
        silence = amtool(chain.alertmanager_url, "silence", "add", *about)
        run = remediator.run_when("the run is cancelled", lambda run: run["state"] == "cancelled", 10)
        assert (run["id"], run["reason"]) == (waiting["id"], "silenced")
        (*_, decision) = remediator.told(run, "decision")
        assert decision["seen"] == f"silenced in Alertmanager, by {silence}"
        # Longer than it would have settled, several looks: nothing is begun while the silence lasts.
        looks = remediator.metric("reconcile_drift_total", kind="muted")
        eventually(lambda: datetime.now(UTC) > datetime.fromisoformat(run["created_at"]) + timedelta(seconds=16), "it settled")
        assert (looks, len(remediator.runs())) == (1, 1)
        assert chain.was("restart") == []

        amtool(chain.alertmanager_url, "silence", "expire", silence)
        made = remediator.run_when("the run is made", lambda run: run["state"] == "succeeded", 30)
        assert made["id"] != run["id"]
        assert chain.was("restart") == ["restart"]
        assert len(remediator.ledger("SELECT * FROM episodes")) == 1
        assert not chain.escalations.received


def test_an_alert_that_resolved_while_remediator_was_down_is_over_though_no_message_ever_says_so(tmp_path: Path) -> None:
    with whole_chain(tmp_path, playbook=WAITS, send_resolved="false", **QUICK) as chain:
        container = chain.deploy("good")
        remediator = chain.remediator
        remediator.start()
        chain.wait_until_scraped()
        chain.kill()
        remediator.run_when("the run settles", lambda run: run["reason"] == "settling", 30)
        eventually(lambda: remediator.ledger("SELECT listed_at FROM episodes")[0]["listed_at"] is not None, "it is listed")
        remediator.kill()
        chain.containers.client.start(container)
        eventually(lambda: amtool(chain.alertmanager_url, "alert", "query", "-o", "simple").count("WebDown") == 0, "it is over")

        remediator.start()
        run = remediator.run_when("the run is cancelled", lambda run: run["state"] == "cancelled", 20)
        assert run["reason"] == "resolved"
        assert remediator.metric("reconcile_drift_total", kind="closed") == 1
        assert remediator.metric("time_to_recovery_seconds_count", playbook="web-down", handled="no") == 1
        assert remediator.metric("alerts_total", status="resolved") == 0
        assert chain.was("restart") == []


@contextmanager
def web_down(home: Path, **settings: str) -> Iterator[tuple[RemediatorProcess, Containers, EngineEvents, str]]:
    """A container that is down, and remediator, not started yet, which is to learn of it."""
    with (
        own_containers() as containers,
        remediator_process(home, {"web-down": ONLY_RESTART}, **QUICK, **settings) as remediator,
    ):
        service = containers.name("web")
        containers.client.kill(containers.run("web", Labels={"remediator.io/allow": "restart"}))
        with engine_events(containers) as events:
            yield remediator, containers, events, service


def test_an_alert_whose_messages_never_arrive_is_found_in_alertmanager_and_repaired(tmp_path: Path) -> None:
    to_nobody = TO_US % free_port()
    with alertmanager_server(to_nobody) as alertmanager, web_down(tmp_path, alertmanager_url=alertmanager) as parts:
        remediator, containers, events, service = parts
        began_at = (datetime.now(UTC) - timedelta(minutes=10)).isoformat(timespec="seconds")
        amtool(alertmanager, "alert", "add", "alertname=WebDown", f"service={service}", f"--start={began_at}")
        remediator.start()
        run = remediator.ended_run()
        assert (run["state"], run["labels"]) == ("succeeded", {"alertname": "WebDown", "service": service})
        assert events.actions(containers.name("web")).count("restart") == 1
        assert remediator.metric("webhooks_total") == 0
        assert remediator.metric("reconcile_drift_total", kind="opened") == 1


def test_while_alertmanager_is_away_the_step_waits_and_when_it_is_back_it_is_taken(tmp_path: Path) -> None:
    port = free_port()
    with web_down(tmp_path, alertmanager_url=f"http://127.0.0.1:{port}") as (remediator, containers, events, service):
        with alertmanager_server(TO_US % remediator.port, port):
            remediator.start()
            eventually(lambda: remediator.metric("neighbour_up", neighbour="alertmanager") == 1, "it is asked")
        eventually(lambda: remediator.metric("neighbour_up", neighbour="alertmanager") == 0, "it is missed")
        now = datetime.now(UTC)
        assert remediator.post(webhook_message(webhook_alert(starts_at=now, alertname="WebDown", service=service))) == 200
        run = remediator.run_when("the run waits", lambda run: run["state"] == "waiting", 10)
        assert run["reason"] == "silence_unknown"
        eventually(lambda: datetime.now(UTC) > now + timedelta(seconds=20), "it was looked at again")
        assert [one["reason"] for one in remediator.runs()] == ["silence_unknown"]
        assert "restart" not in events.actions(containers.name("web"))
        assert remediator.log_text().count("reconcile.failed") == 1, "it is said once, not at each look"

        with alertmanager_server(TO_US % remediator.port, port):
            ended = remediator.ended_run()
            assert (ended["id"], ended["state"]) == (run["id"], "succeeded")
        assert events.actions(containers.name("web")).count("restart") == 1
