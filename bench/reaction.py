"""From POST to the platform's call: `python -m bench.reaction DIRECTORY [STABLE_FOR]`, with a platform that answers at once.

Everything but the platform is real, in a process of its own: webhook, store, expansion, guards, claim, go. The platform
writes down when it was called, on the monotonic clock that all processes of a machine share.
"""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from time import perf_counter

from bench.messages import ALERTNAME, TOKEN
from remediator.app import Surroundings, serve
from remediator.core.playbook import Mode, RateLimit
from remediator.core.step import Check, Diagnosis, Step
from remediator.core.target import Health, Instance, Selection, Workload
from remediator.logs import make_log
from remediator.ports import Evidence, Facts, Happened, Observation, Probe, Reading
from remediator.settings import Settings, StormSection
from remediator.world import World

STABLE_FOR = "10ms"
PLAYBOOK = f"""
name: queue-backlog
summary: Restart a service whose queue grows.
matchers: ['alertname = {ALERTNAME}']
target: {{service: $labels.service}}
mode: auto
limits: {{settle: 0s, max_all_targets: [60 per 200ms]}}
ladder:
  - restart: {{timeout: 1s}}
verify: {{within: 5s, stable_for: {STABLE_FOR}, all: [healthy]}}
"""
LIMIT = RateLimit(60, timedelta(milliseconds=200))
"""Above the load, so that nothing waits; with as many intents to look back on as real limits have."""


class InstantPlatform:
    """Has every service that is asked for; healthy once it was restarted."""

    name = "instant"

    def __init__(self, calls: Path) -> None:
        self._calls = calls.open("w", buffering=1)
        self._restarted: set[str] = set()

    async def find(self, selection: Selection) -> Sequence[Workload]:
        service = selection.fields.get("service", "")
        return [self._workload(service)] if service else []

    def _workload(self, service: str) -> Workload:
        health = Health.HEALTHY if service in self._restarted else Health.STOPPED
        instance = Instance(f"id-{service}", f"{service}-1", health)
        return Workload(self.name, "container", f"{service}-1", service, frozenset({"restart"}), (instance,), "sha256:v1")

    async def perform(self, step: Step, workload: Workload, mark: Facts) -> str:
        self._calls.write(f"{workload.service} {perf_counter()}\n")
        self._restarted.add(workload.service)
        return "restarted"

    async def check(self, check: Check, workload: Workload) -> Reading:
        healthy = workload.service in self._restarted
        return Reading(Probe.HOLDS, "healthy") if healthy else Reading(Probe.FAILS, "stopped")

    async def diagnose(self, diagnosis: Diagnosis, workload: Workload) -> Evidence:
        return Evidence(diagnosis.name, "", {})

    def describe(self, step: Step | Diagnosis, workload: Workload) -> str:
        return f"{step.name} {workload.name}"

    async def mark(self, step: Step, workload: Workload) -> Facts:
        return {}

    async def observe(self, step: Step, workload: Workload, mark: Facts) -> Observation:
        return Observation(Happened.YES if workload.service in self._restarted else Happened.NO, "")


def calls(directory: Path) -> Mapping[str, float]:
    """When each service was restarted, by name. Raises ValueError if one was restarted twice."""
    lines = [line.split() for line in (directory / "calls").read_text().splitlines()]
    at = {service: float(when) for service, when in lines}
    if len(at) != len(lines):
        raise ValueError("a service was restarted twice")
    return at


async def run(directory: Path, stable_for: str = STABLE_FOR) -> None:
    """`stable_for`: how long each run goes on looking at its target after the call."""
    playbooks = directory / "playbooks"
    playbooks.mkdir()
    (playbooks / "queue-backlog.yaml").write_text(PLAYBOOK.replace(STABLE_FOR, stable_for))
    token = directory / "token"
    token.write_text(TOKEN)
    settings = Settings(
        mode=Mode.AUTO,
        playbooks=playbooks,
        store=f"sqlite:///{directory / 'remediator.db'}",
        listen="127.0.0.1:0",
        webhook_token_file=token,
        max_actions=(LIMIT,),
        storm=StormSection(targets=100_000, window=timedelta(seconds=1)),  # each alert has a target of its own: no storm
    )
    platform = InstantPlatform(directory / "calls")
    around = Surroundings(World({platform.name: platform}, {platform.name: platform}))
    await serve(settings, make_log("json", "info"), around)


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), *sys.argv[2:]))
