"""Kubernetes, the writing side, on a faithful fake of its API: what is sent, what it comes to, and what a doubt finds out."""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from remediator.core.step import DeletePod, Evict, Exec, Healthy, Inspect, Logs, Restart, Rollback, Scale, Start, Stop
from remediator.core.target import Selection, Workload
from remediator.platforms.kubernetes_rights import READING, WRITING, missing_rights
from remediator.ports import Happened, Observation, OutcomeUnknown, PermanentError, Probe, TransientError
from tests import kubelet
from tests.kubelet import BROKEN
from tests.kubernetes_bench import NAMESPACE, Bench, deployment, fake_bench, self_signed, workload
from tests.kubernetes_fake import FakeCluster

ACTION = "remediator.io/action"


def web(cluster: FakeCluster, plural: str = "deployments") -> dict[str, Any]:
    return cluster.get(plural, NAMESPACE, "web")


def image(cluster: FakeCluster, plural: str = "deployments") -> str:
    return str(web(cluster, plural)["spec"]["template"]["spec"]["containers"][0]["image"])


async def observed(bench: Bench, step: Any, found: Workload, mark: Any) -> Observation:
    """As after a crash: of the workload only its name is known, and of the mark what the ledger keeps."""
    known = Workload(found.platform, found.kind, found.name, found.service)
    return await bench.platform.observe(step, known, json.loads(json.dumps(mark)))


def changes(cluster: FakeCluster) -> list[str]:
    return [each for each in cluster.requests if not each.startswith("GET") and "kubelet" not in each and "/status" not in each]


class TestRestart:
    async def test_every_pod_is_replaced_and_the_template_bears_the_action(self, bench, cluster):
        await bench.apply("deployments", deployment(replicas=2))
        before = {one.id for one in (await bench.settle()).instances}
        found, mark, said = await bench.perform(Restart())
        assert mark["action"] in said
        annotations = web(cluster)["spec"]["template"]["metadata"]["annotations"]
        assert annotations == {"kubectl.kubernetes.io/restartedAt": mark["at"], ACTION: mark["action"]}
        after = {one.id for one in (await bench.settle()).instances}
        assert len(after) == 2
        assert before.isdisjoint(after)
        assert (await observed(bench, Restart(), found, mark)).happened is Happened.YES

    @pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet"])
    async def test_other_kinds_are_restarted_by_the_same_patch(self, bench, kind):
        await bench.apply(f"{kind.lower()}s", workload(kind, "web", "restart", {}))
        (before,) = (await bench.settle()).instances
        found, mark, _ = await bench.perform(Restart())
        (after,) = (await bench.settle()).instances
        assert before.id != after.id
        assert (await observed(bench, Restart(), found, mark)).happened is Happened.YES

    async def test_it_is_refused_while_the_roll_out_is_paused(self, bench, cluster):
        await bench.apply("deployments", deployment(paused=True))
        for step in (Restart(), Rollback("a release")):
            with pytest.raises(PermanentError, match="is paused; resume it first"):
                await bench.perform(step)

    async def test_it_is_refused_where_it_would_replace_no_pod(self, bench):
        await bench.apply("statefulsets", workload("StatefulSet", "web", "*", {"updateStrategy": {"type": "OnDelete"}}))
        with pytest.raises(PermanentError, match="only when it is deleted"):
            await bench.perform(Restart())

    async def test_it_is_found_though_another_release_came_after_it(self, bench):
        await bench.apply("deployments", deployment())
        await bench.settle()
        found, mark, _ = await bench.perform(Restart())
        await bench.settle()
        containers = [{"name": "main", "image": "web:2"}]
        annotations = {ACTION: None}
        template = {"metadata": {"annotations": annotations}, "spec": {"containers": containers}}
        await bench.change("deployments", "web", {"spec": {"template": template}})
        assert (await observed(bench, Restart(), found, mark)).happened is Happened.YES

    async def test_a_restart_that_was_not_sent_is_told_from_one_that_nobody_can_tell(self, bench):
        await bench.apply("deployments", deployment())
        found = await bench.settle()
        mark = await bench.platform.mark(Restart(), found)
        await bench.change("deployments", "web", {"spec": {"replicas": 3}})
        assert (await observed(bench, Restart(), found, mark)).happened is Happened.NO
        await bench.release("web:2")
        assert (await observed(bench, Restart(), found, mark)).happened is Happened.UNKNOWN

    async def test_what_was_made_anew_is_left_alone_and_tells_nothing(self, bench):
        await bench.apply("deployments", deployment())
        found = await bench.settle()
        mark = await bench.platform.mark(Restart(), found)
        await bench.delete("deployments", "web")
        assert (await observed(bench, Restart(), found, mark)).happened is Happened.UNKNOWN
        await bench.apply("deployments", deployment())
        with pytest.raises(PermanentError, match="made anew"):
            await bench.actuator.perform(Restart(), found, mark)
        assert (await observed(bench, Restart(), found, mark)).happened is Happened.UNKNOWN


class TestRollback:
    @pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet"])
    async def test_the_release_before_runs_again_whatever_restarts_came_between(self, bench, cluster, kind):
        plural = f"{kind.lower()}s"
        await bench.apply(plural, workload(kind, "web", "*", {}))
        first = (await bench.settle()).release
        await bench.release(f"{BROKEN}:2", plural)
        await bench.perform(Restart())
        await bench.settle()
        found, mark, said = await bench.perform(Rollback(first))
        assert "back to revision 1" in said
        assert (await bench.settle()).release == first
        assert image(cluster, plural) == "web:1"
        assert (await observed(bench, Rollback(first), found, mark)).happened is Happened.YES

    async def test_without_a_name_it_is_the_newest_that_runs_something_else(self, bench, cluster):
        await bench.apply("deployments", deployment())
        await bench.settle()
        for tag in ("web:2", "web:3"):
            await bench.release(tag)
        await bench.perform(Restart())
        await bench.settle()
        await bench.perform(Rollback())
        assert image(cluster) == "web:2"

    async def test_annotations_go_back_too_but_not_the_owners_consent(self, bench, cluster):
        body = deployment(allow="*")
        body["metadata"]["annotations"]["team"] = "red"
        await bench.apply("deployments", body)
        first = (await bench.settle()).release
        await bench.release("web:2", annotations={"team": "blue", "note": "new", "remediator.io/allow": "rollback"})
        await bench.perform(Rollback(first))
        annotations = web(cluster)["metadata"]["annotations"]
        assert annotations.pop("deployment.kubernetes.io/revision") == "3"
        assert annotations == {"team": "red", "remediator.io/allow": "rollback"}

    async def test_a_release_that_is_not_kept_any_more_or_runs_already_is_permanent(self, bench):
        await bench.apply("deployments", deployment())
        found = await bench.settle()
        with pytest.raises(PermanentError, match="no revision of the release c0ffee"):
            await bench.perform(Rollback("c0ffee"))
        with pytest.raises(PermanentError, match="no other release"):
            await bench.perform(Rollback())
        with pytest.raises(PermanentError, match="already"):
            await bench.perform(Rollback(found.release))

    async def test_a_rollback_in_doubt_is_told_by_what_is_to_run(self, bench):
        await bench.apply("deployments", deployment())
        first = (await bench.settle()).release
        found = await bench.release("web:2")
        mark = await bench.platform.mark(Rollback(first), found)
        assert (await observed(bench, Rollback(first), found, mark)).happened is Happened.NO
        await bench.release("web:3")
        assert (await observed(bench, Rollback(first), found, mark)).happened is Happened.UNKNOWN


class TestScaling:
    async def test_instances_are_added_up_to_the_bound(self, bench, cluster):
        await bench.apply("deployments", deployment(replicas=2))
        await bench.settle()
        found, mark, said = await bench.perform(Scale(at_most=3, by=5))
        assert said == f"scaled {NAMESPACE}/web from 2 to 3"
        assert len((await bench.settle()).instances) == 3
        assert (await observed(bench, Scale(at_most=3, by=5), found, mark)).happened is Happened.YES
        with pytest.raises(PermanentError, match="has 3 instances, and may have no more"):
            await bench.perform(Scale(at_most=3))
        assert "PATCH" in "".join(cluster.requests)
        assert [each for each in changes(cluster) if "deployments" in each][-1].endswith("/web/scale")

    async def test_where_an_autoscaler_is_in_charge_its_bounds_are_raised(self, bench, cluster):
        await bench.apply("deployments", deployment(replicas=3, allow="scale"))
        await bench.settle()
        scaler = autoscaler("web", 2, 4)
        await bench.apply("horizontalpodautoscalers", scaler, "autoscaling/v2")
        await bench.apply("horizontalpodautoscalers", autoscaler("another", 1, 9), "autoscaling/v2")
        step = Scale(at_most=6, by=2)
        described = bench.platform.describe(step, await bench.one())
        assert described.endswith("""patch hpa web -p '{"spec": {"minReplicas": 5, "maxReplicas": 5}}'""")
        found = await bench.one()
        mark = await bench.platform.mark(step, found)
        assert (await observed(bench, step, found, mark)).happened is Happened.NO
        await bench.actuator.perform(step, found, mark)
        spec = cluster.get("horizontalpodautoscalers", NAMESPACE, "web")["spec"]
        assert (spec["minReplicas"], spec["maxReplicas"]) == (5, 5)
        assert web(cluster)["spec"]["replicas"] == 3
        assert (await observed(bench, step, found, mark)).happened is Happened.YES

    async def test_somebody_else_who_scales_meanwhile_is_decided_about_again(self, bench):
        await bench.apply("deployments", deployment(replicas=2))
        found = await bench.settle()
        mark = await bench.platform.mark(Scale(at_most=9), found)
        await bench.change("deployments", "web", {"spec": {"replicas": 4}})
        with pytest.raises(TransientError, match="not sent: somebody else has scaled"):
            await bench.actuator.perform(Scale(at_most=9), found, mark)
        assert (await observed(bench, Scale(at_most=9), found, mark)).happened is Happened.UNKNOWN

    async def test_what_was_stopped_comes_back_with_as_many_instances(self, bench, cluster):
        await bench.apply("deployments", deployment(replicas=3))
        await bench.settle()
        await bench.perform(Stop())
        assert (await bench.settle()).instances == ()
        assert bench.platform.describe(Start(), await bench.one()).endswith("--replicas=3")
        await bench.perform(Start())
        assert len((await bench.settle()).instances) == 3
        assert "remediator.io/replicas" not in web(cluster)["metadata"]["annotations"]
        assert "nothing to do" in (await bench.perform(Start()))[2]


def autoscaler(name: str, least: int, most: int) -> dict[str, Any]:
    spec = {"scaleTargetRef": {"kind": "Deployment", "name": name}, "minReplicas": least, "maxReplicas": most}
    return {"metadata": {"name": name}, "spec": spec}


class TestPods:
    @pytest.mark.parametrize("step", [Evict(), DeletePod()])
    async def test_the_only_ill_pod_goes_and_another_comes(self, bench, cluster, step):
        await bench.apply("deployments", deployment(replicas=2))
        await bench.settle()
        ill = cluster.all("pods")[1]
        ill["status"]["conditions"][0]["status"] = "False"
        found, mark, said = await bench.perform(step)
        assert ill["metadata"]["name"] in said
        assert (await observed(bench, step, found, mark)).happened is Happened.YES
        assert ill["metadata"]["uid"] not in {one.id for one in (await bench.settle()).instances}

    @pytest.mark.parametrize(("pod", "said"), [("", "not exactly one pod"), ("another", "has no pod another")])
    async def test_which_pod_is_to_go_must_be_plain(self, bench, pod, said):
        await bench.apply("deployments", deployment(replicas=2))
        await bench.settle()
        for step in (Evict(pod), DeletePod(pod)):
            with pytest.raises(PermanentError, match=said):
                await bench.perform(step)

    async def test_a_disruption_budget_is_an_answer_and_spares_the_pod(self, bench, cluster):
        await bench.apply("deployments", deployment())
        pod = (await bench.settle()).instances[0]
        budget = {"spec": {"selector": {"matchLabels": {"app": "web"}}}, "status": {"disruptionsAllowed": 0}}
        await bench.apply("poddisruptionbudgets", {"metadata": {"name": "web"}, **budget}, "policy/v1")
        step = Evict(pod.name.partition("/")[2])
        found = await bench.one()
        mark = await bench.platform.mark(step, found)
        with pytest.raises(PermanentError, match="429: Cannot evict pod as it would violate"):
            await bench.actuator.perform(step, found, mark)
        assert (await observed(bench, step, found, mark)).happened is Happened.NO

    @pytest.mark.parametrize("kind", [Evict, DeletePod])
    async def test_another_pod_of_the_same_name_is_spared(self, bench, cluster, kind):
        await bench.apply("statefulsets", workload("StatefulSet", "web", "evict", {}))
        pod = (await bench.settle()).instances[0].name.partition("/")[2]
        found = await bench.one()
        mark = await bench.platform.mark(kind(pod), found)
        cluster.remove("pods", NAMESPACE, pod)
        cluster.after_write()
        (successor,) = (await bench.settle()).instances
        with pytest.raises(TransientError, match="409"):
            await bench.actuator.perform(kind(pod), found, mark)
        assert (await bench.one()).instances == (successor,)


class TestExec:
    async def ready(self, bench: Bench) -> Workload:
        await bench.apply("deployments", deployment(allow="exec"))
        return await bench.settle()

    async def test_output_and_exit_code_come_back(self, bench, cluster):
        found = await self.ready(bench)
        cluster.commands = lambda argv: (" ".join(argv).encode(), 3)
        looked = await bench.actuator.diagnose_exec(Exec(("df", "-h")), found)
        assert looked.text == f"in {found.instances[0].name}, exit code 3\ndf -h"
        assert looked.numbers == {"exec.exit_code": 3.0}
        with pytest.raises(PermanentError, match="exited with 3: df -h"):
            await bench.actuator.perform(Exec(("df", "-h")), found, {})
        cluster.commands = lambda argv: (b"", 0)
        assert "exited with 0" in await bench.actuator.perform(Exec(("true",)), found, {})

    async def test_a_command_whose_end_nobody_hears_of_is_in_doubt(self, bench, cluster):
        found = await self.ready(bench)
        cluster.commands = lambda argv: (b"working", None)
        with pytest.raises(OutcomeUnknown, match="may still run"):
            await bench.actuator.perform(Exec(("work",)), found, {})
        assert (await observed(bench, Exec(("work",)), found, {})).happened is Happened.UNKNOWN

    async def test_a_command_that_may_not_be_run_is_permanent(self, bench, cluster):
        found = await self.ready(bench)
        cluster.forbidden = {"get pods/exec"}
        with pytest.raises(PermanentError, match="403"):
            await bench.actuator.perform(Exec(("true",)), found, {})

    async def test_it_is_run_in_the_container_that_kubectl_would_choose(self, bench, cluster):
        await self.ready(bench)
        annotations = {"kubectl.kubernetes.io/default-container": "side"}
        cluster.all("pods")[0]["metadata"]["annotations"] = annotations
        await bench.actuator.perform(Exec(("true",)), await bench.one(), {})
        assert "container=side" in cluster.requests[-1]


class TestCronJobs:
    async def settled(self, bench: Bench, image: str = "etl:1", **spec: Any) -> Workload:
        template = {"spec": {"containers": [{"name": "main", "image": image}], "restartPolicy": "Never"}}
        spec = {"schedule": "0 3 * * *", "jobTemplate": {"spec": {"template": template}}} | spec
        metadata = {"name": "etl", "annotations": {"remediator.io/allow": "*"}}
        await bench.apply("cronjobs", {"metadata": metadata, "spec": spec}, "batch/v1")
        return await bench.one(service="etl")

    async def run(self, bench: Bench, found: Workload) -> Any:
        mark = await bench.platform.mark(Start(), found)
        await bench.actuator.perform(Start(), found, mark)
        await kubelet.keep(bench.admin, NAMESPACE)
        return mark

    async def test_start_makes_a_job_of_it_once_and_its_end_is_verified(self, bench, cluster):
        found = await self.settled(bench)
        assert (await bench.platform.check(Healthy(), found)).seen == f"no Job of {NAMESPACE}/etl is left"
        mark = await self.run(bench, found)
        assert (await bench.platform.check(Healthy(), found)).probe is Probe.HOLDS
        assert (await observed(bench, Start(), found, mark)).happened is Happened.YES
        with pytest.raises(TransientError, match="409"):
            await bench.actuator.perform(Start(), found, mark)
        (job,) = cluster.all("jobs")
        assert job["metadata"]["annotations"] == {"cronjob.kubernetes.io/instantiate": "manual"}
        pod = cluster.all("pods")[0]["metadata"]["name"]
        assert await found_by(bench, pod=pod) == await found_by(bench, cronjob="etl") == [found.id]

    async def test_one_that_failed_fails_and_its_logs_are_there(self, bench, cluster):
        found = await self.settled(bench, f"{BROKEN}:1")
        await self.run(bench, found)
        assert (await bench.platform.check(Healthy(), found)).probe is Probe.FAILS
        cluster.logs[cluster.all("pods")[0]["metadata"]["name"], False] = "source is not reachable\n"
        assert (await bench.platform.diagnose(Logs(), found)).text == "source is not reachable"
        assert (await bench.platform.diagnose(Inspect(), found)).numbers["inspect.exit_code"] == 3.0

    async def test_one_that_was_not_made_is_told_from_one_that_may_have_vanished(self, bench):
        found = await self.settled(bench)
        mark = await bench.platform.mark(Start(), found)
        assert (await observed(bench, Start(), found, mark)).happened is Happened.NO
        await bench.change("cronjobs", "etl", {"spec": {"successfulJobsHistoryLimit": 0}}, "batch/v1")
        assert (await observed(bench, Start(), found, mark)).happened is Happened.UNKNOWN

    async def test_none_is_made_beside_another_where_that_is_forbidden(self, bench, cluster):
        found = await self.settled(bench, concurrencyPolicy="Forbid")
        cluster.get("cronjobs", NAMESPACE, "etl")["status"] = {"active": [{"name": "etl-1"}]}
        with pytest.raises(PermanentError, match="allows no second one"):
            await self.run(bench, found)

    async def test_it_has_no_other_step_and_a_command_that_people_know(self, bench):
        found = await self.settled(bench)
        for step in (Restart(), Rollback("a"), Stop(), Scale(at_most=3), Evict("x"), DeletePod("x"), Exec(("true",))):
            assert step.name in found.lacks
            with pytest.raises(PermanentError, match="does not offer"):
                await bench.actuator.perform(step, found, {})
        described = bench.platform.describe(Start(), found)
        assert described == f"kubectl -n {NAMESPACE} create job etl-$(date +%s) --from=cronjob/etl"


async def found_by(bench: Bench, **fields: str) -> list[str]:
    return [each.id for each in await bench.platform.find(Selection(fields))]


class TestErrors:
    async def test_a_change_in_between_is_a_conflict_that_changes_nothing(self, bench, cluster):
        await bench.apply("deployments", deployment())
        await bench.settle()

        def somebody(request: Any) -> None:
            if request.method == "PATCH":
                cluster.touch(web(cluster))

        cluster.before_answer = somebody
        for step in (Restart(), Stop(), Scale(at_most=5)):
            with pytest.raises(TransientError, match="409"):
                await bench.perform(step)
        assert web(cluster)["metadata"]["generation"] == 1

    async def test_a_change_that_is_forbidden_is_permanent(self, bench, cluster):
        await bench.apply("deployments", deployment())
        cluster.forbidden = {"patch deployments"}
        with pytest.raises(PermanentError, match="403"):
            await bench.perform(Restart())

    async def test_a_change_without_an_answer_is_in_doubt_until_it_is_looked_for(self, bench, cluster):
        await bench.apply("deployments", deployment())
        found = await bench.settle()
        mark = await bench.platform.mark(Restart(), found)
        cluster.before_answer = lambda request: asyncio.sleep(60) if request.method == "PATCH" else None
        with pytest.raises(OutcomeUnknown, match="no answer within 2s"):
            await bench.actuator.perform(Restart(), found, mark)
        assert (await observed(bench, Restart(), found, mark)).happened is Happened.NO

    async def test_a_server_that_fails_over_a_change_leaves_it_in_doubt(self, bench, cluster):
        from aiohttp import web as answers

        async def failed() -> Any:
            return answers.json_response({"message": "etcdserver: request timed out"}, status=500)

        await bench.apply("deployments", deployment())
        cluster.before_answer = lambda request: failed() if request.method == "PATCH" else None
        with pytest.raises(OutcomeUnknown, match="500: etcdserver: request timed out"):
            await bench.perform(Restart())

    async def test_a_process_that_has_lost_its_lease_sends_no_change(self, tmp_path):
        held = [True]
        async with fake_bench(tmp_path, lambda: held[0]) as (bench, cluster):
            await bench.apply("deployments", deployment(allow="*"))
            found = await bench.settle()
            pod = found.instances[0].name.partition("/")[2]
            steps = (Restart(), Stop(), Scale(at_most=5), Evict(pod), DeletePod(pod), Exec(("true",)))
            marks = [await bench.platform.mark(step, found) for step in steps]
            held[0] = False
            cluster.requests.clear()
            for step, mark in zip(steps, marks, strict=True):
                with pytest.raises(TransientError, match="not sent"):
                    await bench.actuator.perform(step, found, mark)
            assert changes(cluster) == []
            assert not any("/exec" in each for each in cluster.requests)


class TestRights:
    async def test_what_may_not_be_done_is_said_for_each_purpose(self, bench, cluster):
        cluster.forbidden = {"patch deployments", "patch daemonsets", "get pods/log"}
        said = await missing_rights(bench.api, ("shop",), READING, WRITING)
        assert said == [
            "cannot diagnose with logs in shop: may not get pods/log",
            "cannot restart, rollback, start and stop in shop: may not patch deployments, patch daemonsets",
        ]

    async def test_who_may_not_act_is_not_asked_what_for_acting_is_needed(self, bench, cluster):
        cluster.forbidden = {"patch deployments", "list events"}
        said = await missing_rights(bench.api, ("",), READING)
        assert said == ["cannot diagnose with events in all namespaces: may not list events"]


@pytest.mark.skipif(not (shutil.which("kubectl") and shutil.which("openssl")), reason="kubectl or openssl is not installed")
class TestAsKubectlDoes:
    """kubectl against the same fake, by TLS (it gives no token away without): what it changes is what remediator changes."""

    @pytest.fixture
    async def stage(self, tmp_path: Path) -> AsyncIterator[tuple[Bench, FakeCluster]]:
        async with fake_bench(tmp_path, certificate=self_signed(tmp_path)) as made:
            yield made

    async def typed(self, home: Path, command: str) -> str:
        environment = {"PATH": os.environ["PATH"], "HOME": str(home), "KUBECONFIG": str(home / "kubeconfig")}
        shell = ["bash", "-o", "pipefail", "-c", command]
        ran = await asyncio.to_thread(subprocess.run, shell, env=environment, capture_output=True, text=True, timeout=60)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    async def test_undo_leads_to_the_same_template_and_annotations(self, bench, cluster, tmp_path):
        results = []
        for by_kubectl in (True, False):
            body = deployment(allow="*")
            body["metadata"]["annotations"]["team"] = "red"
            await bench.apply("deployments", body)
            await bench.settle()
            await bench.release("web:2", annotations={"team": "blue", "remediator.io/allow": "*"})
            if by_kubectl:
                await self.typed(tmp_path, bench.platform.describe(Rollback(), await bench.one()))
            else:
                await bench.perform(Rollback())
            told = web(cluster)
            results.append((plain(told["spec"]), told["metadata"]["annotations"], told["metadata"]["generation"]))
            await bench.delete("deployments", "web")
        assert results[0] == results[1]

    async def test_a_restart_is_one_that_kubectl_could_have_made(self, bench, cluster, tmp_path):
        await bench.apply("deployments", deployment())
        await self.typed(tmp_path, bench.platform.describe(Restart(), await bench.one()))
        by_kubectl = web(cluster)["spec"]["template"]["metadata"]["annotations"]
        await bench.perform(Restart())
        by_remediator = web(cluster)["spec"]["template"]["metadata"]["annotations"]
        assert by_remediator.keys() == by_kubectl.keys() | {ACTION}
        both = [datetime.fromisoformat(each["kubectl.kubernetes.io/restartedAt"]) for each in (by_kubectl, by_remediator)]
        assert abs(both[1] - both[0]) < timedelta(minutes=1)

    async def test_a_job_of_a_cron_job_is_the_one_that_kubectl_would_make(self, bench, cluster, tmp_path):
        found = await TestCronJobs().settled(bench)
        shown = await self.typed(tmp_path, bench.platform.describe(Start(), found) + " --dry-run=client -o json")
        await bench.actuator.perform(Start(), found, await bench.platform.mark(Start(), found))
        by_kubectl, by_remediator = json.loads(shown), cluster.all("jobs")[0]
        assert plain(by_remediator["spec"]) == plain(by_kubectl["spec"])
        for key in ("labels", "annotations", "ownerReferences"):
            assert plain(by_remediator["metadata"].get(key) or {}) == plain(by_kubectl["metadata"].get(key) or {})

    async def test_what_people_are_shown_does_what_remediator_would_do(self, bench, cluster, tmp_path):
        await bench.apply("deployments", deployment(replicas=2, allow="*"))
        evicted, deleted = (one.name.partition("/")[2] for one in (await bench.settle()).instances)
        for step in (Evict(evicted), DeletePod(deleted), Scale(at_most=5, by=3)):
            found = await bench.one()
            mark = await bench.platform.mark(step, found)
            waits = " --wait=false" if isinstance(step, DeletePod) else ""
            await self.typed(tmp_path, bench.platform.describe(step, found) + waits)
            assert (await observed(bench, step, found, mark)).happened is Happened.YES


def plain(told: Any) -> Any:
    """Without what Go's zero values add, which the real server takes away again."""
    if isinstance(told, dict):
        return {key: kept for key, value in told.items() if (kept := plain(value)) not in (None, {})}
    return [plain(each) for each in told] if isinstance(told, list) else told
