"""The processes of the demo: started in one scratch directory with their logs, and ended by their own ids."""

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


class StageError(Exception):
    """The demo cannot go on; the text says why."""


@dataclass
class Stage:
    """A scratch directory and the processes that run in it."""

    directory: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    clean_ups: list[Callable[[], None]] = field(default_factory=list)

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start a process in a session of its own, so that Ctrl-C reaches the demo first.

        Settings of another remediator in the environment are not passed on: they would come before the demo's own.
        """
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("REMEDIATOR_")}
        log = (self.directory / f"{name}.log").open("wb")
        with log:
            self.processes[name] = subprocess.Popen(
                command,
                cwd=self.directory,
                env={**inherited, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def write(self, name: str, text: str) -> Path:
        """A file in the scratch directory."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def wait_for(self, name: str, url: str, seconds: float = 20.0) -> None:
        """Wait until `url` answers 200. Raises StageError with the end of the process's log if it does not."""
        if wait_until(lambda: status_of(url) == 200, seconds, give_up=lambda: self.has_ended(name)):
            return
        log = (self.directory / f"{name}.log").read_text(errors="replace").splitlines()[-5:]
        raise StageError(f"{name} did not come up at {url}:\n  " + "\n  ".join(log))

    def has_ended(self, name: str) -> bool:
        process = self.processes.get(name)
        return process is not None and process.poll() is not None

    def clear(self) -> None:
        """End what was started, the last first."""
        for process in reversed(self.processes.values()):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        for clean_up in reversed(self.clean_ups):
            clean_up()


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def status_of(url: str, timeout_seconds: float = 1.0) -> int:
    """The status of a GET, or 0 if nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_seconds) as response:  # noqa: S310 - the demo's own addresses
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, ValueError):
        return 0


def wait_until(holds: Callable[[], bool], seconds: float, give_up: Callable[[], bool] = lambda: False) -> bool:
    """Whether `holds` came true within `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not give_up():
        if holds():
            return True
        time.sleep(0.1)
    return False
