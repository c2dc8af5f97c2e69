"""Runs one command in a container, and hears its output and its exit code.

A WebSocket with the subprotocol v4.channel.k8s.io (kubelet, "remotecommand"): the first byte of each frame is the number of
its stream; the one on the stream of errors is a Status with the exit code, and comes last.
"""

import asyncio
import json
from collections.abc import AsyncIterable
from http import HTTPStatus

from aiohttp import ClientError, WSMessage, WSMsgType, WSServerHandshakeError

from remediator.core.step import Exec
from remediator.core.target import Health, Workload
from remediator.platforms import TEXT_MAX, readable
from remediator.platforms.kubernetes_connection import KubernetesConnection, LastLook
from remediator.platforms.kubernetes_objects import Pod, under
from remediator.ports import Facts, OutcomeUnknown, PermanentError, TransientError

PROTOCOL = "v4.channel.k8s.io"
OUTPUT, ERRORS = (1, 2), 3
OUTPUT_BYTES_MAX = 4 * TEXT_MAX
DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


def first_running(workload: Workload) -> str:
    """`namespace/name` of the pod to run it in: one that is ready, if any is. Raises PermanentError if there is none."""
    there = sorted((one for one in workload.instances if one.id), key=lambda one: one.health is not Health.HEALTHY)
    if not there:
        raise PermanentError(f"no pod of {workload.id} runs")
    return there[0].name


def default_container(pod: Pod) -> str:
    """As kubectl chooses it."""
    given = (pod.told["metadata"].get("annotations") or {}).get(DEFAULT_CONTAINER)
    return str(given or pod.told["spec"]["containers"][0]["name"])


async def executed(step: Exec, namespace: str, pod: Pod, connection: KubernetesConnection, look: LastLook) -> tuple[int, str]:
    """Exit code and the end of the output, both streams in order. Raises the three families of errors."""
    query = [("container", default_container(pod)), ("stdout", "true"), ("stderr", "true")]
    query += [("command", argument) for argument in step.argv]
    path = f"{under(namespace, 'pods', 'v1')}/{pod.name}/exec"
    seconds = step.timeout.total_seconds()
    try:
        async with asyncio.timeout(seconds):
            with connection.before(look):
                async with connection.socket(path, query, PROTOCOL) as socket:
                    output, told = await _heard(socket)
    except WSServerHandshakeError as error:
        words = f"the Kubernetes API server answers {error.status}: {error.message}"
        raise (OutcomeUnknown if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR else PermanentError)(words) from error
    except (ClientError, TimeoutError, OSError) as error:
        why = str(error) or f"it did not end within {seconds:g}s and may still run"
        raise (OutcomeUnknown if look.sent else TransientError)(f"{step.argv[0]}: {why}") from error
    return _exit_code(step, told), readable(output)


async def _heard(socket: AsyncIterable[WSMessage]) -> tuple[bytes, Facts | None]:
    """The last OUTPUT_BYTES_MAX of the output, and the Status; None if the connection ended before it came."""
    kept = bytearray()
    async for message in socket:
        if message.type is not WSMsgType.BINARY or not message.data:
            continue
        stream, data = message.data[0], message.data[1:]
        if stream in OUTPUT:
            kept += data
            del kept[:-OUTPUT_BYTES_MAX]
        elif stream == ERRORS:
            told: Facts = json.loads(data)
            return bytes(kept), told
    return bytes(kept), None


def _exit_code(step: Exec, told: Facts | None) -> int:
    if told is None:
        raise OutcomeUnknown(f"the output of {step.argv[0]} ended, and it may still run")
    if told["status"] == "Success":
        return 0
    causes = (told.get("details") or {}).get("causes") or ()
    code = next((cause["message"] for cause in causes if cause.get("reason") == "ExitCode"), None)
    if code is None:
        raise PermanentError(f"{step.argv[0]} was not run: {told.get('message')}")
    return int(code)
