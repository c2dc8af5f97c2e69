"""A platform in memory, a remediator around it, and what else tests stand on."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from aiohttp import ClientSession

from remediator.app import App, Surroundings, running
from remediator.clock import SystemClock
from remediator.core.alert import episode_key
from remediator.core.playbook import Mode
from remediator.core.snapshot import Listing
from remediator.core.step import Check, Diagnosis, Restart, Rollback, Step
from remediator.core.target import Health, Instance, Selection, Workload
from remediator.core.verdict import Reason
from remediator.ports import (
    Announcer,
    Channel,
    Everything,
    Evidence,
    Facts,
    Happened,
    ListedAlert,
    Message,
    Observation,
    OutcomeUnknown,
    PermanentError,
    Probe,
    Reading,
    TransientError,
)
from remediator.settings import Settings
from remediator.world import World
from tests.builders import PLAYBOOK, alert


class SilentLog:
    """Keeps the events; writes nothing."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def debug(self, event: str, **facts: Any) -> None:
        self.events.append((event, facts))

    info = warning = error = debug

    def names(self) -> list[str]:
        return [name for name, _ in self.events]


class SettableClock:
    """The host's clock, after as much time as a test says has passed."""

    def __init__(self, shift: timedelta = timedelta()) -> None:
        self.shift = shift
        self.set_by = timedelta()
        """By how much somebody has set it, though no time has passed."""

    def now(self) -> datetime:
        return SystemClock().now() + self.shift + self.set_by

    def elapsed(self) -> float:
        return SystemClock().elapsed() + self.shift.total_seconds()


@dataclass
class FakePlatform:
    """One service, `shop-api`, that is down until a step in `cures` was taken. Reading and writing side in one."""

    name: str = "docker"
    allow: frozenset[str] = frozenset({"restart", "rollback"})
    cures: frozenset[str] = frozenset({"restart"})
    healthy: bool = False
    release: str = "sha256:v2"
    starts: int = 0
    observed: int = 0
    performed: list[str] = field(default_factory=list)
    fail_with: Callable[[], Exception | None] = lambda: None
    """Raised by `perform`: OutcomeUnknown after the step was carried out, the others instead of it."""
    unreachable: bool = False
    hold: asyncio.Event | None = None
    """If given, `perform` waits for it before it does anything."""

    async def find(self, selection: Selection) -> Sequence[Workload]:
        if self.unreachable:
            raise TransientError("the engine cannot be reached")
        if selection.fields.get("service", "").startswith("shop-") and selection.fields["service"] != "shop-nothing":
            return [self.workload(selection.fields["service"])]
        return []

    def workload(self, service: str = "shop-api") -> Workload:
        health = Health.HEALTHY if self.healthy else Health.STOPPED
        instance = Instance("c0ffee", f"{service}-1", health)
        return Workload(self.name, "container", f"{service}-1", service, self.allow, (instance,), self.release)

    async def inventory(self) -> Sequence[Workload]:
        return [self.workload()]

    async def diagnose(self, diagnosis: Diagnosis, workload: Workload) -> Evidence:
        return Evidence(diagnosis.name, "it is down", {"stats.memory_ratio": 0.5})

    async def check(self, check: Check, workload: Workload) -> Reading:
        if self.unreachable:
            return Reading(Probe.UNKNOWN, "the engine cannot be reached")
        return Reading(Probe.HOLDS, "healthy") if self.healthy else Reading(Probe.FAILS, "stopped")

    def describe(self, step: Step | Diagnosis, workload: Workload) -> str:
        match step:
            case Restart(timeout):
                return f"docker restart -t {timeout.total_seconds():g} {workload.name}"
            case Rollback(to):
                return f"docker run --name {workload.name} {to}"
            case _:
                return f"docker {step.name} {workload.name}"

    async def mark(self, step: Step, workload: Workload) -> Facts:
        return {"starts": self.starts}

    async def observe(self, step: Step, workload: Workload, mark: Facts) -> Observation:
        self.observed += 1
        if self.unreachable:
            raise TransientError("the engine cannot be reached")
        happened = Happened.YES if self.starts > mark["starts"] else Happened.NO
        return Observation(happened, f"started {self.starts} times, {mark['starts']} before")

    async def perform(self, step: Step, workload: Workload, mark: Facts) -> str:
        if self.hold is not None:
            await self.hold.wait()
        error = self.fail_with()
        if isinstance(error, TransientError | PermanentError):
            raise error
        self.performed.append(step.name)
        self.starts += 1
        self.healthy = step.name in self.cures
        if isinstance(step, Rollback):
            self.release = step.to
        if error is not None:
            raise error
        return f"{step.name} done"


class FakeAlertmanager:
    """An Alertmanager in memory: what fires there, since when, and what is muted and why."""

    def __init__(self, up_since: datetime, clock: SettableClock | None = None) -> None:
        self.up_since = up_since
        self.clock = clock or SettableClock()
        self.firing: dict[str, ListedAlert] = {}
        self.unreachable = False
        self.unreadable = 0

    def fires(self, starts_at: datetime, muted: Reason = Reason.CLEAR, **labels: str) -> None:
        """From now on, with these labels beside the usual ones."""
        said = f"{muted} in Alertmanager" if muted is not Reason.CLEAR else ""
        firing = alert(starts_at=starts_at, **labels)
        self.firing[episode_key(firing.labels)] = ListedAlert(firing, Listing(True, said, muted))

    def silence(self, reason: Reason = Reason.SILENCED) -> None:
        """Everything that fires now."""
        for listed in tuple(self.firing.values()):
            self.fires(listed.alert.starts_at, reason, **listed.alert.labels)

    def unsilence(self) -> None:
        self.silence(Reason.CLEAR)

    async def look(self, labels: Mapping[str, str]) -> Listing:
        self._answer()
        listed = self.firing.get(episode_key(labels))
        return listed.listing if listed else Listing(firing=False)

    async def everything(self) -> Everything:
        self._answer()
        return Everything(list(self.firing.values()), self.clock.now() - self.up_since, self.unreadable)

    def _answer(self) -> None:
        if self.unreachable:
            raise TransientError("Alertmanager does not answer")


class KeptMessages:
    """An announcer that keeps what it is given."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def deliver(self, message: Message) -> str:
        self.messages.append(message)
        return str(len(self.messages))


@dataclass
class Harness:
    """A running remediator with a fake platform, and what tests ask of it."""

    app: App
    session: ClientSession
    platform: FakePlatform
    log: SilentLog
    clock: SettableClock
    told: dict[Channel, KeptMessages]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.app.port}"

    async def post(self, body: bytes, **options: Any) -> int:
        options.setdefault("headers", {"Authorization": "Bearer webhook-secret"})
        async with self.session.post(f"{self.url}/webhook", data=body, **options) as response:
            await response.read()
            return response.status

    async def runs(self) -> list[dict[str, Any]]:
        """Oldest first."""
        async with self.session.get(f"{self.url}/api/v1/runs") as response:
            return list(reversed((await response.json())["runs"]))

    async def timeline(self, run: str) -> list[dict[str, Any]]:
        async with self.session.get(f"{self.url}/api/v1/runs/{run}") as response:
            return (await response.json())["timeline"]

    async def command(self, verb: str) -> int:
        said = {"by": "ann", "why": "a test"}
        async with self.session.post(f"{self.url}/api/v1/{verb}", json=said) as response:
            return response.status

    async def metrics(self) -> str:
        async with self.session.get(f"{self.url}/metrics") as response:
            return await response.text()

    async def as_time_passes(
        self, *states: str, count: int = 1, each: timedelta = timedelta(seconds=37)
    ) -> list[dict[str, Any]]:
        """As `until`, while time leaps on: a call in doubt is given its time from when a process began to look for it."""
        async with asyncio.timeout(10):
            while True:
                runs = await self.runs()
                if sum(run["state"] in states for run in runs) >= count:
                    return runs
                self.clock.shift += each
                self.app.worker.wake()
                await asyncio.sleep(0.1)

    async def until(self, *states: str, count: int = 1, seconds: float = 10.0) -> list[dict[str, Any]]:
        """The runs, once at least `count` of them are in one of `states`."""
        async with asyncio.timeout(seconds):
            while True:
                runs = await self.runs()
                if sum(run["state"] in states for run in runs) >= count:
                    return runs
                await asyncio.sleep(0.01)


@asynccontextmanager
async def harness(
    directory: Path,
    platform: FakePlatform | None = None,
    playbooks: Sequence[str] = (PLAYBOOK,),
    alerts: Any = None,
    announcer: Callable[[Channel], Announcer] | None = None,
    away: timedelta = timedelta(),
    **settings: Any,
) -> AsyncIterator[Harness]:
    """Remediator in this process, in mode auto unless the settings say otherwise, listening on a free port.

    `away`: how long after now, by its own clock, it is started.
    """
    platform = platform or FakePlatform()
    shelf = directory / "playbooks"
    shelf.mkdir(exist_ok=True)
    for text in playbooks:
        name = next(line.removeprefix("name: ") for line in text.splitlines() if line.startswith("name: "))
        (shelf / f"{name}.yaml").write_text(text)
    token = directory / "token"
    token.write_text("webhook-secret\n")
    defaults = {
        "mode": Mode.AUTO,
        "webhook_token_file": token,
        "shutdown_grace": timedelta(seconds=2),
        "store": f"sqlite:///{directory / 'remediator.db'}",
    }
    configured = Settings(**{**defaults, **settings}, playbooks=shelf, listen="127.0.0.1:0")
    acts = configured.mode in (Mode.AUTO, Mode.APPROVE) and configured.webhook_is_authenticated
    world = World({platform.name: platform}, {platform.name: platform} if acts else {}, alerts=alerts)
    told = {channel: KeptMessages() for channel in Channel}
    announcers = {channel: announcer(channel) if announcer else told[channel] for channel in Channel}
    log, clock = SilentLog(), SettableClock(away)
    around = Surroundings(world, [platform.inventory], announcers, alerts)
    async with running(configured, log, clock, around) as app, ClientSession() as session:
        yield Harness(app, session, platform, log, clock, told)


__all__ = [
    "FakeAlertmanager",
    "FakePlatform",
    "Harness",
    "KeptMessages",
    "OutcomeUnknown",
    "SettableClock",
    "SilentLog",
    "harness",
    "replace",
]
