"""Configuration: environment over file over default. Every error names where the value came from and what to write instead."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from remediator.core.playbook import LOOK_BACK_MAX, Mode, RateLimit, brief
from remediator.core.snapshot import Policy, StormLimits
from remediator.durations import Duration, Rate
from remediator.yaml_lines import FileProblem, Lines, Problem, instead, load_yaml, problems_of, read_text

PREFIX = "REMEDIATOR_"
NO_SETTINGS = frozenset({f"{PREFIX}CONFIG", f"{PREFIX}OPERATOR_TOKEN"})
"""Where the file of settings is, and what an operator's command line says who they are by."""
RETENTION_MAX = timedelta(days=36_500)
FILE_ONLY = frozenset({"services", "commands", "storm", "extensions"})
"""Too structured for an environment variable."""
_NOT_OURS = re.compile(r"REMEDIATOR_(?:.+_)?(?:PORT|SERVICE)(?:_.*)?")
"""Kubernetes sets these in every pod that can see a Service called `remediator`."""


def _http_url(value: str) -> str:
    parts = urlsplit(value)
    if value and (parts.scheme not in ("http", "https") or not parts.netloc):
        raise ValueError(f"{value!r} is not an address; write one with its scheme, as http://name:9093")
    return value.rstrip("/")


def _pairs(value: Any) -> Any:
    """`redis-down=auto,api-down=suggest` as a mapping; anything else is left to the validation."""
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    if any(not separator for _, separator, _ in pairs):
        raise ValueError(f"{value!r} is not a list of modes; write one as redis-down=auto,api-down=suggest")
    return {name.strip(): mode.strip() for name, _, mode in pairs}


def _listed(value: Any) -> Any:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _at_least_a_second(value: timedelta) -> timedelta:
    if value < timedelta(seconds=1):
        raise ValueError("must be at least 1s")
    return value


Perceptible = Annotated[Duration, AfterValidator(_at_least_a_second)]
"""Nothing, as a time, would silently stop what waits for it."""


def _engine_url(value: str) -> str:
    if value in ("", "off"):
        return ""
    if not value.startswith(("unix:///", "tcp://", "http://", "https://")):
        advice = f"did you mean 'unix://{value}'?" if value.startswith("/") else "write one as unix:///var/run/docker.sock"
        raise ValueError(f"{value!r} is not an engine's address; {advice}")
    return value


def _cluster(value: str) -> str:
    if value in ("", "off"):
        return ""
    if value != "in-cluster" and "/" not in value:
        raise ValueError(f"{value!r} is neither in-cluster, off nor the path of a kubeconfig, as /etc/remediator/kubeconfig")
    return value


HttpUrl = Annotated[str, AfterValidator(_http_url)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServiceEndpoints(_Section):
    """Where the parts of one service answer, for probes and data services: labels of alerts never name a host."""

    http: HttpUrl = ""
    """A health address, with its path: `http://shop-api:8080/health`."""
    tcp: str = ""
    """`host:port`."""
    redis: str = ""
    """`redis://[:password@]host:port/db`, or `file:/run/secrets/…` to read it from."""
    postgres: str = ""
    """`postgresql://user@host/db`, or `file:/run/secrets/…` to read it from."""
    kafka: str = ""
    """Some brokers of a cluster, `host:9092,other-host:9092`."""
    allow: frozenset[str] = frozenset()
    """Steps of data services that may be taken here: `postgres.terminate_idle`, `redis.flush`."""
    backups: Path | None = None
    """The directory that `postgres.dump` writes to and `postgres.restore` reads from."""
    dump: tuple[str, ...] = ()
    """An argument list instead of `pg_dump`: writes a dump to its standard output."""
    restore: tuple[str, ...] = ()
    """An argument list instead of `pg_restore`: reads a dump from its standard input, and restores all of it or nothing."""


class CommandTarget(_Section):
    """A service that lives elsewhere (systemd, supervisord, Nomad), as argument lists; never a shell."""

    service: str = ""
    allow: frozenset[str] = frozenset()
    restart: tuple[str, ...] = ()
    start: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    status: Annotated[tuple[str, ...], Field(min_length=1)]
    """Exit status 0 means that it runs and is healthy."""
    logs: tuple[str, ...] = ()
    identity: tuple[str, ...] = ()
    """Prints something that changes with every restart (a PID, a start time): how a step in doubt is settled."""
    timeout: Duration = timedelta(seconds=60)


class StormSection(_Section):
    """When so many targets fail at once that the monitor is suspected, and nothing is done until it is calm."""

    targets: Annotated[int, Field(ge=1, le=100_000)] = StormLimits().targets
    """More distinct targets than this within `window` are a storm."""
    window: Duration = StormLimits().window
    calm: Annotated[int, Field(ge=0, le=100_000)] = StormLimits().calm
    """It is over at this many or fewer within `window`."""

    @model_validator(mode="after")
    def _ends_below_where_it_begins(self) -> Self:
        if self.calm >= self.targets:
            raise ValueError("calm must be lower than targets, or the storm would flicker")
        return self


class Settings(_Section):
    """Everything that `remediator serve` needs to know. `docs/configuration.md` lists it."""

    mode: Mode = Mode.SUGGEST
    playbook_modes: Annotated[Mapping[str, Mode], BeforeValidator(_pairs)] = Field(default_factory=dict)
    playbooks: Path = Path("playbooks")
    maintenance_file: Path | None = None
    """Planned maintenance: windows in which alerts are left to people."""
    services_file: Path | None = None
    """Who needs whom: what a service needs is repaired before it."""
    store: str = "sqlite:///data/remediator.db"
    listen: str = ":9595"
    webhook_token_file: Path | None = None
    webhook_basic_file: Path | None = None
    """One line, `user:password`."""
    operators_file: Path | None = None
    """A line `name:token` for each person who may command and read runs over the API. Only they may approve."""
    alertmanager_url: HttpUrl = ""
    alertmanager_receiver: str = "remediator"
    """What the receiver is called there that posts to the webhook: alerts that are not routed to it are not ours."""
    alertmanager_warm_up: Duration = timedelta(minutes=5)
    """How long after its start Alertmanager may not know everything that fires: it does not end any alert until then."""
    reconcile_every: Annotated[Duration, AfterValidator(_at_least_a_second)] = timedelta(minutes=1)
    """How often Alertmanager is asked for everything that fires."""
    prometheus_url: HttpUrl = ""
    grafana_url: HttpUrl = ""
    grafana_token_file: Path | None = None
    escalation_url: HttpUrl = ""
    """Escalations are posted here as JSON."""
    escalation_token_file: Path | None = None
    docker_url: Annotated[str, AfterValidator(_engine_url)] = "unix:///var/run/docker.sock"
    """The engine's address; `off`: no Docker."""
    kubernetes: Annotated[str, AfterValidator(_cluster)] = ""
    """`in-cluster`, or the path of a kubeconfig; `off`: no Kubernetes."""
    kubernetes_context: str = ""
    """Of the kubeconfig; empty: its current one."""
    kubernetes_namespaces: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()
    """Where targets are looked for; `*`: in all of them."""
    kubernetes_nodes: bool = False
    """Whether nodes may be targets: the rights for that are on the whole cluster."""
    services: Mapping[str, ServiceEndpoints] = Field(default_factory=dict)
    commands: Mapping[str, CommandTarget] = Field(default_factory=dict)
    extensions: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    """By name, what installed extensions are to know. One that does not stand here is not opened."""
    max_actions: Annotated[tuple[Rate, ...], BeforeValidator(_listed)] = (
        RateLimit(20, timedelta(hours=1)),
        RateLimit(100, timedelta(days=1)),
    )
    """Over all playbooks and targets."""
    storm: StormSection = Field(default_factory=lambda: StormSection())
    approval_within: Perceptible = timedelta(minutes=30)
    """How long people are waited for before a question is escalated."""
    approval_lasts: Perceptible = timedelta(minutes=10)
    """How long after it was given an approval may be acted on."""
    watchdog_within: Perceptible | None = None
    """The always firing Watchdog alert must be heard of within this for `auto`; unset: it is not expected."""
    episode_expiry: Duration = timedelta(hours=5)
    """Longer than Alertmanager's `repeat_interval` (4 h by default), or firing alerts expire between two re-sends."""
    confirm_after: Duration = timedelta(seconds=10)
    """A later message confirms a possible late re-send only if it comes at least this long after it."""
    retention: Annotated[Duration, Field(validate_default=True)] = timedelta(days=90)
    """What is over is forgotten after this."""
    lease: Perceptible = timedelta(seconds=60)
    max_body_bytes: Annotated[int, Field(ge=1024)] = 8 * 1024 * 1024
    body_timeout: Duration = timedelta(seconds=10)
    max_concurrent_runs: Annotated[int, Field(ge=1, le=1000)] = 64
    engine_threads: Annotated[int, Field(ge=1, le=64)] = 4
    shutdown_grace: Duration = timedelta(seconds=20)
    log_format: Literal["auto", "json", "console"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("retention")
    @classmethod
    def _remembers_what_is_asked(cls, retention: timedelta, info: ValidationInfo) -> timedelta:
        least = max(LOOK_BACK_MAX, *(limit.window for limit in info.data.get("max_actions", ())))
        if not least <= retention <= RETENTION_MAX:
            raise ValueError(f"must be from {brief(least)}, which is as long as a limit looks back, to {brief(RETENTION_MAX)}")
        return retention

    @model_validator(mode="after")
    def _looks_somewhere(self) -> Self:
        if self.kubernetes and not all(self.kubernetes_namespaces or ("",)):
            raise ValueError("kubernetes_namespaces: name the namespaces of the targets, or * for all of them")
        return self

    @property
    def policy(self) -> Policy:
        """What the guards need of it."""
        return Policy(
            mode=self.mode,
            overrides=tuple(self.playbook_modes.items()),
            max_all=self.max_actions,
            episode_expiry=self.episode_expiry,
            storm=StormLimits(self.storm.targets, self.storm.window, self.storm.calm),
            watchdog_within=self.watchdog_within,
            approval_within=self.approval_within,
            approval_lasts=self.approval_lasts,
        )

    @property
    def namespaces(self) -> tuple[str, ...]:
        """Where targets of Kubernetes are looked for; `""` stands for all namespaces."""
        return ("",) if "*" in self.kubernetes_namespaces else self.kubernetes_namespaces

    @property
    def webhook_is_authenticated(self) -> bool:
        return self.webhook_token_file is not None or self.webhook_basic_file is not None


def load_settings(environment: Mapping[str, str]) -> Settings:
    """Settings from the file that REMEDIATOR_CONFIG names, if any, overridden by the environment.

    Raises FileProblem with everything that is wrong in either, each with its place.
    """
    path = environment.get(f"{PREFIX}CONFIG", "")
    values, lines = load_yaml(read_text(Path(path)), path) if path else ({}, Lines())
    if values is not None and not isinstance(values, dict):
        raise FileProblem([Problem(path, 1, "", "must be a mapping of settings, such as mode: suggest")])
    given = {name: value for key, value in environment.items() if (name := _setting(key)) and value}
    known = Settings.model_fields.keys() - FILE_ONLY
    variables = [_variable(name) for name in known]
    problems = [
        Problem("environment", 0, _variable(name), f"is not a setting; {instead(_variable(name), variables)}")
        for name in given.keys() - known
    ]
    try:
        settings = Settings.model_validate({**(values or {}), **{name: given[name] for name in given.keys() & known}})
    except ValidationError as error:
        problems += [_at_home(problem, given) for problem in problems_of(error, path, lines, Settings)]
    if problems:
        raise FileProblem(problems)
    return settings


def _setting(key: str) -> str:
    """The name of the setting that an environment variable gives, or empty if it gives none."""
    ours = key.startswith(PREFIX) and key not in NO_SETTINGS and not _NOT_OURS.fullmatch(key)
    return key.removeprefix(PREFIX).lower() if ours else ""


def _variable(name: str) -> str:
    return f"{PREFIX}{name.upper()}"


def _at_home(problem: Problem, given: Mapping[str, str]) -> Problem:
    """A problem with a value from the environment names the variable, not a line of the file."""
    name = re.split(r"[.\[]", problem.field)[0]
    return replace(problem, file="environment", line=0, field=_variable(name)) if name in given else problem
