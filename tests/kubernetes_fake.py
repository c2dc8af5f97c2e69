"""A Kubernetes API server in memory, true to the protocol as far as remediator and kubectl speak it.

Objects have uid, generation and resourceVersion; patches of three content types; 401, 403, 404, 409, 415, 422 and 429 as the
real one answers them. What controllers would do is in `kubernetes_controllers.py`, what kubelets would in `kubelet.py`.
"""

import json
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from copy import deepcopy
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import yaml
from aiohttp import web

from tests.kubernetes_discovery import discovered

TOKEN = "a-token"
KINDS = {
    "pods": ("v1", "Pod"),
    "events": ("v1", "Event"),
    "nodes": ("v1", "Node"),
    "namespaces": ("v1", "Namespace"),
    "deployments": ("apps/v1", "Deployment"),
    "statefulsets": ("apps/v1", "StatefulSet"),
    "daemonsets": ("apps/v1", "DaemonSet"),
    "cronjobs": ("batch/v1", "CronJob"),
    "jobs": ("batch/v1", "Job"),
    "replicasets": ("apps/v1", "ReplicaSet"),
    "controllerrevisions": ("apps/v1", "ControllerRevision"),
    "horizontalpodautoscalers": ("autoscaling/v2", "HorizontalPodAutoscaler"),
    "poddisruptionbudgets": ("policy/v1", "PodDisruptionBudget"),
}
PATH = re.compile(
    r"(/api/(?P<core>v1)|/apis/(?P<group>[a-z0-9.]+/v[a-z0-9]+))(/namespaces/(?P<namespace>[^/]+))?"
    r"/(?P<plural>[a-z]+)(/(?P<name>[^/]+))?(/(?P<subresource>[a-z]+))?"
)
Key = tuple[str, str, str]
"""Plural, namespace and name."""


class Refused(Exception):
    """An answer that is a Status."""

    def __init__(self, code: int, reason: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason} | more
        self.body["message"] = message


class FakeCluster:
    """`after_write` is called after each change, as controllers watch; `forbidden` holds `verb resource/subresource`."""

    def __init__(self) -> None:
        self.objects: dict[Key, dict[str, Any]] = {}
        self.forbidden: set[str] = set()
        self.logs: dict[tuple[str, bool], str] = {}
        self.metrics: list[dict[str, Any]] | None = None
        self.commands: Callable[[list[str]], tuple[bytes, int | None]] = lambda argv: (b"", 0)
        self.after_write: Callable[[], None] = lambda: None
        self.before_answer: Callable[[web.Request], Any] = lambda request: None
        self.requests: list[str] = []
        self.loses_answers_to = ""
        """A method: its requests are carried out, and their answers never arrive."""
        self.token = TOKEN
        self.url = ""
        self.trust: dict[str, str] = {}
        self._versions = count(1)

    # --- for tests and controllers

    def create(self, plural: str, body: Mapping[str, Any]) -> dict[str, Any]:
        made = deepcopy(dict(body))
        api_version, kind = KINDS[plural]
        number = next(self._versions)
        metadata = made["metadata"]
        metadata.setdefault("namespace", "default")
        metadata.update(uid=str(UUID(int=number)), resourceVersion=str(number), generation=1, creationTimestamp=now())
        made.update(apiVersion=api_version, kind=kind)
        key = (plural, metadata["namespace"], metadata["name"])
        if key in self.objects:
            raise Refused(409, "AlreadyExists", f'{plural} "{metadata["name"]}" already exists')
        self.objects[key] = made
        return made

    def all(self, plural: str, namespace: str = "") -> list[dict[str, Any]]:
        return [each for key, each in sorted(self.objects.items()) if key[0] == plural and namespace in ("", key[1])]

    def get(self, plural: str, namespace: str, name: str) -> dict[str, Any]:
        try:
            return self.objects[plural, namespace, name]
        except KeyError:
            raise Refused(404, "NotFound", f'{plural} "{name}" not found') from None

    def touch(self, told: dict[str, Any], before: Mapping[str, Any] | None = None) -> None:
        """A new version; a new generation too, if the spec is another."""
        told["metadata"]["resourceVersion"] = str(next(self._versions))
        if before is not None and told.get("spec") != before.get("spec"):
            told["metadata"]["generation"] += 1

    def remove(self, plural: str, namespace: str, name: str) -> None:
        del self.objects[plural, namespace, name]

    # --- HTTP

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path_qs}")
        found = PATH.fullmatch(request.path)
        try:
            if request.headers.get("Authorization") != f"Bearer {self.token}":
                raise Refused(401, "Unauthorized", "Unauthorized")
            if answer := self.before_answer(request):
                return await answer
            if told := discovered(request.path, KINDS):
                return web.json_response(told)
            if found is None:
                raise Refused(404, "NotFound", "the server could not find the requested resource")
            body = json.loads(await request.read() or b"null")
            answer = await self._answer(request, found, body)
            if request.method == self.loses_answers_to and "/status" not in request.path:
                request.transport.close()
            return answer
        except Refused as refused:
            headers = {"Retry-After": "7"} if refused.body["code"] == 429 else {}
            return web.json_response(refused.body, status=refused.body["code"], headers=headers)

    async def _answer(self, request: web.Request, found: re.Match[str], body: Any) -> web.StreamResponse:
        plural, namespace, name, subresource = (found[each] or "" for each in ("plural", "namespace", "name", "subresource"))
        verb = {"GET": "get" if name else "list", "POST": "create", "PATCH": "patch", "DELETE": "delete"}[request.method]
        if plural == "selfsubjectaccessreviews":
            return web.json_response(self._reviewed(body), status=201)
        if f"{verb} {plural}{subresource and '/' + subresource}" in self.forbidden:
            raise Refused(403, "Forbidden", f"{plural}{subresource and '/' + subresource} is forbidden: cannot {verb}")
        if found["group"] == "metrics.k8s.io/v1beta1":
            return self._measured()
        if plural not in KINDS or KINDS[plural][0] != (found["core"] or found["group"]):
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        if subresource == "log":
            self.get(plural, namespace, name)
            text = self.logs.get((name, "previous" in request.query), "")
            return web.Response(text="".join(text.splitlines(keepends=True)[-int(request.query["tailLines"]) :]))
        if subresource == "exec":
            return await self._executed(request)
        match verb:
            case "list":
                return web.json_response(self._listed(plural, namespace, request.query))
            case "get":
                return web.json_response(_scale_of(self.get(plural, namespace, name), subresource))
            case "patch":
                answer = self._patched(self.get(plural, namespace, name), body, request.content_type, subresource)
            case "create" if subresource == "eviction":
                self._evicted(namespace, name, body)
                answer = {"kind": "Status", "status": "Success", "code": 201}
            case "create":
                answer = self.create(plural, {**body, "metadata": {**body["metadata"], "namespace": namespace}})
            case _:
                answer = self._deleted(plural, namespace, name, body or {})
        self.after_write()
        return web.json_response(answer, status=201 if verb == "create" else 200)

    def _listed(self, plural: str, namespace: str, query: Mapping[str, str]) -> dict[str, Any]:
        labels, fields = query.get("labelSelector", ""), query.get("fieldSelector", "")
        found = [
            each
            for each in self.all(plural, namespace)
            if fits_labels(each["metadata"].get("labels") or {}, labels) and _fits_fields(each, fields)
        ]
        begin, limit = int(query.get("continue") or 0), int(query.get("limit") or 0) or len(found)
        more = {"continue": str(begin + limit)} if begin + limit < len(found) else {}
        api_version, kind = KINDS[plural]
        page = found[begin : begin + limit]
        return {"apiVersion": api_version, "kind": f"{kind}List", "metadata": {"resourceVersion": "1", **more}, "items": page}

    def _patched(self, told: dict[str, Any], body: Any, content_type: str, subresource: str) -> dict[str, Any]:
        before = deepcopy(told)
        match content_type:
            case "application/merge-patch+json" | "application/strategic-merge-patch+json":
                after = merged(told, body)
            case "application/json-patch+json":
                after = patched(told, body)
            case _:
                raise Refused(415, "UnsupportedMediaType", f"the body of the request was in an unknown format: {content_type}")
        if after["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]:
            raise Refused(409, "Conflict", "the object has been modified; please apply your changes to the latest version")
        kept = {"status": ("spec", "metadata"), "scale": ("status", "metadata"), "": ("status",)}[subresource]
        told.update({key: after[key] for key in after if key not in kept})
        self.touch(told, before)
        return _scale_of(told, subresource)

    def _evicted(self, namespace: str, name: str, body: Mapping[str, Any]) -> None:
        pod = self.get("pods", namespace, name)
        for budget in self.all("poddisruptionbudgets", namespace):
            labels = budget["spec"]["selector"]["matchLabels"]
            if labels.items() <= pod["metadata"]["labels"].items() and budget["status"]["disruptionsAllowed"] == 0:
                cause = {"reason": "DisruptionBudget", "message": "The disruption budget needs 1 healthy pods and has 1"}
                message = "Cannot evict pod as it would violate the pod's disruption budget."
                raise Refused(429, "TooManyRequests", message, details={"causes": [cause]})
        self._deleted("pods", namespace, name, body.get("deleteOptions") or {})

    def _deleted(self, plural: str, namespace: str, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        told = self.get(plural, namespace, name)
        uid = (options.get("preconditions") or {}).get("uid", told["metadata"]["uid"])
        if uid != told["metadata"]["uid"]:
            raise Refused(409, "Conflict", f"the UID in the precondition ({uid}) does not match the UID in record")
        if plural == "pods" and told["spec"].get("nodeName") and options.get("gracePeriodSeconds") != 0:
            told["metadata"]["deletionTimestamp"] = now()
            self.touch(told)
        else:
            self.remove(plural, namespace, name)
        return told

    def _reviewed(self, body: Mapping[str, Any]) -> dict[str, Any]:
        asked = body["spec"]["resourceAttributes"]
        resource = asked["resource"] + (f"/{asked['subresource']}" if asked.get("subresource") else "")
        return {**body, "status": {"allowed": f"{asked['verb']} {resource}" not in self.forbidden}}

    def _measured(self) -> web.Response:
        if self.metrics is None:
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        return web.json_response({"metadata": {}, "items": self.metrics})

    async def _executed(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=("v4.channel.k8s.io",))
        await socket.prepare(request)
        output, code = self.commands(request.query.getall("command"))
        await socket.send_bytes(b"\x01" + output[:3])
        await socket.send_bytes(b"\x02" + output[3:])
        if code is not None:
            causes = [{"reason": "ExitCode", "message": str(code)}]
            failed = {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}}
            await socket.send_bytes(b"\x03" + json.dumps({"status": "Success"} if code == 0 else failed).encode())
        await socket.close()
        return socket

    def kubeconfig(self, path: Path) -> Path:
        """How to reach it, as a file."""
        configuration = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "fake", "cluster": {"server": self.url} | self.trust}],
            "users": [{"name": "remediator", "user": {"token": TOKEN}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "remediator"}}],
            "current-context": "fake",
        }
        path.write_text(yaml.safe_dump(configuration))
        return path


@asynccontextmanager
async def fake_cluster(certificate: Path | None = None) -> AsyncIterator[FakeCluster]:
    """A cluster that listens on loopback until the block ends; with a `certificate`, that of loopback, by TLS."""
    cluster = FakeCluster()
    security = None
    if certificate is not None:
        security = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        security.load_cert_chain(certificate)
        cluster.trust = {"certificate-authority": str(certificate)}
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", cluster.handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=security).start()
    host, port = runner.addresses[0][:2]
    cluster.url = f"{'https' if security else 'http'}://{host}:{port}"
    try:
        yield cluster
    finally:
        await runner.cleanup()


def _scale_of(told: dict[str, Any], subresource: str) -> dict[str, Any]:
    if subresource != "scale":
        return told
    numbers = {"spec": {"replicas": told["spec"]["replicas"]}, "status": {"replicas": told["status"]["replicas"]}}
    return {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": told["metadata"], **numbers}


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def merged(told: Any, change: Any) -> Any:
    """RFC 7386. A strategic merge is the same where no lists are merged."""
    if not isinstance(change, dict):
        return deepcopy(change)
    result = dict(told) if isinstance(told, dict) else {}
    for key, value in change.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def patched(told: Any, operations: list[dict[str, Any]]) -> Any:
    """RFC 6902: add, replace, remove and test, of members of objects."""
    result = deepcopy(told)
    for operation in operations:
        *parents, last = operation["path"].lstrip("/").split("/")
        place = result
        for each in parents:
            place = place[each]
        if operation["op"] in ("replace", "remove", "test") and last not in place:
            raise Refused(
                422, "Invalid", f"{operation['op']} operation does not apply: doc is missing key: {operation['path']}"
            )
        match operation["op"]:
            case "test" if place[last] != operation["value"]:
                raise Refused(422, "Invalid", f"testing value {operation['path']} failed")
            case "remove":
                del place[last]
            case "add" | "replace":
                place[last] = deepcopy(operation["value"])
    return result


def fits_labels(labels: Mapping[str, str], selector: str) -> bool:
    """Equality, `in`, `notin`, presence and absence."""
    for requirement in re.findall(r"[^,(]+(?:\([^)]*\))?", selector):
        if within := re.fullmatch(r"(\S+) (in|notin) \(([^)]*)\)", requirement):
            if (labels.get(within[1]) in within[3].split(",")) is not (within[2] == "in"):
                return False
        elif "=" in requirement:
            key, value = re.split("==?", requirement)
            if labels.get(key) != value:
                return False
        elif (requirement.lstrip("!") in labels) is requirement.startswith("!"):
            return False
    return True


def _fits_fields(told: Mapping[str, Any], selector: str) -> bool:
    for field, value in (each.split("=") for each in selector.split(",") if each):
        place: Any = told
        for key in field.split("."):
            place = place.get(key, {})
        if place != value:
            return False
    return True
