"""The demo's service where there is no Docker engine: `DIRECTORY PORT restart|status|identity|logs|run`."""

import os
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from remediator.demo.stage import status_of, wait_until

PAGES = {"/health": b"healthy\n", "/metrics": b"# TYPE demo_up gauge\ndemo_up 1\n"}


class Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        page = PAGES.get(self.path)
        self.send_response(200 if page else 404)
        self.end_headers()
        self.wfile.write(page or b"not found\n")


def run(directory: Path, port: int) -> int:
    """Serve until killed."""
    (directory / "pid").write_text(str(os.getpid()))
    HTTPServer(("127.0.0.1", port), Pages).serve_forever()
    return 0


def restart(directory: Path, port: int) -> int:
    """End the process, if there is one, and start it again; 0 once it answers."""
    directory.mkdir(parents=True, exist_ok=True)
    if status(directory, port) == 0:
        os.kill(int((directory / "pid").read_text()), signal.SIGTERM)
        wait_until(lambda: status(directory, port) != 0, 5)
    with (directory / "log").open("ab") as log:
        command = [sys.executable, "-m", "remediator.demo.process", str(directory), str(port), "run"]
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    return 0 if wait_until(lambda: status(directory, port) == 0, 10) else 1


def status(directory: Path, port: int) -> int:
    """0 while it answers."""
    return 0 if status_of(f"http://127.0.0.1:{port}/health") == 200 else 1


def identity(directory: Path, port: int) -> int:
    """The process id: it changes with every restart."""
    print((directory / "pid").read_text())
    return 0


def logs(directory: Path, port: int) -> int:
    """Everything that it logged."""
    print((directory / "log").read_text())
    return 0


VERBS = {"run": run, "restart": restart, "status": status, "identity": identity, "logs": logs}

if __name__ == "__main__":
    _, place, on_port, verb = sys.argv
    raise SystemExit(VERBS[verb](Path(place), int(on_port)))
