"""Clients of the Docker engine that look once more when a request is ready, right before its first byte leaves.

Making a request and connecting take milliseconds, in which the process may be stopped for long: what it was about to send
it must not send when it wakes. Between the look and the first byte is one call of the kernel; the engine knows no fences.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from docker import APIClient
from docker.transport import UnixHTTPAdapter
from docker.transport.unixconn import UnixHTTPConnection, UnixHTTPConnectionPool
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

UNIX = "unix://"


class LastLook:
    """Called before each request of one client. Lets all pass but the first inside `before`: for that it looks."""

    def __init__(self) -> None:
        self._look: Callable[[], None] | None = None

    def __call__(self) -> None:
        if self._look is not None:
            self._look()
        self._look = None

    @contextmanager
    def before(self, look: Callable[[], None]) -> Iterator[None]:
        """`look` raises, instead of the request, what its sender gets. What follows the first one is not left half done."""
        self._look = look
        try:
            yield
        finally:
            self._look = None


def connected(url: str, timeout_seconds: int, last_look: LastLook) -> APIClient:
    """A client for one thread. Raises as docker-py does: it asks the engine for its version."""
    client = APIClient(base_url=url, version="auto", timeout=timeout_seconds)
    client.trust_env = False
    if url.startswith(UNIX):
        _mount(client, "http+docker://", _UnixAdapter(url.removeprefix(UNIX), timeout_seconds, last_look))
    else:
        for prefix in ("http://", "https://"):
            _mount(client, prefix, _TcpAdapter(last_look))
    return client


def _mount(client: APIClient, prefix: str, adapter: HTTPAdapter) -> None:
    client.get_adapter(prefix).close()
    client.mount(prefix, adapter)


def _looking(connection: type[Any], last_look: LastLook) -> type[Any]:
    """This class of connections, with the look in it."""

    class Looking(connection):  # type: ignore[misc]  # the classes of docker-py and urllib3 have no common one
        def send(self, data: Any) -> None:
            if self.sock is None:
                self.connect()
            last_look()
            super().send(data)

    return Looking


class _UnixAdapter(UnixHTTPAdapter):
    def __init__(self, path: str, timeout_seconds: int, last_look: LastLook) -> None:
        super().__init__(path, timeout_seconds)
        connection = _looking(UnixHTTPConnection, last_look)

        class Connections(UnixHTTPConnectionPool):
            def _new_conn(self) -> Any:
                return connection(self.base_url, self.socket_path, self.timeout)

        self._connections = Connections

    def get_connection(self, url: Any, proxies: Any = None) -> Any:
        """As docker-py's, with our pool."""
        with self.pools.lock:
            pool = self.pools.get(url)
            if pool is None:
                pool = self.pools[url] = self._connections(url, self.socket_path, self.timeout, maxsize=self.max_pool_size)
        return pool


class _TcpAdapter(HTTPAdapter):
    def __init__(self, last_look: LastLook) -> None:
        self._last_look = last_look
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **named: Any) -> None:
        super().init_poolmanager(*arguments, **named)
        plain, secure = _looking(HTTPConnection, self._last_look), _looking(HTTPSConnection, self._last_look)
        self.poolmanager.pool_classes_by_scheme = {
            "http": type("Connections", (HTTPConnectionPool,), {"ConnectionCls": plain}),
            "https": type("SecureConnections", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
        }
