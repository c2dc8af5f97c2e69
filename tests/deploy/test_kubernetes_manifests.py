"""deploy/kubernetes/: it renders, is hardened, and grants exactly what remediator asks for, each capability by itself."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from remediator.platforms.kubernetes_rights import NODES_READING, NODES_WRITING, READING, WRITING, Right
from remediator.settings import PREFIX, Settings

HERE = Path(__file__).parents[2] / "deploy/kubernetes"
RIGHTS = {
    "rollout": "restart, rollback, start and stop",
    "scale": "scale",
    "run-job": "start CronJobs",
    "evict": "evict",
    "delete-pod": "delete_pod",
    "exec": "exec",
}
"""Directories of `rights/`, and what they are for in the words of `kubernetes_rights`."""


def resources(directory: Path, namespace: str = "") -> Iterator[dict]:
    """What a kustomization holds, with the namespace that it sets; as kubectl renders it, but for generated names."""
    kustomization = yaml.safe_load((directory / "kustomization.yaml").read_text())
    namespace = kustomization.get("namespace", namespace)
    for name in kustomization["resources"]:
        path = (directory / name).resolve()
        found = resources(path, namespace) if path.is_dir() else filter(None, yaml.safe_load_all(path.read_text()))
        for each in found:
            placed = {} if each["kind"] == "Namespace" else {"namespace": each["metadata"].get("namespace", namespace)}
            yield {**each, "metadata": {**each["metadata"], **placed}}


ALL = list(resources(HERE))


def one(kind: str) -> dict:
    (found,) = [each for each in ALL if each["kind"] == kind]
    return found


def granted(directory: str) -> set[Right]:
    roles = [each for each in resources(HERE / "rights" / directory) if each["kind"] in ("Role", "ClusterRole")]
    return {
        Right(verb, f"{group}/{resource}")
        for role in roles
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_kubectl_renders_the_same_objects():
    if shutil.which("kubectl") is None and os.environ.get("CI") != "true":
        pytest.skip("kubectl is not installed")
    ran = subprocess.run(["kubectl", "kustomize", str(HERE)], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    rendered = [each for each in yaml.safe_load_all(ran.stdout) if each["kind"] != "ConfigMap"]
    assert sorted(map(identity, rendered)) == sorted(map(identity, ALL))


def identity(told: dict) -> tuple[str, str, str]:
    return told["kind"], told["metadata"].get("namespace", ""), told["metadata"]["name"]


def test_reading_is_granted_as_remediator_asks_for_it_and_no_more():
    assert granted("read") == {right for rights in READING.values() for right in rights}


@pytest.mark.parametrize("directory", RIGHTS)
def test_each_capability_has_a_role_of_its_own(directory):
    assert granted(directory) == set(WRITING[RIGHTS[directory]])


def test_every_capability_can_be_granted():
    assert set(RIGHTS.values()) == WRITING.keys()
    assert {path.name for path in (HERE / "rights").iterdir()} == RIGHTS.keys() | {"read", "nodes"}


def test_nodes_have_a_role_of_their_own_that_is_not_granted_unless_asked_for():
    assert granted("nodes") == {
        right for each in (NODES_READING, NODES_WRITING) for rights in each.values() for right in rights
    }
    assert not [each for each in ALL if each["kind"].startswith("Cluster")]


def test_roles_hold_in_the_namespace_of_the_targets_and_for_remediators_account_only():
    account = one("ServiceAccount")["metadata"]
    bindings = [each for each in ALL if each["kind"] == "RoleBinding"]
    assert bindings
    for binding in bindings:
        assert binding["metadata"]["namespace"] == "shop"
        assert binding["roleRef"]["name"] == binding["metadata"]["name"]
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]}]


def test_the_pods_are_hardened():
    pod = one("Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 65532
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["livenessProbe"]["httpGet"]["path"] == "/-/healthy"
    assert container["readinessProbe"]["httpGet"]["path"] == "/-/ready"
    assert pod["terminationGracePeriodSeconds"] > Settings().shutdown_grace.total_seconds()


def test_two_replicas_one_of_which_always_stays_and_neither_of_which_remediator_touches():
    deployment = one("Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["replicas"] == 2
    assert deployment["metadata"]["annotations"]["remediator.io/protected"] == "true"
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert one("Service")["spec"]["selector"] == labels
    assert one("PodDisruptionBudget")["spec"] == {"minAvailable": 1, "selector": {"matchLabels": labels}}
    assert one("NetworkPolicy")["spec"]["podSelector"] == {"matchLabels": labels}
    assert one("NetworkPolicy")["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_the_configuration_is_accepted_and_what_it_names_is_mounted():
    settings = Settings.model_validate(yaml.safe_load((HERE / "remediator/remediator.yaml").read_text()))
    pod = one("Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert settings.mode == "suggest"
    assert settings.namespaces == ("shop",)
    assert {str(settings.webhook_token_file.parent), str(Path(settings.store.removeprefix("file:")).parent)} <= mounted
    assert next(each["value"] for each in container["env"] if each["name"] == f"{PREFIX}CONFIG") in mounted
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
