"""What is done to the replicas and to their database, and what must be so right after it."""

from collections.abc import Sequence
from enum import StrEnum
from time import monotonic, sleep

from tests.e2e.crashes.aims import WITHIN_SECONDS, Aim
from tests.e2e.crashes.scene import LEASE_SECONDS, Scene
from tests.e2e.remediator_process import RemediatorProcess

TAKEOVER_SECONDS_MAX = 20.0
"""When to stop waiting for it; how long it may take is judged over all rounds."""
READY_AGAIN_SECONDS_MAX = 15.0
QUEUE_SECONDS = 0.2
"""Right after the first go its call is about to be sent; a little later others wait behind it, fit to be sent, too."""
CALLED = "called"


class Blow(StrEnum):
    KILL = "SIGKILL"
    TERMINATE = "SIGTERM"
    SUSPEND = "SIGSTOP"
    CRASH_DATABASE = "database crash"


def kill(scene: Scene, victims: Sequence[RemediatorProcess], aim: Aim) -> None:
    """SIGKILL, and a start. Who lives has taken over what the dead held before that start."""
    replicas = [victim.replica for victim in victims]
    for victim in victims:
        victim.kill()
    began = monotonic()
    scene.tally.kills[aim] += len(victims)
    scene.tally.hit.update(run["state"] for run in scene.books.under_way())
    scene.tally.unread += scene.books.unread()
    if scene.others(victims) and _is_taken_over(scene, replicas):
        scene.tally.takeovers.append(monotonic() - began)
    scene.start(victims)


def terminate(scene: Scene, victim: RemediatorProcess) -> None:
    """SIGTERM, and a start. It ends well, and leaves nothing to itself: others need not wait for its leases."""
    replica = victim.replica
    status = victim.terminate()
    scene.tally.others[Blow.TERMINATE] += 1
    if status != 0:
        scene.problems.append(f"it ended with status {status} at SIGTERM")
    if kept := scene.books.held_by(replica):
        scene.problems.append(f"it drained, and kept the leases of {[dict(run) for run in kept]}")
    scene.start([victim])


def suspend(scene: Scene, victim: RemediatorProcess) -> None:
    """SIGSTOP until its leases have run out, and others have taken over if there are others; then SIGCONT."""
    sleep(scene.chance.uniform(0.0, QUEUE_SECONDS))
    victim.suspend()
    scene.tally.others[Blow.SUSPEND] += 1
    scene.stopped.update(run["id"] for run in scene.books.held_by(victim.replica) if run["state"] == CALLED)
    try:
        if scene.others([victim]):
            _is_taken_over(scene, [victim.replica])
        else:
            sleep(LEASE_SECONDS)
        # It wakes while its run is observed, while that is called again, or when all is over.
        sleep(scene.chance.uniform(0.0, 8.0))
    finally:
        victim.wake()


def crash_database(scene: Scene, aim: Aim) -> None:
    """Immediately, one to three times; then every replica that was not killed is ready again by itself."""
    assert scene.database is not None
    starts = [replica.starts for replica in scene.replicas]
    for _ in range(scene.chance.randint(1, 3)):
        scene.database.end()
        scene.tally.others[Blow.CRASH_DATABASE] += 1
        sleep(scene.chance.uniform(0.0, 1.5 * LEASE_SECONDS))
        scene.database.start()
        sleep(scene.chance.uniform(0.0, 2.0))
    ends_at = monotonic() + READY_AGAIN_SECONDS_MAX
    while not all(replica.is_ready() for replica in scene.replicas):
        if monotonic() > ends_at:
            scene.problems.append("the database is back, and remediator is not ready again")
            return
        sleep(0.1)
    if [replica.starts for replica in scene.replicas] != starts or not all(each.is_running for each in scene.replicas):
        scene.problems.append(f"remediator did not outlive a crash of its database {aim}")


def strike(scene: Scene, blow: Blow, aim: Aim, seen_at: RemediatorProcess | None) -> None:
    """At the replica that was seen, or at any; where there are two, a third of the kills meet both."""
    sleep(scene.chance.uniform(0.0, WITHIN_SECONDS.get(aim, 0.0)))
    victim = seen_at or scene.chance.choice(scene.replicas)
    match blow:
        case Blow.KILL:
            kill(scene, scene.replicas if scene.chance.random() < 1 / 3 else [victim], aim)
        case Blow.TERMINATE:
            terminate(scene, victim)
        case Blow.SUSPEND:
            suspend(scene, victim)
        case Blow.CRASH_DATABASE:
            crash_database(scene, aim)


def _is_taken_over(scene: Scene, replicas: Sequence[str]) -> bool:
    """Wait until none of them holds a run any more; False if there was nothing to take over."""
    held = [run for run in scene.books.under_way() if run["lease_owner"] in replicas]
    scene.tally.taken_over.update(run["state"] for run in held)
    ends_at = monotonic() + TAKEOVER_SECONDS_MAX
    left = held
    while left:
        if monotonic() > ends_at:
            scene.problems.append(f"not taken over: {[dict(run) for run in left]}")
            return False
        sleep(0.02)
        left = [run for run in scene.books.under_way() if run["lease_owner"] in replicas]
    return bool(held)
