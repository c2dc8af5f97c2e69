"""Kubernetes on a faithful fake of its API: what is found, looked at and described, and what the errors mean."""

import asyncio
import json
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from aiohttp import web

from remediator.app import surroundings
from remediator.clock import SystemClock, new_id
from remediator.core.step import (
    DeletePod,
    Events,
    Evict,
    Exec,
    Healthy,
    Inspect,
    Logs,
    Prune,
    Restart,
    Rollback,
    RolloutAge,
    Scale,
    Start,
    Stats,
    Stop,
)
from remediator.core.target import Health, Selection, Workload
from remediator.platforms.kubernetes import KubernetesPlatform
from remediator.platforms.kubernetes_api import KubernetesApi
from remediator.platforms.kubernetes_connection import KubernetesConnection, own_pod
from remediator.platforms.kubernetes_evidence import quantity
from remediator.ports import PermanentError, Probe, TransientError
from remediator.settings import load_settings
from remediator.yaml_lines import FileProblem
from tests.kubelet import BROKEN
from tests.kubernetes_bench import NAMESPACE, Bench, deployment, fake_bench, self_signed, workload
from tests.kubernetes_fake import TOKEN

KUBECTL = f"kubectl -n {NAMESPACE}"


async def found(bench: Bench, **fields: str) -> list[str]:
    return sorted(each.id for each in await bench.platform.find(Selection(fields)))


class TestFinding:
    async def test_a_workload_of_each_kind_is_found_by_its_kind_its_name_and_its_service(self, bench):
        await bench.apply("deployments", deployment("api"))
        await bench.apply("statefulsets", workload("StatefulSet", "db", "restart", {"replicas": 1}))
        await bench.apply("daemonsets", workload("DaemonSet", "agent", "restart", {}))
        for kind, name in (("deployment", "api"), ("statefulset", "db"), ("daemonset", "agent")):
            for fields in ({kind: name}, {"name": name}, {"service": name}, {"namespace": NAMESPACE, kind: name}):
                assert await found(bench, **fields) == [f"kubernetes:{kind}/{NAMESPACE}/{name}"], fields
        assert await found(bench, deployment="db") == []

    async def test_the_annotation_names_the_service_where_the_workload_does_not(self, bench):
        body = deployment("shop-api-v2")
        body["metadata"]["annotations"]["remediator.io/service"] = "shop-api"
        await bench.apply("deployments", body)
        assert len(await found(bench, service="shop-api")) == 1
        assert await found(bench, service="shop-api-v2") == []

    async def test_a_namespace_alone_or_one_that_is_not_configured_selects_nothing(self, bench, cluster):
        await bench.apply("deployments", deployment())
        cluster.create("deployments", {**deployment("other"), "metadata": {"name": "other", "namespace": "elsewhere"}})
        assert await found(bench, namespace=NAMESPACE) == []
        assert await found(bench, namespace="elsewhere", deployment="other") == []
        assert await found(bench, service="other") == []

    async def test_all_namespaces_are_looked_into_where_that_is_configured(self, bench, cluster):
        everywhere = KubernetesPlatform(bench.api, ("",), SystemClock(), new_id)
        cluster.create("deployments", {**deployment("other"), "metadata": {"name": "other", "namespace": "elsewhere"}})
        selection = Selection({"service": "other"})
        assert [each.name for each in await everywhere.find(selection)] == ["elsewhere/other"]

    @pytest.mark.parametrize("kind", ["deployment", "statefulset", "daemonset"])
    async def test_a_workload_is_found_by_one_of_its_pods(self, bench, kind):
        title = {"deployment": "Deployment", "statefulset": "StatefulSet", "daemonset": "DaemonSet"}[kind]
        await bench.apply(f"{kind}s", workload(title, "web", "restart", {}))
        pod = (await bench.settle()).instances[0].name.partition("/")[2]
        assert await found(bench, pod=pod) == [f"kubernetes:{kind}/{NAMESPACE}/web"]
        assert await found(bench, pod=pod, namespace="elsewhere") == []
        assert await found(bench, pod=pod, service="another") == []
        await bench.apply("pods", {"metadata": {"name": "bare"}, "spec": {}, "status": {}}, "v1")
        assert await found(bench, pod="bare") == []

    @pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet"])
    async def test_it_is_still_found_by_a_pod_that_a_restart_has_replaced(self, bench, cluster, kind):
        await bench.apply(f"{kind.lower()}s", workload(kind, "web", "restart", {}))
        pod = (await bench.settle()).instances[0].name.partition("/")[2]
        await bench.perform(Restart())
        await bench.settle()
        cluster.after_write = lambda: None
        for each in cluster.all("pods"):
            cluster.remove("pods", NAMESPACE, each["metadata"]["name"])
        assert await found(bench, pod=pod) == [f"kubernetes:{kind.lower()}/{NAMESPACE}/web"]
        assert await found(bench, pod="web") == []

    async def test_a_long_listing_is_read_to_its_end(self, bench, cluster, monkeypatch):
        monkeypatch.setattr("remediator.platforms.kubernetes_api.PAGE", 2)
        for number in range(5):
            await bench.apply("deployments", deployment(f"web-{number}", replicas=0))
        assert len(await bench.platform.inventory()) == 5

    async def test_pods_that_only_have_its_labels_are_not_its_instances(self, bench):
        await bench.apply("deployments", deployment())
        await bench.settle()
        stray = {"metadata": {"name": "stray", "labels": {"app": "web"}}, "spec": {"containers": []}, "status": {}}
        await bench.apply("pods", stray, "v1")
        assert ["stray" in one.name for one in (await bench.one()).instances] == [False]

    async def test_a_pod_is_as_healthy_as_it_is_ready(self, bench):
        await bench.apply("deployments", deployment(replicas=2))
        assert [one.health for one in (await bench.one()).instances] == [Health.STARTING] * 2
        ready = await bench.settle()
        assert [one.health for one in ready.instances] == [Health.HEALTHY] * 2
        assert all(one.started_at for one in ready.instances)

    async def test_a_pod_that_crashes_again_and_again_is_unhealthy(self, bench):
        await bench.apply("deployments", deployment(image=f"{BROKEN}:1"))
        stuck = await bench.settle()
        assert [one.health for one in stuck.instances] == [Health.UNHEALTHY]

    async def test_a_pod_that_a_roll_out_has_added_does_not_count_until_it_is_ready(self, bench, cluster):
        await bench.apply("deployments", deployment())
        (old,) = (await bench.settle()).instances
        stuck = await bench.release(f"{BROKEN}:2")
        assert stuck.instances == (old,)
        new = [pod["metadata"]["name"] for pod in cluster.all("pods") if pod["metadata"]["uid"] != old.id]
        assert bench.platform.describe(DeletePod(), stuck) == f"{KUBECTL} delete pod {new[0]}"
        assert (await bench.platform.mark(DeletePod(), stuck))["pod"] == new[0]

    async def test_instances_that_are_wanted_and_not_there_are_stopped_ones(self, bench, cluster):
        await bench.apply("deployments", deployment(replicas=2))
        await bench.settle()
        cluster.after_write = lambda: None  # nobody makes another
        cluster.remove("pods", NAMESPACE, cluster.all("pods")[0]["metadata"]["name"])
        assert [one.health for one in (await bench.one()).instances] == [Health.HEALTHY, Health.STOPPED]

    async def test_a_pod_that_is_being_removed_is_no_instance(self, bench, cluster):
        await bench.apply("deployments", deployment())
        (before,) = (await bench.settle()).instances
        pod = cluster.all("pods")[0]
        pod["spec"]["nodeName"] = "node-1"
        await bench.actuator.perform(DeletePod(), *await marked(bench, DeletePod(before.name.partition("/")[2])))
        assert before.id not in {one.id for one in (await bench.one()).instances}

    async def test_a_selector_of_expressions_is_asked_as_one(self, bench, cluster):
        body = deployment()
        body["spec"]["selector"] = {
            "matchLabels": {"app": "web"},
            "matchExpressions": [
                {"key": "tier", "operator": "NotIn", "values": ["db", "cache"]},
                {"key": "app", "operator": "In", "values": ["web", "api"]},
                {"key": "canary", "operator": "DoesNotExist"},
                {"key": "app", "operator": "Exists"},
            ],
        }
        await bench.apply("deployments", body)
        assert len((await bench.settle()).instances) == 1

    async def test_remediator_itself_and_what_is_annotated_so_is_protected(self, bench):
        await bench.apply("deployments", deployment())
        mine = (await bench.settle()).instances[0].name
        (own,) = await KubernetesPlatform(bench.api, (NAMESPACE,), SystemClock(), new_id, mine).find(Selection({"name": "web"}))
        assert own.protected == "is remediator itself"
        await bench.change("deployments", "web", {"metadata": {"annotations": {"remediator.io/protected": "true"}}})
        assert "protected by its annotation" in (await bench.one()).protected
        with pytest.raises(PermanentError, match="protected"):
            await bench.perform(Restart())

    def test_the_own_pod_is_told_by_what_the_kubelet_mounts(self, tmp_path):
        hostname = tmp_path / "hostname"
        assert own_pod(tmp_path, hostname) == ""
        (tmp_path / "namespace").write_text("ops")
        hostname.write_text("remediator-5d9c-x2\n")
        assert own_pod(tmp_path, hostname) == "ops/remediator-5d9c-x2"

    async def test_the_release_is_another_only_if_something_else_runs(self, bench):
        await bench.apply("deployments", deployment())
        first = (await bench.settle()).release
        await bench.perform(Restart())
        await bench.change("deployments", "web", {"spec": {"replicas": 2}})
        assert (await bench.one()).release == first
        await bench.release("web:2")
        assert (await bench.one()).release != first

    async def test_the_inventory_is_what_opted_in_to_anything(self, bench):
        await bench.apply("deployments", deployment("in", allow="restart"))
        await bench.apply("deployments", deployment("out", allow=""))
        assert [(each.name, bool(each.release)) for each in await bench.platform.inventory()] == [(f"{NAMESPACE}/in", True)]

    async def test_what_a_daemon_set_or_a_cluster_does_not_have_is_lacking(self, bench):
        await bench.apply("daemonsets", workload("DaemonSet", "web", "*", {}))
        assert (await bench.one()).lacks == {"prune", "scale", "start", "stop", "cordon", "uncordon", "drain"}
        for step in (Prune(), Scale(at_most=3), Stop()):
            with pytest.raises(PermanentError, match="does not offer"):
                await bench.platform.mark(step, await bench.one())


async def marked(bench: Bench, step: Any) -> tuple[Workload, Any]:
    one = await bench.one()
    return one, await bench.platform.mark(step, one)


class TestRollout:
    async def reading(self, bench: Bench) -> tuple[Probe, str]:
        seen = await bench.platform.check(Healthy(), await bench.one())
        return seen.probe, seen.seen

    async def test_a_roll_out_is_complete_when_every_new_pod_is_available(self, bench):
        await bench.apply("deployments", deployment(replicas=2))
        assert await self.reading(bench) == (Probe.FAILS, f"{NAMESPACE}/web: 0 of 2 updated instances are available")
        await bench.settle()
        assert (await self.reading(bench))[0] is Probe.HOLDS

    async def test_a_release_that_does_not_come_up_leaves_old_instances(self, bench):
        await bench.apply("deployments", deployment())
        await bench.settle()
        await bench.release(f"{BROKEN}:2")
        await bench.settle()
        assert await self.reading(bench) == (Probe.FAILS, f"{NAMESPACE}/web: 1 old instances are still there")

    async def test_a_change_that_no_controller_has_seen_is_not_complete(self, bench, cluster):
        await bench.apply("deployments", deployment())
        await bench.settle()
        cluster.after_write = lambda: None
        await bench.release("web:2")
        assert await self.reading(bench) == (Probe.FAILS, f"{NAMESPACE}/web: its last change has not been observed yet")

    async def test_the_progress_deadline_is_named(self, bench):
        await bench.apply("deployments", deployment())
        await bench.settle()
        condition = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"}
        await bench.change("deployments", "web/status", {"status": {"conditions": [condition]}})
        assert "exceeded its progress deadline: timed out" in (await self.reading(bench))[1]

    @pytest.mark.parametrize(
        ("plural", "status", "said"),
        [
            ("statefulsets", {"readyReplicas": 0}, "0 of 2 instances are ready"),
            ("statefulsets", {"updatedReplicas": 1}, "1 of 2 instances are updated"),
            ("statefulsets", {"currentRevision": "web-old"}, "2 instances are at revision web-"),
            ("daemonsets", {"updatedNumberScheduled": 0}, "0 of 1 instances are updated"),
            ("daemonsets", {"numberAvailable": 0}, "0 of 1 instances are available"),
        ],
    )
    async def test_stateful_and_daemon_sets_have_their_own_rules(self, bench, cluster, plural, status, said):
        kind, spec = ("StatefulSet", {"replicas": 2}) if plural == "statefulsets" else ("DaemonSet", {})
        await bench.apply(plural, workload(kind, "web", "restart", spec))
        await bench.settle()
        assert (await self.reading(bench))[0] is Probe.HOLDS
        cluster.after_write = lambda: None
        await bench.change(plural, "web/status", {"status": status})
        probe, seen = await self.reading(bench)
        assert probe is Probe.FAILS
        assert said in seen

    async def test_a_workload_that_cannot_be_asked_about_is_unknown_and_one_that_is_gone_fails(self, bench, cluster):
        await bench.apply("deployments", deployment())
        web = await bench.settle()
        cluster.forbidden = {"get deployments"}
        assert (await bench.platform.check(Healthy(), web)).probe is Probe.UNKNOWN
        cluster.forbidden = set()
        await bench.delete("deployments", "web")
        assert (await bench.platform.check(Healthy(), web)).probe is Probe.FAILS


class TestEvidence:
    async def test_logs_are_those_of_the_container_before_too_where_it_crashed(self, bench, cluster):
        await bench.apply("deployments", deployment(image=f"{BROKEN}:1"))
        web = await bench.settle()
        pod = cluster.all("pods")[0]["metadata"]["name"]
        cluster.logs[pod, True] = "starting\npanic: no database\n"
        looked = await bench.platform.diagnose(Logs(tail=10, grep="PANIC"), web)
        assert looked.text == "panic: no database"
        assert looked.numbers == {"logs.lines": 2.0}

    async def test_of_endless_logs_the_end_is_kept(self, bench, cluster):
        await bench.apply("deployments", deployment())
        web = await bench.settle()
        cluster.logs[cluster.all("pods")[0]["metadata"]["name"], False] = f"{'x' * 999}\n" * 999 + "last\n"
        text = (await bench.platform.diagnose(Logs(tail=1000), web)).text
        assert text.endswith("\nlast")
        assert len(text) < 20_000

    async def test_logs_of_several_pods_are_told_apart(self, bench, cluster):
        await bench.apply("deployments", deployment(replicas=2))
        web = await bench.settle()
        for pod in cluster.all("pods"):
            cluster.logs[pod["metadata"]["name"], False] = f"one\ntwo of {pod['metadata']['name']}\n"
        text = (await bench.platform.diagnose(Logs(tail=1), web)).text
        for one in web.instances:
            short = one.name.partition("/")[2]
            assert f"==> {short} main <==\ntwo of {short}" in text

    async def test_inspect_tells_how_a_container_ended(self, bench):
        await bench.apply("deployments", deployment(image=f"{BROKEN}:1"))
        looked = await bench.platform.diagnose(Inspect(), await bench.settle())
        assert "waiting CrashLoopBackOff" in looked.text
        assert "ended with 3 (Error)" in looked.text
        assert looked.numbers == {"inspect.restart_count": 4.0, "inspect.exit_code": 3.0, "inspect.oom_killed": 0.0}

    async def test_stats_are_measured_against_the_limits(self, bench, cluster):
        await bench.apply("deployments", deployment())
        web = await bench.settle()
        pod = cluster.all("pods")[0]
        pod["spec"]["containers"][0]["resources"] = {"limits": {"memory": "128Mi"}}
        usage = {"name": "main", "usage": {"cpu": "250m", "memory": "65536Ki"}}
        other = {"metadata": {"name": "other"}, "containers": [{"name": "main", "usage": {"cpu": "4", "memory": "4Gi"}}]}
        cluster.metrics = [{"metadata": {"name": pod["metadata"]["name"]}, "containers": [usage]}, other]
        looked = await bench.platform.diagnose(Stats(), web)
        assert looked.numbers == {"stats.cpu_percent": 25.0, "stats.memory_bytes": 2.0**26, "stats.memory_ratio": 0.5}
        assert looked.text.endswith("cpu 25.0%, memory 64.0 MiB (50.0% of its limit)")

    async def test_a_cluster_without_a_metrics_api_says_so(self, bench):
        await bench.apply("deployments", deployment())
        with pytest.raises(PermanentError, match="no metrics API"):
            await bench.platform.diagnose(Stats(), await bench.settle())

    async def test_events_are_its_own_and_its_pods_of_late_in_order(self, bench, cluster):
        await bench.apply("deployments", deployment())
        web = await bench.settle()
        uid = web.instances[0].id
        for name, about, at in (("b", uid, 2), ("a", uid, 1), ("old", uid, 9000), ("other", "another-uid", 1)):
            when = (SystemClock().now() - timedelta(seconds=at)).strftime("%Y-%m-%dT%H:%M:%SZ")
            body = {"involvedObject": {"uid": about, "name": "web-0"}, "reason": name, "lastTimestamp": when, "message": "m"}
            await bench.apply("events", {"metadata": {"name": name}, **body}, "v1")
        text = (await bench.platform.diagnose(Events(since=timedelta(hours=1)), web)).text
        assert [line.split()[4] for line in text.splitlines()] == ["b", "a"]

    async def test_a_roll_out_is_as_old_as_its_newest_revision(self, bench):
        await bench.apply("deployments", deployment())
        looked = await bench.platform.diagnose(RolloutAge(), await bench.settle())
        assert "revision 1 of" in looked.text
        assert 0 <= looked.numbers["rollout.age_seconds"] < 60

    @pytest.mark.parametrize(
        ("text", "value"),
        [("0", 0), ("1500m", 1.5), ("2Gi", 2 * 2**30), ("3M", 3e6), ("2e3", 2000), ("123456789n", 0.123456789)],
    )
    def test_quantities_are_read_as_kubernetes_writes_them(self, text, value):
        assert quantity(text) == pytest.approx(value)


class TestDescribing:
    async def test_each_step_is_the_kubectl_command_for_it(self, bench, cluster):
        await bench.apply("deployments", deployment(replicas=2, allow="*"))
        await bench.settle()
        await bench.release("web:2")
        web = await bench.settle()
        first, second = sorted(one.name.partition("/")[2] for one in web.instances)
        before = next(name for name, number in web.details.items() if number == "1")
        expected = {
            Restart(): f"{KUBECTL} rollout restart deployment/web",
            Rollback(before): f"{KUBECTL} rollout undo deployment/web --to-revision=1",
            Rollback(): f"{KUBECTL} rollout undo deployment/web",
            Stop(): f"{KUBECTL} scale deployment/web --replicas=0",
            Start(): f"{KUBECTL} scale deployment/web --replicas=1",
            Scale(at_most=9, by=2): f"{KUBECTL} scale deployment/web --replicas=4",
            DeletePod(first): f"{KUBECTL} delete pod {first}",
            Exec(("df", "-h")): f"{KUBECTL} exec deployment/web -- df -h",
            Inspect(): f"{KUBECTL} describe deployment/web pod/{first} pod/{second}",
            RolloutAge(): f"{KUBECTL} rollout history deployment/web",
            Stats(): f"{KUBECTL} top pod {first} --containers\n{KUBECTL} top pod {second} --containers",
        }
        assert {step: bench.platform.describe(step, web) for step in expected} == expected
        assert "/eviction -f -" in bench.platform.describe(Evict(second), web)

    async def test_what_is_not_plain_yet_is_said_in_words(self, bench):
        await bench.apply("deployments", deployment(replicas=2))
        web = await bench.settle()
        assert bench.platform.describe(DeletePod(), web) == f"{KUBECTL} delete pod <the pod that is not ready>"
        assert bench.platform.describe(Scale(at_most=2), web) == f"{KUBECTL} scale deployment/web --replicas=2"


class TestReaching:
    async def test_a_pods_own_account_is_used_by_tls_and_its_token_read_again_when_it_is_renewed(self, tmp_path, monkeypatch):
        certificate = self_signed(tmp_path)
        async with fake_bench(tmp_path, certificate=certificate) as (_, cluster):
            url = urlsplit(cluster.url)
            monkeypatch.setenv("KUBERNETES_SERVICE_HOST", str(url.hostname))
            monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(url.port))
            (tmp_path / "token").write_text(TOKEN)
            (tmp_path / "ca.crt").write_text(certificate.read_text())
            connection = KubernetesConnection("in-cluster", service_account=tmp_path)
            api = KubernetesApi(connection, timedelta(seconds=2))
            assert await api.items(f"/api/v1/namespaces/{NAMESPACE}/pods") == []
            cluster.token = "renewed"
            (tmp_path / "token").write_text("renewed")
            with pytest.raises(TransientError, match="401"):
                await api.items(f"/api/v1/namespaces/{NAMESPACE}/pods")
            assert await api.items(f"/api/v1/namespaces/{NAMESPACE}/pods") == []
            await connection.forget()

    async def test_a_plugin_of_a_kubeconfig_may_make_the_token(self, tmp_path):
        async with fake_bench(tmp_path) as (_, cluster):
            version = "client.authentication.k8s.io/v1"
            credential = {"kind": "ExecCredential", "apiVersion": version, "status": {"token": TOKEN}}
            kubeconfig = cluster.kubeconfig(tmp_path / "by-plugin")
            told = yaml.safe_load(kubeconfig.read_text())
            plugin = {"apiVersion": version, "command": "echo", "args": [json.dumps(credential)], "interactiveMode": "Never"}
            kubeconfig.write_text(yaml.safe_dump(told | {"users": [{"name": "remediator", "user": {"exec": plugin}}]}))
            connection = KubernetesConnection(str(kubeconfig))
            api = KubernetesApi(connection, timedelta(seconds=2))
            assert await api.items(f"/api/v1/namespaces/{NAMESPACE}/pods") == []
            await connection.forget()

    async def test_credentials_that_are_not_ready_in_time_hold_nothing_up(self, monkeypatch):
        class Slow(KubernetesConnection):
            async def _loaded(self):
                await asyncio.Future()

        monkeypatch.setattr("remediator.platforms.kubernetes_connection.CREDENTIALS_SECONDS", 0.01)
        with pytest.raises(TransientError, match="were not ready in time"):
            await KubernetesApi(Slow("in-cluster"), timedelta(seconds=2)).get("/version")

    async def test_a_server_that_cannot_prove_who_it_is_is_told_nothing(self, tmp_path):
        async with fake_bench(tmp_path, certificate=self_signed(tmp_path)) as (_, cluster):
            cluster.trust = {}
            connection = KubernetesConnection(str(cluster.kubeconfig(tmp_path / "trusting")))
            with pytest.raises(TransientError, match="certificate verify failed"):
                await KubernetesApi(connection, timedelta(seconds=2)).get("/version")
            assert cluster.requests == []
            await connection.forget()

    async def test_credentials_that_cannot_be_read_are_permanent_and_named(self, tmp_path):
        for source in (str(tmp_path / "none"), "in-cluster"):
            api = KubernetesApi(KubernetesConnection(source, service_account=tmp_path), timedelta(seconds=2))
            with pytest.raises(PermanentError, match=rf"credentials for Kubernetes \({source}\) cannot be used"):
                await api.get("/version")

    async def test_it_is_off_unless_it_is_configured(self):
        async with surroundings(load_settings({"REMEDIATOR_DOCKER_URL": "off"}), may_act=True) as around:
            assert around.world.platforms.keys() == set()
            assert around.rights == []

    @pytest.mark.parametrize("may_act", [True, False])
    async def test_what_is_configured_can_be_read_and_is_changed_only_by_who_may_act(self, tmp_path, may_act):
        async with fake_bench(tmp_path) as (bench, cluster):
            settings = {"KUBERNETES": str(tmp_path / "kubeconfig"), "KUBERNETES_NAMESPACES": f"{NAMESPACE},shop"}
            cluster.forbidden = {"patch deployments", "list events"}
            environment = {"REMEDIATOR_DOCKER_URL": "off", **{f"REMEDIATOR_{name}": each for name, each in settings.items()}}
            async with surroundings(load_settings(environment), may_act=may_act) as around:
                await bench.apply("deployments", deployment())
                (inventory,) = around.inventories
                assert [each.id for each in await inventory()] == [f"kubernetes:deployment/{NAMESPACE}/web"]
                assert around.world.actuators.keys() == around.world.executors.keys() == ({"kubernetes"} if may_act else set())
                (rights,) = around.rights
                assert len(await rights()) == (4 if may_act else 2)

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({"KUBERNETES": "cluster"}, "REMEDIATOR_KUBERNETES: 'cluster' is neither in-cluster, off nor the path"),
            ({"KUBERNETES": "in-cluster"}, "kubernetes_namespaces: name the namespaces of the targets, or * for all"),
        ],
    )
    def test_settings_that_cannot_work_say_what_to_write_instead(self, given, said):
        with pytest.raises(FileProblem) as raised:
            load_settings({f"REMEDIATOR_{name}": each for name, each in given.items()})
        assert said in str(raised.value)


class TestErrors:
    async def test_what_is_forbidden_is_permanent_and_says_what(self, bench, cluster):
        cluster.forbidden = {"list deployments"}
        with pytest.raises(PermanentError, match="403: deployments is forbidden"):
            await bench.platform.find(Selection({"service": "web"}))

    async def test_a_server_that_does_not_know_us_is_asked_again_with_who_we_are_by_then(self, bench, cluster, tmp_path):
        cluster.token = "renewed"
        with pytest.raises(TransientError, match="401"):
            await bench.platform.find(Selection({"service": "web"}))
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(kubeconfig.read_text().replace("a-token", "renewed"))
        assert await bench.platform.find(Selection({"service": "web"})) == []

    async def test_a_server_that_is_too_busy_says_when_to_come_again(self, bench, cluster):
        cluster.before_answer = lambda request: busy()
        with pytest.raises(TransientError, match="429") as raised:
            await bench.platform.find(Selection({"service": "web"}))
        assert raised.value.retry_after == 7.0

    async def test_a_server_that_does_not_answer_is_given_up(self, bench, cluster):
        cluster.before_answer = lambda request: asyncio.sleep(60)
        with pytest.raises(TransientError, match="no answer within 2s"):
            await bench.platform.find(Selection({"service": "web"}))

    async def test_a_server_that_is_gone_and_comes_back_is_used_again(self, tmp_path):
        async with fake_bench(tmp_path) as (_, first):
            connection = KubernetesConnection(str(tmp_path / "kubeconfig"))
            platform = KubernetesPlatform(KubernetesApi(connection, timedelta(seconds=2)), (NAMESPACE,), SystemClock(), new_id)
            assert await platform.find(Selection({"service": "web"})) == []
            gone = first.url
        with pytest.raises(TransientError, match="cannot be reached"):
            await platform.find(Selection({"service": "web"}))
        async with fake_bench(tmp_path) as (_, second):
            assert second.url != gone
            assert await platform.find(Selection({"service": "web"})) == []
        await connection.forget()


async def busy() -> Any:
    return web.json_response({"message": "too many requests"}, status=429, headers={"Retry-After": "7"})
