"""Looks at the pods of a workload, and at what was reported of them: text for people, numbers for `when:`. Only reads."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime

from remediator.core.step import Events, Inspect, Logs, Stats
from remediator.platforms import readable
from remediator.platforms.kubernetes_api import KubernetesApi, NotThere
from remediator.platforms.kubernetes_objects import Controller, Pod, moment, under
from remediator.ports import Evidence, Facts, PermanentError, Reading

PODS_SHOWN = 10
BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60}
DECIMAL = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}


async def logs(diagnosis: Logs, controller: Controller, pods: Sequence[Pod], api: KubernetesApi) -> Evidence:
    """Of each container, and of the one before it where it was restarted: the cause of a crash stands there."""
    asked = [
        (pod, container["name"], previous) for pod in pods for container in pod.containers for previous in _kept_logs(container)
    ]
    texts = await asyncio.gather(*(_log(diagnosis, controller, *each, api) for each in asked))
    wanted = diagnosis.grep.casefold()
    kept: list[str] = []
    for (pod, container, previous), lines in zip(asked, texts, strict=True):
        found = [line for line in lines if wanted in line.casefold()]
        if found and len(asked) > 1:
            kept.append(f"==> {pod.name} {container}{' (the container before)' if previous else ''} <==")
        kept += found
    return Evidence(Logs.name, readable("\n".join(kept)), {"logs.lines": float(max(map(len, texts), default=0))})


def _kept_logs(container: Facts) -> list[bool]:
    """Whether there is one of the container before, and one of this: True and False."""
    has_ended, waits = bool(container.get("lastState")), "waiting" in (container.get("state") or {})
    return [*([True] if has_ended else []), *([] if waits else [False])]


async def _log(
    diagnosis: Logs, controller: Controller, pod: Pod, container: str, previous: bool, api: KubernetesApi
) -> list[str]:
    """Its last lines; none where the kubelet has removed them."""
    query = {"container": container, "tailLines": str(diagnosis.tail), "timestamps": "true"}
    path = f"{under(controller.namespace, 'pods', 'v1')}/{pod.name}/log"
    try:
        return (await api.text(path, **query, **({"previous": "true"} if previous else {}))).splitlines()
    except PermanentError:
        if previous:
            return []
        raise


async def stats(controller: Controller, pods: Sequence[Pod], api: KubernetesApi) -> Evidence:
    """What the metrics API says of each pod, over its window of some 15 to 60 seconds. Raises PermanentError without one."""
    path = under(controller.namespace, "pods", "metrics.k8s.io/v1beta1")
    try:
        listed = await api.items(path, labelSelector=controller.selector)
    except NotThere as error:
        raise PermanentError("this cluster has no metrics API (metrics-server)") from error
    limits = {pod.name: _limit(pod) for pod in pods}
    lines, found = [], []
    for told in listed:
        name, usage = told["metadata"]["name"], [container["usage"] for container in told["containers"]]
        if name not in limits:
            continue
        cpu, memory = (sum(quantity(each[of]) for each in usage) for of in ("cpu", "memory"))
        ratio = memory / limits[name] if limits[name] else 0.0
        found.append({"stats.cpu_percent": 100 * cpu, "stats.memory_bytes": memory, "stats.memory_ratio": ratio})
        lines.append(f"{name}: cpu {100 * cpu:.1f}%, memory {memory / 2**20:.1f} MiB ({ratio:.1%} of its limit)")
    return Evidence(Stats.name, "\n".join(lines) or "nothing is measured yet", _worst(found))


def inspect(state: Reading, controller: Controller, pods: Sequence[Pod]) -> Evidence:
    """The roll-out or Job and each container, with how it ended the last time."""
    lines = [state.seen, f"release {controller.release}"]
    numbers: list[Mapping[str, float]] = [{"inspect.restart_count": float(pod.restarts)} for pod in pods]
    lines += [
        f"{told['type']} {told['status']} {told.get('reason', '')}: {told.get('message', '')}"
        for told in controller.status.get("conditions") or ()
    ]
    for pod in pods:
        lines.append(f"{pod.name} is {pod.health} ({pod.status.get('phase')}), restarted {pod.restarts} times")
        for container in pod.containers:
            does, reason = _state(container.get("state") or {})
            lines.append(f"  {container['name']}: {does} {reason}, image {container.get('image')}".rstrip())
            for ended in _ends(container):
                lines.append(f"  {container['name']} ended with {ended['exitCode']} ({ended.get('reason', '')})")
                killed = float(ended.get("reason") == "OOMKilled")
                numbers.append({"inspect.exit_code": float(ended["exitCode"]), "inspect.oom_killed": killed})
    return Evidence(Inspect.name, readable("\n".join(lines)), _worst(numbers))


async def events(diagnosis: Events, controller: Controller, pods: Sequence[Pod], now: datetime, api: KubernetesApi) -> Evidence:
    """Of the workload and of each of its pods, oldest first. A cluster keeps them for an hour, if not told otherwise."""
    about = [controller.uid, *(pod.uid for pod in pods)]
    path = under(controller.namespace, "events", "v1")
    listed = await asyncio.gather(*(api.items(path, fieldSelector=f"involvedObject.uid={uid}") for uid in about))
    since = now - diagnosis.since
    reported = sorted(((_at(told), told) for one in listed for told in one), key=lambda each: each[0])
    lines = [
        f"{at:%Y-%m-%d %H:%M:%SZ} {told['involvedObject']['name']} {told.get('type')} {told.get('reason')}"
        f" (x{told.get('count') or 1}): {told.get('message', '')}"
        for at, told in reported
        if at >= since
    ]
    return Evidence(Events.name, readable("\n".join(lines) or "no events"))


def quantity(text: str) -> float:
    """A Kubernetes quantity (apimachinery, resource.Quantity) in its base unit: bytes, cores."""
    if text[-2:] in BINARY:
        return float(text[:-2]) * BINARY[text[-2:]]
    unit = text[-1] if text[-1:].isalpha() else ""
    return float(text.removesuffix(unit)) * DECIMAL[unit]


def _limit(pod: Pod) -> float:
    """Bytes that all its containers may use together; 0 where one of them has no limit."""
    given = [(one.get("resources") or {}).get("limits", {}).get("memory") for one in pod.told["spec"]["containers"]]
    return sum(map(quantity, given)) if all(given) else 0.0


def _worst(found: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    """The highest of each number."""
    return {key: max(each[key] for each in found if key in each) for one in found for key in one}


def _state(told: Facts) -> tuple[str, str]:
    name = next(iter(told), "unknown")
    return name, str((told.get(name) or {}).get("reason") or "")


def _ends(container: Facts) -> list[Facts]:
    """How it ended, now or the last time."""
    states = (container.get("lastState") or {}, container.get("state") or {})
    return [state["terminated"] for state in states if "terminated" in state]


def _at(told: Facts) -> datetime:
    """When it was last seen; the newer API of events has another field for it."""
    series = (told.get("series") or {}).get("lastObservedTime")
    return moment(series or told.get("lastTimestamp") or told.get("eventTime") or told["metadata"]["creationTimestamp"])
