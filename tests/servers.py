"""Real servers for tests, each on a free loopback port and in a temporary directory of its own, ended with the block.

A server that is not installed skips the test with the reason; with CI=true it fails it, so that nothing is missed quietly.
"""

import asyncio
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from signal import SIGINT, SIGQUIT, SIGTERM, Signals

import psycopg
import pytest

START_DEADLINE_S = 30.0
STOP_DEADLINE_S = 10.0
EVENTUALLY_S = 20.0
SCRAPE_NOTHING = "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
LOSE_EVERYTHING = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"


@contextmanager
def redis_server(*arguments: str, port: int = 0) -> Iterator[str]:
    """A Redis without persistence; `arguments` are its own, as `--maxmemory`, `1mb`. Yields `redis://127.0.0.1:PORT/0`."""
    binary = _installed("redis-server")
    port = port or free_port()
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", *arguments]
    with directory() as home, running(command, home, lambda: accepts(port)):
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def postgres_server(max_connections: int = 12, **settings: str) -> Iterator[str]:
    """A PostgreSQL that trusts everybody on loopback. Yields the address of its superuser `postgres`.

    It refuses to run as root: then it runs as the user `postgres`. It does not sync, unless `settings` say otherwise.
    """
    with _postgres_installed(max_connections, **settings) as postgres:
        postgres.start(SIGINT)
        try:
            yield postgres.address
        finally:
            postgres.end()


@contextmanager
def crashing_postgres() -> Iterator["Postgres"]:
    """A PostgreSQL as `postgres_server` has it, to be started, crashed and started again by the test."""
    with _postgres_installed(max_connections=60) as postgres:
        postgres.start(SIGQUIT)
        try:
            yield postgres
        finally:
            postgres.end()


class Postgres:
    """A PostgreSQL with its data, at an address that stays the same however often it ends and starts."""

    def __init__(self, command: list[str], home: Path, address: str) -> None:
        self.address = address
        self._command, self._home = command, home
        self._life = ExitStack()

    def start(self, stop: Signals = SIGQUIT) -> None:
        """Start, and wait until it lets somebody in. At SIGQUIT it drops everything, and replays its log at the next start."""
        self._life.enter_context(running(self._command, self._home, lambda: _lets_in(self.address), stop))

    def end(self) -> None:
        """As `start` was told, at once: with SIGQUIT, what was not committed is gone, and nobody is told goodbye."""
        self._life.close()


@contextmanager
def _postgres_installed(max_connections: int, **settings: str) -> Iterator[Postgres]:
    # Debian keeps the server's programs off the PATH.
    binaries = Path(_installed("postgres", "/usr/lib/postgresql/*/bin/postgres", "/usr/libexec/postgresql*/postgres")).parent
    port = free_port()
    with directory("postgres" if os.geteuid() == 0 else None) as home:
        data = str(home / "data")
        init = [str(binaries / "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "--no-sync", "--no-locale", "-E", "UTF8"]
        subprocess.run(init, check=True, capture_output=True, cwd=home, user=_owner(home))
        own = {"listen_addresses": "127.0.0.1", "port": port, "max_connections": max_connections, "fsync": "off"}
        command = [str(binaries / "postgres"), "-D", data, "-k", str(home)]
        command += [argument for name, value in (own | settings).items() for argument in ("-c", f"{name}={value}")]
        yield Postgres(command, home, f"postgresql://postgres@127.0.0.1:{port}/postgres")


@contextmanager
def prometheus_server(config: str = SCRAPE_NOTHING, rules: str = "") -> Iterator[str]:
    """A Prometheus with this configuration, and these rules if any. Yields its URL."""
    binary = _installed("prometheus")
    port = free_port()
    with directory() as home:
        (home / "rules.yml").write_text(rules or "groups: []\n")
        (home / "prometheus.yml").write_text(config + "\nrule_files: [rules.yml]\n")
        command = [binary, f"--config.file={home}/prometheus.yml", f"--storage.tsdb.path={home}/data", "--log.level=warn"]
        command.append(f"--web.listen-address=127.0.0.1:{port}")
        with running(command, home, lambda: is_ready(f"http://127.0.0.1:{port}/-/ready")):
            yield f"http://127.0.0.1:{port}"


@contextmanager
def alertmanager_server(config: str = LOSE_EVERYTHING, port: int = 0) -> Iterator[str]:
    """An Alertmanager with this configuration, without peers. Yields its URL."""
    binary = _installed("alertmanager", "prometheus-alertmanager")
    port = port or free_port()
    with directory() as home:
        (home / "alertmanager.yml").write_text(config)
        command = [binary, f"--config.file={home}/alertmanager.yml", f"--storage.path={home}/data", "--cluster.listen-address="]
        command.append(f"--web.listen-address=127.0.0.1:{port}")
        with running(command, home, lambda: is_ready(f"http://127.0.0.1:{port}/-/ready")):
            yield f"http://127.0.0.1:{port}"


def amtool(url: str, *arguments: str) -> str:
    """What `amtool ARGUMENTS` prints, asked of the Alertmanager at `url`."""
    command = [_installed("amtool"), f"--alertmanager.url={url}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def eventually(is_so: Callable[[], Awaitable[bool]]) -> None:
    """Ask until it is so. Raises TimeoutError after a deadline that no healthy machine needs."""
    async with asyncio.timeout(EVENTUALLY_S):
        while True:
            if await is_so():
                return
            await asyncio.sleep(0.02)


@contextmanager
def running(command: list[str], home: Path, ready: Callable[[], bool], stop: Signals = SIGTERM) -> Iterator[None]:
    """Start, wait until `ready`, and end this one process, whatever happens in between."""
    log = home / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=home, user=_owner(home))
    try:
        deadline = time.monotonic() + START_DEADLINE_S
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{command[0]} did not start:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)
        yield
    finally:
        process.send_signal(stop)
        try:
            process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def directory(owner: str | None = None) -> Iterator[Path]:
    # Not pytest's: those lie below a directory that another user cannot enter.
    with tempfile.TemporaryDirectory(prefix="remediator-") as path:
        if owner is not None:
            shutil.chown(path, owner)
        yield Path(path)


def _owner(home: Path) -> int | None:
    """Whom to run as: the owner of the server's directory, when that is not who we are."""
    owner = home.stat().st_uid
    return owner if owner != os.geteuid() else None


def _installed(*names: str) -> str:
    """The first of these programs, names on the PATH or patterns of paths, that is there."""
    for name in names:
        found = sorted(Path("/").glob(name.lstrip("/"))) if name.startswith("/") else filter(None, [shutil.which(name)])
        for path in found:
            return str(path)
    reason = f"{names[0]} is not installed"
    raise pytest.fail.Exception(reason) if os.environ.get("CI") == "true" else pytest.skip.Exception(reason)


def accepts(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _lets_in(address: str) -> bool:
    with suppress(psycopg.OperationalError), psycopg.connect(address, connect_timeout=1):
        return True
    return False


def is_ready(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(url, timeout=1) as answer:
        return bool(answer.status == 200)
    return False
