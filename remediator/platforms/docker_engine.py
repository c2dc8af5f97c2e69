"""One Docker engine: how it is reached, and within which deadlines.

docker-py blocks and is not thread-safe: every thread of a small pool owns one client, and callers wait for the pool
with a deadline, so that an engine that is slow or gone holds up nobody else. With `docker_connection`, the only module
that imports docker-py.
"""

import asyncio
import math
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

from docker import APIClient
from docker.errors import APIError, DockerException, NotFound, create_api_error_from_http_exception
from requests import HTTPError, Response
from requests.exceptions import ConnectTimeout, RequestException, Timeout
from urllib3.exceptions import HTTPError as TransportError
from urllib3.exceptions import NewConnectionError
from urllib3.exceptions import TimeoutError as TransportTimeout

from remediator.platforms import MaySend, always, ensure_may_send
from remediator.platforms.docker_connection import LastLook, connected
from remediator.ports import Facts, OutcomeUnknown, PermanentError, PortError, TransientError

__all__ = [
    "APIError",
    "Client",
    "DockerEngine",
    "NotFound",
    "after",
    "image_config",
    "own_container_id",
    "refused",
    "request",
]

T = TypeVar("T")
Client: TypeAlias = APIClient
FAILURES = (DockerException, RequestException, TransportError, OSError)
"""All that docker-py raises of the engine's or the connection's making."""

TIMEOUTS = (Timeout, TransportTimeout, TimeoutError)

CALLS_PER_THREAD = 16
"""Calls that may be under way or wait, for each thread; beyond that the engine counts as overloaded."""


class DockerEngine:
    """Calls to the engine at `url`, at most `threads` at once; `timeout` bounds each, its wait for a thread included.

    The address is always the configured one: neither DOCKER_HOST, the CLI's context nor a proxy variable redirects it.
    `may_send` is asked, on the thread that sends, right before the first byte of what changes something leaves: it may
    have waited for long, or the process may have been stopped.
    """

    def __init__(self, url: str, threads: int, timeout: timedelta, may_send: MaySend = always) -> None:
        self.url = url
        self._may_send = may_send
        self._timeout = timeout
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="docker")
        self._room = threading.BoundedSemaphore(threads * CALLS_PER_THREAD)
        self._mine = threading.local()
        self._clients: set[APIClient] = set()

    async def read(self, work: Callable[[APIClient], T], extra: timedelta = timedelta()) -> T:
        """Run `work`, which changes nothing, with `extra` on top of the timeout. Raises TransientError or PermanentError."""
        return await self._call(_Call(work), self._timeout + extra, TransientError)

    async def write(self, work: Callable[[APIClient], T], extra: timedelta = timedelta()) -> T:
        """Run `work`, which sends one request that changes something; what sends several translates its own failures.

        Raises TransientError if it was not sent (and never will be), PermanentError if the engine refused it,
        OutcomeUnknown if no answer came: the engine goes on with what it has begun.
        """
        return await self._call(_Call(work, self._may_send), self._timeout + extra, OutcomeUnknown)

    def close(self) -> None:
        """Send nothing more. Does not wait: a call under way ends with its own timeout."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for client in tuple(self._clients):
            client.close()

    async def _call(self, call: "_Call[T]", deadline: timedelta, lost: type[PortError]) -> T:
        if not self._room.acquire(blocking=False):
            raise TransientError(f"too many calls wait for the Docker engine at {self.url}")
        try:
            future = self._pool.submit(self._run, call, deadline, lost)
        except RuntimeError as error:
            self._room.release()
            raise TransientError("the connection to the Docker engine is closed") from error
        future.add_done_callback(lambda _: self._room.release())
        try:
            async with asyncio.timeout(deadline.total_seconds()):
                return await asyncio.wrap_future(future)
        except TimeoutError as error:
            waited = f"within {deadline.total_seconds():g}s"
            if call.withdraw():
                raise TransientError(f"not sent: the Docker engine at {self.url} was not free {waited}") from error
            raise lost(f"the Docker engine at {self.url} did not answer {waited}") from error
        except asyncio.CancelledError:
            call.withdraw()
            raise

    def _run(self, call: "_Call[T]", deadline: timedelta, lost: type[PortError]) -> T:
        """On a thread of the pool: send with this thread's client, and translate what comes back."""
        try:
            client = self._client()
        except (RequestException, DockerException, OSError) as error:
            raise TransientError(f"the Docker engine at {self.url} cannot be reached: {error}") from error
        # docker-py reads the timeout from its client. In whole seconds: below one it would give up before the deadline.
        client.timeout = math.ceil(deadline.total_seconds())
        try:
            return call.send(client, self._mine.last_look)
        except APIError as error:
            raise refused(error, lost) from error
        except (RequestException, TransportError, OSError) as error:
            self._forget(client)
            if _never_sent(error):
                raise TransientError(f"the Docker engine at {self.url} cannot be reached: {error}") from error
            raise lost(f"the connection to the Docker engine at {self.url} broke: {error}") from error
        except DockerException as error:
            raise PermanentError(f"docker-py refuses: {error}") from error

    def _client(self) -> APIClient:
        client: APIClient | None = getattr(self._mine, "client", None)
        if client is None:
            self._mine.last_look = LastLook()
            client = connected(self.url, math.ceil(self._timeout.total_seconds()), self._mine.last_look)
            self._mine.client = client
            self._clients.add(client)
        return client

    def _forget(self, client: APIClient) -> None:
        """After a broken connection, ask a new client: the engine may have come back with another API version."""
        client.close()
        self._clients.discard(client)
        self._mine.client = None


class _Call(Generic[T]):
    """A call on its way through the pool. Sending and withdrawing exclude each other, whichever thread comes first."""

    def __init__(self, work: Callable[[APIClient], T], may_send: MaySend = always) -> None:
        self._work = work
        self._may_send = may_send
        self._lock = threading.Lock()
        self._sent = False
        self._withdrawn = False

    def send(self, client: APIClient, last_look: LastLook) -> T:
        with self._lock:
            if self._withdrawn:
                raise TransientError("not sent: nobody waits for it any more")
            self._sent = True
        with last_look.before(partial(ensure_may_send, self._may_send)):
            return self._work(client)

    def withdraw(self) -> bool:
        """Make sure that it is never sent; False if that is too late."""
        with self._lock:
            self._withdrawn = not self._sent
            return self._withdrawn


def request(client: APIClient, method: str, path: str, **options: Any) -> Response:
    """One request of the engine's API for which docker-py's own method knows no timeout. Raises APIError as docker-py does."""
    options.setdefault("timeout", client.timeout)
    response = client.request(method, f"{client.base_url}/v{client.api_version}{path}", **options)
    try:
        response.raise_for_status()
    except HTTPError as error:
        create_api_error_from_http_exception(error)
    return response


def image_config(image: str, client: Client) -> Facts:
    """What containers take from an image where they are not told otherwise. Raises NotFound if it is not on this engine."""
    told: Facts = client.inspect_image(image)  # type: ignore[no-untyped-call]  # the stubs leave the argument untyped
    return told["Config"] or {}


def refused(error: APIError, lost: type[PortError] = OutcomeUnknown) -> PortError:
    """The engine's refusal in our words. 502 to 504 come from a proxy before it, which does not know what became of it."""
    words = error.explanation or str(error)
    if error.status_code in (502, 503, 504):
        return lost(f"the Docker engine's proxy answers {error.status_code}: {words}")
    if error.is_server_error() and lost is TransientError:
        return TransientError(f"the Docker engine failed: {words}")
    return PermanentError(f"the Docker engine refuses: {words}")


def after(verb: str, done: Sequence[str], error: PortError, about: str = "") -> PortError:
    """The error, and what was done before it. With that, "it did not happen" is no longer true of the whole step."""
    if not done:
        return type(error)(f"{about}{error}")
    family = PermanentError if isinstance(error, TransientError) else type(error)
    return family(f"{about}{error} (before that, {verb} {', '.join(done)})")


def _never_sent(error: BaseException) -> bool:
    """Whether the connection was not even made: no such socket, nobody listens, not permitted, or no answer to connecting."""
    causes: BaseException | None = error
    while causes is not None:
        if isinstance(
            causes, ConnectTimeout | NewConnectionError | ConnectionRefusedError | FileNotFoundError | PermissionError
        ):
            return True
        causes = causes.__cause__ or causes.__context__
    return False


_OWN_MOUNT = re.compile(r"/([0-9a-f]{64})/(?:hostname|hosts|resolv\.conf) /etc/")


def own_container_id(mountinfo: Path = Path("/proc/self/mountinfo"), hostname: Path = Path("/etc/hostname")) -> str:
    """The id of the container that this process runs in, or empty.

    Docker mounts three files of the container's own directory over /etc; the host name, which is the short id unless it
    was set, is the second-best source. Nothing that runs outside of a container has either.
    """
    with_mounts = _OWN_MOUNT.search(mountinfo.read_text() if mountinfo.exists() else "")
    if with_mounts:
        return with_mounts[1]
    name = hostname.read_text().strip() if hostname.exists() else ""
    return name if re.fullmatch(r"[0-9a-f]{12}", name) else ""
