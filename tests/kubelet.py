"""What kubelets would do, on a control plane without nodes: pods become ready, unless their image says that they cannot."""

from typing import Any

from aiohttp import ClientSession

from tests.kubernetes_fake import now

BROKEN = "broken"
"""An image of this name fails again and again."""


async def keep(session: ClientSession, url: str, namespace: str) -> int:
    """One round over the pods of a namespace; how many of them had to be changed."""
    pods = f"{url}/api/v1/namespaces/{namespace}/pods"
    changed = 0
    async with session.get(pods) as answer:
        listed = (await answer.json())["items"]
    for pod in listed:
        path = f"{pods}/{pod['metadata']['name']}"
        if pod["metadata"].get("deletionTimestamp"):
            async with session.delete(path, json={"gracePeriodSeconds": 0}) as answer:
                changed += answer.ok
        elif pod["status"].get("phase", "Pending") == "Pending" and not pod["status"].get("containerStatuses"):
            headers = {"Content-Type": "application/merge-patch+json"}
            async with session.patch(f"{path}/status", json={"status": _status(pod)}, headers=headers) as answer:
                changed += answer.ok
    return changed


def _status(pod: dict[str, Any]) -> dict[str, Any]:
    container = pod["spec"]["containers"][0]
    one = {"name": container["name"], "image": container["image"], "imageID": "", "containerID": "fake://1"}
    if container["image"].startswith(BROKEN):
        ended = {"exitCode": 3, "reason": "Error", "containerID": "fake://0", "startedAt": now(), "finishedAt": now()}
        state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}}
        failing = {**one, "ready": False, "restartCount": 4, "state": state, "lastState": {"terminated": ended}}
        return {"phase": "Running", "conditions": [_condition("False")], "containerStatuses": [failing]}
    running = {**one, "ready": True, "started": True, "restartCount": 0, "state": {"running": {"startedAt": now()}}}
    return {"phase": "Running", "startTime": now(), "conditions": [_condition("True")], "containerStatuses": [running]}


def _condition(status: str) -> dict[str, str]:
    return {"type": "Ready", "status": status, "lastTransitionTime": now()}
