"""Docker, the writing side: restart, start, stop, rollback, exec and prune. Only built where something may act.

It acts on the very containers that were decided upon: one that was recreated since then is not found, and refused.
A rollback is a recreation; its theory stands above `_prepared`.
"""

import math
import struct
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing, suppress
from copy import deepcopy
from datetime import timedelta
from functools import partial
from typing import Any, NoReturn, assert_never

from urllib3 import BaseHTTPResponse

from remediator.core.step import (
    Cordon,
    DeletePod,
    Drain,
    Evict,
    Exec,
    Prune,
    Restart,
    Rollback,
    Scale,
    ServiceStep,
    Start,
    Step,
    Stop,
    Uncordon,
)
from remediator.core.target import Health, Instance, Workload
from remediator.platforms import TEXT_MAX, exec_evidence, exec_said, readable
from remediator.platforms.docker_commands import unsupported
from remediator.platforms.docker_container import (
    COMPOSE_IMAGE,
    Container,
    coming_name,
    parked_name,
    unnamed_volumes,
)
from remediator.platforms.docker_engine import (
    FAILURES,
    TIMEOUTS,
    Client,
    DockerEngine,
    NotFound,
    after,
    image_config,
    request,
)
from remediator.platforms.docker_prune import pruned
from remediator.ports import Evidence, Facts, OutcomeUnknown, PermanentError, PortError, TransientError

STOP_GRACE_SECONDS = 10
"""Docker's own, where neither the container nor the step says how long."""
SWAP_EXTRA = timedelta(seconds=60)
OUTPUT_BYTES_MAX = 4 * TEXT_MAX


class DockerActuator:
    """Changes containers of one engine. A rolled-back container must run for `settle` before the old one is removed."""

    def __init__(self, engine: DockerEngine, settle: timedelta = timedelta(seconds=3)) -> None:
        self._engine = engine
        self._settle = settle

    async def perform(self, step: Step, workload: Workload, mark: Facts) -> str:
        """Instance by instance; an error says which ones were done before it, and is then never a TransientError."""
        if workload.protected:
            raise PermanentError(f"{workload.id} {workload.protected}")
        if isinstance(step, ServiceStep):
            raise unsupported(step)
        instances = workload.instances
        match step:
            case Restart(timeout):
                return await _one_by_one("restarted", instances, partial(self._send, "restart", timeout))
            case Start():
                stopped = [one for one in instances if one.health is Health.STOPPED]
                return await _one_by_one("started", stopped, partial(self._send, "start", timedelta()))
            case Stop(timeout):
                return await _one_by_one("stopped", instances, partial(self._send, "stop", timeout))
            case Rollback(to):
                return await _one_by_one(f"rolled back to {to}:", instances, partial(self._roll_back, to))
            case Exec():
                return exec_said(*await self._exec(step, workload))
            case Prune():
                return await pruned(step, self._engine)
            case Scale() | Evict() | DeletePod() | Cordon() | Uncordon() | Drain():
                raise unsupported(step)
            case _:
                assert_never(step)

    async def diagnose_exec(self, diagnosis: Exec, workload: Workload) -> Evidence:
        """Run a command for its output. The caller has checked the opt-in."""
        return exec_evidence(*await self._exec(diagnosis, workload))

    async def _send(self, verb: str, grace: timedelta, one: Instance) -> None:
        """Not docker-py's method, which would hold a thread for twice the grace: it adds it to the timeout by itself."""
        seconds = {} if verb == "start" else {"t": math.ceil(grace.total_seconds())}
        await self._engine.write(
            lambda client: request(client, "POST", f"/containers/{one.id}/{verb}", params=seconds).close(), grace
        )

    async def _roll_back(self, to: str, one: Instance) -> str:
        try:
            old, new_id = await self._engine.write(partial(_prepared, one.id, to), SWAP_EXTRA)
        except OutcomeUnknown as error:
            raise TransientError(f"{one.name} was not touched yet: {error}") from error
        grace = timedelta(seconds=_stop_grace(old))
        return await self._engine.write(partial(_swapped, old, new_id, self._settle), SWAP_EXTRA + grace + self._settle)

    async def _exec(self, step: Exec, workload: Workload) -> tuple[str, int, str]:
        runs = next((one for one in workload.instances if one.health is not Health.STOPPED), None)
        if runs is None:
            raise PermanentError(f"no container of {workload.id} runs")
        code, output = await self._engine.write(partial(_executed, step, runs.id), step.timeout)
        return runs.name, code, output


async def _one_by_one(verb: str, instances: Sequence[Instance], act: Callable[[Instance], Awaitable[object]]) -> str:
    done: list[str] = []
    for one in instances:
        try:
            done.append(str(await act(one) or one.name))
        except PortError as error:
            raise after(verb, done, error, f"{one.name}: ") from error
    return f"{verb} {', '.join(done) or 'nothing: there was nothing to do'}"


# --- Rollback -----------------------------------------------------------------------------------------------------------
#
# Docker cannot change the image of a container. A new one is made from the old image, with all that was asked for when
# the current one was made, and takes its place:
#
#     prepare   create <name>-remediator-new-<id>, join its networks           nothing that runs is touched
#     swap      stop the old one, rename it to <name>-remediator-old-<id>,     the service is down
#               rename the new one to <name>, start it
#     settle    it must run for a while; then the old one is removed, without its volumes: they are the new one's now
#
# Any failure in swap or settle removes the new one, and renames and starts the old one. The swap is one call on one
# thread, so that cancelling the caller cannot stop it half-way; `DockerPlatform.observe` tells the rest after a crash.


def _prepared(container_id: str, to: str, client: Client) -> tuple[Container, str]:
    """The container as it is, and the id of the one created to take its place."""
    old = Container(client.inspect_container(container_id))
    if not to or old.image == to:
        raise PermanentError(f"{old.name} runs {old.image}, and there is no other release to go back to")
    if old.host_config.get("AutoRemove"):
        raise PermanentError(f"{old.name} was made with --rm: stopping it would remove it, and its volumes with it")
    try:
        image_config(to, client)
    except NotFound as error:
        raise PermanentError(f"the image {to} is no longer on this engine") from error
    name = coming_name(old.name, old.id)
    _discard(client, name)
    first, *others = endpoints(old) or [("", "", {})]
    body = successor(old, to, image_config(old.image, client))
    if first[0]:
        body["NetworkingConfig"] = {"EndpointsConfig": {first[0]: first[2]}}
    created = request(client, "POST", "/containers/create", params={"name": name}, json=body).json()
    try:
        for _, network_id, endpoint in others:
            joining = {"Container": created["Id"], "EndpointConfig": endpoint}
            request(client, "POST", f"/networks/{network_id}/connect", json=joining)
    except FAILURES:
        with suppress(*FAILURES):
            _discard(client, name)
        raise
    return old, str(created["Id"])


def successor(old: Container, to: str, image: Facts) -> dict[str, Any]:
    """The body of `POST /containers/create` for the like of `old` (whose image has the configuration `image`) from `to`.

    HostConfig goes back as the engine told it, but for volumes whose names the engine made up, which are named now, and
    links, which are told as /source:/container/alias and taken as source:alias.
    """
    body = old.overrides(image)
    if COMPOSE_IMAGE in body.get("Labels", {}):
        body["Labels"] = body["Labels"] | {COMPOSE_IMAGE: to}
    host = deepcopy(dict(old.host_config))
    volumes = {path: name for name, path in unnamed_volumes(old)}
    for mount in host.get("Mounts") or ():
        if mount["Target"] in volumes:
            mount["Source"] = volumes.pop(mount["Target"])
    host["Binds"] = [*(host.get("Binds") or ()), *(f"{name}:{path}" for path, name in volumes.items())]
    links = [link.split(":") for link in host.get("Links") or ()]
    host["Links"] = [f"{source.lstrip('/')}:{alias.rsplit('/', 1)[-1]}" for source, alias in links]
    host.pop("ContainerIDFile", None)
    return body | {"Image": to, "HostConfig": host}


def endpoints(old: Container) -> list[tuple[str, str, dict[str, Any]]]:
    """Its networks as (name, id, what was asked for there), the one of its network mode first: `create` takes only that.

    The engine adds the short id of a container to its aliases, and it made up every address that IPAMConfig lacks.
    """
    mode = str(old.host_config.get("NetworkMode"))
    joined = []
    for name, told in (old.told["NetworkSettings"].get("Networks") or {}).items():
        aliases = [alias for alias in told.get("Aliases") or () if alias != old.id[:12]]
        asked = {key: told[key] for key in ("IPAMConfig", "Links", "DriverOpts") if told.get(key)}
        if name not in ("host", "none"):
            joined.append((name, str(told["NetworkID"]), asked | ({"Aliases": aliases} if aliases else {})))
    mode = "bridge" if mode == "default" else mode
    return sorted(joined, key=lambda one: mode != one[0] and not one[1].startswith(mode))


def _swapped(old: Container, new_id: str, settle: timedelta, client: Client) -> str:
    try:
        client.stop(old.id, timeout=_stop_grace(old))
        client.rename(old.id, parked_name(old.name, old.id))
        client.rename(new_id, old.name)
        client.start(new_id)
        _settled(client, new_id, settle)
    except (*FAILURES, PermanentError) as error:
        _put_back(client, old, new_id, error)
    try:
        client.remove_container(old.id)
    except FAILURES as error:
        return f"{old.name}, but {parked_name(old.name, old.id)} is left behind: {error}"
    return old.name


def _settled(client: Client, container_id: str, settle: timedelta) -> None:
    """Watch that it keeps running. Raises PermanentError with its last words if it does not."""
    ends_at = time.monotonic() + settle.total_seconds()
    while True:
        one = Container(client.inspect_container(container_id))
        if not one.runs or one.health is Health.UNHEALTHY or one.told.get("RestartCount"):
            said = readable(client.logs(container_id, tail=10), 500)
            raise PermanentError(
                f"the new {one.name} is {one.status}, exit code {one.state['ExitCode']}: {said or 'no output'}"
            )
        if time.monotonic() >= ends_at:
            return
        time.sleep(0.2)


def _put_back(client: Client, old: Container, new_id: str, why: Exception) -> NoReturn:
    """The old container under its own name, running if it ran. Raises PermanentError then, and OutcomeUnknown if that fails."""
    try:
        _discard(client, new_id)
        if Container(client.inspect_container(old.id)).name != old.name:
            client.rename(old.id, old.name)
        if old.runs:
            client.start(old.id)
        now = Container(client.inspect_container(old.id))
    except FAILURES as error:
        raise OutcomeUnknown(f"the rollback of {old.name} stopped half-way: {why}; undoing it failed, too: {error}") from why
    if now.runs is not old.runs:
        raise OutcomeUnknown(f"the rollback of {old.name} was undone ({why}), but the old container is {now.status}") from why
    raise PermanentError(f"the rollback of {old.name} failed, and the old container is back, {now.status}: {why}") from why


def _discard(client: Client, container: str) -> None:
    """Remove a container, running or not, and keep its volumes: they belong to another one, too."""
    with suppress(NotFound):
        client.remove_container(container, force=True)


def _stop_grace(one: Container) -> int:
    told = one.config.get("StopTimeout")
    return STOP_GRACE_SECONDS if told is None else int(told)


# --- Exec ---------------------------------------------------------------------------------------------------------------


def _executed(step: Exec, container_id: str, client: Client) -> tuple[int, str]:
    """Exit code and the end of the output, both streams in order.

    docker-py's exec_run waits for ever once the command runs; this asks for the plain stream instead of an upgraded
    connection, so that the deadline of the socket holds. The engine cannot end what an exec has started.
    """
    exec_id = client.exec_create(container_id, list(step.argv))["Id"]
    seconds = step.timeout.total_seconds()
    started = {"json": {"Detach": False, "Tty": False}, "stream": True, "timeout": seconds}
    try:
        with closing(request(client, "POST", f"/exec/{exec_id}/start", **started)) as response:
            output = _output(response.raw, time.monotonic() + seconds)
    except TIMEOUTS as error:
        raise OutcomeUnknown(f"{step.argv[0]} did not end within {seconds:g}s and may still run") from error
    code = client.exec_inspect(exec_id)["ExitCode"]
    if code is None:
        raise OutcomeUnknown(f"the output of {step.argv[0]} ended, and it may still run")
    return int(code), readable(output)


def _output(stream: BaseHTTPResponse, ends_at: float) -> bytes:
    """The last OUTPUT_BYTES_MAX of the frames: a header of 8 bytes with the length, then the data. Raises TimeoutError."""
    kept = bytearray()
    while len(header := stream.read(8)) == 8:
        kept += stream.read(struct.unpack(">BxxxL", header)[1])
        del kept[:-OUTPUT_BYTES_MAX]
        if time.monotonic() >= ends_at:
            raise TimeoutError
    return bytes(kept)
