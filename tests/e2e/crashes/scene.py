"""One store, the remediators on it, and the containers that they look after: what a lane of the crash test plays on."""

import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from remediator.storage.address import PostgresAddress
from remediator.storage.migrate import upgrade_apart
from tests.e2e.crashes.books import Books, postgres_books, sqlite_books
from tests.e2e.crashes.tally import Tally
from tests.e2e.engine_events import EngineEvents, engine_events
from tests.e2e.remediator_process import RemediatorProcess, remediator_process
from tests.e2e.slow_way import UNIX, slow_way
from tests.images import Containers, engine_url, own_containers
from tests.servers import Postgres, crashing_postgres

LEASE_SECONDS = 2.0
"""Where others take over. A single process on SQLite keeps the usual one: it must not need its end."""
SLOW_SECONDS_MAX = 0.4
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


@dataclass(slots=True)
class Scene:
    replicas: Sequence[RemediatorProcess]
    books: Books
    database: Postgres | None
    containers: Containers
    events: EngineEvents
    chance: random.Random
    tally: Tally = field(default_factory=Tally)
    problems: list[str] = field(default_factory=list)
    stopped: set[str] = field(default_factory=set)
    """Runs whose call was fit to be sent, and perhaps sent, when their replica was stopped."""

    def others(self, than: Sequence[RemediatorProcess]) -> Sequence[RemediatorProcess]:
        return [replica for replica in self.replicas if replica not in than]

    def start(self, replicas: Sequence[RemediatorProcess]) -> None:
        """Side by side, as they would be after a loss of power."""
        with ThreadPoolExecutor(len(self.replicas)) as threads:
            list(threads.map(RemediatorProcess.start, replicas))


@contextmanager
def scene(home: Path, replicas: int, chance: random.Random, *, on_postgres: bool, slow: bool) -> Iterator[Scene]:
    """`slow`: calls take a while to the engine, so that many a blow meets one that is on its way.

    There, and where replicas are stopped, they are sent one at a time, so that it meets others that wait to be sent.
    """
    with ExitStack() as stack:
        containers = stack.enter_context(own_containers())
        events = stack.enter_context(engine_events(containers))
        way = None
        if slow and engine_url().startswith(UNIX):
            way = stack.enter_context(slow_way(home / "docker.sock", engine_url(), chance, SLOW_SECONDS_MAX))
        database = stack.enter_context(crashing_postgres()) if on_postgres else None
        if database:
            upgrade_apart(PostgresAddress(database.address))  # once, here: on a busy machine it takes a while
            books = stack.enter_context(postgres_books(database.address))
        else:
            books = sqlite_books(home / "remediator.db")
        settings = {"store": books.store, "docker_url": way.url if way else engine_url(), "max_actions": "1000 per 1h"}
        settings |= {"storm": {"targets": 1000}, **({"engine_threads": 1} if way or database else {})}
        settings |= {"lease": f"{LEASE_SECONDS:g}s"} if database else {}
        processes = []
        for name in "ab"[:replicas]:
            (home / name).mkdir()
            processes.append(stack.enter_context(remediator_process(home / name, {"web-down": PLAYBOOK}, **settings)))
        played = Scene(processes, books, database, containers, events, chance)
        played.start(processes)
        yield played
        played.tally.lost = way.lost if way else 0
