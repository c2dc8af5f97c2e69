"""What a fake cluster says of its API, so that kubectl finds its way in it."""

from collections.abc import Mapping
from typing import Any

VERBS = ["create", "delete", "get", "list", "patch", "update"]
SUBRESOURCES = {"deployments": ("scale",), "statefulsets": ("scale",), "pods": ("eviction",)}
OF_THE_CLUSTER = ("namespaces", "nodes")
SHORT = {"horizontalpodautoscalers": ["hpa"]}


def discovered(path: str, kinds: Mapping[str, tuple[str, str]]) -> dict[str, Any] | None:
    """The answer to a question of discovery; None if it is not one. `kinds` are the API versions and kinds by plural."""
    versions = sorted({version for version, _ in kinds.values() if "/" in version})
    match path.strip("/").split("/"):
        case ["version"]:
            return {"major": "1", "minor": "32", "gitVersion": "v1.32.0"}
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"]}
        case ["apis"]:
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": list(map(_group, versions))}
        case ["api", asked]:
            return _listed(asked, kinds)
        case ["apis", group, version]:
            return _listed(f"{group}/{version}", kinds)
        case _:
            return None


def _listed(version: str, kinds: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    resources = [each for plural, (of, kind) in kinds.items() if of == version for each in _resources(plural, kind)]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}


def _group(version: str) -> dict[str, Any]:
    one = {"groupVersion": version, "version": version.partition("/")[2]}
    return {"name": version.partition("/")[0], "versions": [one], "preferredVersion": one}


def _resources(plural: str, kind: str) -> list[dict[str, Any]]:
    one = {
        "name": plural,
        "singularName": kind.lower(),
        "namespaced": plural not in OF_THE_CLUSTER,
        "kind": kind,
        "verbs": VERBS,
    }
    whole = {**one, "shortNames": SHORT.get(plural, [])}
    scale = {"group": "autoscaling", "version": "v1", "kind": "Scale"}
    parts = [{**one, "name": f"{plural}/{part}", **(scale if part == "scale" else {})} for part in SUBRESOURCES.get(plural, ())]
    return [whole, *parts]
