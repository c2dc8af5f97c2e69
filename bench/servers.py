"""Servers in processes of their own, each ended with its block, and what the system says about them."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.messages import TOKEN

START_SECONDS_MAX = 20.0
STOP_SECONDS_MAX = 10.0
POLL_SECONDS = 0.002


class Server:
    """A started process that said on which port it listens."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, started_in: float) -> None:
        self._process = process
        self.port = port
        self.started_in = started_in
        """Seconds from the start of the process until it listened."""

    @property
    def resident_mb(self) -> float:
        return self._status("VmRSS")

    @property
    def resident_mb_max(self) -> float:
        """The most that it ever was."""
        return self._status("VmHWM")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Stopped for the length of the block, so that its background work does not slow down what is measured there."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def _status(self, field: str) -> float:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(f"{field}:"))


@contextmanager
def running(command: list[str], directory: Path, environment: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Start `python -m COMMAND`, which writes JSON lines, and wait for the one that has a port. Killed at the end."""
    log = directory / "log"
    environment = {**_clean_environment(), "PYTHONUNBUFFERED": "1", **(environment or {})}
    with log.open("wb") as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", *command], stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
        )
    try:
        port = _port(process, log, began + START_SECONDS_MAX)
        yield Server(process, port, time.perf_counter() - began)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait(STOP_SECONDS_MAX)


@contextmanager
def remediator(directory: Path, program: str = "remediator", store: str = "") -> Iterator[Server]:
    """`remediator serve` as it is run in production: authenticated, mode auto, JSON logs; without a Docker engine.

    `store` is the address of another store than the directory's own.
    """
    token = directory / "token"
    token.write_text(TOKEN)
    configured = directory / "remediator.yaml"
    configured.write_text("docker_url: ''\n")  # an empty variable would count as none
    environment = {
        "REMEDIATOR_MODE": "auto",
        "REMEDIATOR_LISTEN": "127.0.0.1:0",
        "REMEDIATOR_STORE": store or f"sqlite:///{database(directory)}",
        "REMEDIATOR_PLAYBOOKS": str(Path(__file__).parent.parent / "playbooks"),
        "REMEDIATOR_WEBHOOK_TOKEN_FILE": str(token),
        "REMEDIATOR_LOG_FORMAT": "json",
        "REMEDIATOR_CONFIG": str(configured),
    }
    with running([program, "serve"], directory, environment) as server:
        yield server


def database(directory: Path) -> Path:
    """Where the remediator of this directory keeps its database."""
    return directory / "remediator.db"


def backlog_is_empty(directory: Path) -> bool:
    """Whether every message has been expanded."""
    return count(directory, "inbox") == 0


def count(directory: Path, what: str) -> int:
    """How many rows there are of `what`, a table and perhaps a condition. Reads beside the server, and writes nothing."""
    connection = sqlite3.connect(f"file:{database(directory)}?mode=ro", uri=True, timeout=5.0)
    try:
        return int(connection.execute(f"SELECT count(*) FROM {what}").fetchone()[0])
    finally:
        connection.close()


def _clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("REMEDIATOR_")}


def _port(process: "subprocess.Popen[bytes]", log: Path, deadline: float) -> int:
    while time.perf_counter() < deadline and process.poll() is None:
        for line in log.read_bytes().splitlines():
            if line.endswith(b"}") and b'"port"' in line:
                return int(json.loads(line)["port"])
        time.sleep(POLL_SECONDS)
    raise RuntimeError(f"{process.args!r} did not start:\n{log.read_text(errors='replace')[-2000:]}")
