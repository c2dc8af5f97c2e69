"""One seed, from its first alert to the last run's end: everything that is simulated, wired, and the timeline of it."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from traceback import format_exception
from typing import Any

from remediator.clock import Random, seeded
from remediator.core.playbook import Mode, RateLimit
from remediator.core.snapshot import Policy, StormLimits
from remediator.lab.inline_store import open_memory
from remediator.lab.simulation.alertmanager import Answers, Prometheus, SimulatedAlertmanager
from remediator.lab.simulation.chaos import Chaos
from remediator.lab.simulation.people import Town
from remediator.lab.simulation.platform import Call, Service, SimulatedPlatform
from remediator.lab.simulation.promises import Promises
from remediator.lab.simulation.records import Broken
from remediator.lab.simulation.replica import EPOCH, Replica, Surroundings
from remediator.lab.simulation.scheduler import Process, Scheduler, context_of
from remediator.lab.simulation.shelf import TEXTS, TEXTS_LATER, index
from remediator.lab.simulation.weather import CALM, Weather, forecast
from remediator.lab.virtual_time import BrokenCallback, VirtualClock
from remediator.telemetry import Metrics

TROUBLE_SECONDS = 240.0
CALM_SECONDS_MAX = 900.0
LOOK_SECONDS = 10.0
CALLBACKS_MAX = 200_000
RESTART_SECONDS = (0.5, 25.0)
POLICY = Policy(
    mode=Mode.AUTO,
    max_all=(RateLimit(4, timedelta(minutes=2)),),
    episode_expiry=timedelta(minutes=3),
    storm=StormLimits(targets=6, window=timedelta(seconds=45), calm=2),
    approval_within=timedelta(minutes=2),
    approval_lasts=timedelta(seconds=30),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one seed came to. `hits` counts how often each interesting thing was met."""

    seed: int
    broken: Broken | None
    simulated_seconds: float
    callbacks: int
    hits: Mapping[str, int]
    timeline: tuple[str, ...] = ()
    """Of a seed that broke a promise, or was asked for it."""


@dataclass(eq=False)
class Story:
    """The simulation of one seed."""

    seed: int
    metrics: Metrics
    keeps_timeline: bool = False
    """Even if it is clean."""
    sure: Collection[str] = ()
    """Names of troubles that are never off."""
    said: list[tuple[float, str, str, Mapping[str, Any]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random: Random = seeded(self.seed)
        self.weather: Weather = forecast(self.random, self.sure)
        self.scheduler = Scheduler(self.random)  # type: ignore[abstract] # what it does without raises NotImplementedError
        self.true_clock = VirtualClock(self.scheduler, EPOCH)
        self.database_clock = VirtualClock(self.scheduler, EPOCH)
        self.connection = open_memory()
        self.prometheus = Prometheus()
        self.promises = Promises(self.connection, self.database_clock.now, POLICY, self._fires_for)
        self.chaos = Chaos(self.scheduler, self.random, self.weather, self.tell, self._killed)
        self.scheduler.disturb = self.chaos.disturb
        self.playbooks = TEXTS
        self.services = {
            service.name: service
            for service in (
                Service("api"),
                Service("web", instances=3),
                Service("cache"),
                Service("twins"),
                Service("store", protected="is remediator's own store"),
            )
        }
        self.promises.critical = self._critical
        count = self.random.choice((1, 1, 2, 2, 3))
        around = Surroundings(
            self.scheduler,
            self.random,
            self.chaos,
            self.connection,
            self.database_clock,
            POLICY,
            lambda: index(self.playbooks),
            self.metrics,
            count == 1,
            self._new_platform,
            lambda: Answers(self.prometheus, self.scheduler, self.random, self._weather_now),
            self._committed,
            self.promises.accepted,
            self._logged,
        )
        self.replicas = [Replica(f"r{number}", around) for number in range(1, count + 1)]
        self.town = Town(
            self.services,
            self.prometheus,
            self.replicas,
            POLICY,
            self.random,
            self._weather_now,
            self.true_clock.now,
            self.tell,
        )

    def run(self) -> Outcome:
        """To its end, or to the first promise that is broken."""
        try:
            main = self.scheduler.create_task(self._play())
            self.scheduler.run_until(lambda: main.done() or self.promises.broken is not None or self._spins())
            if main.done():
                main.result()
                self.promises.finish()
        except BrokenCallback as error:
            self.promises.broken = Broken("no breakdown", "".join(format_exception(error)))
        finally:
            self.scheduler.close()
            self.connection.close()
        hits = dict(self.promises.hits)
        for more in (self.chaos.hits, self.town.hits):
            for what, times in more.items():
                hits[what] = hits.get(what, 0) + times
        hits[f"{len(self.replicas)} replicas"] = 1
        broken = self.promises.broken
        timeline = tuple(map(_line, self.said)) if broken or self.keeps_timeline else ()
        return Outcome(self.seed, broken, self.scheduler.time(), self.scheduler.callbacks, hits, timeline)

    def _spins(self) -> bool:
        """Whether something runs again and again, and comes to nothing."""
        if self.scheduler.callbacks < CALLBACKS_MAX:
            return False
        self.promises.broken = Broken("progress", f"{CALLBACKS_MAX} callbacks were run within {self.scheduler.time():.1f} s")
        return True

    async def _play(self) -> None:
        for replica in self.replicas:
            replica.start()
        pair = [SimulatedAlertmanager(self.prometheus, self._send, self.random, self._weather_now) for _ in range(2)]
        outside = [alertmanager.run() for alertmanager in pair]
        outside += [self.town.watch(), self.town.answer_questions()]
        trouble = [
            self.town.fall_ill(),
            self.town.odd_alerts(),
            self.town.pause_at_times(),
            self.town.silence_at_times(),
            self._store_goes_away(),
            self._drain_and_reload(),
        ]
        loop = asyncio.get_running_loop()
        kept = [loop.create_task(each) for each in outside]
        troubles = [loop.create_task(each) for each in trouble]
        await asyncio.sleep(TROUBLE_SECONDS)
        for task in troubles:
            task.cancel()
        await self._calm_down()
        began_at = loop.time()
        while self.promises.unfinished() and loop.time() < began_at + CALM_SECONDS_MAX:
            await asyncio.sleep(LOOK_SECONDS)
        for task in kept:
            task.cancel()

    async def _calm_down(self) -> None:
        self.tell("fate", "it becomes calm")
        self.chaos.weather = self.weather = CALM
        self.chaos.store_is_away = False
        self.town.recover()
        await self.town.throw_switch(paused=False)

    async def _store_goes_away(self) -> None:
        while True:
            await asyncio.sleep(self.random.uniform(20.0, 60.0))
            if self.random.random() < self.weather.store_away:
                self.tell("store", "is away")
                self.chaos.store_is_away = True
                await asyncio.sleep(self.random.uniform(1.0, 30.0))
                self.chaos.store_is_away = False
                self.tell("store", "is back")

    async def _drain_and_reload(self) -> None:
        """SIGTERM now and then; playbooks are loaded anew at some time."""
        while True:
            await asyncio.sleep(self.random.uniform(60.0, 240.0))
            self.playbooks = TEXTS_LATER if self.playbooks == TEXTS else TEXTS
            self.tell("ann", "loads the playbooks anew")
            replica = self.random.choice(self.replicas)
            if replica.is_up and self.random.random() < 0.5:
                self.tell(replica.process.name, "is asked to stop")
                self.scheduler.spawn(None, self._replace(replica), "supervisor")

    async def _replace(self, replica: Replica) -> None:
        await replica.drain()
        self._restart_later(replica)

    async def _send(self, body: bytes) -> int:
        return await self.random.choice(self.replicas).receive(body)

    def _critical(self, kind: str, key: str) -> None:
        """More happens now than at other commits: a process stops, or the alert ends or is silenced and is known to be so."""
        self.chaos.is_critical = True
        if kind == "intent" and self.chaos.comes(self.weather.ends_at_the_claim):
            self.scheduler.spawn(None, self.town.end_at_once(key, self._send), "an alert ends")
        elif kind == "intent" and self.chaos.comes(self.weather.silenced_at_the_claim):
            self.scheduler.spawn(None, self.town.silence_at_once(key), "an alert is silenced")

    def _killed(self, process: Process) -> None:
        replica = next(each for each in self.replicas if each.process is process)
        self._restart_later(replica)

    def _restart_later(self, replica: Replica) -> None:
        self.scheduler.call_later(self.random.uniform(*RESTART_SECONDS), self._restart, replica, context=context_of(None))

    def _restart(self, replica: Replica) -> None:
        if not replica.is_up:
            replica.start()
            self.tell(replica.process.name, "is started")

    def _new_platform(self, may_send: Callable[[], bool]) -> SimulatedPlatform:
        return SimulatedPlatform(self.services, self.scheduler, self.random, self, self._weather_now, self.chaos.hits, may_send)

    def _fires_for(self, key: str) -> timedelta:
        alert = self.prometheus.firing.get(key)
        return self.true_clock.now() - alert.starts_at if alert else timedelta()

    def _weather_now(self) -> Weather:
        return self.weather

    # --- what is put on the timeline ----------------------------------------------------------------------------------

    def called(self, call: Call) -> None:
        self.tell("platform", f"call {call.number}: {call.step.name} {call.workload.name}, by {call.task}")
        self.promises.called(call)

    def delayed(self, seconds: float) -> None:
        self.chaos.call_delayed(seconds)

    def happened(self, call: Call) -> None:
        self.tell("platform", f"call {call.number} takes effect")
        self.promises.happened(call)

    def _committed(self, replica: Replica) -> None:
        self.promises.committed(replica)

    def tell(self, who: str, what: str) -> None:
        self.said.append((self.scheduler.time(), who, what, {}))

    def _logged(self, who: str, event: str, facts: Mapping[str, Any]) -> None:
        self.said.append((self.scheduler.time(), who, event, facts))
        if event.endswith("broke_down"):
            self.promises.broken = self.promises.broken or Broken("no breakdown", f"{event}: {facts.get('error')}")


def _line(entry: tuple[float, str, str, Mapping[str, Any]]) -> str:
    at, who, what, facts = entry
    said = " ".join(f"{name}={value}" for name, value in facts.items() if name not in ("trace_id", "exc_info"))
    return f"{at:10.3f} s  {who:8} {what}  {said}".rstrip()


def play(seeds: Sequence[int], keeps_timeline: bool = False, sure: Collection[str] = ()) -> list[Outcome]:
    """These seeds, one after the other, up to the first that breaks a promise."""
    metrics = Metrics()  # its counters are of no interest, and are too dear to make for every seed
    outcomes: list[Outcome] = []
    for seed in seeds:
        outcomes.append(Story(seed, metrics, keeps_timeline, sure).run())
        if outcomes[-1].broken:
            break
    return outcomes
