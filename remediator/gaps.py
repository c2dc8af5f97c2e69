"""What this installation cannot do for lack of configuration: said by `check` and at the start, not at the worst moment."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from remediator.core.playbook import Playbook
from remediator.core.postgres_step import PostgresDump, PostgresRestore
from remediator.extensions.installed import installed
from remediator.settings import Settings

ENDPOINTS = ("http", "tcp", "redis", "postgres", "kafka")
"""Data services whose addresses stand in `services` of the configuration file, under the same names."""


@dataclass(frozen=True, slots=True)
class Unconfigured:
    """A neighbour whose address is not configured, by its variable, and what is off for that."""

    setting: str
    consequence: str

    def __str__(self) -> str:
        return f"off: {self.consequence} ({self.setting})"


@dataclass(frozen=True, slots=True)
class Unworkable:
    """A step, diagnosis or check of a playbook that can never work here, and the setting that it needs."""

    playbook: str
    step: str
    needs: str

    def __str__(self) -> str:
        return f"{self.playbook}: {self.step} needs {self.needs}; none is configured"


def unconfigured(settings: Settings) -> list[Unconfigured]:
    """The neighbours and people that nobody has configured, and the alert that nobody expects."""
    neighbours = {
        "alertmanager_url": "silences are not seen, and what the webhook misses is not noticed",
        "prometheus_url": "PromQL checks stay unknown, and what needs them stays unverified",
        "grafana_url": "no annotations",
        "escalation_url": "escalations go to the log and the metrics only",
        "operators_file": "nobody can approve anything, and only callers on this host may command",
        "watchdog_within": "no Watchdog alert is expected, and nobody notices when alerts no longer arrive",
    }
    return [
        Unconfigured(f"REMEDIATOR_{name.upper()}", consequence)
        for name, consequence in neighbours.items()
        if not getattr(settings, name)
    ]


def unworkable(playbooks: Iterable[Playbook], settings: Settings) -> list[Unworkable]:
    """What no alert can make work, whatever its labels: the service that a step asks has no address at all."""
    missing = dict(_missing(settings))
    found = [
        Unworkable(playbook.name, step.name, missing.get(step.service) or missing[step.name])
        for playbook in playbooks
        for step in (*playbook.diagnose, *(rung.step for rung in playbook.ladder), *playbook.verify.checks)
        if step.service in missing or step.name in missing
    ]
    return list(dict.fromkeys(found))


def _missing(settings: Settings) -> Iterator[tuple[str, str]]:
    """Data services that no address is configured for, steps that lack what they need, and where it would stand."""
    for service in ENDPOINTS:
        if not any(getattr(endpoints, service) for endpoints in settings.services.values()):
            yield service, f"services.<service>.{service} in the configuration file"
    if not any(endpoints.backups for endpoints in settings.services.values()):
        for step in (PostgresDump.name, PostgresRestore.name):
            yield step, "services.<service>.backups in the configuration file"
    if not settings.prometheus_url:
        yield "prometheus", "REMEDIATOR_PROMETHEUS_URL"
    for each in installed().added:
        if each.name not in settings.extensions:
            yield each.name, f"extensions.{each.name} in the configuration file"
