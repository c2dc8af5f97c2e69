"""Captures webhook messages from a real Alertmanager, byte for byte, into tests/data/alertmanager/.

Run `python tests/capture.py`; it needs `prometheus-alertmanager` on the PATH. The files in the repository came from 0.25.0, as
Debian 12 has it; capture them again when a newer Alertmanager is to be supported, and read the difference.
"""

import json
import queue
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

DATA = Path(__file__).parent / "data/alertmanager"
CONFIG = """
route:
  receiver: remediator
  group_by: [alertname]
  group_wait: 1s
  group_interval: 1s
  routes:
    - matchers: ['alertname = HighErrorRate']
      receiver: remediator.bounded   # the dot: Alertmanager sends receivers' names quoted as regular expressions
receivers:
  - name: remediator
    webhook_configs: [{url: 'http://127.0.0.1:%(port)d/'}]
  - name: remediator.bounded
    webhook_configs: [{url: 'http://127.0.0.1:%(port)d/', max_alerts: 2}]
"""


def main() -> None:
    with receiver() as (port, bodies):
        with alertmanagers(1, port) as urls:
            capture_one_by_one(urls, bodies)
        with alertmanagers(2, port) as urls:
            post(urls, [alert("RedisDown", "shop-cache")])
            first, second = bodies.get(timeout=30), bodies.get(timeout=30)
            assert first == second, "a pair sends the same bytes twice"
            save("ha-duplicate-a", first)
            save("ha-duplicate-b", second)


def capture_one_by_one(urls: Sequence[str], bodies: "queue.Queue[bytes]") -> None:
    redis = alert("RedisDown", "shop-cache")
    post(urls, [redis])
    save("single", bodies.get(timeout=30))
    post(urls, [ended(redis)])
    save("resolved", bodies.get(timeout=30))

    services = [alert("APIDown", name, namespace="shop") for name in ("shop-api", "orders", "payments")]
    post(urls, services)
    save("group", bodies.get(timeout=30))
    post(urls, [ended(services[1])])
    save("mixed", bodies.get(timeout=30))

    post(urls, [alert("HighErrorRate", name) for name in ("shop-api", "orders", "payments", "reports")])
    save("truncated", bodies.get(timeout=30))


def alert(name: str, service: str, **more: str) -> dict:
    """What Prometheus would post for one of our own rules."""
    return {
        "labels": {"alertname": name, "service": service, "severity": "critical", **more},
        "annotations": {"summary": f"{name}: {service}", "runbook_url": "https://runbooks.example.com/runbook.md"},
        "startsAt": rfc3339(datetime.now(UTC) - timedelta(minutes=1)),
        "generatorURL": "http://prometheus.example.com:9090/graph?g0.expr=up+%3D%3D+0&g0.tab=1",
    }


def ended(firing: dict) -> dict:
    return firing | {"endsAt": rfc3339(datetime.now(UTC))}


def rfc3339(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def save(name: str, body: bytes) -> None:
    json.loads(body)
    (DATA / f"{name}.json").write_bytes(body)
    print(f"{name}.json: {len(body)} bytes")


def post(urls: Sequence[str], alerts: Sequence[dict]) -> None:
    body = json.dumps(alerts).encode()
    for url in urls:
        request = urllib.request.Request(f"{url}/api/v2/alerts", body, {"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=5).close()


@contextmanager
def receiver() -> Iterator[tuple[int, "queue.Queue[bytes]"]]:
    bodies: queue.Queue[bytes] = queue.Queue()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.put(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port, bodies
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def alertmanagers(count: int, receiver_port: int) -> Iterator[list[str]]:
    """Start `count` clustered Alertmanagers. With no wait between peers, each sends before it hears that the other has."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as running:
        config = Path(directory, "alertmanager.yml")
        config.write_text(CONFIG % {"port": receiver_port})
        web, gossip = free_ports(count), free_ports(count)
        for index in range(count):
            command = [
                "prometheus-alertmanager",
                f"--config.file={config}",
                f"--storage.path={directory}/{index}",
                f"--web.listen-address=127.0.0.1:{web[index]}",
                "--web.external-url=http://alertmanager.example.com:9093",
                f"--cluster.listen-address={f'127.0.0.1:{gossip[index]}' if count > 1 else ''}",
                "--cluster.peer-timeout=1ms",
                "--cluster.settle-timeout=5s",
                *(f"--cluster.peer=127.0.0.1:{port}" for port in gossip if port != gossip[index]),
            ]
            log = running.enter_context(Path(directory, f"{index}.log").open("w"))
            process = subprocess.Popen(command, stderr=log)
            running.callback(process.wait, timeout=10)
            running.callback(process.terminate)
        urls = [f"http://127.0.0.1:{port}" for port in web]
        for url in urls:
            wait_until_ready(url, peers=count if count > 1 else 0)
        yield urls


def wait_until_ready(url: str, peers: int) -> None:
    for _ in range(150):
        try:
            with urllib.request.urlopen(f"{url}/api/v2/status", timeout=2) as answer:
                cluster = json.load(answer)["cluster"]
            if len(cluster.get("peers", ())) == peers and cluster["status"] != "settling":
                return
        except OSError:
            pass
        time.sleep(0.2)
    sys.exit(f"{url} did not become ready")


def free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


if __name__ == "__main__":
    main()
