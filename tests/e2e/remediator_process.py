"""A real `python -m remediator serve` with a configuration file in a directory of its own: started, asked, killed, started.

Its port stays the same over restarts, so that an Alertmanager finds it again; its store stays, too.
"""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.servers import free_port

READY_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 60.0
TOKEN = "the-webhook-s-token"
ENDED = frozenset({"suggested", "refused", "cancelled", "succeeded", "escalated"})

Facts = Mapping[str, Any]


class RemediatorProcess:
    """`settings` are written as the configuration file, `playbooks` (by file name, without `.yaml`) beside it."""

    def __init__(self, home: Path, playbooks: Mapping[str, str], **settings: Any) -> None:
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.starts = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._listeners: list[Callable[[str], None]] = []
        self.token_file = home / "webhook-token"
        self.token_file.write_text(TOKEN)
        self._playbooks, self._settings = playbooks, settings

    def configured(self, **settings: Any) -> None:
        """More settings, from the next start on."""
        self._settings |= settings

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        self._configure()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("REMEDIATOR_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "remediator", "serve"],
            cwd=self.home,
            env=environment | {"REMEDIATOR_CONFIG": str(self.home / "remediator.yaml")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self.starts += 1
        self._reader = threading.Thread(target=self._read_log, args=[self._process], daemon=True)
        self._reader.start()
        deadline = monotonic() + READY_SECONDS_MAX
        while not self.is_ready():
            if self._process.poll() is not None or monotonic() > deadline:
                pytest.fail(f"remediator did not start:\n{self.log_text()[-2000:]}")
            sleep(0.02)

    def kill(self) -> None:
        """SIGKILL: nothing is tidied up."""
        self._end(signal.SIGKILL)

    def terminate(self) -> int:
        """SIGTERM; its exit status."""
        return self._end(signal.SIGTERM)

    def suspend(self) -> None:
        """SIGSTOP: it does nothing, and knows nothing of it, until it is woken."""
        self._signal(signal.SIGSTOP)

    def wake(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """End it, however it is, at the end of a test."""
        if self.is_running:
            self.wake()
            self.terminate()

    # --- what it is told

    def post(self, message: bytes) -> int:
        """The status of `POST /webhook`, or 0 if no answer came."""
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/webhook", message, headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except (OSError, ValueError):
            return 0

    def command(self, *arguments: str) -> str:
        """What `remediator ARGUMENTS --url …` prints."""
        done = subprocess.run(
            [sys.executable, "-m", "remediator", *arguments, "--url", self.url], capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    # --- what it tells

    def runs(self) -> Sequence[Facts]:
        """The newest first."""
        runs: list[Facts] = self._json("/api/v1/runs?limit=500")["runs"]
        return runs

    def timeline(self, run: Facts) -> Sequence[Facts]:
        rows: list[Facts] = self._json(f"/api/v1/runs/{run['id']}")["timeline"]
        return rows

    @property
    def resident_mb_max(self) -> float:
        """The most memory that it ever had since its start."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM:"))

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples with these labels; 0 if there is none."""
        families = text_string_to_metric_families(self._text("/metrics"))
        samples = (sample for family in families for sample in family.samples if sample.name == f"remediator_{name}")
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    def run_when(self, what: str, holds: Callable[[Facts], bool], seconds: float) -> Facts:
        """The newest run for which it holds, within so many seconds."""
        deadline = monotonic() + seconds
        while True:
            runs = self.runs()
            found = next((run for run in runs if holds(run)), None)
            if found is not None:
                return found
            if monotonic() > deadline:
                told = "\n".join(f"{row['at']} {row['text']}" for run in runs for row in self.timeline(run))
                states = ", ".join(f"{run['state']} ({run['reason']})" for run in runs) or "none"
                pytest.fail(f"not within {seconds:g}s: {what}; runs: {states}\n{told}\n{self.log_text()[-3000:]}")
            sleep(0.1)

    def ended_run(self, seconds: float = 60.0) -> Facts:
        """The newest run, once it has ended."""
        return self.run_when("a run ended", lambda run: run["state"] in ENDED, seconds)

    def told(self, run: Facts, kind: str) -> Sequence[Facts]:
        """The facts of the rows of this kind in the run's timeline."""
        return [row["data"] for row in self.timeline(run) if row["kind"] == kind]

    def ledger(self, query: str) -> Sequence[sqlite3.Row]:
        """Ask its database itself, without writing: what no address of it tells, and what it left when it was killed."""
        with closing(sqlite3.connect(f"file:{self.home}/remediator.db?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            return connection.execute(query).fetchall()

    @property
    def replica(self) -> str:
        """What it calls itself in the store since its last start: the owner of its leases."""
        ready = [line for line in self.log_text().splitlines() if '"remediator.ready"' in line]
        return str(json.loads(ready[-1])["replica"])

    def log_text(self) -> str:
        """Everything that it logged, over all of its starts."""
        path = self.home / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    @contextmanager
    def listening(self, listener: Callable[[str], None]) -> Iterator[None]:
        """Call `listener` with each line of its log as soon as it is written."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    def _configure(self) -> None:
        directory = self.home / "playbooks"
        directory.mkdir(exist_ok=True)
        for name, text in self._playbooks.items():
            (directory / f"{name}.yaml").write_text(text)
        settings = {
            "mode": "auto",
            "listen": f"127.0.0.1:{self.port}",
            "store": f"sqlite:///{self.home}/remediator.db",
            "playbooks": str(directory),
            "webhook_token_file": str(self.token_file),
            "log_format": "json",
        }
        (self.home / "remediator.yaml").write_text(yaml.safe_dump(settings | self._settings))

    def _read_log(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stderr is not None
        with process.stderr, (self.home / "log").open("ab", buffering=0) as log:
            for line in process.stderr:
                for listener in tuple(self._listeners):
                    listener(line.decode(errors="replace"))
                log.write(line)

    def _signal(self, which: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(which)

    def _end(self, how: signal.Signals) -> int:
        self._signal(how)
        assert self._process is not None
        try:
            status = self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            pytest.fail(f"remediator did not end within {STOP_SECONDS_MAX:g}s of {how.name}")
        if self._reader is not None and self._reader is not threading.current_thread():
            self._reader.join()
        return status

    def is_ready(self) -> bool:
        try:
            return self._text("/-/ready") == "ready\n"
        except OSError:
            return False

    def _json(self, path: str) -> Any:
        return json.loads(self._text(path))

    def _text(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            return str(answer.read().decode())


@contextmanager
def remediator_process(home: Path, playbooks: Mapping[str, str], **settings: Any) -> Iterator[RemediatorProcess]:
    """One that is not started yet, and is ended with the block."""
    process = RemediatorProcess(home, playbooks, **settings)
    try:
        yield process
    finally:
        process.stop()
