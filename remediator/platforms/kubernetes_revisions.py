"""What a workload ran before, as Kubernetes keeps it: ReplicaSets of a Deployment, ControllerRevisions of the others.

Reads only. `undo` is the patch by which a workload goes back to one of them.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from remediator.platforms.kubernetes_api import KubernetesApi
from remediator.platforms.kubernetes_objects import REVISION, Controller, release_of, under
from remediator.ports import Facts, PermanentError

OURS = "remediator.io/"
KEPT_BY_KUBECTL = frozenset(
    {
        "kubectl.kubernetes.io/last-applied-configuration",
        REVISION,
        "deployment.kubernetes.io/revision-history",
        "deployment.kubernetes.io/desired-replicas",
        "deployment.kubernetes.io/max-replicas",
        "deprecated.deployment.rollback.to",
    }
)
"""Annotations of a Deployment that an undo leaves as they are (kubectl/pkg/polymorphichelpers/rollback.go)."""


@dataclass(frozen=True, slots=True)
class Revision:
    """One that Kubernetes still has. `annotations` are those that the Deployment had then."""

    number: int
    template: Facts
    created_at: str
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def release(self) -> str:
        return release_of(self.template)


async def revisions(controller: Controller, api: KubernetesApi) -> Sequence[Revision]:
    """Newest first. Raises TransientError or PermanentError."""
    plural, made = ("replicasets", _of_replica_set) if controller.kind == "deployment" else ("controllerrevisions", _of_record)
    listed = await api.items(under(controller.namespace, plural), labelSelector=controller.selector)
    found = [made(told) for told in listed if controller.owns(told)]
    return sorted(found, key=lambda revision: revision.number, reverse=True)


def named(release: str, controller: Controller, kept: Sequence[Revision]) -> Revision:
    """The newest revision of that release, or of any but the current where none is named. Raises PermanentError."""
    for revision in kept:
        if revision.release == release or (not release and revision.release != controller.release):
            return revision
    if release:
        raise PermanentError(f"{controller.full_name}: no revision of the release {release} is kept any more")
    raise PermanentError(f"{controller.full_name} has no other release to go back to")


def undo(controller: Controller, revision: Revision) -> Sequence[Facts]:
    """The JSON patch of `kubectl rollout undo`, for the version of the workload that was looked at.

    A Deployment gets back the annotations that it had then. Not ours: its owner's consent is the one given now.
    """
    template = deepcopy(dict(revision.template))
    (template.get("metadata", {}).get("labels") or {}).pop("pod-template-hash", None)
    template.pop("$patch", None)
    patch: list[dict[str, Any]] = [
        {"op": "replace", "path": "/metadata/resourceVersion", "value": controller.version},
        {"op": "replace", "path": "/spec/template", "value": template},
    ]
    if controller.kind == "deployment":
        now = {key: value for key, value in controller.annotations.items() if _stays(key)}
        then = {key: value for key, value in revision.annotations.items() if not _stays(key)}
        patch.append({"op": "add", "path": "/metadata/annotations", "value": then | now})
    return patch


def _stays(annotation: str) -> bool:
    return annotation in KEPT_BY_KUBECTL or annotation.startswith(OURS)


def _of_replica_set(told: Facts) -> Revision:
    annotations = told["metadata"].get("annotations") or {}
    number = int(annotations.get(REVISION, 0))
    return Revision(number, told["spec"]["template"], told["metadata"]["creationTimestamp"], annotations)


def _of_record(told: Facts) -> Revision:
    return Revision(int(told["revision"]), told["data"]["spec"]["template"], told["metadata"]["creationTimestamp"])
