"""What the API tells of workloads and pods, and the annotations that a workload may bear. Pure."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any
from urllib.parse import quote

from remediator.core.target import Health, Instance
from remediator.ports import Facts

ALLOW = "remediator.io/allow"
SERVICE = "remediator.io/service"
PROTECTED = "remediator.io/protected"
ACTION = "remediator.io/action"
"""In a pod template: the restart that was the last to change it."""
REPLICAS = "remediator.io/replicas"
"""How many instances a workload had before it was stopped."""
RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
REVISION = "deployment.kubernetes.io/revision"

APPS, BATCH = "apps/v1", "batch/v1"
PLURALS = {"deployment": "deployments", "statefulset": "statefulsets", "daemonset": "daemonsets", "cronjob": "cronjobs"}
"""The kinds of workloads, as targets name them, and as paths of the API do."""
COMES_UP = frozenset({"ContainerCreating", "PodInitializing"})
"""What a container waits for that has nothing against it."""


@dataclass(frozen=True, slots=True)
class Controller:
    """A Deployment, StatefulSet, DaemonSet or CronJob as the API told it."""

    kind: str
    told: Facts

    @property
    def namespace(self) -> str:
        return str(self.told["metadata"]["namespace"])

    @property
    def name(self) -> str:
        return str(self.told["metadata"]["name"])

    @property
    def full_name(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def path(self) -> str:
        return path_of(self.kind, self.full_name)

    @property
    def uid(self) -> str:
        return str(self.told["metadata"]["uid"])

    @property
    def version(self) -> str:
        """The resourceVersion: a patch that names it changes nothing if anything else did in the meantime."""
        return str(self.told["metadata"]["resourceVersion"])

    @property
    def annotations(self) -> Mapping[str, str]:
        return self.told["metadata"].get("annotations") or {}

    @property
    def allow(self) -> frozenset[str]:
        """The steps that its owner opted in to."""
        return frozenset(filter(None, map(str.strip, self.annotations.get(ALLOW, "").split(","))))

    @property
    def spec(self) -> Facts:
        spec: Facts = self.told["spec"]
        return spec

    @property
    def status(self) -> Facts:
        status: Facts = self.told.get("status") or {}
        return status

    @property
    def template(self) -> Facts:
        spec = self.spec["jobTemplate"]["spec"] if self.kind == "cronjob" else self.spec
        template: Facts = spec["template"]
        return template

    @property
    def release(self) -> str:
        return release_of(self.template)

    @property
    def paused(self) -> bool:
        return bool(self.spec.get("paused"))

    @property
    def wanted(self) -> int:
        """How many instances there should be; a CronJob has none, it makes Jobs."""
        if self.kind == "cronjob":
            return 0
        if self.kind == "daemonset":
            return int(self.status.get("desiredNumberScheduled", 0))
        return int(self.spec.get("replicas", 1))

    @property
    def stopped_from(self) -> int:
        """How many instances it had when it was stopped, as far as that is on it."""
        kept = self.annotations.get(REPLICAS, "")
        return int(kept) if kept.isdecimal() and int(kept) else 1

    @property
    def service(self) -> str:
        """What `service:` of a target is compared with: the owner's annotation, else the workload's name."""
        return self.annotations.get(SERVICE) or self.name

    @property
    def selector(self) -> str:
        """Its selector as the query parameter `labelSelector`."""
        asked = self.spec.get("selector") or {}
        equal = [f"{key}={value}" for key, value in sorted((asked.get("matchLabels") or {}).items())]
        return ",".join([*equal, *map(_requirement, asked.get("matchExpressions") or ())])

    def owns(self, told: Facts) -> bool:
        return owner_of(told) == self.uid


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod as the API told it."""

    told: Facts

    @property
    def name(self) -> str:
        return str(self.told["metadata"]["name"])

    @property
    def uid(self) -> str:
        return str(self.told["metadata"]["uid"])

    @property
    def full_name(self) -> str:
        return f"{self.told['metadata']['namespace']}/{self.name}"

    @property
    def status(self) -> Facts:
        status: Facts = self.told.get("status") or {}
        return status

    @property
    def containers(self) -> list[Facts]:
        """The states of its containers, those that run beside or before the others too."""
        return [*(self.status.get("containerStatuses") or ()), *(self.status.get("initContainerStatuses") or ())]

    @property
    def is_over(self) -> bool:
        """Whether another one takes, or has taken, its place."""
        return bool(self.told["metadata"].get("deletionTimestamp")) or self.status.get("phase") in ("Succeeded", "Failed")

    @property
    def restarts(self) -> int:
        return sum(int(one.get("restartCount", 0)) for one in self.containers)

    @property
    def health(self) -> Health:
        """Ready, or why not: a pod that is pending may yet come up, but not one whose container fails again and again."""
        if any(each["type"] == "Ready" and each["status"] == "True" for each in self.status.get("conditions") or ()):
            return Health.HEALTHY
        waits_for = {one["state"]["waiting"].get("reason") for one in self.containers if "waiting" in one.get("state", {})}
        comes_up = self.status.get("phase", "Pending") == "Pending" and waits_for <= COMES_UP
        return Health.STARTING if comes_up else Health.UNHEALTHY

    @property
    def started_at(self) -> datetime | None:
        """When the last of its containers was started: it changes when one is restarted in its place."""
        running = [one["state"]["running"].get("startedAt") for one in self.containers if "running" in one.get("state", {})]
        known = [moment(at) for at in running if at]
        return max(known, default=None)

    @property
    def instance(self) -> Instance:
        return Instance(self.uid, self.full_name, self.health, self.started_at)


def chosen_pod(name: str, pods: Iterable[Pod]) -> Pod | None:
    """The pod of that name; where none is named, the one that is not ready, if it is the only one."""
    fit = [pod for pod in pods if (pod.name == name if name else pod.health is not Health.HEALTHY)]
    return fit[0] if len(fit) == 1 else None


def controlling(told: Facts) -> Facts:
    """The reference to what controls an object, or nothing."""
    owners = told["metadata"].get("ownerReferences") or ()
    return next((one for one in owners if one.get("controller")), {})


def owner_of(told: Facts) -> str:
    """The uid of what controls an object, or empty."""
    return str(controlling(told).get("uid", ""))


def instances(controller: Controller, pods: Iterable[Pod]) -> tuple[Instance, ...]:
    """As many as are wanted: pods that are ready before those that are not, and a stopped one for each that is not there.

    What a roll-out has beyond that does not count: that it does not come up takes nothing from those that serve.
    """
    there = sorted((pod.instance for pod in pods), key=lambda one: (one.health is not Health.HEALTHY, one.name))
    missing = range(len(there), controller.wanted)
    absent = (Instance("", f"{controller.full_name}#{number}", Health.STOPPED) for number in missing)
    return (*there[: controller.wanted], *absent)


def release_of(template: Facts) -> str:
    """What a pod template runs, as 64 bits of a hash: the same before and after a restart, and after a rollback to it.

    Kubernetes' own revisions are renumbered by a rollback, and a restart makes another one of the same release.
    """
    metadata = template.get("metadata") or {}
    annotations = {
        key: value for key, value in (metadata.get("annotations") or {}).items() if key not in (ACTION, RESTARTED_AT)
    }
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if key != "pod-template-hash"}
    said = {"annotations": annotations, "labels": labels, "spec": template["spec"]}
    return sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def path_of(kind: str, full_name: str) -> str:
    namespace, name = full_name.split("/", 1)
    return f"{listing_of(kind, namespace)}/{quote(name, safe='')}"


def listing_of(kind: str, namespace: str) -> str:
    """The path of all workloads of a kind in a namespace."""
    return under(namespace, PLURALS[kind], BATCH if kind == "cronjob" else APPS)


def under(namespace: str, plural: str, group: str = APPS) -> str:
    """The path of a listing; of all namespaces, where none is named."""
    root = f"/apis/{group}" if "/" in group else f"/api/{group}"
    return f"{root}/namespaces/{quote(namespace, safe='')}/{plural}" if namespace else f"{root}/{plural}"


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _requirement(told: Mapping[str, Any]) -> str:
    key, values = told["key"], ",".join(told.get("values") or ())
    match told["operator"]:
        case "In":
            return f"{key} in ({values})"
        case "NotIn":
            return f"{key} notin ({values})"
        case "Exists":
            return str(key)
        case _:
            return f"!{key}"
