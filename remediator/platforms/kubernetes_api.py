"""One Kubernetes API server: requests with deadlines, and its answers in our three families of errors."""

import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from http import HTTPStatus
from typing import Any

from aiohttp import ClientConnectorError, ClientError, ClientResponse

from remediator.core.step import Exec
from remediator.platforms import TEXT_MAX
from remediator.platforms.kubernetes_connection import KubernetesConnection, LastLook
from remediator.platforms.kubernetes_exec import executed
from remediator.platforms.kubernetes_objects import Pod, under
from remediator.ports import Facts, OutcomeUnknown, PermanentError, PortError, TransientError

PAGE = 500
TEXT_BYTES_MAX = 4 * TEXT_MAX
ITEMS_MAX = 10_000
"""Of one listing; what has more is not meant for one remediator."""
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
NOT_NOW = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS})
"""Refusals that change nothing and do not last: who we are is read again, what was changed meanwhile is looked at again."""


class NotThere(PermanentError):
    """404: no such object, or no such API on this cluster."""


class BudgetExhausted(PermanentError):
    """429 to an eviction: a disruption budget allows none now. An answer, not a reason to send it again."""


class KubernetesApi:
    """Requests of one API server, each answered within `timeout` or given up.

    `may_send` is asked right before the first byte of what changes something leaves: it may have waited for a connection,
    or the process may have been stopped.
    """

    def __init__(
        self, connection: KubernetesConnection, timeout: timedelta, may_send: Callable[[], bool] = lambda: True
    ) -> None:
        self._connection = connection
        self._seconds = timeout.total_seconds()
        self._may_send = may_send

    async def get(self, path: str, **query: str) -> Facts:
        """One object. Raises TransientError, or PermanentError: NotThere if it is not."""
        return _json(await self._read("GET", path, query))

    async def items(self, path: str, **query: str) -> list[Facts]:
        """A whole listing, page by page. Raises TransientError or PermanentError."""
        found: list[Facts] = []
        more = ""
        while True:
            page = await self.get(path, **query, limit=str(PAGE), **({"continue": more} if more else {}))
            found += page["items"] or ()
            more = page["metadata"].get("continue") or ""
            if not more:
                return found
            if len(found) >= ITEMS_MAX:
                raise PermanentError(f"{path} lists more than {ITEMS_MAX}")

    async def text(self, path: str, **query: str) -> str:
        """The end of a plain answer, at most TEXT_BYTES_MAX of it. Raises TransientError or PermanentError."""
        return (await self._read("GET", path, query)).decode(errors="replace")

    async def ask(self, path: str, body: Facts) -> Facts:
        """A POST that makes nothing, but is answered: a review. Raises TransientError or PermanentError."""
        return _json(await self._read("POST", path, {}, body))

    async def patch(self, path: str, body: Any, content_type: str) -> Facts:
        """Raises TransientError if it was not sent or somebody else was faster, PermanentError if it was refused,
        OutcomeUnknown if no answer came.
        """
        return _json(await self._write("PATCH", path, body, content_type))

    async def post(self, path: str, body: Facts) -> Facts:
        """As `patch`."""
        return _json(await self._write("POST", path, body))

    async def delete(self, path: str, body: Facts) -> None:
        """As `patch`."""
        await self._write("DELETE", path, body)

    async def execute(self, step: Exec, name: str) -> tuple[int, str]:
        """Run a command in the pod `namespace/name`: exit code and output. Raises as `patch` does."""
        namespace, pod = name.split("/", 1)
        told = Pod(await self.get(f"{under(namespace, 'pods', 'v1')}/{pod}"))
        return await executed(step, namespace, told, self._connection, LastLook(self._may_send))

    async def _read(self, method: str, path: str, query: Mapping[str, str], body: Any = None) -> bytes:
        options: dict[str, Any] = {"params": query} | ({} if body is None else {"data": json.dumps(body)})
        return await self._exchanged(method, path, TransientError, LastLook(lambda: True), **options)

    async def _write(self, method: str, path: str, body: Any, content_type: str = "application/json") -> bytes:
        look = LastLook(self._may_send)
        return await self._exchanged(method, path, OutcomeUnknown, look, content_type, data=json.dumps(body))

    async def _exchanged(
        self,
        method: str,
        path: str,
        lost: type[PortError],
        look: LastLook,
        content_type: str = "application/json",
        **options: Any,
    ) -> bytes:
        """`lost` is what it means when no answer comes to what has left."""
        headers = {"Accept": "application/json", "Content-Type": content_type}
        try:
            with self._connection.before(look):
                async with self._connection.request(method, path, self._seconds, headers, **options) as response:
                    answer = await _bounded(response)
        except ClientConnectorError as error:
            await self._connection.forget()  # its certificate, or the one that we trust, may be another by now
            raise TransientError(f"the Kubernetes API server cannot be reached: {error}") from error
        except (ClientError, TimeoutError, OSError) as error:
            why = str(error) or f"no answer within {self._seconds:g}s"
            raise (lost if look.sent else TransientError)(f"the Kubernetes API server: {why}") from error
        if response.status == HTTPStatus.UNAUTHORIZED:
            await self._connection.forget()
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise refused(response, answer, lost)
        return answer


async def _bounded(response: ClientResponse) -> bytes:
    """All of it, or of a plain text that is longer the end."""
    plain, kept = response.content_type == "text/plain", bytearray()
    async for chunk in response.content.iter_any():
        kept += chunk
        if plain:
            del kept[:-TEXT_BYTES_MAX]
    return bytes(kept)


def refused(response: ClientResponse, answer: bytes, lost: type[PortError]) -> PortError:
    """A refusal in our words. After a 5xx nobody knows what became of a change: some come from before the server, some from
    behind it (its store did not answer in time).
    """
    try:
        told = json.loads(answer)
    except ValueError:
        told = {}
    status = HTTPStatus(response.status)
    words = f"the Kubernetes API server answers {status.value}: {told.get('message') or status.phrase}"
    if status is HTTPStatus.NOT_FOUND:
        return NotThere(words)
    if status is HTTPStatus.TOO_MANY_REQUESTS and _is_budget(told):
        return BudgetExhausted(words)
    if status in NOT_NOW:
        after = response.headers.get("Retry-After", "")
        return TransientError(words, float(after) if after.isdecimal() else None)
    return lost(words) if status >= HTTPStatus.INTERNAL_SERVER_ERROR else PermanentError(words)


def _is_budget(told: Facts) -> bool:
    """The eviction API names the cause (k8s.io/api/policy/v1, DisruptionBudgetCause)."""
    causes = (told.get("details") or {}).get("causes") or ()
    return any(cause.get("reason") == "DisruptionBudget" for cause in causes)


def _json(answer: bytes) -> Facts:
    told: Facts = json.loads(answer)
    return told
