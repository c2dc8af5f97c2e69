"""What a person would type instead of a step or a diagnosis: docker command lines. Pure."""

import math
import shlex
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, assert_never

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
from remediator.core.target import Health, Workload
from remediator.platforms.docker_container import ALLOW, PROTECTED, Container, parked_name, unnamed_volumes
from remediator.ports import Facts, PermanentError

IMAGE_HERE = "@IMAGE@"
"""Stands for the image in a `docker run` that is kept until the image is known."""


def typed(step: Step | Diagnosis, workload: Workload) -> str:
    """The command lines for the same. Raises PermanentError for what is not Docker's."""
    if isinstance(step, ServiceStep | ServiceDiagnosis):
        raise unsupported(step)
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
        case Prune():
            return "\n".join(_prune_typed(step))
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
        case Disk():
            return "docker system df -v"
        case RolloutAge():
            return f"docker inspect --format '{{{{.Created}}}} {{{{.Name}}}}' {names}"
        case Scale() | Evict() | DeletePod() | Cordon() | Uncordon() | Drain():
            raise unsupported(step)
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


def _prune_typed(step: Prune) -> Iterable[str]:
    """Not docker's own prune: it spares no image for a rollback, counts a container's age from its creation, and of several
    `label!=` spares only what has all. `docker rm` and `docker image rm` refuse what is in use, as the engine refuses us.
    """
    before = f"\"$(date -u -d '-{int(step.older_than.total_seconds())} seconds' +%FT%T.%N)\""
    if step.containers:
        labels = f"grep -v -F -e {ALLOW}: -e {PROTECTED}:"
        yield (
            "docker ps -aq --no-trunc -f status=created -f status=exited -f status=dead"
            " | xargs -r docker inspect -f '{{.Id}} {{.Created}} {{.State.FinishedAt}} {{.Config.Labels}}'"
            f" | {labels} | awk -v t={before} '$2 < t && $3 < t {{print $1}}' | xargs -r docker rm"
        )
    if step.images:
        kept = " | grep -v -F" + "".join(f" -e {shlex.quote(image)}" for image in step.keep) if step.keep else ""
        yield (
            "docker image ls -aq --no-trunc | xargs -r docker image inspect -f '{{.Id}} {{.Created}}'"
            f"{kept} | awk -v t={before} '$2 < t && !seen[$1]++ {{print $1}}' | xargs -r docker image rm --no-prune"
        )


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


def _go(duration: timedelta) -> str:
    """A duration for Docker's command line, which knows no days."""
    seconds = int(duration.total_seconds())
    return f"{seconds // 3600}h" if seconds % 3600 == 0 else f"{seconds}s"


def unsupported(step: Step | Diagnosis | Check) -> PermanentError:
    return PermanentError(f"Docker does not offer {step.name}")
