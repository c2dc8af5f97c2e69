"""The play: set the stage, break the service, tell what happens as it happens, and judge the end by the service itself."""

import json
import secrets
import signal
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from shutil import rmtree
from typing import Any

import yaml

from remediator.demo.chain import Chain, make_chain
from remediator.demo.stage import Stage, StageError, free_port, status_of, wait_until
from remediator.demo.victim import Victim, make_victim

REPAIR_SECONDS_MAX = 90.0
PLAYBOOK = """\
name: api-down
summary: Restart the demo's service.
matchers: ['alertname = APIDown']
target: {service: $labels.service}
mode: auto
limits: {settle: 1s, cooldown: 1m}
diagnose: [inspect, logs]
ladder:
  - restart: {timeout: 1s}
verify: {within: 45s, stable_for: 2s, all: [healthy, http, alert_resolved]}
"""
SHOWN_METRICS = ("remediator_webhooks_total", "remediator_actions_total", "remediator_verifications_total")


class Teller:
    """Prints one line for each thing that happens, with the seconds since the service was broken."""

    def __init__(self) -> None:
        self._began_at = time.monotonic()

    def start_clock(self) -> None:
        self._began_at = time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self._began_at

    def tell(self, who: str, what: str) -> None:
        print(f"  {self.seconds():6.1f} s  {who:13}{what}", flush=True)


def play(*, keep: bool) -> int:
    """0 only if the service really answers again, and remediator says that it verified its repair."""
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.default_int_handler)  # whatever ends the demo ends what it has started
    directory = Path(tempfile.mkdtemp(prefix="remediator-demo-"))
    stage = Stage(directory)
    try:
        repaired = _play(stage, Teller(), keep=keep)
    except StageError as error:
        print(f"the demo cannot go on: {error}", file=sys.stderr)
        repaired = False
    except KeyboardInterrupt:
        repaired = False
    except BrokenPipeError:
        stage.clear()
        raise
    if not (keep and repaired):
        stage.clear()
    if repaired and not keep:
        rmtree(directory, ignore_errors=True)
    elif not repaired:
        print(f"the logs are in {directory}", file=sys.stderr)
    return 0 if repaired else 1


def _play(stage: Stage, teller: Teller, *, keep: bool) -> bool:
    print("Setting the stage ...", flush=True)
    victim = make_victim(stage)
    token = secrets.token_urlsafe(24)
    token_file = stage.write("webhook-token", token)
    chain = make_chain(stage, victim, token, token_file)
    remediator = _start_remediator(stage, victim, chain, token_file)
    chain.start(int(remediator.rpartition(":")[2]))
    if not wait_until(lambda: status_of(f"{victim.url}/health") == 200, 15):
        raise StageError(f"the service does not answer at {victim.url}/health")
    print(f"  service    {victim.what}, answers at {victim.url}/health")
    print(f"  alerts     {chain.what}")
    print(f"  remediator {remediator}, mode auto, SQLite\n")
    return _break_and_watch(stage, teller, victim, chain, remediator, keep=keep)


def _break_and_watch(stage: Stage, teller: Teller, victim: Victim, chain: Chain, remediator: str, *, keep: bool) -> bool:
    print("Breaking it:", flush=True)
    teller.start_clock()
    command = victim.break_it()
    teller.tell("you", command)
    if not wait_until(lambda: status_of(f"{victim.url}/health") != 200, 5):
        raise StageError(f"{command} did not break the service")
    teller.tell("service", "does not answer any more")
    chain.notice()
    run, answers_after = _watch(teller, victim, chain, remediator)
    answers = status_of(f"{victim.url}/health") == 200
    repaired = answers and run is not None and run["state"] == "succeeded"
    _summarise(teller, remediator, run, repaired=repaired, answers_after=answers_after)
    if keep and repaired:
        _say_how_to_go_on(stage, victim, chain, remediator)
    return repaired


def _watch(teller: Teller, victim: Victim, chain: Chain, remediator: str) -> tuple[dict[str, Any] | None, float | None]:
    """Tell each new row of the run's timeline, until the run has ended."""
    told, answers_after = 0, None
    run: dict[str, Any] | None = None
    while teller.seconds() < REPAIR_SECONDS_MAX:
        if run is None and (runs := _get(f"{remediator}/api/v1/runs")["runs"]):
            run = runs[0]
            teller.tell("remediator", f"heard of {run['labels']['alertname']}, run {run['id']}")
        if run is not None:
            shown = _get(f"{remediator}/api/v1/runs/{run['id']}")
            run, rows = shown["run"], [row for row in shown["timeline"] if row["text"]]
            for row in rows[told:]:
                teller.tell("remediator", row["text"])
            told = len(rows)
        if answers_after is None and told and status_of(f"{victim.url}/health") == 200:
            answers_after = teller.seconds()
            teller.tell("service", "answers again")
            chain.notice_recovery()
        if run is not None and run["finished_at"]:
            break
        time.sleep(0.1)
    return run, answers_after


def _start_remediator(stage: Stage, victim: Victim, chain: Chain, token_file: Path) -> str:
    stage.write("playbooks/api-down.yaml", PLAYBOOK)
    url = f"http://127.0.0.1:{free_port()}"
    settings = {
        "mode": "auto",
        "listen": url.removeprefix("http://"),
        "store": f"sqlite:///{stage.directory / 'remediator.db'}",
        "playbooks": str(stage.directory / "playbooks"),
        "webhook_token_file": str(token_file),
        "services": {victim.service: {"http": f"{victim.url}/health"}},
        **victim.settings(),
        **chain.settings(),
    }
    path = stage.write("remediator.yaml", yaml.safe_dump(settings, sort_keys=False))
    stage.start("remediator", [sys.executable, "-m", "remediator", "serve"], {"REMEDIATOR_CONFIG": str(path)})
    stage.wait_for("remediator", f"{url}/-/ready")
    return url


def _summarise(
    teller: Teller, remediator: str, run: dict[str, Any] | None, *, repaired: bool, answers_after: float | None
) -> None:
    print()
    if repaired and answers_after is not None:
        verified_after = f"verified after {teller.seconds():.1f} s"
        print(f"Repaired: the service answered again {answers_after:.1f} s after it was broken; {verified_after}.")
    else:
        state = f"run {run['id']} is {run['state']} ({run['reason']})" if run else "remediator heard of no alert"
        print(f"NOT repaired: {state}.")
    for line in _text(f"{remediator}/metrics").splitlines():
        if line.startswith(SHOWN_METRICS):
            print(f"  {line}")


def _say_how_to_go_on(stage: Stage, victim: Victim, chain: Chain, remediator: str) -> None:
    print("\nLeft running:")
    for name, address in {"remediator": remediator, "service": victim.url, **chain.addresses}.items():
        print(f"  {name:13}{address}")
    print(f"  {'logs':13}{stage.directory}")
    print(f"  {'look':13}{Path(sys.executable).parent / 'remediator'} runs list --url {remediator}")
    pids = " ".join(str(process.pid) for process in stage.processes.values())
    print(f"  {'stop':13}kill {pids}; {victim.removal}; rm -r {stage.directory}")


def _get(url: str) -> Any:
    return json.loads(_text(url))


def _text(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310 - the demo's own address
        return str(response.read().decode())
