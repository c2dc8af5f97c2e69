"""Nodes as targets, on a faithful fake of the API: who is moved, who is not, and what a half-done drain comes to."""

from datetime import timedelta

import pytest
from aiohttp import web

from remediator.app import surroundings
from remediator.core.step import Cordon, Drain, Events, Healthy, Inspect, Logs, Restart, Uncordon
from remediator.core.target import Selection, Workload
from remediator.platforms.kubernetes_nodes import KubernetesNodes, KubernetesNodesActuator
from remediator.platforms.kubernetes_rights import NODES_READING, NODES_WRITING, missing_rights
from remediator.ports import Happened, OutcomeUnknown, PermanentError, Probe, TransientError
from remediator.settings import load_settings
from tests.kubernetes_bench import NAMESPACE, Bench, deployment, workload
from tests.kubernetes_fake import FakeCluster

DRAIN = Drain(timedelta())


@pytest.fixture
async def nodes(bench: Bench, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> KubernetesNodes:
    """One node, with a pod of a Deployment and one of a DaemonSet on it."""
    monkeypatch.setattr("remediator.platforms.kubernetes_nodes.LOOK_AGAIN_SECONDS", 0.0)
    conditions = [{"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "Kubelet stopped posting"}]
    annotations = {"remediator.io/allow": "cordon,uncordon,drain"}
    metadata = {"name": "worker-1", "namespace": "", "annotations": annotations}
    cluster.create("nodes", {"metadata": metadata, "spec": {}, "status": {"conditions": conditions}})
    await bench.apply("deployments", deployment())
    await bench.apply("daemonsets", workload("DaemonSet", "agent", "", {}))
    await bench.settle()
    for pod in cluster.all("pods"):
        pod["spec"]["nodeName"] = "worker-1"
    return KubernetesNodes(bench.api)


async def target(nodes: KubernetesNodes) -> Workload:
    (found,) = await nodes.find(Selection({"node": "worker-1"}))
    return found


async def perform(nodes: KubernetesNodes, step: Cordon | Uncordon | Drain) -> Happened:
    """Do it; what a doubt about it would come to."""
    found = await target(nodes)
    mark = await nodes.mark(step, found)
    assert (await nodes.observe(step, found, mark)).happened is Happened.NO
    await KubernetesNodesActuator(nodes._api).perform(step, found, mark)
    return (await nodes.observe(step, found, mark)).happened


def on_node(cluster: FakeCluster) -> list[str]:
    return [pod["metadata"]["name"] for pod in cluster.all("pods") if pod["spec"].get("nodeName") == "worker-1"]


def leaves_at_once(cluster: FakeCluster) -> None:
    """As if kubelets needed no time: what is being removed is gone."""
    controllers = cluster.after_write

    def removed() -> None:
        for pod in cluster.all("pods"):
            if pod["metadata"].get("deletionTimestamp"):
                cluster.remove("pods", pod["metadata"]["namespace"], pod["metadata"]["name"])
        controllers()

    cluster.after_write = removed


async def test_a_node_is_found_by_its_name_alone_and_has_consented_by_its_annotation(nodes):
    found = await target(nodes)
    assert (found.id, found.allow) == ("kubernetes-nodes:node/worker-1", {"cordon", "uncordon", "drain"})
    assert "restart" in found.lacks
    assert not await nodes.find(Selection({"node": "worker-2"}))
    assert not await nodes.find(Selection({"node": "worker-1", "namespace": "shop"}))
    with pytest.raises(PermanentError, match="does not offer restart"):
        await nodes.mark(Restart(), found)


async def test_a_node_is_cordoned_and_uncordoned(nodes, cluster):
    assert await perform(nodes, Cordon()) is Happened.YES
    assert cluster.get("nodes", "", "worker-1")["spec"] == {"unschedulable": True}
    assert await perform(nodes, Uncordon()) is Happened.YES
    assert cluster.get("nodes", "", "worker-1")["spec"] == {}


async def test_a_drain_moves_all_but_what_belongs_to_the_node(nodes, cluster):
    leaves_at_once(cluster)
    assert await perform(nodes, Drain(timedelta(seconds=5))) is Happened.YES
    assert cluster.get("nodes", "", "worker-1")["spec"] == {"unschedulable": True}
    (left,) = on_node(cluster)
    assert left.startswith("agent")
    assert (await nodes.check(Healthy(), await target(nodes))).probe is Probe.HOLDS


async def test_what_a_budget_spares_until_the_end_is_said_and_goes_to_a_person(nodes, bench, cluster):
    budget = {"spec": {"selector": {"matchLabels": {"app": "web"}}}, "status": {"disruptionsAllowed": 0}}
    await bench.apply("poddisruptionbudgets", {"metadata": {"name": "web"}, **budget}, "policy/v1")
    found = await target(nodes)
    mark = await nodes.mark(DRAIN, found)
    with pytest.raises(PermanentError, match="cordoned worker-1, but 1 pods are left on it"):
        await KubernetesNodesActuator(bench.api).perform(DRAIN, found, mark)
    assert (await nodes.observe(DRAIN, found, mark)).happened is Happened.UNKNOWN
    assert (await nodes.check(Healthy(), found)).probe is Probe.FAILS


async def test_a_pod_that_nothing_would_make_anew_is_spared_and_the_node_left_alone(nodes, bench, cluster):
    await bench.apply("pods", {"metadata": {"name": "bare"}, "spec": {"nodeName": "worker-1"}, "status": {}}, "v1")
    with pytest.raises(PermanentError, match=f"nothing would make these pods of worker-1 anew: {NAMESPACE}/bare"):
        await KubernetesNodesActuator(bench.api).perform(DRAIN, await target(nodes), {})
    assert cluster.get("nodes", "", "worker-1")["spec"] == {}


async def test_an_error_half_way_is_in_doubt_and_one_before_it_is_not(nodes, bench, cluster):
    found = await target(nodes)
    cluster.before_answer = lambda request: fails() if request.method == "PATCH" else None
    with pytest.raises(TransientError, match="429"):
        await KubernetesNodesActuator(bench.api).perform(DRAIN, found, {})
    cluster.before_answer = lambda request: fails() if request.method == "POST" else None
    with pytest.raises(OutcomeUnknown, match="cordoned worker-1, and did not get to the end"):
        await KubernetesNodesActuator(bench.api).perform(DRAIN, found, {})


async def fails() -> web.Response:
    return web.json_response({"message": "too many requests"}, status=429)


async def test_the_node_that_remediator_is_on_is_protected_and_so_is_one_that_says_so(nodes, bench, cluster):
    own = f"{NAMESPACE}/{on_node(cluster)[-1]}"
    assert (await target(KubernetesNodes(bench.api, own))).protected == "is where remediator itself runs"
    cluster.get("nodes", "", "worker-1")["metadata"]["annotations"]["remediator.io/protected"] = "true"
    found = await target(nodes)
    with pytest.raises(PermanentError, match="protected by its annotation"):
        await KubernetesNodesActuator(bench.api).perform(Cordon(), found, {})


async def test_its_conditions_pods_and_events_are_evidence(nodes, bench, cluster):
    found = await target(nodes)
    looked = await nodes.diagnose(Inspect(), found)
    assert "Ready Unknown NodeStatusUnknown: Kubelet stopped posting" in looked.text
    assert f"{NAMESPACE}/{on_node(cluster)[0]}" in looked.text
    body = {"involvedObject": {"kind": "Node", "name": "worker-1"}, "reason": "NodeNotReady", "message": "is not ready"}
    await bench.apply("events", {"metadata": {"name": "one"}, **body}, "v1")
    assert "NodeNotReady: is not ready" in (await nodes.diagnose(Events(), found)).text
    with pytest.raises(PermanentError, match="does not offer logs"):
        await nodes.diagnose(Logs(), found)


async def test_a_ready_node_is_healthy(nodes, cluster):
    found = await target(nodes)
    assert (await nodes.check(Healthy(), found)).probe is Probe.FAILS
    cluster.get("nodes", "", "worker-1")["status"]["conditions"][0]["status"] = "True"
    assert (await nodes.check(Healthy(), found)).probe is Probe.HOLDS
    cluster.forbidden = {"get nodes"}
    assert (await nodes.check(Healthy(), found)).probe is Probe.UNKNOWN


async def test_each_step_is_the_kubectl_command_for_it(nodes):
    found = await target(nodes)
    described = [nodes.describe(step, found) for step in (Cordon(), Uncordon(), Drain(timedelta(minutes=2)))]
    assert described == [
        "kubectl cordon worker-1",
        "kubectl uncordon worker-1",
        "kubectl drain worker-1 --ignore-daemonsets --delete-emptydir-data --timeout=120s",
    ]


async def test_rights_on_the_cluster_are_asked_for_only_where_nodes_are_configured(nodes, bench, cluster, tmp_path):
    cluster.forbidden = {"patch nodes"}
    assert await missing_rights(bench.api, ("",), NODES_READING, NODES_WRITING) == [
        "cannot cordon and uncordon in all namespaces: may not patch nodes",
        "cannot drain in all namespaces: may not patch nodes",
    ]
    settings = {"KUBERNETES": str(tmp_path / "kubeconfig"), "KUBERNETES_NAMESPACES": "shop", "DOCKER_URL": "off"}
    environment = {f"REMEDIATOR_{name}": each for name, each in settings.items()}
    async with surroundings(load_settings(environment), may_act=True) as around:
        assert around.world.platforms.keys() == around.world.actuators.keys() == {"kubernetes"}
    async with surroundings(load_settings({**environment, "REMEDIATOR_KUBERNETES_NODES": "true"}), may_act=True) as around:
        assert around.world.platforms.keys() == around.world.actuators.keys() == {"kubernetes", "kubernetes-nodes"}
