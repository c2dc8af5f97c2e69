"""The Docker engine of the tests, and tiny images for it, built from the static busybox of this machine: nothing is pulled.

An engine that cannot be reached skips the test with the reason; with CI=true it fails it, so that nothing is missed quietly.
"""

import io
import json
import os
import socket
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from uuid import uuid4

import docker
import pytest
from docker.errors import DockerException, ImageNotFound, NotFound

REPOSITORY = "remediator-test/web"
CONTENT = "remediator.io/test-content"
COMMANDS = (
    "sh",
    "httpd",
    "sleep",
    "echo",
    "cat",
    "rm",
    "touch",
    "test",
    "true",
    "false",
    "df",
    "ls",
    "env",
    "wget",
    "kill",
    "id",
)

# A shell as process 1 that ends at SIGTERM: httpd itself would wait out the whole grace of a stop.
SERVE = 'trap "exit 0" TERM; echo "web $VERSION serves"; httpd -f -p 8080 -h /www & wait $!'
"""Answers `GET :8080/health` with 200, and `/version` with its version."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One image: its start command, what `docker import --change` says beside it, and what `/version` answers."""

    cmd: Sequence[str]
    version: str
    changes: Sequence[str] = ()


RECIPES: Mapping[str, Recipe] = {
    "good": Recipe(("sh", "-c", SERVE), "good"),
    "v1": Recipe(("sh", "-c", SERVE), "1", ("ENV ONLY_IN_V1=yes", "LABEL release=one", "WORKDIR /www")),
    "v2": Recipe(("sh", "-c", SERVE), "2", ("ENV ONLY_IN_V2=yes", "LABEL release=two", "VOLUME /data")),
    "broken": Recipe(("sh", "-c", "echo cannot start: no configuration; exit 3"), "broken"),
}


def engine_url() -> str:
    return os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")


@contextmanager
def docker_client() -> Iterator[docker.APIClient]:
    """A client of the tests' own, beside the one that is tested."""
    try:
        _knock()
        client = docker.APIClient(base_url=engine_url(), version="auto", timeout=30)
    except (DockerException, OSError) as error:
        reason = f"no Docker engine at {engine_url()}: {error}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    try:
        yield client
    finally:
        client.close()


def _knock() -> None:
    """Raises OSError if nobody listens. docker-py would then leave its socket unclosed, which pytest counts as an error."""
    if engine_url().startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as door:
            door.connect(engine_url().removeprefix("unix://"))


def image(client: docker.APIClient, tag: str) -> str:
    """The reference of one of RECIPES, built unless this very content has that tag already."""
    recipe = RECIPES[tag]
    reference = f"{REPOSITORY}:{tag}"
    data = _file_system(recipe)
    changes = [
        f"CMD {json.dumps(recipe.cmd)}",
        f"ENV VERSION={recipe.version}",
        "ENV PATH=/bin",
        "EXPOSE 8080",
        *recipe.changes,
    ]
    content = sha256(data + "\n".join(changes).encode()).hexdigest()
    try:
        config: Mapping[str, Any] = client.inspect_image(reference)["Config"]  # type: ignore[no-untyped-call]
    except ImageNotFound:
        config = {}
    if (config.get("Labels") or {}).get(CONTENT) != content:
        client.import_image_from_data(data, repository=REPOSITORY, tag=tag, changes=[*changes, f"LABEL {CONTENT}={content}"])
    return reference


def image_id(client: docker.APIClient, tag: str) -> str:
    return str(client.inspect_image(image(client, tag))["Id"])  # type: ignore[no-untyped-call]


def _file_system(recipe: Recipe) -> bytes:
    busybox = next((path for path in map(Path, ("/bin/busybox", "/usr/bin/busybox")) if path.exists()), None)
    if busybox is None:
        pytest.fail("tests with Docker need a static busybox (Debian: busybox-static)")
    files = {"bin/busybox": busybox.read_bytes(), "www/health": b"ok\n", "www/version": recipe.version.encode()}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
        for command in COMMANDS:
            entry = tarfile.TarInfo(f"bin/{command}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(entry)
        for directory in ("tmp", "data"):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o777
            archive.addfile(entry)
    return packed.getvalue()


class Containers:
    """The containers, networks and volumes of one test, all of which bear its label: a recreated container keeps it."""

    def __init__(self, client: docker.APIClient) -> None:
        self.client = client
        self.unique = f"rt-{uuid4().hex[:10]}"
        self.label = f"remediator-test={self.unique}"
        self.volumes: set[str] = set()

    def name(self, name: str) -> str:
        return f"{self.unique}-{name}"

    def run(self, name: str, tag: str = "good", start: bool = True, host: Mapping[str, Any] | None = None, **body: Any) -> str:
        """Create and start a container with this body of `POST /containers/create`; its id."""
        labels = {"remediator-test": self.unique} | body.pop("Labels", {})
        config = {"Image": image(self.client, tag), "Labels": labels, "HostConfig": dict(host or {}), **body}
        created = str(self.client.create_container_from_config(config, self.name(name))["Id"])  # type: ignore[no-untyped-call]
        if start:
            self.client.start(created)
        self.volumes |= {mount["Name"] for mount in self.told(created)["Mounts"] if mount["Type"] == "volume"}
        return created

    def network(self, name: str, subnet: str = "") -> str:
        """A network of the test's own; its name."""
        ipam = docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet=subnet)]) if subnet else None
        self.client.create_network(self.name(name), labels={"remediator-test": self.unique}, ipam=ipam)
        return self.name(name)

    def told(self, container: str) -> Mapping[str, Any]:
        told: Mapping[str, Any] = self.client.inspect_container(container)
        return told

    def all_names(self) -> set[str]:
        found = self.client.containers(all=True, filters={"label": self.label})
        return {name.removeprefix("/") for summary in found for name in summary["Names"]}

    def remove_all(self) -> None:
        for summary in self.client.containers(all=True, filters={"label": self.label}):
            with suppress(NotFound):
                self.client.remove_container(summary["Id"], force=True, v=True)
        for network in self.client.networks(filters={"label": self.label}):
            self.client.remove_network(network["Id"])
        for volume in self.volumes:
            with suppress(NotFound):
                self.client.remove_volume(volume)


@contextmanager
def own_containers() -> Iterator[Containers]:
    """An empty place on the engine, and empty again afterwards."""
    with docker_client() as client:
        containers = Containers(client)
        try:
            yield containers
        finally:
            containers.remove_all()


def eventually(holds: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Poll until it holds; fail with `what` was waited for."""
    ends_at = monotonic() + seconds
    while not holds():
        if monotonic() > ends_at:
            pytest.fail(f"not within {seconds:g}s: {what}")
        sleep(0.05)
