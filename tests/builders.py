"""Small true-to-life things for tests; a test names only the fact that matters to it."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from remediator.core.alert import Alert, AlertStatus, Episode, EpisodeState, episode_key
from remediator.core.matching import parse_matcher
from remediator.core.playbook import Limits, Mode, Playbook, Rung, Verification
from remediator.core.snapshot import Candidate, Found, LedgerFacts, Policy, Snapshot
from remediator.core.step import Healthy, Restart
from remediator.core.target import Health, Instance, Selector, Workload

NOW = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
LABELS = {"alertname": "APIDown", "service": "shop-api", "severity": "critical"}

PLAYBOOK = """
name: api-down
summary: Restart an API that is down, then roll it back.
matchers: ['alertname = APIDown']
target: {service: $labels.service}
mode: auto
limits: {settle: 0s, cooldown: 10m, give_up: 30m}
ladder:
  - restart: {timeout: 1s}
verify: {within: 300ms, stable_for: 10ms, all: [healthy]}
"""


def alert(status: str = "firing", starts_at: datetime = NOW, ends_at: datetime | None = None, **labels: str) -> Alert:
    return Alert(AlertStatus(status), {**LABELS, **labels}, {}, starts_at, ends_at)


def episode(opened_at: datetime = NOW, **changes: Any) -> Episode:
    made = Episode(1, episode_key(LABELS), LABELS, {}, EpisodeState.OPEN, True, opened_at, opened_at, opened_at)
    return replace(made, **changes)


def workload(**changes: Any) -> Workload:
    instance = Instance("c0ffee", "shop-api-1", Health.STOPPED, NOW)
    made = Workload("docker", "service", "shop/api", "shop-api", frozenset({"restart", "rollback"}), (instance,), "sha256:v2")
    return replace(made, **changes)


def playbook(**changes: Any) -> Playbook:
    made = Playbook(
        name="api-down",
        summary="",
        matchers=(parse_matcher("alertname = APIDown"),),
        target=Selector({"service": "$labels.service"}),
        ladder=(Rung(Restart()),),
        verify=Verification((Healthy(),)),
        mode=Mode.AUTO,
        limits=Limits(settle=timedelta()),
    )
    return replace(made, **changes)


def candidate(**changes: Any) -> Candidate:
    made = Candidate("run-1", episode(), playbook(), 0, Restart(), Found((workload(),)))
    return replace(made, **changes)


def snapshot(policy: Policy | None = None, **facts: Any) -> Snapshot:
    ledger = LedgerFacts(**{"paused": None, "episode": episode(), "previous_release": "sha256:v1", **facts})
    return Snapshot(ledger, policy or Policy(mode=Mode.AUTO))


def webhook_alert(
    status: str = "firing", starts_at: datetime = NOW, ends_at: datetime | None = None, **labels: str
) -> dict[str, Any]:
    """An alert as Alertmanager writes it."""
    return {
        "status": status,
        "labels": {**LABELS, **labels},
        "annotations": {"summary": "the API is down"},
        "startsAt": starts_at.isoformat(),
        "endsAt": ends_at.isoformat() if ends_at else "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus/graph",
        "fingerprint": "4905ba857cd9a9de",
    }


def webhook_message(*alerts: Mapping[str, Any]) -> bytes:
    """A message as Alertmanager writes it, with one firing alert unless others are given."""
    message = {
        "version": "4",
        "receiver": "remediator",
        "status": "firing",
        "groupKey": "{}:{}",
        "truncatedAlerts": 0,
        "alerts": list(alerts) or [webhook_alert()],
    }
    return json.dumps(message).encode()
