"""The container image, built and run as an operator would: non-root, only /data is written, healthy, stops when asked."""

import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).parents[2]
BASE = "remediator-test/base:bookworm"
BASE_PYTHON = "3.11"
QUICK_HEALTH_CHECK = ("--health-interval", "1s")
HARDENED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]


def command(*arguments: str | Path, **environment: str) -> str:
    done = subprocess.run(arguments, capture_output=True, text=True, env=os.environ | environment)
    assert done.returncode == 0, f"{' '.join(map(str, arguments))}\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


def docker(*arguments: str | Path) -> str:
    return command("docker", *arguments, DOCKER_BUILDKIT="0")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Built without a registry or an index: from a base made here, and wheels downloaded by this machine's pip."""
    if os.environ.get("CI") != "true":
        if missing := [tool for tool in ("docker", "debootstrap") if shutil.which(tool) is None]:
            pytest.skip(f"{' and '.join(missing)} not installed")
        if subprocess.run(["docker", "version"], capture_output=True).returncode != 0:
            pytest.skip("no Docker engine answers")
        if os.geteuid() != 0:
            pytest.skip("debootstrap needs root")
    command(Path(__file__).parent / "base_image.sh", BASE)
    context = tmp_path_factory.mktemp("context")
    for name in ("Dockerfile", ".dockerignore", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, context)
    for name in ("requirements", "playbooks", "remediator"):
        shutil.copytree(ROOT / name, context / name)
    download_wheels(context / "wheelhouse", tmp_path_factory.mktemp("lock") / "lock.txt")
    name = f"remediator-test/image:{uuid.uuid4().hex[:8]}"
    build = ("build", "--quiet", "--network", "none", "--build-arg", f"PYTHON_IMAGE={BASE}")
    docker(*build, "--target", "build", "--tag", f"{name}-build", context)  # named, so that it can be removed
    docker(*build, "--tag", name, context)
    yield name
    docker("image", "rm", "--force", name, f"{name}-build")


def download_wheels(wheelhouse: Path, lock: Path) -> None:
    """Wheels for the base's Python. pip reads markers for the Python that it runs on, so those on the version are taken out."""
    locked = "\n".join((ROOT / f"requirements/{name}.txt").read_text() for name in ("run", "build"))
    lock.write_text(re.sub(r" ; python_full_version [^\\\n]*", " ", locked))
    command(sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--no-deps", "--only-binary=:all:",
            "--python-version", BASE_PYTHON, "--dest", wheelhouse, "-r", lock)  # fmt: skip


@pytest.fixture
def container(image: str) -> Iterator[Callable[..., str]]:
    """Starts hardened containers; removes them and their volumes."""
    started: list[str] = []

    def start(*options: str) -> str:
        started.append(docker("run", "--detach", *HARDENED, *QUICK_HEALTH_CHECK, *options, image))
        return started[-1]

    yield start
    for each in started:
        docker("rm", "--force", "--volumes", each)


def until_healthy(container: str, seconds_max: float = 40) -> None:
    deadline = time.monotonic() + seconds_max
    look = ("inspect", "--format", "{{.State.Status}}, {{.State.Health.Status}}", container)
    while (state := docker(*look)) != "running, healthy":
        waiting = state.startswith("running") and time.monotonic() < deadline
        assert waiting, state + "\n" + command("sh", "-c", f"docker logs {container} 2>&1")
        time.sleep(0.5)


def test_serves_on_a_read_only_file_system_as_nobody_in_particular(container):
    running = container("--publish", "127.0.0.1::9595")
    until_healthy(running)
    address = docker("port", running, "9595").splitlines()[0]
    with urlopen(f"http://{address}/-/healthy", timeout=5) as answer:
        assert answer.status == 200
    assert docker("exec", running, "id", "-u") == "65532"
    assert docker("diff", running) == ""
    assert "remediator.db" in docker("exec", running, "ls", "/data")


def test_the_health_check_follows_the_listen_address(container):
    until_healthy(container("--env", "REMEDIATOR_LISTEN=127.0.0.1:9600"))


def test_stops_by_itself_when_asked(container):
    running = container()
    until_healthy(running)
    docker("stop", "--time", "30", running)
    assert docker("inspect", "--format", "{{.State.ExitCode}}", running) == "0"


def test_its_own_playbooks_pass_its_own_check(image):
    docker("run", "--rm", *HARDENED, image, "check")


def test_is_small_and_carries_no_package_installer(image):
    whole, base = (int(docker("image", "inspect", "--format", "{{.Size}}", name)) for name in (image, BASE))
    added = whole - base
    print(f"image: {added / 1e6:.0f} MB over its base")
    assert added < 150e6  # 37 MB of it are the client of Kubernetes
    assert docker("run", "--rm", "--entrypoint", "find", image, "/opt/remediator", "-path", "*site-packages/pip*") == ""
