"""Whether a roll-out is complete, by the rules of `kubectl rollout status` (kubectl/pkg/polymorphichelpers/rollout_status.go).

Where the strategy is OnDelete, which kubectl refuses to judge, the pods count and not how new they are. Pure.
"""

from collections.abc import Iterator

from remediator.platforms.kubernetes_objects import Controller
from remediator.ports import Probe, Reading


def rolled_out(controller: Controller) -> Reading:
    """HOLDS if everything wanted is there, new and available; a target that is scaled to nothing does not serve."""
    unmet = next(_unmet(controller), "")
    if unmet:
        return Reading(Probe.FAILS, f"{controller.full_name}: {unmet}")
    return Reading(Probe.HOLDS, f"{controller.full_name} is rolled out, {controller.wanted} of {controller.wanted} available")


def _unmet(controller: Controller) -> Iterator[str]:
    """What is missing, the most telling first."""
    if controller.wanted == 0:
        yield "is scaled to 0"
    if controller.status.get("observedGeneration", 0) < controller.told["metadata"].get("generation", 0):
        yield "its last change has not been observed yet"
    match controller.kind:
        case "deployment":
            yield from _of_deployment(controller)
        case "statefulset":
            yield from _of_stateful_set(controller)
        case _:
            yield from _of_daemon_set(controller)


def _of_deployment(controller: Controller) -> Iterator[str]:
    status, wanted = controller.status, controller.wanted
    updated, there, available = (status.get(name, 0) for name in ("updatedReplicas", "replicas", "availableReplicas"))
    for condition in status.get("conditions") or ():
        if condition["type"] == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded":
            yield f"the roll-out exceeded its progress deadline: {condition.get('message', '')}"
    if updated < wanted:
        yield f"{updated} of {wanted} instances are updated"
    if there > updated:
        yield f"{there - updated} old instances are still there"
    if available < updated:
        yield f"{available} of {updated} updated instances are available"


def _of_stateful_set(controller: Controller) -> Iterator[str]:
    status, wanted = controller.status, controller.wanted
    strategy = controller.spec.get("updateStrategy") or {}
    ready, updated = status.get("readyReplicas", 0), status.get("updatedReplicas", 0)
    partition = (strategy.get("rollingUpdate") or {}).get("partition") or 0
    if ready < wanted:
        yield f"{ready} of {wanted} instances are ready"
    if strategy.get("type") == "OnDelete":
        return
    if updated < wanted - partition:
        yield f"{updated} of {wanted - partition} instances are updated"
    if not partition and status.get("updateRevision") != status.get("currentRevision"):
        yield f"{updated} instances are at revision {status.get('updateRevision')}, not all"


def _of_daemon_set(controller: Controller) -> Iterator[str]:
    status, wanted = controller.status, controller.wanted
    updated, available = status.get("updatedNumberScheduled", 0), status.get("numberAvailable", 0)
    if updated < wanted and (controller.spec.get("updateStrategy") or {}).get("type") != "OnDelete":
        yield f"{updated} of {wanted} instances are updated"
    if available < wanted:
        yield f"{available} of {wanted} instances are available"
