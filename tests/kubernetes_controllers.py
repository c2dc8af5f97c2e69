"""What kube-controller-manager would do to a fake cluster: ReplicaSets, revisions, pods, and what it reports in `status`."""

import json
from copy import deepcopy
from hashlib import md5
from typing import Any

from tests.kubernetes_fake import FakeCluster, fits_labels, now

REVISION = "deployment.kubernetes.io/revision"
NOT_COPIED = ("kubectl.kubernetes.io/last-applied-configuration", REVISION)
Told = dict[str, Any]


def reconcile(cluster: FakeCluster) -> None:
    """Until nothing changes any more; it changes little at once, as the real ones do."""
    for _ in range(20):
        before = json.dumps(cluster.all("pods") + cluster.all("replicasets"))
        for deployment in cluster.all("deployments"):
            _deployment(cluster, deployment)
        for plural in ("statefulsets", "daemonsets"):
            for owner in cluster.all(plural):
                _ordered(cluster, owner, plural)
        for job in cluster.all("jobs"):
            _job(cluster, job)
        for owned in [*cluster.all("pods"), *cluster.all("replicasets")]:
            _collected(cluster, owned)
        if json.dumps(cluster.all("pods") + cluster.all("replicasets")) == before:
            return


def _deployment(cluster: FakeCluster, deployment: Told) -> None:
    """A ReplicaSet for each pod template; the old ones go down as the new pods become ready."""
    sets = _owned(cluster, "replicasets", deployment)
    current = next((each for each in sets if _without_hash(each["spec"]["template"]) == deployment["spec"]["template"]), None)
    newest = max((_number(each) for each in sets), default=0)
    if not deployment["spec"].get("paused"):
        if current is None:
            current = _replica_set(cluster, deployment)
            sets.append(current)
        if _number(current) < newest or newest == 0:
            current["metadata"]["annotations"][REVISION] = str(newest + 1)
        deployment["metadata"].setdefault("annotations", {})[REVISION] = current["metadata"]["annotations"][REVISION]
    wanted = deployment["spec"].get("replicas", 1)
    serving = current or max(sets, key=_number, default=None)
    for each in sets:
        ready = sum(map(_ready, _owned(cluster, "pods", serving))) if serving else 0
        each["spec"]["replicas"] = wanted if each is serving else max(0, min(each["spec"]["replicas"], wanted - ready))
        _pods(cluster, each, each["spec"]["replicas"], each["spec"]["template"])
    pods = [pod for each in sets for pod in _owned(cluster, "pods", each)]
    new = _owned(cluster, "pods", current) if current else []
    available = sum(map(_ready, pods))
    _report(
        cluster,
        deployment,
        observedGeneration=deployment["metadata"]["generation"],
        replicas=len(pods),
        updatedReplicas=len(new),
        readyReplicas=available,
        availableReplicas=available,
    )


def _ordered(cluster: FakeCluster, owner: Told, plural: str) -> None:
    """StatefulSets and DaemonSets keep their templates as ControllerRevisions; pods of an older one are replaced."""
    data = {"spec": {"template": {**owner["spec"]["template"], "$patch": "replace"}}}
    records = _owned(cluster, "controllerrevisions", owner)
    current = next((each for each in records if each["data"] == data), None)
    newest = max((each["revision"] for each in records), default=0)
    if current is None:
        name = f"{owner['metadata']['name']}-{_hash(data)}"
        metadata = {"name": name, "labels": owner["spec"]["selector"]["matchLabels"]} | _belongs(owner)
        current = cluster.create("controllerrevisions", {"metadata": metadata, "data": deepcopy(data), "revision": newest + 1})
    elif current["revision"] < newest:
        current["revision"] = newest + 1
    revision = current["metadata"]["name"]
    wanted = owner["spec"].get("replicas", 1) if plural == "statefulsets" else 1
    for pod in _owned(cluster, "pods", owner):
        if pod["metadata"]["labels"]["controller-revision-hash"] != revision:
            cluster.remove("pods", pod["metadata"]["namespace"], pod["metadata"]["name"])
    template = deepcopy(owner["spec"]["template"])
    template["metadata"]["labels"]["controller-revision-hash"] = revision
    _pods(cluster, owner, wanted, template)
    pods = _owned(cluster, "pods", owner)
    ready = sum(map(_ready, pods))
    observed = {"observedGeneration": owner["metadata"]["generation"]}
    if plural == "statefulsets":
        revisions = {"updateRevision": revision, "currentRevision": revision}
        _report(cluster, owner, replicas=len(pods), readyReplicas=ready, updatedReplicas=len(pods), **revisions, **observed)
    else:
        scheduled = {"desiredNumberScheduled": wanted, "updatedNumberScheduled": len(pods)}
        _report(cluster, owner, numberAvailable=ready, **scheduled, **observed)


def _job(cluster: FakeCluster, job: Told) -> None:
    """One pod, and how it ended."""
    pods = _owned(cluster, "pods", job)
    if not pods:
        template = deepcopy(job["spec"]["template"])
        template["metadata"] = {"labels": {"job-name": job["metadata"]["name"]}}
        _pods(cluster, job, 1, template)
    phase = pods[0]["status"]["phase"] if pods else ""
    if phase in ("Succeeded", "Failed"):
        condition = {"type": "Complete" if phase == "Succeeded" else "Failed", "status": "True"}
        _report(cluster, job, conditions=[condition])


def _replica_set(cluster: FakeCluster, deployment: Told) -> Told:
    template = deepcopy(deployment["spec"]["template"])
    hashed = _hash(template)
    template["metadata"]["labels"]["pod-template-hash"] = hashed
    annotations = {k: v for k, v in (deployment["metadata"].get("annotations") or {}).items() if k not in NOT_COPIED}
    metadata = {"name": f"{deployment['metadata']['name']}-{hashed}", "labels": template["metadata"]["labels"]}
    spec = {"replicas": 0, "template": template}
    return cluster.create(
        "replicasets", {"metadata": metadata | {"annotations": annotations} | _belongs(deployment), "spec": spec}
    )


def _pods(cluster: FakeCluster, owner: Told, wanted: int, template: Told) -> None:
    """As many as are wanted: what is being deleted does not count, and is left to the kubelet."""
    there = [pod for pod in _owned(cluster, "pods", owner) if not pod["metadata"].get("deletionTimestamp")]
    for pod in there[wanted:]:
        cluster.remove("pods", pod["metadata"]["namespace"], pod["metadata"]["name"])
    taken = {pod["metadata"]["name"] for pod in _owned(cluster, "pods", owner)}
    name = owner["metadata"]["name"]
    free = (each for each in (f"{name}-{number}" for number in range(1000)) if each not in taken)
    for _ in range(len(there), wanted):
        metadata = {"name": next(free), **deepcopy(template["metadata"])} | _belongs(owner)
        cluster.create("pods", {"metadata": metadata, "spec": deepcopy(template["spec"]), "status": {"phase": "Pending"}})


def _collected(cluster: FakeCluster, owned: Told) -> None:
    """What its owner has left behind is removed."""
    uids = {each["metadata"]["uid"] for each in cluster.objects.values()}
    owners = owned["metadata"].get("ownerReferences") or ()
    if owners and owners[0]["uid"] not in uids:
        plural = "pods" if owned["kind"] == "Pod" else "replicasets"
        cluster.remove(plural, owned["metadata"]["namespace"], owned["metadata"]["name"])


def _owned(cluster: FakeCluster, plural: str, owner: Told) -> list[Told]:
    uid = owner["metadata"]["uid"]
    selector = ",".join(f"{k}={v}" for k, v in (owner["spec"].get("selector") or {}).get("matchLabels", {}).items())
    return [
        each
        for each in cluster.all(plural, owner["metadata"]["namespace"])
        if any(reference["uid"] == uid for reference in each["metadata"].get("ownerReferences") or ())
        and fits_labels(each["metadata"].get("labels") or {}, selector)
    ]


def _belongs(owner: Told) -> Told:
    reference = {"uid": owner["metadata"]["uid"], "kind": owner["kind"], "name": owner["metadata"]["name"], "controller": True}
    return {"namespace": owner["metadata"]["namespace"], "ownerReferences": [reference]}


def _report(cluster: FakeCluster, told: Told, **status: Any) -> None:
    if (told.get("status") or {}).items() >= status.items():
        return
    told["status"] = (told.get("status") or {}) | status | {"lastReport": now()}
    cluster.touch(told)


def _ready(pod: Told) -> bool:
    conditions = pod["status"].get("conditions") or ()
    return not pod["metadata"].get("deletionTimestamp") and any(
        c["type"] == "Ready" and c["status"] == "True" for c in conditions
    )


def _number(replica_set: Told) -> int:
    return int(replica_set["metadata"]["annotations"].get(REVISION, 0))


def _without_hash(template: Told) -> Told:
    labels = {key: value for key, value in template["metadata"]["labels"].items() if key != "pod-template-hash"}
    return {**template, "metadata": {**template["metadata"], "labels": labels}}


def _hash(told: Told) -> str:
    return md5(json.dumps(told, sort_keys=True).encode()).hexdigest()[:10]
