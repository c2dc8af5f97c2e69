"""HTTP and TCP probes of configured addresses. Read only; they find no targets and take no steps.

An address that cannot be reached or resolved FAILS its check: the name of a stopped container does not resolve either.
"""

import asyncio
import shlex
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, suppress
from errno import ECONNREFUSED

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout
from yarl import URL

from remediator.core.step import Check, Diagnosis, Http, Step, Tcp
from remediator.core.target import Selection, Workload
from remediator.platforms.services.addresses import NotConfigured, Services, address_of
from remediator.ports import Evidence, Facts, Observation, PermanentError, Probe, Reading

TIMEOUT_S = 5.0
"""For the whole exchange."""
BODY_BYTES_SHOWN = 2048
PORT_MAX = 65535


class NetworkProbes:
    """`services.NAME.http` and `services.NAME.tcp`: serves the steps of both names. The session belongs to the caller."""

    name = "http"

    def __init__(self, services: Services, session: ClientSession) -> None:
        self._services = services
        self._session = session

    async def find(self, selection: Selection) -> Sequence[Workload]:
        return ()

    async def diagnose(self, diagnosis: Diagnosis, workload: Workload) -> Evidence:
        """Raises PermanentError for a diagnosis that is not HTTP's. `http.status` is 0 when there was no answer."""
        if not isinstance(diagnosis, Http):
            raise PermanentError(f"http has no diagnosis {diagnosis.name}")
        started = asyncio.get_running_loop().time()
        try:
            url = self._url(diagnosis, workload)
            async with self._get(url) as response:
                body = await _beginning(response)
        except NotConfigured as error:
            return Evidence(diagnosis.name, str(error))
        except (ClientError, TimeoutError) as error:
            return Evidence(diagnosis.name, _no_answer(error), {"http.status": 0.0})
        seconds = asyncio.get_running_loop().time() - started
        text = f"GET {url.with_user(None)}: {response.status} {response.reason} after {seconds:.3f}s\n{body}"
        return Evidence(diagnosis.name, text.rstrip(), {"http.status": float(response.status), "http.seconds": seconds})

    async def check(self, check: Check, workload: Workload) -> Reading:
        try:
            match check:
                case Http():
                    return await self._status(check, workload)
                case Tcp():
                    return await self._connects(check, workload)
                case _:
                    return Reading(Probe.UNKNOWN, f"http and tcp have no check {check.name}")
        except NotConfigured as error:
            return Reading(Probe.UNKNOWN, str(error))

    async def _status(self, check: Http, workload: Workload) -> Reading:
        try:
            async with self._get(self._url(check, workload)) as response:
                probe = Probe.HOLDS if response.status == check.status else Probe.FAILS
                return Reading(probe, f"{response.status} {response.reason}")
        except (ClientError, TimeoutError) as error:
            return Reading(Probe.FAILS, _no_answer(error))

    async def _connects(self, check: Tcp, workload: Workload) -> Reading:
        name = check.endpoint or workload.service
        host, port = _host_and_port(address_of(self._services, "tcp", name), name)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                _, writer = await asyncio.open_connection(host, port)
        except (OSError, UnicodeError) as error:  # a timeout is an OSError; a name that cannot be one in DNS is not
            return Reading(Probe.FAILS, _no_answer(error))
        writer.close()
        with suppress(OSError):  # it accepted: that was the question
            await writer.wait_closed()
        return Reading(Probe.HOLDS, f"{host}:{port} accepts connections")

    def describe(self, step: Step | Diagnosis, workload: Workload) -> str:
        if not isinstance(step, Http):
            return f"# http has no step {step.name}"
        try:
            return shlex.join(["curl", "-sSi", "--max-time", f"{TIMEOUT_S:g}", str(self._url(step, workload).with_user(None))])
        except NotConfigured as error:
            return f"# {error}"

    async def mark(self, step: Step, workload: Workload) -> Facts:
        raise PermanentError(f"probes only read: there is no step {step.name}")

    async def observe(self, step: Step, workload: Workload, mark: Facts) -> Observation:
        raise PermanentError(f"probes only read: there is no step {step.name}")

    def _url(self, probe: Http, workload: Workload) -> URL:
        """The configured address; a path of the probe's own replaces path and query, and cannot change the host."""
        url = URL(address_of(self._services, "http", probe.endpoint or workload.service))
        if not probe.path:
            return url
        path, _, query = probe.path.partition("?")
        return url.with_path(path).with_query(query or None)

    def _get(self, url: URL) -> AbstractAsyncContextManager[ClientResponse]:
        """Redirects are answers, not followed: they might lead anywhere. Raises aiohttp.ClientError or TimeoutError."""
        timeout = ClientTimeout(total=TIMEOUT_S)
        return self._session.get(url, allow_redirects=False, timeout=timeout, headers={"Accept-Encoding": "identity"})


async def _beginning(response: ClientResponse) -> str:
    body = b""
    while len(body) < BODY_BYTES_SHOWN and (chunk := await response.content.read(BODY_BYTES_SHOWN - len(body))):
        body += chunk
    return body.decode(errors="replace")


def _host_and_port(address: str, name: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > PORT_MAX:
        raise NotConfigured(f"services.{name}.tcp is not an address; write host:port")
    return host.strip("[]"), int(port)


def _no_answer(error: Exception) -> str:
    # asyncio says "Connect call failed" where everybody else says "connection refused".
    if isinstance(error, OSError) and error.errno == ECONNREFUSED:
        return "no answer: connection refused"
    return f"no answer: {error}" if str(error) else f"no answer within {TIMEOUT_S:g}s"
