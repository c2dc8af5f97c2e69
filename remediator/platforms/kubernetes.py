"""Kubernetes, the reading side: finds what opted in, looks at it, and says what a person would type. Changes nothing.

A Deployment, StatefulSet or DaemonSet is one workload, and its pods are the instances; a CronJob is one, too, that only starts.
`kubernetes_actions.py` is the writing side; both meet the API server through `kubernetes_api.py`.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import assert_never

from remediator.core.playbook import brief
from remediator.core.step import (
    Check,
    DeletePod,
    Diagnosis,
    Disk,
    Events,
    Evict,
    Exec,
    Inspect,
    Logs,
    NodeStep,
    Prune,
    Restart,
    Rollback,
    RolloutAge,
    Scale,
    ServiceCheck,
    ServiceDiagnosis,
    ServiceStep,
    Start,
    Stats,
    Step,
    Stop,
)
from remediator.core.target import Health, Selection, Workload
from remediator.platforms import expanded
from remediator.platforms import kubernetes_doubt as doubt
from remediator.platforms import kubernetes_evidence as evidence
from remediator.platforms.kubernetes_api import KubernetesApi, NotThere
from remediator.platforms.kubernetes_commands import lacks, typed, unsupported
from remediator.platforms.kubernetes_jobs import job_name, made
from remediator.platforms.kubernetes_lookup import autoscaler_of, controller_of, live_pods_of, pods_of, state_of
from remediator.platforms.kubernetes_objects import (
    ALLOW,
    APPS,
    BATCH,
    PLURALS,
    PROTECTED,
    Controller,
    chosen_pod,
    controlling,
    instances,
    listing_of,
    moment,
    path_of,
    under,
)
from remediator.platforms.kubernetes_revisions import revisions
from remediator.platforms.kubernetes_scaling import more, raised
from remediator.ports import Clock, Evidence, Facts, Happened, Observation, PermanentError, PortError, Probe, Reading

BETWEEN = {"ReplicaSet": ("replicasets", APPS), "Job": ("jobs", BATCH)}
"""What stands between a pod and the workload that it belongs to."""
FIELDS = frozenset({"service", "name", "namespace", "pod", *PLURALS})


class KubernetesPlatform:
    """Reads the workloads of `namespaces`, where `""` stands for all of them. `own_pod` (`namespace/name`) is remediator's own.

    `new_id` names actions, so that a restart is recognised by what it wrote.
    """

    name = "kubernetes"

    def __init__(
        self,
        api: KubernetesApi,
        namespaces: Sequence[str],
        clock: Clock,
        new_id: Callable[[datetime], str],
        own_pod: str = "",
    ) -> None:
        self._api = api
        self._namespaces = namespaces
        self._clock = clock
        self._new_id = new_id
        self._own_pod = own_pod

    async def find(self, selection: Selection) -> Sequence[Workload]:
        """By `service`, `name`, a kind or one of its pods, and `namespace`, all of which must fit; not by a namespace alone."""
        fields = dict(selection.fields)
        namespace = fields.pop("namespace", "")
        if not fields or not FIELDS.issuperset(selection.fields) or not all(selection.fields.values()):
            return ()
        if pod := fields.pop("pod", ""):
            candidates = await self._of_pod(pod, namespace)
        else:
            kinds = [kind for kind in PLURALS if kind in fields] or list(PLURALS)
            candidates = await self._list(kinds, namespace, fields)
        found = [each for each in candidates if all(_fits(each, field, wanted) for field, wanted in fields.items())]
        return await asyncio.gather(*map(self._looked_into, found))

    async def inventory(self) -> Sequence[Workload]:
        """Every workload that opted in to anything, to keep a record of what it runs; without its instances."""
        return [self._workload(each) for each in await self._list(list(PLURALS), "", {}) if each.annotations.get(ALLOW)]

    async def diagnose(self, diagnosis: Diagnosis, workload: Workload) -> Evidence:
        """Numbers are those of the worst pod: the highest. Exec is a write call to the API server and is not run here."""
        if isinstance(diagnosis, Exec):
            return Evidence(Exec.name, f"not run: exec needs mode auto\n{self.describe(diagnosis, workload)}")
        if isinstance(diagnosis, ServiceDiagnosis):
            raise unsupported(diagnosis)
        controller = await controller_of(workload, self._api)
        pods = (await live_pods_of(controller, self._api))[: evidence.PODS_SHOWN]
        match diagnosis:
            case Logs():
                return await evidence.logs(diagnosis, controller, pods, self._api)
            case Stats():
                return await evidence.stats(controller, pods, self._api)
            case Inspect():
                return evidence.inspect(await state_of(controller, self._api), controller, pods)
            case Events():
                return await evidence.events(diagnosis, controller, pods, self._clock.now(), self._api)
            case Disk():
                raise unsupported(diagnosis)
            case RolloutAge() if controller.kind == "cronjob":
                raise unsupported(diagnosis)
            case RolloutAge():
                return await self._rollout_age(controller)
            case _:
                assert_never(diagnosis)

    async def check(self, check: Check, workload: Workload) -> Reading:
        """`healthy` is a complete roll-out."""
        if isinstance(check, ServiceCheck):
            return Reading(Probe.UNKNOWN, str(unsupported(check)))
        return await self._healthy(workload)

    def describe(self, step: Step | Diagnosis, workload: Workload) -> str:
        """The kubectl command lines for the same."""
        return typed(step, workload)

    async def mark(self, step: Step, workload: Workload) -> Facts:
        """`uid` of the workload, and what the step will change: before, and how it shall be after."""
        if isinstance(step, ServiceStep) or step.name in lacks(workload.kind):
            raise unsupported(step)
        controller = await controller_of(workload, self._api)
        return {"uid": controller.uid, **await self._mark(step, controller)}

    async def observe(self, step: Step, workload: Workload, mark: Facts) -> Observation:
        """Compare what is there now with the mark."""
        if isinstance(step, ServiceStep | NodeStep | Prune):
            raise unsupported(step)
        if isinstance(step, Exec):
            return Observation(Happened.UNKNOWN, f"no trace tells whether this ran or still runs: {typed(step, workload)}")
        try:
            controller = await controller_of(workload, self._api)
        except NotThere:
            return Observation(Happened.UNKNOWN, f"{workload.id} was deleted meanwhile")
        if another := doubt.another(controller, mark):
            return another
        match step:
            case Restart():
                return doubt.restarted(controller, await revisions(controller, self._api), mark)
            case Rollback(to):
                return doubt.rolled_back(to, controller, mark)
            case Start() if controller.kind == "cronjob":
                return await made(controller, mark["job"], self._api)
            case Scale() | Start() | Stop():
                return doubt.scaled(controller, await autoscaler_of(controller, self._api), mark)
            case Evict() | DeletePod():
                return doubt.removed(await pods_of(controller, self._api), mark)
            case _:
                assert_never(step)

    # --- marks

    async def _mark(self, step: Step, controller: Controller) -> Facts:
        now = self._clock.now()
        match step:
            case Restart():
                seen = {"release": controller.release, "last": doubt.last_action(controller)}
                return {"action": self._new_id(now), "at": now.isoformat(timespec="seconds"), **seen}
            case Rollback():
                return {"release": controller.release}
            case Stop():
                return {"replicas": controller.wanted, "to": 0}
            case Start() if controller.kind == "cronjob":
                return {"job": job_name(controller, self._new_id(now))}
            case Start():
                return {"replicas": controller.wanted, "to": controller.stopped_from}
            case Scale():
                return await self._mark_of_scale(step, controller)
            case Evict(pod) | DeletePod(pod):
                chosen = chosen_pod(pod, await live_pods_of(controller, self._api))
                return {"pod": chosen.name, "pod_uid": chosen.uid} if chosen else {}
            case _:
                return {}

    async def _mark_of_scale(self, step: Scale, controller: Controller) -> Facts:
        to = more(step, controller.wanted)
        mark = {"replicas": controller.wanted, "to": to}
        if autoscaler := await autoscaler_of(controller, self._api):
            bounds = autoscaler.bounds
            return mark | {"autoscaler": autoscaler.name, "bounds": bounds, "raised": raised(bounds, to)}
        return mark

    # --- the API server's answers as workloads

    async def _list(self, kinds: Sequence[str], namespace: str, fields: Mapping[str, str]) -> list[Controller]:
        """All of these kinds in the namespace, if remediator looks there, or in all of its namespaces."""
        places = [(kind, place) for kind in kinds for place in self._places(namespace)]
        named = [fields[each] for each in ("name", *PLURALS) if each in fields]
        query = {"fieldSelector": f"metadata.name={named[0]}"} if named else {}
        answers = await asyncio.gather(*(self._api.items(listing_of(kind, place), **query) for kind, place in places))
        return [Controller(kind, told) for (kind, _), listed in zip(places, answers, strict=True) for told in listed]

    async def _of_pod(self, name: str, namespace: str) -> list[Controller]:
        """What controls a pod of that name, itself or by a ReplicaSet or Job; the pod may be gone by now.

        All but a StatefulSet name their pods after themselves and a random ending, and outlive them.
        """
        maker = name.rpartition("-")[0]
        owned = await self._named(name, [("pods", "v1")], namespace) or await self._named(maker, BETWEEN.values(), namespace)
        if owned:
            found = [await self._controller_of(told) for told in owned]
            return [controller for controller in found if controller is not None]
        return await self._list(["daemonset", "statefulset"], namespace, {"name": maker}) if maker else []

    async def _named(self, name: str, sources: Iterable[tuple[str, str]], namespace: str) -> list[Facts]:
        query = {"fieldSelector": f"metadata.name={name}"}
        paths = [under(place, *source) for place in self._places(namespace) for source in sources]
        return [told for listed in await asyncio.gather(*(self._api.items(path, **query) for path in paths)) for told in listed]

    async def _controller_of(self, told: Facts) -> Controller | None:
        owner, namespace = controlling(told), told["metadata"]["namespace"]
        if between := BETWEEN.get(owner.get("kind", "")):
            owner = controlling(await self._api.get(f"{under(namespace, *between)}/{owner['name']}"))
        kind = str(owner.get("kind", "")).lower()
        return Controller(kind, await self._api.get(path_of(kind, f"{namespace}/{owner['name']}"))) if kind in PLURALS else None

    def _places(self, namespace: str) -> list[str]:
        """Where to look for what is asked for in a namespace, or in none by name."""
        return [namespace or each for each in self._namespaces if not namespace or each in ("", namespace)]

    def _workload(self, controller: Controller) -> Workload:
        return Workload(
            platform=self.name,
            kind=controller.kind,
            name=controller.full_name,
            service=controller.service,
            allow=controller.allow,
            release=controller.release,
            protected=_why_protected(controller),
            lacks=lacks(controller.kind),
        )

    async def _looked_into(self, controller: Controller) -> Workload:
        """With its instances, and what a person needs to type the steps that it allows."""
        pods = await pods_of(controller, self._api)
        alive = [pod for pod in pods if not pod.is_over]
        workload = replace(self._workload(controller), instances=instances(controller, alive))
        if self._own_pod in {pod.full_name for pod in pods}:
            workload = replace(workload, protected="is remediator itself")
        details = {
            "replicas": str(controller.wanted),
            "stopped_from": str(controller.stopped_from),
            "pods": " ".join(pod.name for pod in alive),
            "ill": " ".join(pod.name for pod in alive if pod.health is not Health.HEALTHY),
        }
        consented = expanded(workload.allow) - workload.lacks
        if Rollback.name in consented:
            newest_last = reversed(await revisions(controller, self._api))
            details |= {revision.release: str(revision.number) for revision in newest_last}
        if Scale.name in consented and (autoscaler := await autoscaler_of(controller, self._api)):
            details |= {"autoscaler": autoscaler.name, "autoscaled_to": str(autoscaler.bounds["maxReplicas"])}
        return replace(workload, details=details)

    async def _healthy(self, workload: Workload) -> Reading:
        try:
            return await state_of(await controller_of(workload, self._api), self._api)
        except NotThere:
            return Reading(Probe.FAILS, f"{workload.id} is gone")
        except PortError as error:
            return Reading(Probe.UNKNOWN, str(error))

    async def _rollout_age(self, controller: Controller) -> Evidence:
        """Since its newest revision was made, which a restart does, too."""
        kept = await revisions(controller, self._api)
        if not kept:
            raise PermanentError(f"{controller.full_name} has no revision yet")
        seconds = (self._clock.now() - moment(kept[0].created_at)).total_seconds()
        ago = brief(timedelta(seconds=int(seconds)))
        text = f"revision {kept[0].number} of {controller.full_name} was made {ago} ago"
        return Evidence(RolloutAge.name, text, {"rollout.age_seconds": seconds})


def _fits(controller: Controller, field: str, wanted: str) -> bool:
    match field:
        case "service":
            return controller.service == wanted
        case "name":
            return controller.name == wanted
        case _:
            return (controller.kind, controller.name) == (field, wanted)


def _why_protected(controller: Controller) -> str:
    said = controller.annotations.get(PROTECTED, "false")
    return "" if said.lower() == "false" else f"is protected by its annotation {PROTECTED}={said}"
