"""What kubelets would do, on a control plane without nodes: pods become ready, unless their image says that they cannot."""

from contextlib import suppress
from typing import Any

from remediator.platforms.kubernetes_api import MERGE_PATCH, KubernetesApi
from remediator.platforms.kubernetes_objects import under
from remediator.ports import PortError
from tests.kubernetes_fake import now

BROKEN = "broken"
"""An image of this name fails again and again."""


async def keep(admin: KubernetesApi, namespace: str) -> int:
    """One round over the pods of a namespace; how many of them had to be changed."""
    pods = under(namespace, "pods", "v1")
    changed = 0
    for pod in await admin.items(pods):
        path = f"{pods}/{pod['metadata']['name']}"
        with suppress(PortError):  # somebody else was faster
            if pod["metadata"].get("deletionTimestamp"):
                await admin.delete(path, {"gracePeriodSeconds": 0})
                changed += 1
            elif pod["status"].get("phase", "Pending") == "Pending" and not pod["status"].get("containerStatuses"):
                await admin.patch(f"{path}/status", {"status": _status(pod)}, MERGE_PATCH)
                changed += 1
    return changed


def _status(pod: dict[str, Any]) -> dict[str, Any]:
    container = pod["spec"]["containers"][0]
    one = {"name": container["name"], "image": container["image"], "imageID": "", "containerID": "fake://1"}
    if pod["spec"].get("restartPolicy") == "Never":
        code = 3 if container["image"].startswith(BROKEN) else 0
        over = {**one, "ready": False, "restartCount": 0, "state": {"terminated": {"exitCode": code, "finishedAt": now()}}}
        return {"phase": "Failed" if code else "Succeeded", "containerStatuses": [over]}
    if container["image"].startswith(BROKEN):
        ended = {"exitCode": 3, "reason": "Error", "containerID": "fake://0", "startedAt": now(), "finishedAt": now()}
        state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}}
        failing = {**one, "ready": False, "restartCount": 4, "state": state, "lastState": {"terminated": ended}}
        return {"phase": "Running", "conditions": [_condition("False")], "containerStatuses": [failing]}
    running = {**one, "ready": True, "started": True, "restartCount": 0, "state": {"running": {"startedAt": now()}}}
    return {"phase": "Running", "startTime": now(), "conditions": [_condition("True")], "containerStatuses": [running]}


def _condition(status: str) -> dict[str, str]:
    return {"type": "Ready", "status": status, "lastTransitionTime": now()}
