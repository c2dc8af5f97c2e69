"""Fate and people: services fall ill and recover, causes come and go, operators pause, silence, approve, reject, too late."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from remediator.asking import Answer, take
from remediator.clock import Random
from remediator.core.snapshot import Approval, Policy
from remediator.lab.simulation.alertmanager import Prometheus, Send, message
from remediator.lab.simulation.platform import Service
from remediator.lab.simulation.replica import Replica
from remediator.lab.simulation.weather import Weather
from remediator.ports import Ledger

ALERTS = ("ApiDown",) * 8 + ("JobStuck", "JobStuck", "CacheFull", "CacheFull", "DiskFull", "NobodyKnows")
CURES = {"JobStuck": "exec", "CacheFull": "redis.flush"}
ILL_EVERY_SECONDS = (2.0, 25.0)
PASSES_SECONDS = (40.0, 200.0)
STORM_SIZE = 8
EVEN = 0.5


@dataclass(eq=False)
class Town:
    """Everybody outside who is not software."""

    services: dict[str, Service]
    prometheus: Prometheus
    replicas: Sequence[Replica]
    policy: Policy
    random: Random
    weather: Callable[[], Weather]
    now: Callable[[], datetime]
    tell: Callable[[str, str], None]
    hits: dict[str, int] = field(default_factory=dict)

    # --- fate ---------------------------------------------------------------------------------------------------------

    async def fall_ill(self) -> None:
        """One service after another, sometimes for a reason that a step cures."""
        while True:
            await asyncio.sleep(self.random.uniform(*ILL_EVERY_SECONDS))
            service = self.random.choices(list(self.services.values()), [4, 4, 4, 1, 1])[0]
            alert = self.random.choice(ALERTS)
            if service.ill == 0:
                service.ill = self.random.randint(1, service.instances)
                helps = CURES.get(alert, self.random.choice(("restart", "restart", "rollback", "nothing")))
                service.cures = frozenset({helps})
                self.tell("fate", f"{service.ill} instances of {service.name} fall ill; {helps} helps")
                asyncio.get_running_loop().call_later(self.random.uniform(*PASSES_SECONDS), self._pass_by, service)
            self._fire(alert, service.name)

    async def watch(self) -> None:
        """Prometheus: an alert ends when its service is well."""
        while True:
            await asyncio.sleep(2.0)
            for key, alert in list(self.prometheus.firing.items()):
                service = self.services.get(alert.labels.get("service", ""))
                if service is not None and service.ill == 0:
                    self.prometheus.end(key, self.now())

    async def odd_alerts(self) -> None:
        """Alerts without a target, with an ambiguous one, with none at all; causes; storms."""
        while True:
            await asyncio.sleep(self.random.uniform(20.0, 120.0))
            match self.random.randrange(5):
                case 0:
                    self._fire("ApiDown", "ghost", passes=True)
                case 1:
                    self._fire("ApiDown", "", passes=True)
                case 2:
                    self._fire("HostDown", "host", passes=True)
                case 3 if self.random.random() < EVEN:
                    for number in range(STORM_SIZE):
                        self._fire("ApiDown", f"ghost-{number}", passes=True)
                case _:
                    self.prometheus.up = 1.0 if self.prometheus.up < EVEN else self.random.choice((0.3, 1.0))

    async def end_at_once(self, key: str, send: Send) -> None:
        """Service and alert are well again, and the message of it is quick."""
        alert = self.prometheus.firing.get(key)
        if alert is None:
            return
        if service := self.services.get(alert.labels.get("service", "")):
            service.ill = 0
        self.prometheus.end(key, self.now())
        self.tell("fate", f"alert {key[:6]} ends just now")
        self.hits["ended at the claim"] = self.hits.get("ended at the claim", 0) + 1
        await send(message([alert]))

    def _fire(self, alert: str, service: str, *, passes: bool = False) -> None:
        labels = {"alertname": alert, "service": service, "severity": "critical"}
        self.prometheus.fire({name: value for name, value in labels.items() if value}, self.now())
        if passes:
            key = next(reversed(self.prometheus.firing))
            asyncio.get_running_loop().call_later(
                self.random.uniform(*PASSES_SECONDS), lambda: self.prometheus.end(key, self.now())
            )

    def _pass_by(self, service: Service) -> None:
        service.ill = 0

    def recover(self) -> None:
        """All is well again."""
        self.prometheus.up = 1.0
        self.prometheus.silenced.clear()
        for service in self.services.values():
            service.ill = 0

    # --- people -------------------------------------------------------------------------------------------------------

    async def pause_at_times(self) -> None:
        while True:
            await asyncio.sleep(self.random.uniform(10.0, 60.0))
            if self._comes(self.weather().paused):
                await self.throw_switch(paused=True)
                await asyncio.sleep(self.random.uniform(5.0, 60.0))
                await self.throw_switch(paused=False)

    async def throw_switch(self, *, paused: bool) -> None:
        """Through whichever replica answers."""

        def work(ledger: Ledger) -> str:
            (ledger.switch.pause if paused else ledger.switch.resume)("ann", "simulated", ledger.now)
            return "done"

        while await self.random.choice(self.replicas).command(work) is None:
            await asyncio.sleep(2.0)
        self.tell("ann", "pauses" if paused else "resumes")

    async def silence_at_times(self) -> None:
        while True:
            await asyncio.sleep(self.random.uniform(5.0, 40.0))
            if self.prometheus.firing and self._comes(self.weather().silenced):
                await self._silence(self.random.choice(list(self.prometheus.firing)))

    async def silence_at_once(self, key: str) -> None:
        """Just now, and a replica looks at what Alertmanager lists just then."""
        if key in self.prometheus.firing:
            self.random.choice(self.replicas).reconcile()
            await self._silence(key)

    async def _silence(self, key: str) -> None:
        self.prometheus.silenced[key] = None
        self.tell("ann", f"silences {key[:6]}")
        self.hits["silenced"] = self.hits.get("silenced", 0) + 1
        await asyncio.sleep(self.random.uniform(10.0, 60.0))
        self.prometheus.silenced.pop(key, None)

    async def answer_questions(self) -> None:
        """Yes, no, too late, twice, or to a plan that is no longer the question."""
        while True:
            await asyncio.sleep(self.random.uniform(3.0, 25.0))
            said = await self.random.choice(self.replicas).command(self._answer)
            if said:
                self.tell("bob", said)
                self.hits["answers"] = self.hits.get("answers", 0) + 1

    def _answer(self, ledger: Ledger) -> str:
        """Whatever was asked last of some run, though it may have been answered, or be no longer the question."""
        questions = [(run, asked) for run in ledger.runs.list(20) if (asked := ledger.approvals.asked(run))]
        if not questions:
            return ""
        run, asked = self.random.choice(questions)
        granted = self.random.random() < 0.8
        said = take(ledger, Answer(run.id, asked.plan, granted, "bob", "simulated"), self.policy)
        taken = "taken" if isinstance(said, Approval) else "not taken"
        return f"{'approves' if granted else 'rejects'} plan {asked.plan} of run {run.id}: {taken}"

    def _comes(self, chance: float) -> bool:
        return bool(chance) and self.random.random() < chance
