"""What a person would type instead of a step or a diagnosis: kubectl command lines. Pure."""

import json
import shlex
from typing import assert_never

from remediator.core.playbook import brief
from remediator.core.step import (
    STEPS,
    Check,
    Cordon,
    DeletePod,
    Diagnosis,
    Disk,
    Drain,
    Events,
    Evict,
    Exec,
    Inspect,
    Logs,
    Prune,
    Restart,
    Rollback,
    RolloutAge,
    Scale,
    ServiceDiagnosis,
    ServiceStep,
    Start,
    Stats,
    Step,
    Stop,
    Uncordon,
)
from remediator.core.target import Workload
from remediator.platforms.kubernetes_scaling import more, raised
from remediator.ports import PermanentError

OF_OTHERS = frozenset({Prune.name, Cordon.name, Uncordon.name, Drain.name})
"""Steps of container engines and of nodes."""


def typed(step: Step | Diagnosis, workload: Workload) -> str:
    """The command lines for the same. Raises PermanentError for what is not Kubernetes'."""
    namespace, name = workload.name.split("/", 1)
    kubectl, target, details = f"kubectl -n {namespace}", f"{workload.kind}/{name}", workload.details
    if isinstance(step, ServiceStep | ServiceDiagnosis):
        raise unsupported(step)
    match step:
        case Restart():
            return f"{kubectl} rollout restart {target}"
        case Rollback(to):
            number = f" --to-revision={details[to]}" if to in details else ""
            return f"{kubectl} rollout undo {target}{number}"
        case Stop():
            return f"{kubectl} scale {target} --replicas=0"
        case Start() if workload.kind == "cronjob":
            return f"{kubectl} create job {name}-$(date +%s) --from={target}"
        case Start():
            return f"{kubectl} scale {target} --replicas={details.get('stopped_from', '1')}"
        case Scale():
            return _scale_typed(step, workload, kubectl)
        case Evict(pod):
            return _evict_typed(namespace, _pod_typed(pod, workload))
        case DeletePod(pod):
            return f"{kubectl} delete pod {_pod_typed(pod, workload)}"
        case Exec(argv):
            return f"{kubectl} exec {target} -- {shlex.join(argv)}"
        case Logs(tail, grep):
            found = f" | grep -iF -e {shlex.quote(grep)}" if grep else ""
            return "\n".join(
                f"{kubectl} logs --timestamps --all-containers --tail={tail} {pod}{found}" for pod in _pods(workload)
            )
        case Stats():
            return "\n".join(f"{kubectl} top pod {pod} --containers" for pod in _pods(workload))
        case Inspect():
            return f"{kubectl} describe {target} {' '.join(f'pod/{pod}' for pod in _pods(workload))}"
        case Events(since):
            about = [target, *(f"pod/{pod}" for pod in _pods(workload))]
            return "\n".join(f"{kubectl} events --for={each}  # of the last {brief(since)}" for each in about)
        case RolloutAge():
            return f"{kubectl} rollout history {target}"
        case Disk() | Prune() | Cordon() | Uncordon() | Drain():
            raise unsupported(step)
        case _:
            assert_never(step)


def _scale_typed(step: Scale, workload: Workload, kubectl: str) -> str:
    wanted = more(step, int(workload.details.get("replicas", "0")))
    if "autoscaler" not in workload.details:
        return f"{kubectl} scale {workload.kind}/{workload.name.partition('/')[2]} --replicas={wanted}"
    bounds = raised({"maxReplicas": int(workload.details["autoscaled_to"])}, wanted)
    return f"{kubectl} patch hpa {workload.details['autoscaler']} -p {shlex.quote(json.dumps({'spec': bounds}))}"


def _evict_typed(namespace: str, pod: str) -> str:
    """kubectl evicts only whole nodes by a word of its own."""
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"namespace": namespace, "name": pod}}
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction"
    return f"echo {shlex.quote(json.dumps(eviction))} | kubectl create --raw {path} -f -"


def _pods(workload: Workload) -> list[str]:
    return workload.details.get("pods", "").split()


def _pod_typed(pod: str, workload: Workload) -> str:
    ill = workload.details.get("ill", "").split()
    return pod or (ill[0] if len(ill) == 1 else "<the pod that is not ready>")


def lacks(kind: str) -> frozenset[str]:
    """The steps that a kind of workload cannot take."""
    match kind:
        case "cronjob":
            return frozenset(step.name for step in STEPS if not step.service) - {Start.name}
        case "daemonset":  # it has one pod for each node
            return OF_OTHERS | {Scale.name, Start.name, Stop.name}
        case _:
            return OF_OTHERS


def unsupported(step: Step | Diagnosis | Check) -> PermanentError:
    return PermanentError(f"Kubernetes does not offer {step.name}")
