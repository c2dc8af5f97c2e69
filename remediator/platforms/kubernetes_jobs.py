"""CronJobs: a Job made of one now, as `kubectl create job --from` makes it, and how the newest one went. Only reads."""

from collections.abc import Sequence

from remediator.platforms.kubernetes_api import KubernetesApi, NotThere
from remediator.platforms.kubernetes_objects import BATCH, Controller, under
from remediator.ports import Facts, Happened, Observation, PermanentError, Probe, Reading

NAME_MAX = 63
"""Of a Job: its pods bear it as a label."""


async def jobs_of(controller: Controller, api: KubernetesApi) -> Sequence[Facts]:
    """Newest first. Raises TransientError or PermanentError."""
    listed = await api.items(under(controller.namespace, "jobs", BATCH))
    own = [told for told in listed if controller.owns(told)]
    return sorted(own, key=lambda told: str(told["metadata"]["creationTimestamp"]), reverse=True)


def job_name(controller: Controller, action: str) -> str:
    """Unique to the action: a Job of that name is made once."""
    return f"{controller.name[: NAME_MAX - len(action) - 1]}-{action}"


def job_from(controller: Controller, name: str) -> Facts:
    """As kubectl makes it (kubectl/pkg/cmd/create/create_job.go). Raises PermanentError while none may run beside another."""
    if controller.spec.get("concurrencyPolicy") == "Forbid" and controller.status.get("active"):
        raise PermanentError(f"a Job of {controller.full_name} runs, and it allows no second one")
    template = controller.spec["jobTemplate"]
    metadata = template.get("metadata") or {}
    owner = {
        "apiVersion": BATCH,
        "kind": "CronJob",
        "name": controller.name,
        "uid": controller.uid,
        "controller": True,
    }
    return {
        "apiVersion": BATCH,
        "kind": "Job",
        "metadata": {
            "name": name,
            "labels": metadata.get("labels") or {},
            "annotations": {**(metadata.get("annotations") or {}), "cronjob.kubernetes.io/instantiate": "manual"},
            "ownerReferences": [owner],
        },
        "spec": template["spec"],
    }


def finished(controller: Controller, jobs: Sequence[Facts]) -> Reading:
    """HOLDS if its newest Job is complete."""
    if not jobs:
        return Reading(Probe.FAILS, f"no Job of {controller.full_name} is left")
    name, status = jobs[0]["metadata"]["name"], jobs[0].get("status") or {}
    for condition in status.get("conditions") or ():
        if condition["status"] == "True" and condition["type"] in ("Complete", "Failed"):
            probe = Probe.HOLDS if condition["type"] == "Complete" else Probe.FAILS
            return Reading(probe, f"the Job {name} is {condition['type'].lower()} {condition.get('message', '')}".rstrip())
    return Reading(Probe.FAILS, f"the Job {name} has not finished yet")


async def made(controller: Controller, name: str, api: KubernetesApi) -> Observation:
    """Whether there is a Job of that name. Where finished ones are removed at once, that there is none says nothing."""
    try:
        await api.get(f"{under(controller.namespace, 'jobs', BATCH)}/{name}")
    except NotThere:
        vanish = controller.spec.get("successfulJobsHistoryLimit") == 0
        vanish = vanish or controller.spec["jobTemplate"]["spec"].get("ttlSecondsAfterFinished") is not None
        return Observation(Happened.UNKNOWN if vanish else Happened.NO, f"there is no Job {name}")
    return Observation(Happened.YES, f"there is the Job {name}")
