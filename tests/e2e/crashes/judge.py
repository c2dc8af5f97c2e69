"""The verdict on a round: by the engine's own events and the ledger, not by what remediator says of itself."""

from collections import Counter
from collections.abc import Sequence
from time import monotonic, sleep

from tests.e2e.crashes.books import ENDED, Facts
from tests.e2e.crashes.scene import Scene

ROUND_SECONDS_MAX = 45.0


def judge(scene: Scene, services: Sequence[str]) -> None:
    """Wait for the end of every run; one run, one intent and one restart for each service, or it is a problem."""
    if not _have_ended(scene, services):
        scene.problems.append(f"lost or stuck: {scene.books.story(services)}")
        return
    for service in services:
        _judge_one(scene, service)


def _have_ended(scene: Scene, services: Sequence[str]) -> bool:
    ends_at = monotonic() + ROUND_SECONDS_MAX
    while set(services) - {run["service"] for run in scene.books.runs(services) if run["state"] in ENDED}:
        if monotonic() > ends_at:
            return False
        sleep(0.1)
    return True


def _judge_one(scene: Scene, service: str) -> None:
    runs = scene.books.runs([service])
    if len(runs) != 1 or (runs[0]["state"], runs[0]["reason"]) != ("succeeded", "verified"):
        scene.problems.append(f"not one verified run: {scene.books.story([service])}")
        return
    timeline = scene.books.timeline(runs[0])
    kinds = Counter(row["kind"] for row in timeline)
    if not any(row["kind"] == "decision" and row["data"]["verdicts"] for row in timeline) or kinds["intent"] != 1:
        scene.problems.append(f"not explained, or not begun once: {scene.books.story([service])}")
    scene.tally.goes[kinds["go"]] += 1
    scene.tally.observed.update(row["data"]["happened"] for row in timeline if row["kind"] == "observation")
    if runs[0]["id"] in scene.stopped and _first_fate(timeline) in ("no", "not_sent"):
        scene.tally.withheld += 1
    actions = scene.events.actions(service)
    counted = Counter(actions)
    scene.tally.restarts[counted["restart"]] += 1
    # It was started when it was made; then a restart is one die, one start and the word restart.
    if (counted["die"], counted["start"], counted["restart"]) != (1, 2, 1):
        scene.problems.append(f"not restarted exactly once, but {actions}: {scene.books.story([service])}")


def _first_fate(timeline: Sequence[Facts]) -> str:
    """What became of the run's first call, as far as that was found out."""
    fates = [
        row["data"].get("happened") or row["data"]["outcome"] for row in timeline if row["kind"] in ("outcome", "observation")
    ]
    return next((fate for fate in fates if fate not in ("in_doubt", "unknown")), "")
