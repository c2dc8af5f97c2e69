"""A workload as it is now, and what belongs to it. Sends only GET requests."""

from collections.abc import Sequence

from remediator.core.target import Workload
from remediator.platforms.kubernetes_api import KubernetesApi
from remediator.platforms.kubernetes_jobs import finished, jobs_of
from remediator.platforms.kubernetes_objects import Controller, Pod, owner_of, path_of, under
from remediator.platforms.kubernetes_rollout import rolled_out
from remediator.platforms.kubernetes_scaling import AUTOSCALERS, AUTOSCALING, Autoscaler, in_charge
from remediator.ports import Facts, Reading


async def controller_of(workload: Workload, api: KubernetesApi) -> Controller:
    """Raises NotThere, TransientError or PermanentError, as all here do."""
    return Controller(workload.kind, await api.get(path_of(workload.kind, workload.name)))


async def pods_of(controller: Controller, api: KubernetesApi) -> Sequence[Pod]:
    """Its pods, in order of their names, those that are over too. Others may have its labels: its own are controlled by it.

    Those of a CronJob are its newest Job's.
    """
    if controller.kind == "cronjob":
        return await _pods_of_newest(await jobs_of(controller, api), api)
    listed = await api.items(under(controller.namespace, "pods", "v1"), labelSelector=controller.selector)
    owners = {controller.uid}
    if controller.kind == "deployment":
        sets = await api.items(under(controller.namespace, "replicasets"), labelSelector=controller.selector)
        owners = {str(told["metadata"]["uid"]) for told in sets if controller.owns(told)}
    return sorted((Pod(told) for told in listed if owner_of(told) in owners), key=lambda pod: pod.name)


async def live_pods_of(controller: Controller, api: KubernetesApi) -> Sequence[Pod]:
    """Those of its pods that serve, or will; of a CronJob all, since they are to come to an end."""
    pods = await pods_of(controller, api)
    return pods if controller.kind == "cronjob" else [pod for pod in pods if not pod.is_over]


async def state_of(controller: Controller, api: KubernetesApi) -> Reading:
    """Whether its roll-out is complete, or its newest Job."""
    if controller.kind == "cronjob":
        return finished(controller, await jobs_of(controller, api))
    return rolled_out(controller)


async def _pods_of_newest(jobs: Sequence[Facts], api: KubernetesApi) -> Sequence[Pod]:
    if not jobs:
        return []
    metadata = jobs[0]["metadata"]
    listed = await api.items(under(metadata["namespace"], "pods", "v1"), labelSelector=f"job-name={metadata['name']}")
    return [Pod(told) for told in listed if owner_of(told) == metadata["uid"]]


async def autoscaler_of(controller: Controller, api: KubernetesApi) -> Autoscaler | None:
    return in_charge(controller, await api.items(under(controller.namespace, AUTOSCALERS, AUTOSCALING)))
