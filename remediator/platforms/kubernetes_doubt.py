"""What became of a step in doubt: what is there now against the mark. Pure."""

from collections.abc import Sequence

from remediator.platforms.kubernetes_objects import ACTION, Controller, Pod
from remediator.platforms.kubernetes_revisions import Revision
from remediator.platforms.kubernetes_scaling import Autoscaler
from remediator.ports import Facts, Happened, Observation


def another(controller: Controller, mark: Facts) -> Observation | None:
    """The workload was made anew since the mark: nothing of it tells what happened to the one before."""
    if controller.uid == mark.get("uid"):
        return None
    return Observation(Happened.UNKNOWN, f"{controller.full_name} was deleted and made anew meanwhile")


def restarted(controller: Controller, kept: Sequence[Revision], mark: Facts) -> Observation:
    """By the id of the action: in the pod template, or in one that has been replaced since then."""
    action = mark["action"]
    if any(_bears(template, action) for template in (controller.template, *(revision.template for revision in kept))):
        return Observation(Happened.YES, f"{controller.full_name} was rolled out with {ACTION}={action}")
    now = {"release": controller.release, "last": last_action(controller)}
    if now == {"release": mark["release"], "last": mark["last"]}:
        return Observation(Happened.NO, f"the pod template of {controller.full_name} is as before")
    return Observation(Happened.UNKNOWN, f"somebody else has changed the pod template of {controller.full_name} meanwhile")


def last_action(controller: Controller) -> str:
    """The restart that its pod template bears, or empty."""
    return str(((controller.template.get("metadata") or {}).get("annotations") or {}).get(ACTION, ""))


def rolled_back(to: str, controller: Controller, mark: Facts) -> Observation:
    if controller.release == to or (not to and controller.release != mark["release"]):
        return Observation(Happened.YES, f"{controller.full_name} is to run {controller.release}")
    if controller.release == mark["release"]:
        return Observation(Happened.NO, f"{controller.full_name} is still to run {controller.release}")
    return Observation(Happened.UNKNOWN, f"{controller.full_name} is to run {controller.release}, which is neither of the two")


def scaled(controller: Controller, autoscaler: Autoscaler | None, mark: Facts) -> Observation:
    """By the number that was changed: the workload's own, or its autoscaler's bounds."""
    if "bounds" in mark:
        name, was, to = f"the autoscaler {mark['autoscaler']}", mark["bounds"], mark["raised"]
        now: object = autoscaler.bounds if autoscaler and autoscaler.name == mark["autoscaler"] else None
    else:
        name, was, to, now = controller.full_name, mark["replicas"], mark["to"], controller.wanted
    if now == to:
        return Observation(Happened.YES, f"{name} is at {now}")
    if now == was:
        return Observation(Happened.NO, f"{name} is still at {now}")
    return Observation(Happened.UNKNOWN, f"{name} is at {now}, which is neither {was} nor {to}")


def removed(pods: Sequence[Pod], mark: Facts) -> Observation:
    """By the uid: another pod of the same name is another pod."""
    now = next((pod for pod in pods if pod.uid == mark["pod_uid"]), None)
    if now is None:
        return Observation(Happened.YES, f"the pod {mark['pod']} is gone")
    if now.told["metadata"].get("deletionTimestamp"):
        return Observation(Happened.YES, f"the pod {now.name} is being removed")
    return Observation(Happened.NO, f"the pod {now.name} is still there")


def _bears(template: Facts, action: str) -> bool:
    return ((template.get("metadata") or {}).get("annotations") or {}).get(ACTION) == action
