"""A workload on a Kubernetes control plane, fake or real, and remediator's platform in front of it."""

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, TCPConnector

from remediator.clock import SystemClock, new_id
from remediator.core.step import Healthy, Step
from remediator.core.target import Selection, Workload
from remediator.platforms.kubernetes import KubernetesPlatform
from remediator.platforms.kubernetes_actions import KubernetesActuator
from remediator.platforms.kubernetes_api import KubernetesApi
from remediator.platforms.kubernetes_connection import KubernetesConnection
from remediator.ports import Facts, Probe
from tests import kubelet
from tests.kubernetes_controllers import reconcile
from tests.kubernetes_fake import TOKEN, FakeCluster, fake_cluster

NAMESPACE = "contract"
SETTLE_S = 20.0


@dataclass(frozen=True, slots=True)
class Bench:
    """What tests need of a control plane: `url` and `session` are an administrator's."""

    url: str
    session: ClientSession
    api: KubernetesApi
    platform: KubernetesPlatform
    actuator: KubernetesActuator
    namespace: str = NAMESPACE
    quiet_s: float = 0.0
    """How long the control plane may take to do something about a change."""

    async def apply(self, plural: str, body: dict[str, Any], group: str = "apis/apps/v1") -> dict[str, Any]:
        """Create an object."""
        async with self.session.post(f"{self.url}/{group}/namespaces/{self.namespace}/{plural}", json=body) as answer:
            made: dict[str, Any] = await answer.json()
            assert answer.ok, made
            return made

    async def change(self, plural: str, name: str, body: dict[str, Any], group: str = "apis/apps/v1") -> dict[str, Any]:
        """A merge patch by somebody else."""
        path = f"{self.url}/{group}/namespaces/{self.namespace}/{plural}/{name}"
        headers = {"Content-Type": "application/merge-patch+json"}
        async with self.session.patch(path, json=body, headers=headers) as answer:
            made: dict[str, Any] = await answer.json()
            assert answer.ok, made
            return made

    async def release(self, image: str, plural: str = "deployments", **metadata: Any) -> Workload:
        """Somebody rolls out another image of `web`, and changes its metadata; once that has come to what it comes to."""
        containers = [{"name": "main", "image": image, "command": ["web"]}]
        await self.change(plural, "web", {"metadata": metadata, "spec": {"template": {"spec": {"containers": containers}}}})
        return await self.settle()

    async def delete(self, plural: str, name: str) -> None:
        path = f"{self.url}/apis/apps/v1/namespaces/{self.namespace}/{plural}/{name}"
        async with self.session.delete(path) as answer:
            assert answer.ok, await answer.text()

    async def one(self, **fields: str) -> Workload:
        (workload,) = await self.platform.find(Selection(fields or {"service": "web"}))
        return workload

    async def settle(self) -> Workload:
        """Let kubelets and controllers work: until the roll-out is complete, or there is nothing more to do about it."""
        loop = asyncio.get_running_loop()
        busy_at = loop.time()
        async with asyncio.timeout(SETTLE_S):
            while True:
                if await kubelet.keep(self.session, self.url, self.namespace):
                    busy_at = loop.time()
                workload = await self.one()
                holds = (await self.platform.check(Healthy(), workload)).probe is Probe.HOLDS
                if holds or loop.time() - busy_at > self.quiet_s:
                    return workload
                await asyncio.sleep(0.02)

    async def perform(self, step: Step) -> tuple[Workload, Facts, str]:
        """Find, mark, and do it; the mark as the ledger would give it back."""
        workload = await self.one()
        mark = await self.platform.mark(step, workload)
        return workload, mark, await self.actuator.perform(step, workload, mark)


@asynccontextmanager
async def fake_bench(
    home: Path, may_send: Callable[[], bool] = lambda: True, certificate: Path | None = None
) -> AsyncIterator[tuple[Bench, FakeCluster]]:
    """A fake control plane, with controllers that work at once."""
    async with fake_cluster(certificate) as cluster:
        cluster.after_write = lambda: reconcile(cluster)
        async with bench(cluster.url, cluster.kubeconfig(home / "kubeconfig"), TOKEN, may_send, certificate) as made:
            yield made, cluster


@asynccontextmanager
async def bench(
    url: str, kubeconfig: Path, token: str, may_send: Callable[[], bool] = lambda: True, trust: Path | None = None
) -> AsyncIterator[Bench]:
    connection = KubernetesConnection(str(kubeconfig))
    api = KubernetesApi(connection, timedelta(seconds=2), may_send)
    platform = KubernetesPlatform(api, (NAMESPACE,), SystemClock(), new_id)
    connector = TCPConnector(ssl=ssl.create_default_context(cafile=trust))
    async with ClientSession(headers={"Authorization": f"Bearer {token}"}, connector=connector) as session:
        yield Bench(url, session, api, platform, KubernetesActuator(api))
    await connection.forget()


def self_signed(home: Path) -> Path:
    """A certificate of loopback that is its own authority, with its key, for a day."""
    path = home / "loopback.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    names = ["-subj", "/CN=loopback", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, *names, "-keyout", path, "-out", home / "certificate.pem"], check=True, capture_output=True)
    path.write_text(path.read_text() + (home / "certificate.pem").read_text())
    return path


def deployment(name: str = "web", allow: str = "restart,start,stop", replicas: int = 1, **spec: Any) -> dict[str, Any]:
    """Something that can be created: a workload of one container, with its opt-in."""
    return workload("Deployment", name, allow, {"replicas": replicas, **spec})


def workload(kind: str, name: str, allow: str, spec: dict[str, Any]) -> dict[str, Any]:
    labels = {"app": name}
    container = {"name": "main", "image": spec.pop("image", "web:1"), "command": ["web"]}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    metadata = {"name": name, "annotations": {"remediator.io/allow": allow}}
    body = {"selector": {"matchLabels": labels}, "template": template, **spec}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": body}
