"""Nodes of a cluster, as targets of their own: cordon, uncordon, drain. Off unless configured: the rights are the cluster's.

A node opts in by its own annotation; what runs on it need not, but is moved only as far as its disruption budgets allow.
"""

import asyncio
from collections.abc import Sequence
from urllib.parse import quote

from remediator.core.step import (
    STEPS,
    Check,
    Cordon,
    Diagnosis,
    Drain,
    Events,
    Healthy,
    Inspect,
    NodeStep,
    Step,
    Uncordon,
)
from remediator.core.target import Selection, Workload
from remediator.platforms import readable
from remediator.platforms.kubernetes_actions import evict
from remediator.platforms.kubernetes_api import MERGE_PATCH, BudgetExhausted, KubernetesApi, NotThere
from remediator.platforms.kubernetes_commands import unsupported
from remediator.platforms.kubernetes_objects import ALLOW, PROTECTED, Pod, controlling, under
from remediator.ports import (
    Evidence,
    Facts,
    Happened,
    Observation,
    OutcomeUnknown,
    PermanentError,
    PortError,
    Probe,
    Reading,
    TransientError,
)

STATIC = "kubernetes.io/config.mirror"
"""Annotation of pods that a kubelet runs by itself: they cannot be evicted."""
LOOK_AGAIN_SECONDS = 5.0
OURS = frozenset({Cordon.name, Uncordon.name, Drain.name})
LACKS = frozenset(step.name for step in STEPS if not step.service) - OURS


class KubernetesNodes:
    """Reads the nodes of one cluster. `own_pod` (`namespace/name`) is remediator's own: the node that it is on is protected."""

    name = "kubernetes-nodes"

    def __init__(self, api: KubernetesApi, own_pod: str = "") -> None:
        self._api = api
        self._own_pod = own_pod

    async def find(self, selection: Selection) -> Sequence[Workload]:
        """By `node` alone."""
        if selection.fields.keys() != {"node"}:
            return ()
        try:
            node = await self._api.get(_path(selection.fields["node"]))
        except NotThere:
            return ()
        return [await self._workload(node)]

    async def diagnose(self, diagnosis: Diagnosis, workload: Workload) -> Evidence:
        match diagnosis:
            case Inspect():
                node = await self._api.get(_path(workload.name))
                pods = await pods_on(workload.name, self._api)
                lines = [f"{workload.name} is {'cordoned' if _cordoned(node) else 'schedulable'}, with {len(pods)} pods"]
                lines += [
                    f"{told['type']} {told['status']} {told.get('reason', '')}: {told.get('message', '')}"
                    for told in node["status"].get("conditions") or ()
                ]
                return Evidence(Inspect.name, readable("\n".join([*lines, *(pod.full_name for pod in pods)])))
            case Events():
                fields = f"involvedObject.kind=Node,involvedObject.name={workload.name}"
                listed = await self._api.items(under("", "events", "v1"), fieldSelector=fields)
                lines = [f"{told.get('lastTimestamp')} {told.get('reason')}: {told.get('message', '')}" for told in listed]
                return Evidence(Events.name, readable("\n".join(sorted(lines)) or "no events"))
            case _:
                raise unsupported(diagnosis)

    async def check(self, check: Check, workload: Workload) -> Reading:
        """`healthy`: the node is ready, or it is cordoned and nothing that could move is left on it."""
        if not isinstance(check, Healthy):
            return Reading(Probe.UNKNOWN, str(unsupported(check)))
        try:
            node = await self._api.get(_path(workload.name))
            left = await evictable(workload.name, self._api)
        except PortError as error:
            return Reading(Probe.UNKNOWN, str(error))
        if _is_ready(node):
            return Reading(Probe.HOLDS, f"{workload.name} is ready")
        emptied = _cordoned(node) and not left
        return Reading(Probe.HOLDS if emptied else Probe.FAILS, f"{workload.name} is not ready, {len(left)} pods are to move")

    def describe(self, step: Step | Diagnosis, workload: Workload) -> str:
        match step:
            case Cordon() | Uncordon():
                return f"kubectl {step.name} {workload.name}"
            case Drain(timeout):
                seconds = int(timeout.total_seconds())
                return f"kubectl drain {workload.name} --ignore-daemonsets --delete-emptydir-data --timeout={seconds}s"
            case Inspect():
                return f"kubectl describe node {workload.name}"
            case Events():
                return f"kubectl events -A --for=node/{workload.name}"
            case _:
                raise unsupported(step)

    async def mark(self, step: Step, workload: Workload) -> Facts:
        """Whether the node was cordoned, and which pods were to move."""
        if not isinstance(step, NodeStep):
            raise unsupported(step)
        node = await self._api.get(_path(workload.name))
        pods = await evictable(workload.name, self._api) if isinstance(step, Drain) else []
        return {"cordoned": _cordoned(node), "pods": [pod.uid for pod in pods]}

    async def observe(self, step: Step, workload: Workload, mark: Facts) -> Observation:
        """A drain that was not finished is half done: nobody but a person goes on with it."""
        if not isinstance(step, NodeStep):
            raise unsupported(step)
        cordoned = _cordoned(await self._api.get(_path(workload.name)))
        seen = f"{workload.name} is {'cordoned' if cordoned else 'schedulable'}"
        if cordoned is isinstance(step, Uncordon):
            return Observation(Happened.NO, seen)
        if isinstance(step, Drain):
            left = await evictable(workload.name, self._api)
            return Observation(Happened.UNKNOWN if left else Happened.YES, f"{seen}, {len(left)} pods are left on it")
        return Observation(Happened.YES, seen)

    async def _workload(self, node: Facts) -> Workload:
        name, annotations = node["metadata"]["name"], node["metadata"].get("annotations") or {}
        allow = frozenset(filter(None, map(str.strip, annotations.get(ALLOW, "").split(","))))
        protected = ""
        if annotations.get(PROTECTED, "false").lower() != "false":
            protected = f"is protected by its annotation {PROTECTED}={annotations[PROTECTED]}"
        elif self._own_pod and self._own_pod in {pod.full_name for pod in await pods_on(name, self._api)}:
            protected = "is where remediator itself runs"
        return Workload(self.name, "node", name, allow=allow, protected=protected, lacks=LACKS)


class KubernetesNodesActuator:
    """Changes nodes of one cluster."""

    def __init__(self, api: KubernetesApi) -> None:
        self._api = api

    async def perform(self, step: Step, workload: Workload, mark: Facts) -> str:
        if workload.protected:
            raise PermanentError(f"{workload.id} {workload.protected}")
        match step:
            case Cordon():
                await self._schedulable(workload.name, allowed=False)
                return f"cordoned {workload.name}"
            case Uncordon():
                await self._schedulable(workload.name, allowed=True)
                return f"uncordoned {workload.name}"
            case Drain(timeout):
                return await self._drain(workload.name, timeout.total_seconds())
            case _:
                raise unsupported(step)

    async def _schedulable(self, name: str, *, allowed: bool) -> None:
        await self._api.patch(_path(name), {"spec": {"unschedulable": None if allowed else True}}, MERGE_PATCH)

    async def _drain(self, name: str, seconds: float) -> str:
        """Cordon, then evict again and again what budgets have spared, until nothing is left or the time is over."""
        stray = [pod.full_name for pod in await evictable(name, self._api) if not controlling(pod.told)]
        if stray:
            raise PermanentError(f"nothing would make these pods of {name} anew: {', '.join(stray)}")
        await self._schedulable(name, allowed=False)
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + seconds
        try:
            while left := await evictable(name, self._api):
                for pod in left:
                    await self._evict_if_allowed(pod)
                if loop.time() + LOOK_AGAIN_SECONDS > ends_at:
                    raise PermanentError(f"cordoned {name}, but {len(left)} pods are left on it: {left[0].full_name}, ...")
                await asyncio.sleep(LOOK_AGAIN_SECONDS)
        except TransientError as error:
            raise OutcomeUnknown(f"cordoned {name}, and did not get to the end of it: {error}") from error
        return f"drained {name}"

    async def _evict_if_allowed(self, pod: Pod) -> None:
        """One that is gone, is going, or must stay for now is left to the next round."""
        if pod.told["metadata"].get("deletionTimestamp"):
            return
        namespace = pod.told["metadata"]["namespace"]
        try:
            await evict(namespace, pod.name, pod.uid, self._api)
        except (BudgetExhausted, NotThere):
            return


async def pods_on(node: str, api: KubernetesApi) -> Sequence[Pod]:
    """Those of a node that have not come to an end."""
    listed = await api.items(under("", "pods", "v1"), fieldSelector=f"spec.nodeName={node}")
    pods = [Pod(told) for told in listed]
    return [pod for pod in pods if pod.status.get("phase") not in ("Succeeded", "Failed")]


async def evictable(node: str, api: KubernetesApi) -> Sequence[Pod]:
    """Without those of DaemonSets, which would come back at once, and of the kubelet itself; as `kubectl drain` counts them."""
    pods = await pods_on(node, api)
    return [
        pod
        for pod in pods
        if controlling(pod.told).get("kind") != "DaemonSet" and STATIC not in (pod.told["metadata"].get("annotations") or {})
    ]


def _path(name: str) -> str:
    return f"/api/v1/nodes/{quote(name, safe='')}"


def _cordoned(node: Facts) -> bool:
    return bool(node["spec"].get("unschedulable"))


def _is_ready(node: Facts) -> bool:
    conditions = node["status"].get("conditions") or ()
    return any(told["type"] == "Ready" and told["status"] == "True" for told in conditions)
