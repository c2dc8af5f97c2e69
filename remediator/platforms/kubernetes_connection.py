"""How a Kubernetes API server is reached: who we are there, and a last look when a request is ready to be sent.

kubernetes-asyncio reads the kubeconfig (certificates, plugins, OpenID) or the pod's service account, and renews tokens. The
requests are aiohttp's own: the generated client knows no default timeout, and may raise over the answer to a change that
was made. The only module that imports kubernetes-asyncio.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from aiohttp import ClientRequest, ClientResponse, ClientSession, ClientTimeout, ClientWebSocketResponse, TCPConnector
from kubernetes_asyncio.client import Configuration
from kubernetes_asyncio.config import ConfigException, load_incluster_config, load_kube_config

from remediator.ports import PermanentError, TransientError

IN_CLUSTER = "in-cluster"
CONNECTIONS_MAX = 8
CONNECT_SECONDS = 5.0
CREDENTIALS_SECONDS = 10.0
"""A plugin of a kubeconfig may ask somebody else."""
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""What a kubelet mounts into each pod: a token, which it renews, the authority of the API server, and the namespace."""


class LastLook:
    """One request on its way. `sent` says whether any of it may have left: what raises before that did not happen."""

    def __init__(self, may_send: Callable[[], bool]) -> None:
        self._may_send = may_send
        self.sent = False

    def __call__(self) -> None:
        if not self._may_send():
            raise TransientError("not sent: it had waited for so long that another process may have taken over")
        self.sent = True


class _Session:
    """Who we are, and connections as such. Closed once it is retired and its last request is over."""

    def __init__(self, configuration: Configuration, client: ClientSession) -> None:
        self.configuration = configuration
        self.client = client
        self.retired = False
        self._users = 0

    @asynccontextmanager
    async def used(self) -> AsyncIterator["_Session"]:
        self._users += 1
        try:
            yield self
        finally:
            self._users -= 1
            await self.close_if_over()

    async def close_if_over(self) -> None:
        if self.retired and not self._users:
            await self.client.close()


class KubernetesConnection:
    """Connections to one API server. `source` is `in-cluster` or a kubeconfig, of which `context` (empty: the current) counts.

    Neither KUBECONFIG nor a proxy variable redirects it. Everything is read anew after `forget`, as credentials may change.
    """

    def __init__(self, source: str, context: str = "", service_account: Path = SERVICE_ACCOUNT) -> None:
        self._source = source
        self._context = context
        self._service_account = service_account
        self._session: _Session | None = None
        self._opening = asyncio.Lock()
        self._look: ContextVar[LastLook | None] = ContextVar("last_look", default=None)

    @contextmanager
    def before(self, look: LastLook) -> Iterator[None]:
        """`look` before the first byte of the request that is made inside."""
        token = self._look.set(look)
        try:
            yield
        finally:
            self._look.reset(token)

    @asynccontextmanager
    async def request(
        self, method: str, path: str, seconds: float, headers: Mapping[str, str], **options: Any
    ) -> AsyncIterator[ClientResponse]:
        """One request, its whole answer within `seconds`. Raises PermanentError, or what aiohttp raises."""
        timeout = ClientTimeout(total=seconds, sock_connect=min(seconds, CONNECT_SECONDS))
        async with (await self._opened()).used() as session:
            url, routed = f"{session.configuration.host}{path}", _routed(session.configuration)
            headers = await _authorised(session.configuration, headers)
            async with session.client.request(method, url, timeout=timeout, headers=headers, **routed, **options) as response:
                yield response

    @asynccontextmanager
    async def socket(
        self, path: str, query: Sequence[tuple[str, str]], protocol: str
    ) -> AsyncIterator[ClientWebSocketResponse]:
        """A WebSocket, for whoever puts a deadline to it. Raises as `request` does."""
        async with (await self._opened()).used() as session:
            url, routed = f"{session.configuration.host}{path}?{urlencode(query)}", _routed(session.configuration)
            headers = await _authorised(session.configuration, {})
            async with session.client.ws_connect(url, protocols=(protocol,), headers=headers, **routed) as socket:
                yield socket

    async def forget(self) -> None:
        """Who we are is read again before the next request: the server does not know us any more."""
        session, self._session = self._session, None
        if session is not None:
            session.retired = True
            await session.close_if_over()

    async def _opened(self) -> _Session:
        async with self._opening:
            if self._session is None:
                try:
                    async with asyncio.timeout(CREDENTIALS_SECONDS):
                        configuration = await self._loaded()
                    security = _security(configuration)
                except TimeoutError as error:
                    raise TransientError(f"the credentials for Kubernetes ({self._source}) were not ready in time") from error
                except (ConfigException, OSError, ValueError, KeyError, TypeError) as error:
                    raise PermanentError(f"the credentials for Kubernetes ({self._source}) cannot be used: {error}") from error
                connector = TCPConnector(limit=CONNECTIONS_MAX, ssl=security)
                self._session = _Session(configuration, ClientSession(connector=connector, request_class=self._looking()))
            return self._session

    async def _loaded(self) -> Configuration:
        configuration = Configuration()
        if self._source == IN_CLUSTER:
            files = {"token_filename": self._service_account / "token", "cert_filename": self._service_account / "ca.crt"}
            load_incluster_config(configuration, **files)  # type: ignore[no-untyped-call]
        else:
            await load_kube_config(self._source, self._context or None, configuration, persist_config=False)
        return configuration

    def _looking(self) -> type[ClientRequest]:
        """aiohttp's requests, with the look in them. Making a connection may have taken long, and so may waiting for one."""
        last_look = self._look

        class Looking(ClientRequest):
            async def send(self, conn: Any) -> ClientResponse:
                if (look := last_look.get()) is not None:
                    look()
                return await super().send(conn)

        return Looking


def own_pod(service_account: Path = SERVICE_ACCOUNT, hostname: Path = Path("/etc/hostname")) -> str:
    """`namespace/name` of the pod that this process runs in, or empty. The kubelet names a pod's host after the pod."""
    namespace = service_account / "namespace"
    if not namespace.exists() or not hostname.exists():
        return ""
    return f"{namespace.read_text().strip()}/{hostname.read_text().strip()}"


async def _authorised(configuration: Configuration, headers: Mapping[str, str]) -> dict[str, str]:
    """With the token, which is renewed on the way if that is due. Raises TransientError while there is none."""
    try:
        settings: Mapping[str, Mapping[str, str]] = await configuration.auth_settings()
    except (ConfigException, OSError) as error:
        raise TransientError(f"the token for Kubernetes cannot be renewed: {error}") from error
    return {**headers, **{each["key"]: each["value"] for each in settings.values() if each["value"]}}


def _routed(configuration: Configuration) -> dict[str, Any]:
    """What a kubeconfig may say of the way to the server."""
    asked = {
        "proxy": configuration.proxy,
        "proxy_headers": configuration.proxy_headers,
        "server_hostname": configuration.tls_server_name,
    }
    return {name: value for name, value in asked.items() if value}


def _security(configuration: Configuration) -> ssl.SSLContext:
    """As kubernetes-asyncio makes it for its own client (kubernetes_asyncio/client/rest.py)."""
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, keyfile=configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if configuration.disable_strict_ssl_verification:
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
