"""Steps: everything remediator can do, look at, or check, as frozen data with a name and a risk.

A step's fields are its parameters in YAML; `playbook_files.py` derives the file format and the reference from them.
`metadata["labels"]` names how `$labels.x` is filled in (`name`, `relation` or `promql`); a field without it takes no labels.
A step with a `service` is carried out by that data service, every other by the platform that owns the target. Those of
one data service stand in a file of their own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from typing import Any, ClassVar, TypeVar, cast, get_args

from remediator.core.kafka_step import KafkaCheck, KafkaDiagnosis
from remediator.core.postgres_step import PostgresCheck, PostgresDiagnosis, PostgresStep
from remediator.core.redis_step import RedisCheck, RedisDiagnosis, RedisStep
from remediator.core.step_parts import Risk, name_field
from remediator.core.template import Unbound, bind_name, bind_promql, bind_relation

# --- Write steps: the rungs of a ladder -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Restart:
    """Stop and start every instance of the target, one at a time."""

    name: ClassVar[str] = "restart"
    service: ClassVar[str] = ""
    risk: ClassVar[Risk] = Risk.DISRUPTIVE
    timeout: timedelta = field(
        default=timedelta(seconds=10), metadata={"doc": "Grace between SIGTERM and SIGKILL.", "at_most": timedelta(minutes=5)}
    )


@dataclass(frozen=True, slots=True)
class Start:
    """Start the instances of the target that are stopped; of a CronJob, make a Job now."""

    name: ClassVar[str] = "start"
    service: ClassVar[str] = ""
    risk: ClassVar[Risk] = Risk.LOW


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop every instance of the target."""

    name: ClassVar[str] = "stop"
    service: ClassVar[str] = ""
    risk: ClassVar[Risk] = Risk.DISRUPTIVE
    timeout: timedelta = field(
        default=timedelta(seconds=10), metadata={"doc": "Grace between SIGTERM and SIGKILL.", "at_most": timedelta(minutes=5)}
    )


@dataclass(frozen=True, slots=True)
class Rollback:
    """Return the target to the release that it ran before, as recorded by remediator."""

    name: ClassVar[str] = "rollback"
    service: ClassVar[str] = ""
    risk: ClassVar[Risk] = Risk.DISRUPTIVE
    to: str = field(default="", metadata={"doc": "The release; empty: the recorded one before the current.", "hidden": True})


@dataclass(frozen=True, slots=True)
class Exec:
    """Run one command in an instance of the target: an argument list, never a shell."""

    name: ClassVar[str] = "exec"
    service: ClassVar[str] = ""
    risk: ClassVar[Risk] = Risk.DISRUPTIVE
    argv: tuple[str, ...] = field(metadata={"doc": "The command and its arguments.", "positional": True})
    timeout: timedelta = field(default=timedelta(seconds=30), metadata={"doc": "Deadline.", "at_most": timedelta(minutes=5)})


@dataclass(frozen=True, slots=True)
class Prune:
    """Remove unused images and stopped containers of the engine. Never volumes, nor releases that a rollback may need."""

    name: ClassVar[str] = "prune"
    service: ClassVar[str] = ""
    risk: ClassVar[Risk] = Risk.LOW
    timeout: ClassVar[timedelta] = timedelta(minutes=2)  # no removal is begun after this
    images: bool = field(default=True, metadata={"doc": "Remove images that no container uses."})
    containers: bool = field(default=True, metadata={"doc": "Remove containers that have stopped."})
    older_than: timedelta = field(default=timedelta(hours=24), metadata={"doc": "Only what is at least this old."})
    keep: tuple[str, ...] = field(default=(), metadata={"doc": "Images that were recorded as releases.", "hidden": True})


@dataclass(frozen=True, slots=True)
class Scale:
    """Add instances to a Kubernetes target. Where an autoscaler is in charge, its bounds are raised instead."""

    name: ClassVar[str] = "scale"
    service: ClassVar[str] = ""
    risk: ClassVar[Risk] = Risk.LOW
    at_most: int = field(metadata={"doc": "Never more instances than this.", "at_least": 1, "at_most": 1000})
    by: int = field(default=1, metadata={"doc": "Instances to add.", "at_least": 1, "at_most": 100})


@dataclass(frozen=True, slots=True)
class Evict:
    """Evict one pod of a Kubernetes target, so that another takes its place; a disruption budget may forbid it."""

    name: ClassVar[str] = "evict"
    service: ClassVar[str] = ""
    risk: ClassVar[Risk] = Risk.DISRUPTIVE
    pod: str = name_field("The pod; empty: the only one that is not ready.")


@dataclass(frozen=True, slots=True)
class DeletePod:
    """Delete one pod of a Kubernetes target, so that another takes its place, whatever disruption budgets say."""

    name: ClassVar[str] = "delete_pod"
    service: ClassVar[str] = ""
    risk: ClassVar[Risk] = Risk.DISRUPTIVE
    pod: str = name_field("The pod; empty: the only one that is not ready.")


@dataclass(frozen=True, slots=True)
class Cordon:
    """Let no further pods onto a Kubernetes node."""

    name: ClassVar[str] = "cordon"
    service: ClassVar[str] = ""
    risk: ClassVar[Risk] = Risk.LOW


@dataclass(frozen=True, slots=True)
class Uncordon:
    """Let pods onto a Kubernetes node again."""

    name: ClassVar[str] = "uncordon"
    service: ClassVar[str] = ""
    risk: ClassVar[Risk] = Risk.LOW


@dataclass(frozen=True, slots=True)
class Drain:
    """Cordon a Kubernetes node and evict its pods, as far and as fast as their disruption budgets allow."""

    name: ClassVar[str] = "drain"
    service: ClassVar[str] = ""
    risk: ClassVar[Risk] = Risk.DISRUPTIVE
    timeout: timedelta = field(
        default=timedelta(minutes=5), metadata={"doc": "How long budgets are waited for.", "at_most": timedelta(minutes=30)}
    )


# --- Diagnosis: read-only, gathered before anything is changed --------------------------------------------------------
# `facts` are the numbers that it finds, for `when:` of a rung. One that finds none has no `facts`.


@dataclass(frozen=True, slots=True)
class Logs:
    """The last log lines of the target."""

    name: ClassVar[str] = "logs"
    service: ClassVar[str] = ""
    risk: ClassVar[Risk] = Risk.READ
    facts: ClassVar[tuple[str, ...]] = ("logs.lines",)
    tail: int = field(default=100, metadata={"doc": "Lines from the end.", "at_least": 1, "at_most": 1000})
    grep: str = field(default="", metadata={"doc": "Keep only lines that contain this text, in any case."})


@dataclass(frozen=True, slots=True)
class Stats:
    """CPU, memory and process counts of the target now."""

    name: ClassVar[str] = "stats"
    service: ClassVar[str] = ""
    risk: ClassVar[Risk] = Risk.READ
    facts: ClassVar[tuple[str, ...]] = ("stats.cpu_percent", "stats.memory_bytes", "stats.memory_ratio", "stats.pids")


@dataclass(frozen=True, slots=True)
class Inspect:
    """State, health, exit code, restarts and image of the target."""

    name: ClassVar[str] = "inspect"
    service: ClassVar[str] = ""
    risk: ClassVar[Risk] = Risk.READ
    facts: ClassVar[tuple[str, ...]] = ("inspect.exit_code", "inspect.oom_killed", "inspect.restart_count")


@dataclass(frozen=True, slots=True)
class Events:
    """What the engine reported about the target lately."""

    name: ClassVar[str] = "events"
    service: ClassVar[str] = ""
    risk: ClassVar[Risk] = Risk.READ
    since: timedelta = field(default=timedelta(hours=1), metadata={"doc": "How far back.", "at_most": timedelta(days=1)})


@dataclass(frozen=True, slots=True)
class Disk:
    """What the engine keeps on its disk: images, containers, volumes; and what the target itself has written."""

    name: ClassVar[str] = "disk"
    service: ClassVar[str] = ""
    risk: ClassVar[Risk] = Risk.READ
    facts: ClassVar[tuple[str, ...]] = (
        "disk.containers_bytes",
        "disk.images_bytes",
        "disk.target_bytes",
        "disk.unused_images_bytes",
        "disk.volumes_bytes",
    )


@dataclass(frozen=True, slots=True)
class RolloutAge:
    """How long ago the target was rolled out (recreated) with another release."""

    name: ClassVar[str] = "rollout"
    service: ClassVar[str] = ""
    risk: ClassVar[Risk] = Risk.READ
    facts: ClassVar[tuple[str, ...]] = ("rollout.age_seconds",)


@dataclass(frozen=True, slots=True)
class PromQL:
    """An instant query. As a check it holds when it returns at least one sample, as an alert expression fires."""

    name: ClassVar[str] = "promql"
    service: ClassVar[str] = "prometheus"
    risk: ClassVar[Risk] = Risk.READ
    facts: ClassVar[tuple[str, ...]] = ("promql.value",)
    query: str = field(metadata={"labels": "promql", "doc": "The expression.", "positional": True})


@dataclass(frozen=True, slots=True)
class Http:
    """A GET of the configured address of a service. As a check it holds when the status is the expected one."""

    name: ClassVar[str] = "http"
    service: ClassVar[str] = "http"
    risk: ClassVar[Risk] = Risk.READ
    facts: ClassVar[tuple[str, ...]] = ("http.seconds", "http.status")
    endpoint: str = name_field("The configured service; empty: the target's.")
    path: str = field(default="", metadata={"doc": "Replaces the path of the configured address."})
    status: int = field(default=200, metadata={"doc": "The expected status code.", "at_least": 100, "at_most": 599})


# --- Checks: what verification looks at -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Healthy:
    """Every instance of the target runs, and its health check, where it has one, passes."""

    name: ClassVar[str] = "healthy"
    service: ClassVar[str] = ""
    risk: ClassVar[Risk] = Risk.READ


@dataclass(frozen=True, slots=True)
class Tcp:
    """The configured address of a service accepts a connection."""

    name: ClassVar[str] = "tcp"
    service: ClassVar[str] = "tcp"
    risk: ClassVar[Risk] = Risk.READ
    endpoint: str = name_field("The configured service; empty: the target's.")


@dataclass(frozen=True, slots=True)
class AlertResolved:
    """The alert is no longer firing: its episode is closed, or Alertmanager no longer lists it."""

    name: ClassVar[str] = "alert_resolved"
    service: ClassVar[str] = "alert"
    risk: ClassVar[Risk] = Risk.READ


NodeStep = Cordon | Uncordon | Drain
PlatformStep = Restart | Start | Stop | Rollback | Exec | Prune | Scale | Evict | DeletePod | NodeStep
ServiceStep = PostgresStep | RedisStep
Step = PlatformStep | ServiceStep

PlatformDiagnosis = Logs | Stats | Inspect | Events | Disk | RolloutAge | Exec
ServiceDiagnosis = RedisDiagnosis | PostgresDiagnosis | KafkaDiagnosis | PromQL | Http
Diagnosis = PlatformDiagnosis | ServiceDiagnosis

PlatformCheck = Healthy
ServiceCheck = Http | PromQL | Tcp | AlertResolved | RedisCheck | PostgresCheck | KafkaCheck
Check = PlatformCheck | ServiceCheck

STEPS: tuple[type[Step], ...] = get_args(Step)
DIAGNOSES: tuple[type[Diagnosis], ...] = get_args(Diagnosis)
CHECKS: tuple[type[Check], ...] = get_args(Check)

S = TypeVar("S", bound=Step | Diagnosis | Check)

_BINDERS = {"name": bind_name, "relation": bind_relation, "promql": bind_promql}


def bind(step: S, labels: Mapping[str, str]) -> S | Unbound:
    """The step with its `$labels.x` filled in, or the first label that does not fit."""
    filled: dict[str, str] = {}
    for parameter in fields(step):
        if binder := _BINDERS.get(parameter.metadata.get("labels", "")):
            value = binder(getattr(step, parameter.name), labels)
            if isinstance(value, Unbound):
                return value
            filled[parameter.name] = value
    return cast(S, replace(cast(Any, step), **filled)) if filled else step
