"""Webhook messages as Alertmanager writes them: 2 kB and 15 labels and annotations an alert, distinct by a serial number."""

import json
from collections.abc import Iterator
from itertools import count

ALERT_BYTES = 2_000
SERIAL = "{serial}"
SERIAL_FORMAT = b"%010d"
ALERTNAME = "QueueBacklogGrowing"
"""No playbook that ships with remediator matches it."""
TOKEN = "bench-webhook-token"  # of a server that lives for seconds

HEAD = (
    "POST /webhook HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
    "Authorization: Bearer {}\r\nContent-Length: {}\r\n\r\n"
)


def service(serial: int) -> str:
    """The label `service` of the alert with this serial number."""
    return f"shop-{serial:010d}"


def requests(alerts: int, *, repeat: int = 0, alertname: str = ALERTNAME) -> Iterator[bytes]:
    """Whole HTTP requests with `alerts` alerts each, all of them distinct; or the same `repeat` requests over and over."""
    pieces = _alert(alertname).encode().split(SERIAL.encode())
    before, after = _around(alertname)
    length = len(before) + alerts * (ALERT_BYTES + 1) - 1 + len(after)
    start = HEAD.format(TOKEN, length).encode() + before
    for number in count():
        first = (number % repeat if repeat else number) * alerts
        filled = [(SERIAL_FORMAT % serial).join(pieces) for serial in range(first, first + alerts)]
        yield b"".join((start, b",".join(filled), after))


def _alert(alertname: str) -> str:
    """ALERT_BYTES long once every SERIAL is filled in."""
    bare = _alert_described("", alertname)
    room = ALERT_BYTES - len(bare.replace(SERIAL, "0" * len(SERIAL_FORMAT % 0)))
    return _alert_described(("The queue grows by more than a thousand entries a minute. " * 50)[:room], alertname)


def _alert_described(description: str, alertname: str) -> str:
    alert = {
        "status": "firing",
        "labels": {
            "alertname": alertname,
            "severity": "warning",
            "cluster": "eu-central-1a",
            "namespace": "checkout",
            "service": f"shop-{SERIAL}",
            "pod": f"shop-api-7d9c5b6f4d-{SERIAL}",
            "instance": f"10.42.{SERIAL}:8080",
            "container": "api",
            "job": "kubernetes-pods",
            "team": "payments",
        },
        "annotations": {
            "summary": "The queue of the service grows faster than it is worked off",
            "description": description,
            "runbook_url": "https://runbooks.example.com/QueueBacklogGrowing",
            "dashboard": "https://grafana.example.com/d/queues/queues?orgId=1&var-namespace=checkout",
            "value": "1742.5",
        },
        "startsAt": "2026-03-01T03:00:00.637Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus.example.com/graph?g0.expr=queue_length+%3E+1000&g0.tab=1",
        "fingerprint": f"c0ffee{SERIAL}",
    }
    return json.dumps(alert, separators=(",", ":"))


def _around(alertname: str) -> tuple[bytes, bytes]:
    """What stands before and after the alerts of a message."""
    message = {
        "receiver": "remediator",
        "status": "firing",
        "alerts": [],
        "groupLabels": {"alertname": alertname},
        "commonLabels": {"alertname": alertname},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.example.com",
        "version": "4",
        "groupKey": f'{{}}:{{alertname="{alertname}"}}',
        "truncatedAlerts": 0,
    }
    before, _, after = json.dumps(message, separators=(",", ":")).encode().partition(b"[]")
    return before + b"[", b"]" + after
