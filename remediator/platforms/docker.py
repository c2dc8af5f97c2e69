"""Docker, the reading side: finds what opted in, looks at it, and says what a person would type. Sends only GET requests.

The containers of a compose service are one workload, the stopped ones too; any other container is one by itself.
`docker_actions.py` is the writing side; both meet the engine through `docker_engine.py`.
"""

import asyncio
import json
import math
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, assert_never

from remediator.core.playbook import brief
from remediator.core.step import (
    AlertResolved,
    Check,
    Diagnosis,
    Events,
    Exec,
    Healthy,
    Http,
    Inspect,
    Logs,
    PostgresLongQueries,
    PostgresSessions,
    PostgresSessionsBelow,
    PromQL,
    Prune,
    RedisFlush,
    RedisInfo,
    RedisMemoryBelow,
    RedisPing,
    Restart,
    Rollback,
    RolloutAge,
    Start,
    Stats,
    Step,
    Stop,
    Tcp,
    TerminateIdle,
)
from remediator.core.target import Health, Instance, Selection, Workload
from remediator.platforms import expanded, readable
from remediator.platforms.docker_engine import (
    ALLOW,
    COMPOSE_ONEOFF,
    COMPOSE_PROJECT,
    COMPOSE_SERVICE,
    PROTECTED,
    SERVICE,
    Client,
    Container,
    DockerEngine,
    Facts,
    NotFound,
    image_config,
    request,
)
from remediator.ports import Evidence, Happened, Observation, PermanentError, PortError, Probe, Reading

FIELDS = frozenset({"name", "service", "project"})
CONTAINERS_MAX = 1000
"""Of one listing; a selection of more is a mistake."""
INSTANCES_SHOWN = 10
EVENTS = ("create", "start", "restart", "stop", "kill", "die", "oom", "destroy", "pause", "unpause", "rename", "health_status")
"""Without the exec_* events, which every health check makes three of."""

Look = tuple[str, Mapping[str, float]]
_LEFT_OVER = re.compile(r"-remediator-(old|new)-[0-9a-f]{12}")


def parked_name(name: str, container_id: str) -> str:
    """What a container is called after a rollback has put it aside; such containers are nobody's instances."""
    return f"{name}-remediator-old-{container_id[:12]}"


def coming_name(name: str, container_id: str) -> str:
    """What the container that will replace it is called until it does."""
    return f"{name}-remediator-new-{container_id[:12]}"


class DockerPlatform:
    """Reads the containers of one engine. `own_container_id` (whole or short) is remediator's own: never a target."""

    name = "docker"

    def __init__(self, engine: DockerEngine, own_container_id: str = "") -> None:
        self._engine = engine
        self._own_id = own_container_id

    async def find(self, selection: Selection) -> Sequence[Workload]:
        """By `name`, `service` and `project`, all of which must fit; with `name`, the one container and not its service."""
        fields = selection.fields
        if not fields or not FIELDS.issuperset(fields) or not all(fields.values()):
            return ()
        containers = await self._list(_filters(fields), lambda name, labels: _selects(fields, name, labels))
        return await self._workloads(containers, alone="name" in fields)

    async def inventory(self) -> Sequence[Workload]:
        """Every workload that opted in to anything, to keep a record of what it runs."""
        return await self._workloads(await self._list([{"label": [ALLOW]}], lambda *_: True), alone=False)

    async def containers(self, workload: Workload) -> Sequence[Container]:
        """The workload's containers as they are now: they may have been recreated since it was found."""
        if workload.kind == "service":
            project, service = workload.name.split("/", 1)
            filters = {"label": [f"{COMPOSE_PROJECT}={project}", f"{COMPOSE_SERVICE}={service}"]}
            return await self._list([filters], lambda *_: True)
        return await self._list([_named(workload.name)], lambda name, _: name == workload.name)

    async def diagnose(self, diagnosis: Diagnosis, workload: Workload) -> Evidence:
        """Numbers are those of the worst instance: the highest. Exec is a write call to the engine and is not run here."""
        look: Callable[[Container, Client], Look]
        match diagnosis:
            case Logs():
                look = partial(_logs, diagnosis)
            case Stats():
                look = _stats
            case Inspect():
                look = _inspect
            case Events():
                names = [one.name for one in workload.instances] or [workload.name]  # no name would mean all
                return await self._engine.read(partial(_events, diagnosis, names))
            case RolloutAge():
                return await self._rollout_age(workload)
            case Exec():
                return Evidence(Exec.name, f"not run: exec needs mode auto\n{self.describe(diagnosis, workload)}")
            case RedisInfo() | PostgresSessions() | PostgresLongQueries() | PromQL() | Http():
                raise _unsupported(diagnosis)
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
        match check:
            case Healthy():
                return await self._healthy(workload)
            case (
                Http() | PromQL() | Tcp() | AlertResolved() | RedisPing() | RedisMemoryBelow() | PostgresSessionsBelow()
            ):  # fmt: skip
                return Reading(Probe.UNKNOWN, str(_unsupported(check)))
            case _:
                assert_never(check)

    def describe(self, step: Step | Diagnosis, workload: Workload) -> str:
        """The docker command lines for the same; values of environment variables are never among them."""
        return typed(step, workload)

    async def mark(self, step: Step, workload: Workload) -> Facts:
        """`instances`: id, name, state, image and the exact `started_at` of each, before the call."""
        if step.service:
            raise _unsupported(step)
        facts = [
            {"id": one.id, "name": one.name, "state": one.status, "image": one.image, "started_at": one.started_at}
            for one in await self.containers(workload)
        ]
        return {"instances": facts}

    async def observe(self, step: Step, workload: Workload, mark: Facts) -> Observation:
        """Compare with the mark, instance by instance: all say yes, all say no, or else a person has to look."""
        marked: list[Facts] = mark.get("instances", [])
        now = {one.name: one for one in await self.containers(workload)}
        match step:
            case Restart():
                return _together(_restarted(was, now.get(was["name"])) for was in marked)
            case Start():
                return _together(_restarted(was, now.get(was["name"])) for was in marked if was["state"] != "running")
            case Stop():
                return _together(_stopped(was, now.get(was["name"])) for was in marked)
            case Rollback():
                left = await self._engine.read(_left_over)
                return _together(_rolled_back(step.to, was, now.get(was["name"]), left) for was in marked)
            case Exec():
                return Observation(Happened.UNKNOWN, f"no trace tells whether this ran or still runs: {typed(step, workload)}")
            case Prune():
                # Nothing records a prune, and the engine goes on with one whose caller has given up.
                return Observation(
                    Happened.UNKNOWN, "the engine keeps no record of a prune; docker system df shows what is left"
                )
            case TerminateIdle() | RedisFlush():
                raise _unsupported(step)
            case _:
                assert_never(step)

    # --- the engine's answers as workloads

    async def _list(self, filters: Sequence[Facts], keep: Callable[[str, Mapping[str, str]], bool]) -> list[Container]:
        """Inspect whatever any of the filters lets through and `keep` (of name and labels) keeps, in order of their names."""
        found: dict[str, str] = {}
        for each in filters:
            for summary in await self._engine.read(partial(_summaries, each)):
                name = next((name[1:] for name in summary["Names"] or () if name.count("/") == 1), "")
                labels = summary["Labels"] or {}
                is_instance = name and labels.get(COMPOSE_ONEOFF) != "True" and not _LEFT_OVER.search(name)
                if is_instance and keep(name, labels):
                    found[summary["Id"]] = name
        containers = [await self._engine.read(partial(_inspected, one)) for one in sorted(found, key=found.__getitem__)]
        return [container for container in containers if container is not None]

    async def _workloads(self, containers: Sequence[Container], alone: bool) -> list[Workload]:
        groups: dict[tuple[str, str], list[Container]] = {}
        for one in containers:
            project, service = one.labels.get(COMPOSE_PROJECT), one.labels.get(COMPOSE_SERVICE)
            key = ("service", f"{project}/{service}") if project and service and not alone else ("container", one.name)
            groups.setdefault(key, []).append(one)
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
            instances=tuple(_instance(one) for one in group),
            release=images.pop() if len(images) == 1 else "",
            protected=next(filter(None, map(self._why_protected, group)), ""),
            details=details,
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


# --- Selecting ----------------------------------------------------------------------------------------------------------


def service_name(name: str, labels: Mapping[str, str]) -> str:
    """What `service:` of a target is compared with: the owner's label, else compose's, else the container's own name."""
    return labels.get(SERVICE) or labels.get(COMPOSE_SERVICE) or name


def _selects(fields: Mapping[str, str], name: str, labels: Mapping[str, str]) -> bool:
    has = {"name": name, "service": service_name(name, labels), "project": labels.get(COMPOSE_PROJECT, "")}
    return all(has[field] == wanted for field, wanted in fields.items())


def _filters(fields: Mapping[str, str]) -> list[Facts]:
    """The engine's filters that let through all that may be selected: it ANDs the labels of one list, so ORs are several."""
    labels = [f"{COMPOSE_PROJECT}={fields['project']}"] if "project" in fields else []
    if "name" in fields:
        return [_named(fields["name"]) | {"label": labels}]
    if "service" not in fields:
        return [{"label": labels}]
    service = fields["service"]
    by_label = [{"label": [*labels, f"{label}={service}"]} for label in (SERVICE, COMPOSE_SERVICE)]
    return [*by_label, _named(service) | {"label": labels}]


def _named(name: str) -> dict[str, Any]:
    return {"name": f"^/{re.escape(name)}$"}


def _summaries(filters: Facts, client: Client) -> list[Facts]:
    found: list[Facts] = client.containers(all=True, filters=filters)
    if len(found) > CONTAINERS_MAX:
        raise PermanentError(f"{len(found)} containers fit {dict(filters)}, more than {CONTAINERS_MAX}")
    return found


def _inspected(container_id: str, client: Client) -> Container | None:
    """None if it went away between the listing and now."""
    try:
        return Container(client.inspect_container(container_id))
    except NotFound:
        return None


def _instance(one: Container) -> Instance:
    started_at = moment(one.started_at)
    return Instance(one.id, one.name, one.health, started_at if started_at.year > 1 else None)


def moment(text: str) -> datetime:
    """A time of the engine, in Go's RFC 3339 with nanoseconds, of which microseconds remain. Year 1: never."""
    return datetime.fromisoformat(text)


# --- Looking at one container -------------------------------------------------------------------------------------------


def _logs(diagnosis: Logs, one: Container, client: Client) -> Look:
    raw = client.logs(one.id, tail=diagnosis.tail, timestamps=True)
    lines = raw.decode(errors="replace").splitlines()
    wanted = diagnosis.grep.casefold()
    return readable("\n".join(line for line in lines if wanted in line.casefold())), {"logs.lines": len(lines)}


def _stats(one: Container, client: Client) -> Look:
    """Measured by the engine over its second of two samples; the formulas are those of `docker stats` (docker/cli)."""
    if not one.runs:
        return f"{one.name} is {one.status}", {}
    told = client.stats(one.id, stream=False)
    cpu, before = told["cpu_stats"], told["precpu_stats"]
    spent = cpu["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
    passed = cpu.get("system_cpu_usage", 0) - before.get("system_cpu_usage", 0)
    cpus = cpu.get("online_cpus") or len(cpu["cpu_usage"].get("percpu_usage") or [0])
    memory = told["memory_stats"]
    cache = memory.get("stats", {}).get("total_inactive_file", memory.get("stats", {}).get("inactive_file", 0))
    used, limit = memory.get("usage", 0) - cache, memory.get("limit", 0)
    numbers = {
        "stats.cpu_percent": 100.0 * cpus * spent / passed if passed > 0 else 0.0,
        "stats.memory_bytes": float(used),
        "stats.memory_ratio": used / limit if limit else 0.0,
        "stats.pids": float(told.get("pids_stats", {}).get("current", 0)),
    }
    percent, size, ratio, pids = numbers.values()
    return f"cpu {percent:.1f}%, memory {size / 2**20:.1f} MiB ({ratio:.1%} of its limit), {pids:.0f} processes", numbers


def _inspect(one: Container, _client: Client) -> Look:
    state, restarts = one.state, int(one.told.get("RestartCount", 0))
    checks = ((state.get("Health") or {}).get("Log") or [])[-3:]
    lines = [
        f"{one.name} is {one.status} ({one.health}), started {one.started_at}, finished {state['FinishedAt']}",
        f"exit code {state['ExitCode']}, out of memory: {state['OOMKilled']}, restarted {restarts} times by its policy",
        f"image {one.config['Image']} ({one.image})",
        *([f"error: {state['Error']}"] if state.get("Error") else []),
        *(f"health check exited {check['ExitCode']}: {readable(check['Output'], 500)}" for check in checks),
    ]
    numbers = {
        "inspect.exit_code": state["ExitCode"],
        "inspect.oom_killed": state["OOMKilled"],
        "inspect.restart_count": restarts,
    }
    return "\n".join(lines), {key: float(number) for key, number in numbers.items()}


def _events(diagnosis: Events, names: Sequence[str], client: Client) -> Evidence:
    """Up to now by the engine's clock, so that the answer ends. An engine remembers the last 256 events of everything."""
    until = moment(client.info()["SystemTime"])
    filters = json.dumps({"type": ["container"], "container": list(names), "event": EVENTS})
    span = {"since": f"{(until - diagnosis.since).timestamp():.6f}", "until": f"{until.timestamp():.6f}", "filters": filters}
    events = [json.loads(line) for line in request(client, "GET", "/events", params=span).text.splitlines()]
    lines = []
    for event in events:
        about = event["Actor"]["Attributes"]
        code = f" (exit code {about['exitCode']})" if "exitCode" in about else ""
        lines.append(
            f"{datetime.fromtimestamp(event['time'], UTC):%Y-%m-%d %H:%M:%SZ} {about.get('name')} {event['Action']}{code}"
        )
    numbers = {f"events.{action}": float(sum(event["Action"] == action for event in events)) for action in ("die", "oom")}
    return Evidence(Events.name, readable("\n".join(lines) or "no events"), numbers)


# --- What a person would type -------------------------------------------------------------------------------------------


def typed(step: Step | Diagnosis, workload: Workload) -> str:
    """The command lines for the same. Raises PermanentError for what is not Docker's."""
    names = shlex.join(instance.name for instance in workload.instances)
    stopped = shlex.join(instance.name for instance in workload.instances if instance.health is Health.STOPPED)
    match step:
        case Restart(timeout):
            return f"docker restart -t {math.ceil(timeout.total_seconds())} {names}"
        case Start():
            return f"docker start {stopped or names}"
        case Stop(timeout):
            return f"docker stop -t {math.ceil(timeout.total_seconds())} {names}"
        case Rollback(to):
            return _rollback_typed(to or "<the release before>", workload)
        case Exec(argv):
            runs = next((one.name for one in workload.instances if one.health is not Health.STOPPED), names)
            return f"docker exec {runs} {shlex.join(argv)}"
        case Prune(images, containers, older_than):
            until = f"--filter until={_go(older_than)}"
            kept = shlex.quote(f"label!={ALLOW}")
            lines = [f"docker container prune --force {until} --filter {kept}"] if containers else []
            return "\n".join([*lines, f"docker image prune --all --force {until}"] if images else lines)
        case Logs(tail, grep):
            found = f" 2>&1 | grep -iF -e {shlex.quote(grep)}" if grep else ""
            return "\n".join(f"docker logs -t --tail {tail} {shlex.quote(one.name)}{found}" for one in workload.instances)
        case Stats():
            return f"docker stats --no-stream {names}"
        case Inspect():
            return f"docker inspect {names}"
        case Events(since):
            containers_named = " ".join(f"--filter container={shlex.quote(one.name)}" for one in workload.instances)
            return f"docker events --since {_go(since)} --until 0s {containers_named}"
        case RolloutAge():
            return f"docker inspect --format '{{{{.Created}}}} {{{{.Name}}}}' {names}"
        case TerminateIdle() | RedisFlush() | RedisInfo() | PostgresSessions() | PostgresLongQueries() | PromQL() | Http():
            raise _unsupported(step)
        case _:
            assert_never(step)


def _rollback_typed(to: str, workload: Workload) -> str:
    if workload.kind == "service":
        project, service = workload.name.split("/", 1)
        files = "".join(f" -f {shlex.quote(file)}" for file in workload.details.get("files", "").split(",") if file)
        return (
            f"# set `image: {to}` for {service} in the compose files of {project}, then:\n"
            f"docker compose -p {shlex.quote(project)}{files} up -d --no-deps {shlex.quote(service)}"
        )
    parked = parked_name(workload.name, workload.instances[0].id if workload.instances else "")
    run = workload.details.get("run", f"docker run -d --name {workload.name} {IMAGE_HERE}").replace(IMAGE_HERE, to)
    return f"docker stop {workload.name} && docker rename {workload.name} {parked} && {run}"


IMAGE_HERE = "@IMAGE@"


def run_command(one: Container, image: Facts) -> list[str]:
    """`docker run` for the like of a container, with IMAGE_HERE for its image, of what was asked for beyond the image's own.

    Environment variables are named and not set: `-e NAME` takes the value from the shell of whoever types it.
    """
    asked, host = one.overrides(image), one.host_config
    policy = host.get("RestartPolicy") or {}
    retries = f":{policy['MaximumRetryCount']}" if policy.get("MaximumRetryCount") else ""
    entrypoint = asked.get("Entrypoint") or []
    options: list[tuple[str, Iterable[Any]]] = [
        ("--hostname", [asked.get("Hostname")]),
        ("--restart", [f"{policy.get('Name')}{retries}" if policy.get("Name") not in ("", "no", None) else ""]),
        ("-e", [variable.split("=", 1)[0] for variable in asked.get("Env", ())]),
        ("-v", [*(host.get("Binds") or ()), *(f"{name}:{path}" for name, path in unnamed_volumes(one))]),
        ("--mount", [",".join(f"{key.lower()}={mount[key]}" for key in ("Type", "Source", "Target") if mount.get(key))
                     for mount in host.get("Mounts") or () if mount.get("Source") or mount.get("Type") == "tmpfs"]),
        ("-p", [f"{to['HostIp'] and to['HostIp'] + ':'}{to['HostPort']}:{port}"
                for port, tos in (host.get("PortBindings") or {}).items() for to in tos or ()]),
        ("--network", [host.get("NetworkMode") if host.get("NetworkMode") not in ("default", "bridge") else ""]),
        ("-u", [asked.get("User")]),
        ("-w", [asked.get("WorkingDir")]),
        ("-m", [host.get("Memory")]),
        ("--cap-add", host.get("CapAdd") or ()),
        ("--entrypoint", entrypoint[:1]),
        ("-l", [f"{label}={value}" for label, value in asked.get("Labels", {}).items()]),
    ]  # fmt: skip
    given = [
        part
        for option, values in options
        for value in values
        if value or option == "--entrypoint"
        for part in (option, str(value))
    ]
    privileged = ["--privileged"] if host.get("Privileged") else []
    return [
        "docker",
        "run",
        "-d",
        "--name",
        one.name,
        *privileged,
        *given,
        IMAGE_HERE,
        *entrypoint[1:],
        *(asked.get("Cmd") or ()),
    ]


def unnamed_volumes(one: Container) -> list[tuple[str, str]]:
    """Volumes whose names the engine made up, as (name, path inside): only this container knows that they are its own."""
    given = {bind.split(":")[1] for bind in one.host_config.get("Binds") or ()}
    given |= {mount["Target"] for mount in one.host_config.get("Mounts") or () if mount.get("Source")}
    volumes = [mount for mount in one.told.get("Mounts") or () if mount["Type"] == "volume"]
    return [(mount["Name"], mount["Destination"]) for mount in volumes if mount["Destination"] not in given]


def _go(duration: timedelta) -> str:
    """A duration for Docker's command line, which knows no days."""
    seconds = int(duration.total_seconds())
    return f"{seconds // 3600}h" if seconds % 3600 == 0 else f"{seconds}s"


# --- What became of a step in doubt: each container against its mark -----------------------------------------------------


def _restarted(was: Facts, now: Container | None) -> Observation:
    if now is None:
        return Observation(Happened.UNKNOWN, f"{was['name']} is gone")
    if (now.id, now.started_at) != (was["id"], was["started_at"]) and now.runs:
        return Observation(Happened.YES, f"{now.name} runs since {now.started_at}, before that since {was['started_at']}")
    return _as_before(was, now)


def _stopped(was: Facts, now: Container | None) -> Observation:
    if now is None or now.health is Health.STOPPED:
        return Observation(Happened.YES, f"{was['name']} is {now.status if now else 'gone'}")
    return _as_before(was, now)


def _rolled_back(to: str, was: Facts, now: Container | None, left: frozenset[str]) -> Observation:
    if now is not None and now.id != was["id"] and now.image == to and now.runs:
        return Observation(Happened.YES, f"{now.name} runs {to} since {now.started_at}")
    if now is not None and (before := _as_before(was, now)).happened is Happened.NO:
        return before
    holder = f"{now.name} is {now.status} with {now.image}" if now else f"nothing is called {was['name']}"
    return Observation(Happened.UNKNOWN, f"the rollback is half done: {holder}\n{_way_out(to, was, now, left)}")


def _as_before(was: Facts, now: Container) -> Observation:
    if (now.id, now.started_at, now.status) == (was["id"], was["started_at"], was["state"]):
        return Observation(Happened.NO, f"{now.name} is {now.status} since {now.started_at}, as before")
    return Observation(
        Happened.UNKNOWN, f"{now.name} is {now.status} since {now.started_at}; before: {was['state']} since {was['started_at']}"
    )


def _way_out(to: str, was: Facts, now: Container | None, left: frozenset[str]) -> str:
    """The commands that finish a half-done rollback, and those that undo it, as far as either is possible."""
    name, parked, coming = was["name"], parked_name(was["name"], was["id"]), coming_name(was["name"], was["id"])
    is_old = now is not None and now.id == was["id"]
    finish: list[str] = []
    if coming in left:
        park = [f"docker stop {name}", f"docker rename {name} {parked}"] if is_old else []
        finish = [*park, f"docker rename {coming} {name}", f"docker start {name}", f"docker rm {parked}"]
    elif now is not None and now.image == to and not is_old:
        finish = [f"docker start {name}", *([f"docker rm {parked}"] if parked in left else [])]
    undo: list[str] = []
    if is_old or parked in left:
        undo = [f"docker rm -f {coming}"] if coming in left else []
        undo += [] if is_old else [*([f"docker rm -f {name}"] if now else []), f"docker rename {parked} {name}"]
        undo += [f"docker start {name}"]
    ways = [f"to {way}: {' && '.join(commands)}" for way, commands in (("finish", finish), ("undo", undo)) if commands]
    return "\n".join(ways) or f"somebody else has replaced it meanwhile, and neither {parked} nor {coming} is left"


def _together(each: Iterable[Observation]) -> Observation:
    """One answer for all instances, or Unknown where they differ. None to ask about: there was nothing to do."""
    seen = list(each)
    fates = {one.happened for one in seen}
    return Observation(
        fates.pop() if len(fates) == 1 else Happened.UNKNOWN if fates else Happened.NO, "; ".join(one.seen for one in seen)
    )


def _left_over(client: Client) -> frozenset[str]:
    found = client.containers(all=True, filters={"name": _LEFT_OVER.pattern})
    return frozenset(name.removeprefix("/") for summary in found for name in summary["Names"])


def _unsupported(step: Step | Diagnosis | Check) -> PermanentError:
    return PermanentError(f"Docker does not offer {step.name}")
