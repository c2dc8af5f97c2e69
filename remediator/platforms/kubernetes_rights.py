"""What remediator may do on a cluster, asked of the API server itself (SelfSubjectAccessReview), in words."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from remediator.platforms.kubernetes_api import KubernetesApi

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
WORKLOADS = ("apps/deployments", "apps/statefulsets", "apps/daemonsets")
FOUND = (*WORKLOADS, "apps/replicasets", "batch/cronjobs", "batch/jobs")


@dataclass(frozen=True, slots=True)
class Right:
    """A verb on a resource, written as `group/resource/subresource`; the core group is empty."""

    verb: str
    resource: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource.partition('/')[2]}"


def _rights(verb: str, *resources: str) -> tuple[Right, ...]:
    return tuple(Right(verb, resource) for resource in resources)


Purposes = Mapping[str, tuple[Right, ...]]
READING: Purposes = {
    "find targets": (*_rights("get", *FOUND), *_rights("list", *FOUND, "/pods")),
    "diagnose with logs": _rights("get", "/pods/log"),
    "diagnose with events": _rights("list", "/events"),
    "diagnose with stats": _rights("list", "metrics.k8s.io/pods"),
    "see older releases": _rights("list", "apps/controllerrevisions"),
    "see autoscalers": _rights("list", "autoscaling/horizontalpodautoscalers"),
}
WRITING: Purposes = {
    "restart, rollback, start and stop": _rights("patch", *WORKLOADS),
    "scale": _rights("patch", "apps/deployments/scale", "apps/statefulsets/scale", "autoscaling/horizontalpodautoscalers"),
    "start CronJobs": _rights("create", "batch/jobs"),
    "evict": _rights("create", "/pods/eviction"),
    "delete_pod": _rights("delete", "/pods"),
    "exec": (*_rights("get", "/pods", "/pods/exec"), *_rights("create", "/pods/exec")),
}
"""By what they are for: deploy/kubernetes has a Role for each."""


NODES_READING = {"look at nodes": (*_rights("get", "/nodes"), *_rights("list", "/pods", "/events"))}
NODES_WRITING = {
    "cordon and uncordon": _rights("patch", "/nodes"),
    "drain": (*_rights("patch", "/nodes"), *_rights("create", "/pods/eviction")),
}
"""On the whole cluster."""


async def missing_rights(api: KubernetesApi, namespaces: Sequence[str], *wanted_for: Purposes) -> list[str]:
    """A line for each thing that cannot be done, in each namespace; `""` stands for all of them.

    Raises TransientError or PermanentError.
    """
    wanted = {purpose: rights for purposes in wanted_for for purpose, rights in purposes.items()}
    asked = [(namespace, purpose, right) for namespace in namespaces for purpose, each in wanted.items() for right in each]
    answers = await asyncio.gather(*(_may(right, namespace, api) for namespace, _, right in asked))
    refused: dict[tuple[str, str], list[Right]] = {}
    for (namespace, purpose, right), may in zip(asked, answers, strict=True):
        if not may:
            refused.setdefault((namespace, purpose), []).append(right)
    return [
        f"cannot {purpose} in {namespace or 'all namespaces'}: may not {', '.join(map(str, rights))}"
        for (namespace, purpose), rights in refused.items()
    ]


async def _may(right: Right, namespace: str, api: KubernetesApi) -> bool:
    group, resource, subresource = (*right.resource.split("/"), "")[:3]
    attributes = {"verb": right.verb, "group": group, "resource": resource, "subresource": subresource, "namespace": namespace}
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    return bool((await api.ask(REVIEWS, body))["status"]["allowed"])
