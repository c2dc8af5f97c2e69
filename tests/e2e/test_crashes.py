"""Promises S1, S2 and S9 on real parts: remediator is killed with SIGKILL, again and again, around its restart of a container.

Each round posts alerts (each with a container of its own), kills the real process, starts it again, sometimes kills it
while it recovers, and starts it once more. However it goes: every alert that was answered 200 ends in a run with an
explained decision, and no container is restarted twice. REMEDIATOR_CRASH_ROUNDS says how many rounds, and
REMEDIATOR_CRASH_SEED repeats the choices of an earlier time (what meets them on a real machine is never the same twice).
"""

import os
import random
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep

import pytest

from tests.builders import webhook_alert, webhook_message
from tests.e2e.engine_events import EngineEvents, Event, engine_events
from tests.e2e.remediator_process import ENDED, RemediatorProcess, remediator_process
from tests.e2e.slow_way import UNIX, slow_way
from tests.images import Containers, engine_url, own_containers

pytestmark = [pytest.mark.crash, pytest.mark.docker, pytest.mark.timeout(900)]

ROUNDS = int(os.environ.get("REMEDIATOR_CRASH_ROUNDS", "50"))
LANES = 3
"""Remediators that are put through it side by side: most of a round is waiting."""
ALERTS_MAX = 3
AIM_SECONDS_MAX = 10.0
ROUND_SECONDS_MAX = 45.0

PLAYBOOK = """
name: web-down
summary: Restart a web service that stopped answering.
matchers: ['alertname = WebDown']
target: {service: $labels.service}
mode: auto
limits:
  settle: 0s
  cooldown: 0s
  max_all_targets: [1000 per 1h]
  breaker: {failures: 1000, targets: 1000, min_healthy_period: 0s}
ladder:
  - restart: {timeout: 1s}
verify: {within: 15s, stable_for: 100ms, all: [healthy]}
"""

SLOW_SECONDS_MAX = 0.4

AT_RANDOM, POSTING, DECIDED, GOING, RESTARTING, RECOVERING = (
    "at random",
    "while alerts are posted",
    "after the decision",
    "at the go",
    "at the engine's restart",
    "during the recovery",
)
AIMS = (AT_RANDOM, DECIDED, AT_RANDOM, GOING, AT_RANDOM, RESTARTING, AT_RANDOM, POSTING)
"""When to kill: half of the rounds at a random moment, the others in the windows that matter."""
WITHIN_SECONDS = {AT_RANDOM: 1.2, RECOVERING: 1.2, POSTING: 0.02, DECIDED: 0.05}


@dataclass(slots=True)
class Tally:
    """What all rounds came to."""

    rounds: int = 0
    alerts: int = 0
    accepted: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    """By what was aimed at."""
    hit: Counter[str] = field(default_factory=Counter)
    """Runs by the state in which a kill met them; `called` is between go and outcome."""
    unread: int = 0
    """Messages that a kill met between their 200 and the run."""
    observed: Counter[str] = field(default_factory=Counter)
    """What was found out about steps in doubt."""
    goes: Counter[int] = field(default_factory=Counter)
    restarts: Counter[int] = field(default_factory=Counter)
    """Containers by how often they were restarted."""
    lost: int = 0
    """Calls that never arrived at the engine."""

    def add(self, other: "Tally") -> None:
        self.rounds += other.rounds
        self.alerts += other.alerts
        self.accepted += other.accepted
        self.unread += other.unread
        self.lost += other.lost
        for mine, theirs in (
            (self.kills, other.kills),
            (self.hit, other.hit),
            (self.observed, other.observed),
            (self.goes, other.goes),
            (self.restarts, other.restarts),
        ):
            mine.update(theirs)  # type: ignore[arg-type]

    def told(self) -> str:
        def each(counter: Counter) -> str:
            return ", ".join(f"{count} {what}" for what, count in sorted(counter.items(), key=str)) or "none"

        return "\n".join(
            [
                f"{self.rounds} rounds, {self.alerts} alerts, {self.accepted} of them answered 200 before the first kill",
                f"kills:                       {each(self.kills)}",
                f"runs that a kill met:        {each(self.hit)}",
                f"messages that a kill met:    {self.unread}",
                f"steps in doubt, happened:    {each(self.observed)}",
                f"calls lost on their way:     {self.lost}",
                f"runs by calls of the engine: {each(self.goes)}",
                f"containers by restarts:      {each(self.restarts)}",
            ]
        )


class Lane:
    """One remediator with its store, which lives through many rounds, and the containers of the round."""

    def __init__(self, remediator: RemediatorProcess, containers: Containers, events: EngineEvents, seed: int) -> None:
        self.remediator = remediator
        self.containers = containers
        self.events = events
        self.chance = random.Random(seed)
        self.tally = Tally()
        self.problems: list[str] = []

    def round(self, number: int) -> None:
        aim = AIMS[number % len(AIMS)]
        services = [self._container(number, one) for one in range(self.chance.randint(1, ALERTS_MAX))]
        seconds = self.chance.uniform(0, WITHIN_SECONDS.get(aim, 0.0))
        with self._aimed(aim) as met, ThreadPoolExecutor(1) as alertmanager:
            posting = alertmanager.submit(self._post, services)
            met.wait(AIM_SECONDS_MAX)
            sleep(seconds)
            self._kill(aim)
            accepted = posting.result()
        self.remediator.start()
        if self.chance.random() < 0.4:
            # Alertmanager sends again what was not answered, and sometimes what was.
            self._post([service for service in services if service not in accepted or self.chance.random() < 0.5])
            sleep(self.chance.uniform(0, WITHIN_SECONDS[RECOVERING]))
            self._kill(RECOVERING)
            self.remediator.start()
        self._post([service for service in services if service not in accepted])
        self._wait_for_the_end(services)
        self._judge(services)
        self.tally.rounds += 1
        self.tally.alerts += len(services)
        self.tally.accepted += len(accepted)

    def _container(self, number: int, one: int) -> str:
        name = f"{number}-{one}"
        self.containers.run(name, Labels={"remediator.io/allow": "restart"})
        return self.containers.name(name)

    def _post(self, services: Sequence[str]) -> list[str]:
        """In one message, or one each; those that were answered 200."""
        alerts = {
            service: webhook_alert(starts_at=datetime.now(UTC), alertname="WebDown", service=service) for service in services
        }
        together = len(services) > 1 and self.chance.random() < 0.5
        messages = [tuple(services)] if together else [(service,) for service in services]
        return [
            service
            for message in messages
            if self.remediator.post(webhook_message(*(alerts[service] for service in message))) == 200
            for service in message
        ]

    @contextmanager
    def _aimed(self, aim: str) -> Iterator[threading.Event]:
        """Set when what is aimed at is there: the decision or the go is durable, or the engine has begun."""
        met = threading.Event()
        word = {DECIDED: '"decision.taken"', GOING: '"step.go"'}.get(aim, "")
        if aim in (AT_RANDOM, POSTING):
            met.set()

        def on_log(line: str) -> None:
            if word and word in line:
                met.set()

        def on_event(event: Event) -> None:
            if aim == RESTARTING and event.action == "kill":
                met.set()

        self.events.listeners.append(on_event)
        try:
            with self.remediator.listening(on_log):
                yield met
        finally:
            self.events.listeners.remove(on_event)

    def _kill(self, aim: str) -> None:
        self.remediator.kill()
        self.tally.kills[aim] += 1
        for row in self.remediator.ledger("SELECT state, count(*) AS runs FROM runs WHERE finished_at IS NULL GROUP BY state"):
            self.tally.hit[row["state"]] += row["runs"]
        self.tally.unread += self.remediator.ledger("SELECT count(*) AS messages FROM inbox")[0]["messages"]

    def _wait_for_the_end(self, services: Sequence[str]) -> None:
        deadline = monotonic() + ROUND_SECONDS_MAX
        wanted = set(services)
        while wanted - {run["labels"]["service"] for run in self.remediator.runs() if run["state"] in ENDED}:
            if monotonic() > deadline:
                self.problems.append(f"lost or stuck: {self._story(services)}")
                return
            sleep(0.1)

    def _judge(self, services: Sequence[str]) -> None:
        for service in services:
            runs = [run for run in self.remediator.runs() if run["labels"]["service"] == service]
            if len(runs) != 1 or (runs[0]["state"], runs[0]["reason"]) != ("succeeded", "verified"):
                self.problems.append(f"not one verified run: {self._story([service])}")
                continue
            timeline = self.remediator.timeline(runs[0])
            kinds = Counter(row["kind"] for row in timeline)
            if not any(row["kind"] == "decision" and row["data"]["verdicts"] for row in timeline) or kinds["intent"] != 1:
                self.problems.append(f"not explained, or not begun once: {self._story([service])}")
            self.tally.goes[kinds["go"]] += 1
            self.tally.observed.update(row["data"]["happened"] for row in timeline if row["kind"] == "observation")
            actions = self.events.actions(service)
            counted = Counter(actions)
            self.tally.restarts[counted["restart"]] += 1
            # It was started when it was made; then a restart is one die, one start and the word restart.
            if (counted["die"], counted["start"], counted["restart"]) != (1, 2, 1):
                self.problems.append(f"not restarted exactly once, but {actions}: {self._story([service])}")
        for name in services:
            self.containers.client.remove_container(name, force=True)

    def _story(self, services: Sequence[str]) -> str:
        runs = [run for run in self.remediator.runs() if run["labels"]["service"] in services]
        lines = [f"{run['id']} {run['state']} ({run['reason']})" for run in runs]
        lines += [f"  {row['at']} {row['kind']} {row['text']}" for run in runs for row in self.remediator.timeline(run)]
        return "\n".join([", ".join(services), *(lines or ["  no run"])])


@contextmanager
def lane(home: Path, seed: int, *, slow: bool) -> Iterator[Lane]:
    """`slow`: calls take a while to the engine, so that many kills meet one that is on its way."""
    with ExitStack() as stack:
        containers = stack.enter_context(own_containers())
        events = stack.enter_context(engine_events(containers))
        way = slow_way(home / "docker.sock", engine_url(), random.Random(seed), SLOW_SECONDS_MAX) if slow else None
        slowly = stack.enter_context(way) if way else None
        url = slowly.url if slowly else engine_url()
        process = remediator_process(
            home, {"web-down": PLAYBOOK}, docker_url=url, max_actions="1000 per 1h", storm={"targets": 1000}
        )
        remediator = stack.enter_context(process)
        remediator.start()
        driven = Lane(remediator, containers, events, seed)
        yield driven
        driven.tally.lost = slowly.lost if slowly else 0


def test_killed_at_any_moment_it_loses_no_alert_and_restarts_no_container_twice(tmp_path: Path, capsys) -> None:
    seed = int(os.environ.get("REMEDIATOR_CRASH_SEED", random.SystemRandom().randrange(10**6)))

    def drive(number: int) -> Lane:
        home = tmp_path / f"lane-{number}"
        home.mkdir()
        with lane(home, seed + number, slow=number == LANES - 1 and engine_url().startswith(UNIX)) as driven:
            for each in range(number, ROUNDS, LANES):
                driven.round(each)
                if driven.problems:
                    break
            intents = driven.remediator.ledger(
                "SELECT max(intents) AS most FROM"
                " (SELECT count(*) AS intents FROM ledger WHERE kind = 'intent' GROUP BY episode_id, rung)"
            )
            if intents[0]["most"] != 1:
                driven.problems.append("an episode's rung was begun twice")
            return driven

    with ThreadPoolExecutor(LANES) as threads:
        lanes = list(threads.map(drive, range(min(LANES, ROUNDS))))
    total = Tally()
    for each in lanes:
        total.add(each.tally)
    problems = [problem for each in lanes for problem in each.problems]
    with capsys.disabled():
        print(f"\nseed {seed}\n{total.told()}")
    assert not problems, f"seed {seed}:\n" + "\n\n".join(problems)
    assert total.rounds == ROUNDS
    assert total.hit["called"] >= ROUNDS / 5, "the window between go and outcome was hardly ever hit: nothing was shown"
    assert not {count for count in total.restarts if count > 1}
