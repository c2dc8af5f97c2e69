"""The whole path on Kubernetes: from the webhook through remediator's own wiring to a control plane, and what comes of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import ClientSession

from remediator.app import running
from remediator.core.playbook import Mode
from remediator.settings import Settings
from tests import kubelet
from tests.builders import PLAYBOOK
from tests.fakes import Harness, SettableClock, SilentLog
from tests.kubelet import BROKEN
from tests.kubernetes_bench import NAMESPACE, Bench, deployment, fake_bench
from tests.kubernetes_fake import FakeCluster
from tests.run.test_remediate import LADDER, firing
from tests.waiting import eventually

TARGET = f"kubernetes:deployment/{NAMESPACE}/web"


@asynccontextmanager
async def serving(bench: Bench, home: Path, text: str, **settings: object) -> AsyncIterator[Harness]:
    """Remediator as configured for that control plane alone, with kubelets at work."""
    shelf = home / "playbooks"
    shelf.mkdir()
    (shelf / "api-down.yaml").write_text(text.replace("within: 300ms", "within: 1s"))
    (home / "token").write_text("webhook-secret\n")
    configured = Settings(
        **{"mode": Mode.AUTO, "webhook_token_file": home / "token", **settings},
        playbooks=shelf,
        listen="127.0.0.1:0",
        store=f"sqlite:///{home / 'remediator.db'}",
        shutdown_grace=timedelta(seconds=2),
        docker_url="off",
        kubernetes=str(home / "kubeconfig"),
        kubernetes_namespaces=(NAMESPACE,),
    )
    log, clock = SilentLog(), SettableClock()
    async with running(configured, log, clock) as app, ClientSession() as session:
        kubelets = asyncio.create_task(_kubelets(bench))
        try:
            yield Harness(app, session, bench, log, clock, {})
        finally:
            kubelets.cancel()
            with suppress(asyncio.CancelledError):
                await kubelets


async def _kubelets(bench: Bench) -> None:
    while True:
        await kubelet.keep(bench.admin, bench.namespace)
        await asyncio.sleep(0.02)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[tuple[Bench, FakeCluster]]:
    async with fake_bench(tmp_path) as (bench, cluster):
        await bench.apply("deployments", deployment(allow="*"))
        await bench.settle()
        yield bench, cluster


def fall_ill(cluster: FakeCluster) -> None:
    cluster.all("pods")[0]["status"]["conditions"][0]["status"] = "False"


def patches(cluster: FakeCluster) -> list[str]:
    return [each for each in cluster.requests if each.startswith("PATCH") and "/status" not in each]


async def test_a_workload_that_is_ill_is_restarted_and_that_is_verified(stage, tmp_path):
    bench, cluster = stage
    async with serving(bench, tmp_path, PLAYBOOK) as h:
        fall_ill(cluster)
        await h.post(firing(service="web"))
        (run,) = await h.until("succeeded")
        assert (run["reason"], run["target"]) == ("verified", TARGET)
        assert len(patches(cluster)) == 1


async def test_a_release_that_does_not_come_up_is_rolled_back_after_a_restart_did_not_help(stage, tmp_path):
    bench, cluster = stage
    async with serving(bench, tmp_path, LADDER) as h:
        await eventually(lambda: h.app.store.run(lambda ledger: ledger.releases.all()))
        await bench.release(f"{BROKEN}:2")
        await h.post(firing(service="web"))
        await h.until("succeeded")
        containers = cluster.get("deployments", NAMESPACE, "web")["spec"]["template"]["spec"]["containers"]
        assert [each["image"] for each in containers] == ["web:1"]


async def test_a_change_whose_answer_is_lost_is_found_and_not_sent_again(stage, tmp_path):
    bench, cluster = stage
    async with serving(bench, tmp_path, PLAYBOOK) as h:
        fall_ill(cluster)
        cluster.loses_answers_to = "PATCH"
        await h.post(firing(service="web"))
        (run,) = await h.as_time_passes("succeeded")
        kinds = [row["kind"] for row in await h.timeline(run["id"])]
        assert "observation" in kinds
        assert len(patches(cluster)) == 1


async def test_in_suggest_mode_the_command_is_shown_and_nothing_is_changed(stage, tmp_path):
    bench, cluster = stage
    async with serving(bench, tmp_path, PLAYBOOK, mode=Mode.SUGGEST) as h:
        fall_ill(cluster)
        await h.post(firing(service="web"))
        (run,) = await h.until("suggested")
        (decision,) = [row for row in await h.timeline(run["id"]) if row["kind"] == "decision"]
        assert decision["data"]["commands"] == [f"kubectl -n {NAMESPACE} rollout restart deployment/web"]
        assert patches(cluster) == []


async def test_what_remediator_may_not_do_is_in_the_log_of_its_start(stage, tmp_path):
    bench, cluster = stage
    cluster.forbidden = {"create pods/eviction"}
    async with serving(bench, tmp_path, PLAYBOOK) as h:
        await eventually(lambda: "platform.not_permitted" in h.log.names())
        said = [facts["consequence"] for name, facts in h.log.events if name == "platform.not_permitted"]
        assert said == [f"cannot evict in {NAMESPACE}: may not create pods/eviction"]
