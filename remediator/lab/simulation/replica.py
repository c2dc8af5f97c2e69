"""One replica of remediator: the real worker, main path, intake and store code, wired as `app` wires them.

A replica lives through many processes. What is simulated stands around it: the clock, the platform, Alertmanager's and
Prometheus's answers, and the network in front of it.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from remediator.clock import Random
from remediator.core.playbook import PlaybookIndex
from remediator.core.snapshot import Policy
from remediator.housekeeping import Housekeeping
from remediator.ingress.expand import Admission
from remediator.ingress.payload import tally
from remediator.lab.inline_store import InlineStore
from remediator.lab.simulation.alertmanager import Answers
from remediator.lab.simulation.chaos import LEASE, Chaos, Commits
from remediator.lab.simulation.platform import SimulatedPlatform
from remediator.lab.simulation.scheduler import Life, Process, Scheduler
from remediator.lab.simulation.shelf import read
from remediator.lab.virtual_time import VirtualClock
from remediator.leases import Leases
from remediator.outbound.delivery import Delivery
from remediator.ports import Clock, Ledger, Platform, StoreUnavailable
from remediator.reconcile import Reconciliation, Rhythm
from remediator.remediate import Remediator
from remediator.storage.database_clock import DatabaseClock
from remediator.telemetry import Metrics, Telemetry
from remediator.worker import Pace, Worker
from remediator.world import World

EPOCH = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
CONFIRM_AFTER = timedelta(seconds=10)
RETENTION = timedelta(days=90)
ANSWER_SECONDS = 10.0
HOUSEKEEPING_SECONDS = 20.0
WARM_UP = timedelta(minutes=1)
GRACE = timedelta(seconds=5)
RUNS_MAX = 4
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"

Work = Callable[[Ledger], Any]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all replicas of a seed share."""

    scheduler: Scheduler
    random: Random
    chaos: Chaos
    connection: sqlite3.Connection
    database_clock: VirtualClock
    policy: Policy
    playbooks: Callable[[], PlaybookIndex]
    metrics: Metrics
    alone: bool
    """One process at a time uses the store, as SQLite wants it: a start voids all leases."""
    new_platform: Callable[[Callable[[], bool]], SimulatedPlatform]
    new_answers: Callable[[], Answers]
    committed: "Callable[[Replica], None]"
    accepted: Callable[[bytes], None]
    told: Callable[[str, str, dict[str, Any]], None]


class ReplicaLog:
    """Every event goes to the timeline of the seed."""

    def __init__(self, name: str, told: Callable[[str, str, dict[str, Any]], None]) -> None:
        self._name = name
        self._told = told

    def debug(self, event: str, **facts: Any) -> None:
        self._told(self._name, event, facts)

    info = warning = error = debug


class Replica:
    """`start` begins a new process. Whoever calls from outside gets an answer only while one lives."""

    def __init__(self, name: str, around: Surroundings) -> None:
        self.name = name
        self._around = around
        self._lives = 0
        self.process = Process(name, Life.DEAD)
        self.store: InlineStore
        self.worker: Worker
        self.platform: SimulatedPlatform
        self.answers: Answers
        self.reconciliation: Reconciliation

    @property
    def is_up(self) -> bool:
        return self.process.life is not Life.DEAD

    def start(self) -> None:
        around = self._around
        self._lives += 1
        process = self.process = Process(f"{self.name}.{self._lives}")
        clock = self._clock_of(process)
        leases = Leases(clock, LEASE)
        commits = Commits(around.chaos, process, around.connection, lambda: around.committed(self), self._heard)
        self.store = InlineStore(
            around.connection,
            lambda: around.policy,
            CONFIRM_AFTER,
            around.database_clock,
            commits,
            is_shared=not around.alone,
        )
        self.platform, self.answers = around.new_platform(leases.hold), around.new_answers()
        telemetry = Telemetry(around.metrics, ReplicaLog(process.name, around.told))
        ears: dict[str, Platform] = {"docker": self.platform, "redis": DataService(self.platform)}
        world = World(ears, dict.fromkeys(ears, self.platform), alerts=self.answers, witness=self.answers)
        remediator = Remediator(self.store, world, lambda: around.policy, read, clock, telemetry)
        pace = Pace(process.name, LEASE, RUNS_MAX, worked=lambda: 0.0)
        self.worker = Worker(self.store, remediator, around.playbooks, self._new_id, clock, pace, telemetry, leases)
        delivery = Delivery(self.store, {}, around.random.uniform, clock, telemetry)
        housekeeping = Housekeeping(self.store, [], around.playbooks, lambda: around.policy, clock, telemetry, RETENTION)
        around.scheduler.spawn(process, self._live(self.worker), f"{process.name} works")
        around.scheduler.spawn(process, _again(delivery.deliver_due), f"{process.name} delivers")
        self.reconciliation = Reconciliation(
            self.store,
            self.answers,
            lambda: Admission(around.playbooks(), lambda: self._new_id(None)),
            lambda: around.policy,
            Rhythm(warm_up=WARM_UP),
            self.worker.wake,
            telemetry,
        )
        around.scheduler.spawn(process, _again(housekeeping.tidy), f"{process.name} keeps house")
        around.scheduler.spawn(process, _again(self.reconciliation.look), f"{process.name} reconciles")

    def _clock_of(self, process: Process) -> Clock:
        """As `app.open_store` says: the host's for the only process, which may jump; else the database's."""
        around = self._around
        if around.alone:
            around.chaos.clocks[process] = around.database_clock
            self.clock: Clock = around.database_clock
        else:
            self.clock = DatabaseClock(around.scheduler.time)
            self._heard()
        return self.clock

    def _heard(self) -> None:
        """The database says what time it is, as it does with every transaction."""
        if isinstance(self.clock, DatabaseClock):
            at = self._around.scheduler.time()
            self.clock.heard(self._around.database_clock.now(), at, at)

    async def _live(self, worker: Worker) -> None:
        while True:
            try:
                await worker.recover()
                break
            except StoreUnavailable:
                await asyncio.sleep(1.0)
        await worker.run()

    async def drain(self) -> None:
        """SIGTERM, and what a supervisor does next."""
        process = self.process
        done = self._around.scheduler.create_future()

        async def stop() -> None:
            await self.worker.stop(GRACE)
            done.set_result(None)

        self._around.scheduler.spawn(process, stop(), f"{process.name} drains")
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE.total_seconds() + ANSWER_SECONDS):
                await asyncio.shield(done)
        if process.life is not Life.DEAD:
            self._around.scheduler.kill(process)

    def reconcile(self) -> None:
        """Just now, beside its rounds."""

        async def look() -> None:
            with suppress(StoreUnavailable):
                await self.reconciliation.look()

        if self.is_up:
            self._around.scheduler.spawn(self.process, look(), f"{self.process.name} looks at the list")

    async def receive(self, body: bytes) -> int:
        """A POST of Alertmanager: the status, or 0 if there is no answer. Called from the world outside."""
        if not self.is_up:
            return 0
        answer: asyncio.Future[int] = self._around.scheduler.create_future()

        async def take() -> None:
            counted = tally(body)
            try:
                await self.store.put(body, self.clock.now())
            except StoreUnavailable:
                answer.set_result(503)
                return
            assert counted.taken
            self._around.accepted(body)
            self.worker.wake()
            answer.set_result(200)

        self._around.scheduler.spawn(self.process, take(), f"{self.process.name} takes a message")
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await asyncio.shield(answer)
        except TimeoutError:
            return 0

    async def command(self, work: Work) -> Any:
        """A person's request to the API: its result, or None if there is no answer. Called from the world outside."""
        if not self.is_up:
            return None
        answer: asyncio.Future[Any] = self._around.scheduler.create_future()

        async def do() -> None:
            with suppress(StoreUnavailable):
                answer.set_result(await self.store.run(work))
                self.worker.wake()

        self._around.scheduler.spawn(self.process, do(), f"{self.process.name} is told")
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await asyncio.shield(answer)
        except TimeoutError:
            return None

    def _new_id(self, now: object) -> str:
        """In order of making, and the same every time."""
        number = self._around.chaos.next_number()
        letters = "".join(self._around.random.choice(ALPHABET) for _ in range(3))
        return f"{number:05d}{letters}"


class DataService:
    """The reading side of a data service: it finds no workloads of its own."""

    name = "redis"

    def __init__(self, platform: SimulatedPlatform) -> None:
        self.mark, self.observe, self.check = platform.mark, platform.observe, platform.check
        self.describe, self.diagnose = platform.describe, platform.diagnose

    async def find(self, selection: object) -> list[Any]:
        return []


async def _again(work: Callable[[], Any]) -> None:
    """As the loops of `app` do it, only to another beat."""
    while True:
        await asyncio.sleep(HOUSEKEEPING_SECONDS)
        with suppress(StoreUnavailable):
            await work()
