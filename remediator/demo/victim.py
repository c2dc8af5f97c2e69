"""The small service that is broken and repaired: as a container, or as a process where there is no Docker engine."""

import asyncio
import io
import os
import signal
import sys
import tarfile
import uuid
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from remediator.demo.stage import Stage, free_port

SERVICE = "demo-api"
DOCKER_URL = "unix:///var/run/docker.sock"
BUSYBOX = (Path("/bin/busybox"), Path("/usr/bin/busybox"))
IMAGE = "remediator-demo:1"
PULLED = "busybox:stable"
HEALTH_PAGE = "healthy\n"
METRICS_PAGE = "# TYPE demo_up gauge\ndemo_up 1\n"


class Victim(Protocol):
    """A service with a health page, `/health`, and something for Prometheus to scrape, `/metrics`."""

    what: str
    service: str
    """What its alert calls it. On a shared engine no other demo's is called so."""
    url: str
    removal: str
    """The command that removes it."""

    def break_it(self) -> str:
        """Break it; the command that did."""
        ...

    def settings(self) -> dict[str, Any]:
        """What remediator's configuration file needs to say about it."""
        ...


class ContainerVictim:
    """A container that serves two files with BusyBox's httpd. It has opted in by its label."""

    def __init__(self, stage: Stage, docker_url: str) -> None:
        from remediator.platforms.docker_engine import DockerEngine

        self._engine = DockerEngine(docker_url, threads=1, timeout=timedelta(seconds=60))
        self.name = f"{SERVICE}-{uuid.uuid4().hex[:6]}"  # noqa: TID251 - a name on a shared engine, not a run's id
        self.service = self.name
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        image = self._call(_find_or_make_image)
        self._call(lambda client: self._run(client, image))
        stage.clean_ups.append(self._remove)
        self.what = f"container {self.name}"
        self.removal = f"docker rm -f {self.name}"

    def break_it(self) -> str:
        self._call(lambda client: client.kill(self.name))
        return f"docker kill {self.name}"

    def settings(self) -> dict[str, Any]:
        return {"docker_url": self._engine.url}

    def _run(self, client: Any, image: str) -> None:
        pages = f"mkdir -p /www && printf '{HEALTH_PAGE}' >/www/health && printf '{METRICS_PAGE}' >/www/metrics"
        client.create_container(
            image,
            ["sh", "-c", f"{pages} && exec httpd -f -p 8080 -h /www".replace("\n", "\\n")],
            name=self.name,
            ports=[8080],
            labels={"remediator.io/service": self.service, "remediator.io/allow": "restart"},
            host_config=client.create_host_config(port_bindings={8080: ("127.0.0.1", self._port)}),
        )
        client.start(self.name)

    def _remove(self) -> None:
        self._call(lambda client: client.remove_container(self.name, force=True))
        self._engine.close()

    def _call(self, work: Any) -> Any:
        return asyncio.run(self._engine.write(work))


class ProcessVictim:
    """A process that a command platform's `restart` starts again, as systemd would."""

    def __init__(self, stage: Stage) -> None:
        self._control = [sys.executable, "-m", "remediator.demo.process", str(stage.directory / "service"), str(free_port())]
        self._pid_file = stage.directory / "service" / "pid"
        self.url = f"http://127.0.0.1:{self._control[-1]}"
        self.what = "a process under the command platform"
        self.service = SERVICE
        self.removal = f"kill $(cat {self._pid_file})"
        stage.start("service-starter", [*self._control, "restart"])
        stage.processes.pop("service-starter").wait(10)
        stage.clean_ups.append(self._kill)

    def break_it(self) -> str:
        command = f"kill -9 {self._pid_file.read_text()}"
        self._kill()
        return command

    def settings(self) -> dict[str, Any]:
        verbs = {verb: [*self._control, verb] for verb in ("restart", "status", "identity", "logs")}
        return {"docker_url": "off", "commands": {SERVICE: {"allow": ["restart"], **verbs}}}

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(int(self._pid_file.read_text()), signal.SIGKILL)


def make_victim(stage: Stage) -> Victim:
    """A container if an engine answers and has, or can get, an image; a process otherwise.

    The engine is that of REMEDIATOR_DOCKER_URL, as for `serve`; if that is `off`, there is none.
    """
    docker_url = os.environ.get("REMEDIATOR_DOCKER_URL") or DOCKER_URL
    if docker_url != "off" and _may_answer(docker_url):
        from remediator.ports import PortError

        try:
            return ContainerVictim(stage, docker_url)
        except PortError as error:
            print(f"  no container ({error}); taking a process instead")
    return ProcessVictim(stage)


def _may_answer(docker_url: str) -> bool:
    """Whether it is worth asking: a socket that is not there goes without saying."""
    return not docker_url.startswith("unix://") or Path(docker_url.removeprefix("unix://")).exists()


def _find_or_make_image(client: Any) -> str:
    """The demo's own image if it is there, else one made of a static BusyBox of this machine, else a pulled one."""
    for name in (IMAGE, PULLED):
        if client.images(name=name, quiet=True):
            return name
    busybox = next((path for path in BUSYBOX if path.exists() and _is_static(path)), None)
    if busybox is None:
        repository, _, tag = PULLED.partition(":")
        client.pull(repository, tag=tag)
        return PULLED
    repository, _, tag = IMAGE.partition(":")
    client.import_image_from_data(_tree(busybox), repository=repository, tag=tag)
    return IMAGE


def _tree(busybox: Path) -> bytes:
    """A root file system of one program under the names that the demo needs."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tree:
        tree.add(busybox.resolve(), "bin/busybox")
        for name in ("sh", "httpd", "mkdir", "printf"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tree.addfile(link)
    return packed.getvalue()


def _is_static(program: Path) -> bool:
    """A dynamically linked ELF names its interpreter in the first kilobytes."""
    with program.open("rb") as opened:
        return b"/ld-" not in opened.read(4096)
