"""Docker, the reading side: finds what opted in, looks at it, and says what a person would type. Sends only GET requests.

The containers of a compose service are one workload, the stopped ones too; any other container is one by itself.
`docker_actions.py` is the writing side; both meet the engine through `docker_engine.py`.
"""

import asyncio
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import assert_never

from remediator.core.playbook import brief
from remediator.core.step import (
    Check,
    Cordon,
    DeletePod,
    Diagnosis,
    Disk,
    Drain,
    Events,
    Evict,
    Exec,
    Healthy,
    Inspect,
    Logs,
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
    Uncordon,
)
from remediator.core.target import Health, Selection, Workload
from remediator.platforms import docker_doubt as doubt
from remediator.platforms import docker_evidence as evidence
from remediator.platforms import expanded, readable
from remediator.platforms.docker_commands import run_command, typed, unsupported
from remediator.platforms.docker_container import (
    ALLOW,
    COMPOSE_ONEOFF,
    COMPOSE_PROJECT,
    COMPOSE_SERVICE,
    LEFT_OVER,
    PROTECTED,
    Container,
    moment,
)
from remediator.platforms.docker_engine import Client, DockerEngine, image_config
from remediator.platforms.docker_selection import (
    belongs_to,
    filters_for,
    inspected,
    instance,
    named,
    selects,
    service_name,
    summaries,
)
from remediator.ports import Evidence, Facts, Happened, Observation, PermanentError, PortError, Probe, Reading

FIELDS = frozenset({"name", "service", "project"})
LACKS = frozenset(step.name for step in (Scale, Evict, DeletePod, Cordon, Uncordon, Drain))
INSTANCES_SHOWN = 10


class DockerPlatform:
    """Reads the containers of one engine. `own_container_id` (whole or short) is remediator's own: never a target."""

    name = "docker"

    def __init__(self, engine: DockerEngine, own_container_id: str = "") -> None:
        self._engine = engine
        self._own_id = own_container_id

    async def find(self, selection: Selection) -> Sequence[Workload]:
        """By `name`, `service` and `project`, all of which must fit; by `name`, one container of a service that has several."""
        fields = selection.fields
        if not fields or not FIELDS.issuperset(fields) or not all(fields.values()):
            return ()
        containers = await self._list(filters_for(fields), lambda name, labels: selects(fields, name, labels))
        if "name" in fields:
            return [await self._by_name(one) for one in containers]
        return await self._by_service(containers)

    async def inventory(self) -> Sequence[Workload]:
        """Every workload that opted in to anything, to keep a record of what it runs."""
        return await self._by_service(await self._list([{"label": [ALLOW]}], lambda *_: True))

    async def containers(self, workload: Workload) -> Sequence[Container]:
        """The workload's containers as they are now: they may have been recreated since it was found."""
        return await self._members(workload.kind, workload.name)

    async def diagnose(self, diagnosis: Diagnosis, workload: Workload) -> Evidence:
        """Numbers are those of the worst instance: the highest. Exec is a write call to the engine and is not run here."""
        if isinstance(diagnosis, ServiceDiagnosis):
            raise unsupported(diagnosis)
        look: Callable[[Container, Client], evidence.Look]
        match diagnosis:
            case Logs():
                look = partial(evidence.logs, diagnosis)
            case Stats():
                look = evidence.stats
            case Inspect():
                look = evidence.inspect
            case Events():
                names = [one.name for one in workload.instances] or [workload.name]  # no name would mean all
                return await self._engine.read(partial(evidence.events, diagnosis, names))
            case Disk():
                return await self._engine.read(partial(evidence.disk, await self._present(workload)))
            case RolloutAge():
                return await self._rollout_age(workload)
            case Exec():
                return Evidence(Exec.name, f"not run: exec needs mode auto\n{self.describe(diagnosis, workload)}")
            case _:
                assert_never(diagnosis)
        containers = await self._present(workload)
        looks = await asyncio.gather(*(self._engine.read(partial(look, container)) for container in containers))
        numbers = {key: max(seen[key] for _, seen in looks if key in seen) for _, seen in looks for key in seen}
        texts = [
            text if len(looks) == 1 else f"==> {one.name} <==\n{text}" for one, (text, _) in zip(containers, looks, strict=True)
        ]
        return Evidence(diagnosis.name, readable("\n".join(texts)), numbers)

    async def check(self, check: Check, workload: Workload) -> Reading:
        if isinstance(check, ServiceCheck):
            return Reading(Probe.UNKNOWN, str(unsupported(check)))
        match check:
            case Healthy():
                return await self._healthy(workload)
            case _:
                assert_never(check)

    def describe(self, step: Step | Diagnosis, workload: Workload) -> str:
        """The docker command lines for the same; values of environment variables are never among them."""
        return typed(step, workload)

    async def mark(self, step: Step, workload: Workload) -> Facts:
        """`instances`: id, name, state, image and the exact `started_at` of each, before the call."""
        if isinstance(step, ServiceStep):
            raise unsupported(step)
        facts = [
            {"id": one.id, "name": one.name, "state": one.status, "image": one.image, "started_at": one.started_at}
            for one in await self.containers(workload)
        ]
        return {"instances": facts}

    async def observe(self, step: Step, workload: Workload, mark: Facts) -> Observation:
        """Compare with the mark, instance by instance: all say yes, all say no, or else a person has to look."""
        if isinstance(step, ServiceStep):
            raise unsupported(step)
        marked: list[Facts] = mark.get("instances", [])
        now = {one.name: one for one in await self.containers(workload)}
        match step:
            case Restart():
                return doubt.together(doubt.restarted(was, now.get(was["name"])) for was in marked)
            case Start():
                return doubt.together(doubt.restarted(was, now.get(was["name"])) for was in marked if was["state"] != "running")
            case Stop():
                return doubt.together(doubt.stopped(was, now.get(was["name"])) for was in marked)
            case Rollback():
                left = await self._engine.read(doubt.left_over)
                return doubt.together(doubt.rolled_back(step.to, was, now.get(was["name"]), left) for was in marked)
            case Exec():
                return Observation(Happened.UNKNOWN, f"no trace tells whether this ran or still runs: {typed(step, workload)}")
            case Prune():
                said = "the engine keeps no record of what was removed; docker system df shows what is left"
                return Observation(Happened.UNKNOWN, said)
            case Scale() | Evict() | DeletePod() | Cordon() | Uncordon() | Drain():
                raise unsupported(step)
            case _:
                assert_never(step)

    # --- the engine's answers as workloads

    async def _list(self, filters: Sequence[Facts], keep: Callable[[str, Mapping[str, str]], bool]) -> list[Container]:
        """Inspect whatever any of the filters lets through and `keep` (of name and labels) keeps, in order of their names."""
        found: dict[str, str] = {}
        for each in filters:
            for summary in await self._engine.read(partial(summaries, each)):
                name = next((name[1:] for name in summary["Names"] or () if name.count("/") == 1), "")
                labels = summary["Labels"] or {}
                is_instance = name and labels.get(COMPOSE_ONEOFF) != "True" and not LEFT_OVER.search(name)
                if is_instance and keep(name, labels):
                    found[summary["Id"]] = name
        containers = [await self._engine.read(partial(inspected, one)) for one in sorted(found, key=found.__getitem__)]
        return [container for container in containers if container is not None]

    async def _members(self, kind: str, name: str) -> list[Container]:
        if kind == "service":
            project, service = name.split("/", 1)
            filters = {"label": [f"{COMPOSE_PROJECT}={project}", f"{COMPOSE_SERVICE}={service}"]}
            return await self._list([filters], lambda *_: True)
        return await self._list([named(name)], lambda found, _: found == name)

    async def _by_name(self, one: Container) -> Workload:
        """The only container of a service is that service: under two ids it could be acted on twice at once."""
        kind, name = belongs_to(one)
        members = await self._members(kind, name) if kind == "service" else []
        if peers := [instance(other) for other in members if other.id != one.id]:
            return replace(await self._workload("container", one.name, [one]), peers=tuple(peers))
        return await self._workload(kind, name, [one])

    async def _by_service(self, containers: Sequence[Container]) -> list[Workload]:
        groups: dict[tuple[str, str], list[Container]] = {}
        for one in containers:
            groups.setdefault(belongs_to(one), []).append(one)
        return [await self._workload(kind, name, group) for (kind, name), group in groups.items()]

    async def _workload(self, kind: str, name: str, group: Sequence[Container]) -> Workload:
        allowed = [frozenset(filter(None, map(str.strip, one.labels.get(ALLOW, "").split(",")))) for one in group]
        allow = allowed[0] if len(set(allowed)) == 1 else frozenset.intersection(*map(expanded, allowed))
        first = group[0]
        images = {one.image for one in group}
        details = {"image": str(first.config["Image"])}
        if kind == "service":
            details["files"] = first.labels.get("com.docker.compose.project.config_files", "")
        elif Rollback.name in expanded(allow):
            with suppress(PermanentError):  # an image that was removed by force cannot be told from what was asked for
                image = await self._engine.read(partial(image_config, first.image))
                details["run"] = shlex.join(run_command(first, image))
        return Workload(
            platform=self.name,
            kind=kind,
            name=name,
            service=service_name(first.name, first.labels),
            allow=allow,
            instances=tuple(instance(one) for one in group),
            release=images.pop() if len(images) == 1 else "",
            protected=next(filter(None, map(self._why_protected, group)), ""),
            details=details,
            lacks=LACKS,
        )

    def _why_protected(self, one: Container) -> str:
        if self._own_id and one.id.startswith(self._own_id):
            return "is remediator itself"
        said = one.labels.get(PROTECTED, "false")
        return "" if said.lower() == "false" else f"is protected by its label {PROTECTED}={said}"

    async def _present(self, workload: Workload) -> Sequence[Container]:
        containers = await self.containers(workload)
        if not containers:
            raise PermanentError(f"no container of {workload.id} is left")
        return containers[:INSTANCES_SHOWN]

    async def _healthy(self, workload: Workload) -> Reading:
        try:
            containers = await self.containers(workload)
        except PortError as error:
            return Reading(Probe.UNKNOWN, str(error))
        if not containers:
            return Reading(Probe.FAILS, f"no container of {workload.id} is left")
        well = all(one.health is Health.HEALTHY for one in containers)
        return Reading(Probe.HOLDS if well else Probe.FAILS, ", ".join(f"{one.name} is {one.health}" for one in containers))

    async def _rollout_age(self, workload: Workload) -> Evidence:
        """Compared with the engine's own clock, which also wrote the time of creation."""
        youngest = max(await self._present(workload), key=lambda one: moment(one.told["Created"]))
        info = await self._engine.read(lambda client: client.info())
        age = moment(info["SystemTime"]) - moment(youngest.told["Created"])
        text = f"{youngest.name} was created {brief(timedelta(seconds=int(age.total_seconds())))} ago from {youngest.image}"
        return Evidence(RolloutAge.name, text, {"rollout.age_seconds": age.total_seconds()})
