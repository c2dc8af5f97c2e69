"""Kubernetes, the writing side: roll-outs, scaling, removing pods, exec. Only built where something may act.

It acts on the very workload that was decided upon, in the version that it looks at right before: one that was made anew is
refused, and one that somebody else changes in between is left alone (409) and decided about again.
"""

from typing import assert_never

from remediator.core.step import (
    Cordon,
    DeletePod,
    Drain,
    Evict,
    Exec,
    Prune,
    Restart,
    Rollback,
    Scale,
    ServiceStep,
    Start,
    Step,
    Stop,
    Uncordon,
)
from remediator.core.target import Workload
from remediator.platforms import exec_evidence, exec_said
from remediator.platforms.kubernetes_api import JSON_PATCH, MERGE_PATCH, KubernetesApi
from remediator.platforms.kubernetes_commands import lacks, unsupported
from remediator.platforms.kubernetes_exec import first_running
from remediator.platforms.kubernetes_jobs import job_from
from remediator.platforms.kubernetes_lookup import autoscaler_of, controller_of
from remediator.platforms.kubernetes_objects import ACTION, BATCH, REPLICAS, RESTARTED_AT, Controller, under
from remediator.platforms.kubernetes_revisions import named, revisions, undo
from remediator.ports import Evidence, Facts, PermanentError, TransientError


class KubernetesActuator:
    """Changes workloads through one API server."""

    def __init__(self, api: KubernetesApi) -> None:
        self._api = api

    async def perform(self, step: Step, workload: Workload, mark: Facts) -> str:
        """One request that changes something, after those that look once more."""
        if workload.protected:
            raise PermanentError(f"{workload.id} {workload.protected}")
        if isinstance(step, ServiceStep) or step.name in lacks(workload.kind):
            raise unsupported(step)
        match step:
            case Restart():
                return await self._restart(await self._as_decided(workload, mark), mark)
            case Rollback(to):
                return await self._roll_back(to, await self._as_decided(workload, mark))
            case Stop():
                return await self._stop(await self._as_decided(workload, mark))
            case Start():
                return await self._start(await self._as_decided(workload, mark), mark)
            case Scale():
                return await self._scale(await self._as_decided(workload, mark), mark)
            case Evict(pod):
                return await self._evict(await self._as_decided(workload, mark), _told_apart(pod, workload, mark))
            case DeletePod(pod):
                return await self._delete(await self._as_decided(workload, mark), _told_apart(pod, workload, mark))
            case Exec():
                return exec_said(*await self._exec(step, workload))
            case Prune() | Cordon() | Uncordon() | Drain():
                raise unsupported(step)
            case _:
                assert_never(step)

    async def diagnose_exec(self, diagnosis: Exec, workload: Workload) -> Evidence:
        """Run a command for its output. The caller has checked the opt-in."""
        return exec_evidence(*await self._exec(diagnosis, workload))

    async def _as_decided(self, workload: Workload, mark: Facts) -> Controller:
        controller = await controller_of(workload, self._api)
        if controller.uid != mark["uid"]:
            raise PermanentError(f"{workload.id} was deleted and made anew since it was decided upon")
        return controller

    async def _restart(self, controller: Controller, mark: Facts) -> str:
        """As `kubectl rollout restart`, with the id of the action beside its time."""
        _rolls_out(controller)
        annotations = {RESTARTED_AT: mark["at"], ACTION: mark["action"]}
        await self._merge(controller, {"spec": {"template": {"metadata": {"annotations": annotations}}}})
        return f"restarting the pods of {controller.full_name} ({ACTION}={mark['action']})"

    async def _roll_back(self, to: str, controller: Controller) -> str:
        """As `kubectl rollout undo`, to the revision that runs that release."""
        _rolls_out(controller)
        revision = named(to, controller, await revisions(controller, self._api))
        if revision.release == controller.release:
            raise PermanentError(f"{controller.full_name} is to run {to} already")
        await self._api.patch(controller.path, undo(controller, revision), JSON_PATCH)
        return f"rolling {controller.full_name} back to revision {revision.number} ({revision.release})"

    async def _stop(self, controller: Controller) -> str:
        """To 0, and remember how many there were: `start` goes back to it."""
        if controller.wanted == 0:
            return f"{controller.full_name} was at 0 already"
        annotations = {REPLICAS: str(controller.wanted)}
        await self._merge(controller, {"metadata": {"annotations": annotations}, "spec": {"replicas": 0}})
        return f"scaled {controller.full_name} from {controller.wanted} to 0"

    async def _start(self, controller: Controller, mark: Facts) -> str:
        if controller.kind == "cronjob":
            await self._api.post(under(controller.namespace, "jobs", BATCH), job_from(controller, mark["job"]))
            return f"made the Job {mark['job']} of {controller.full_name}"
        if controller.wanted:
            return f"{controller.full_name} was not at 0: there was nothing to do"
        await self._merge(controller, {"metadata": {"annotations": {REPLICAS: None}}, "spec": {"replicas": mark["to"]}})
        return f"scaled {controller.full_name} from 0 to {mark['to']}"

    async def _scale(self, controller: Controller, mark: Facts) -> str:
        """By the scale subresource; or, where an autoscaler is in charge, by its bounds."""
        if mark["to"] == mark["replicas"]:
            raise PermanentError(f"{controller.full_name} has {mark['replicas']} instances, and may have no more")
        autoscaler = await autoscaler_of(controller, self._api)
        if "bounds" in mark:
            if autoscaler is None or (autoscaler.name, autoscaler.bounds) != (mark["autoscaler"], mark["bounds"]):
                raise TransientError(f"not sent: the autoscaler of {controller.full_name} has changed meanwhile")
            await self._api.patch(autoscaler.path, _as_seen(autoscaler.told, {"spec": mark["raised"]}), MERGE_PATCH)
            return f"set the bounds of the autoscaler {autoscaler.name} from {mark['bounds']} to {mark['raised']}"
        if autoscaler is not None or controller.wanted != mark["replicas"]:
            raise TransientError(f"not sent: somebody else has scaled {controller.full_name} meanwhile")
        scale = _as_seen(controller.told, {"spec": {"replicas": mark["to"]}})
        await self._api.patch(f"{controller.path}/scale", scale, MERGE_PATCH)
        return f"scaled {controller.full_name} from {mark['replicas']} to {mark['to']}"

    async def _evict(self, controller: Controller, mark: Facts) -> str:
        await evict(controller.namespace, mark["pod"], mark["pod_uid"], self._api)
        return f"evicted the pod {mark['pod']}"

    async def _delete(self, controller: Controller, mark: Facts) -> str:
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": mark["pod_uid"]}}
        await self._api.delete(f"{under(controller.namespace, 'pods', 'v1')}/{mark['pod']}", body)
        return f"deleted the pod {mark['pod']}"

    async def _exec(self, step: Exec, workload: Workload) -> tuple[str, int, str]:
        name = first_running(workload)
        code, output = await self._api.execute(step, name)
        return name, code, output

    async def _merge(self, controller: Controller, change: Facts) -> None:
        await self._api.patch(controller.path, _as_seen(controller.told, change), MERGE_PATCH)


def _as_seen(told: Facts, change: Facts) -> Facts:
    """The change, for the version that was looked at: of any other the API server makes a conflict (409)."""
    metadata = {**change.get("metadata", {}), "resourceVersion": told["metadata"]["resourceVersion"]}
    return {**change, "metadata": metadata}


def _told_apart(pod: str, workload: Workload, mark: Facts) -> Facts:
    """The mark, if it says which pod it is. Raises PermanentError."""
    if "pod" in mark:
        return mark
    if pod:
        raise PermanentError(f"{workload.id} has no pod {pod}")
    raise PermanentError(f"not exactly one pod of {workload.id} is not ready: name the one that shall go")


async def evict(namespace: str, name: str, uid: str, api: KubernetesApi) -> None:
    """Evict this pod, and no later one of the same name. Raises BudgetExhausted where a disruption budget forbids it."""
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"namespace": namespace, "name": name},
        "deleteOptions": {"preconditions": {"uid": uid}},
    }
    await api.post(f"{under(namespace, 'pods', 'v1')}/{name}/eviction", body)


def _rolls_out(controller: Controller) -> None:
    """Raises PermanentError where another pod template would replace no pod."""
    if controller.paused:
        raise PermanentError(f"{controller.full_name} is paused; resume it first: kubectl rollout resume")
    if (controller.spec.get("updateStrategy") or {}).get("type") == "OnDelete":
        raise PermanentError(f"{controller.full_name} replaces a pod only when it is deleted (OnDelete)")
