"""A workload on a Kubernetes control plane, fake or real, and remediator's platform in front of it."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from remediator.clock import SystemClock, new_id
from remediator.core.step import Healthy, Step
from remediator.core.target import Selection, Workload
from remediator.platforms.kubernetes import KubernetesPlatform
from remediator.platforms.kubernetes_actions import KubernetesActuator
from remediator.platforms.kubernetes_api import MERGE_PATCH, KubernetesApi
from remediator.platforms.kubernetes_connection import KubernetesConnection
from remediator.platforms.kubernetes_objects import under
from remediator.ports import Facts, Probe
from tests import kubelet
from tests.kubernetes_controllers import reconcile
from tests.kubernetes_fake import FakeCluster, fake_cluster

NAMESPACE = "contract"
SETTLE_S = 20.0
APPS = "apps/v1"


@dataclass(frozen=True, slots=True)
class Bench:
    """What tests need of a control plane. `admin` is everybody else who changes something there."""

    admin: KubernetesApi
    api: KubernetesApi
    platform: KubernetesPlatform
    actuator: KubernetesActuator
    namespace: str
    quiet_s: float = 0.0
    """How long the control plane may take to do something about a change."""

    async def apply(self, plural: str, body: dict[str, Any], group: str = APPS) -> None:
        """Create an object."""
        await self.admin.post(under(self.namespace, plural, group), body)

    async def change(self, plural: str, name: str, body: dict[str, Any], group: str = APPS) -> None:
        """A merge patch by somebody else."""
        await self.admin.patch(f"{under(self.namespace, plural, group)}/{name}", body, MERGE_PATCH)

    async def delete(self, plural: str, name: str) -> None:
        await self.admin.delete(f"{under(self.namespace, plural)}/{name}", {})

    async def release(self, image: str, plural: str = "deployments", **metadata: Any) -> Workload:
        """Somebody rolls out another image of `web`, and changes its metadata; once that has come to what it comes to."""
        containers = [{"name": "main", "image": image, "command": ["web"]}]
        await self.change(plural, "web", {"metadata": metadata, "spec": {"template": {"spec": {"containers": containers}}}})
        return await self.settle()

    async def one(self, **fields: str) -> Workload:
        (workload,) = await self.platform.find(Selection(fields or {"service": "web"}))
        return workload

    async def settle(self) -> Workload:
        """Let kubelets and controllers work: until the roll-out is complete, or there is nothing more to do about it."""
        loop = asyncio.get_running_loop()
        busy_at = loop.time()
        async with asyncio.timeout(SETTLE_S):
            while True:
                if await kubelet.keep(self.admin, self.namespace):
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
        async with _bench(cluster.kubeconfig(home / "kubeconfig"), NAMESPACE, timedelta(seconds=2), may_send) as made:
            yield made, cluster


@asynccontextmanager
async def real_bench(kubeconfig: Path) -> AsyncIterator[Bench]:
    """A control plane that lets us do anything, in a namespace that is deleted afterwards."""
    namespace = f"remediator-{new_id(SystemClock().now())}"
    async with _bench(kubeconfig, namespace, timedelta(seconds=10), quiet_s=3.0) as made:
        await made.admin.post(under("", "namespaces", "v1"), {"metadata": {"name": namespace}})
        try:
            yield made
        finally:
            await made.admin.delete(f"{under('', 'namespaces', 'v1')}/{namespace}", {})


@asynccontextmanager
async def _bench(
    kubeconfig: Path,
    namespace: str,
    patience: timedelta,
    may_send: Callable[[], bool] = lambda: True,
    quiet_s: float = 0.0,
) -> AsyncIterator[Bench]:
    connection = KubernetesConnection(str(kubeconfig))
    api = KubernetesApi(connection, patience, may_send)
    platform = KubernetesPlatform(api, (namespace,), SystemClock(), new_id)
    try:
        yield Bench(KubernetesApi(connection, patience), api, platform, KubernetesActuator(api), namespace, quiet_s)
    finally:
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
    """Something that can be created: a workload of one container, with its opt-in, whose pods stay off real nodes."""
    return workload("Deployment", name, allow, {"replicas": replicas, **spec})


def workload(kind: str, name: str, allow: str, spec: dict[str, Any]) -> dict[str, Any]:
    labels = {"app": name}
    container = {"name": "main", "image": spec.pop("image", "web:1"), "command": ["web"]}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container], "schedulerName": "nobody"}}
    metadata = {"name": name, "annotations": {"remediator.io/allow": allow}}
    body = {"selector": {"matchLabels": labels}, "template": template, **spec}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": body}
