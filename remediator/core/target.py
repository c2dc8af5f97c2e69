"""Targets: what a playbook selects, and the workloads that platforms find for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from remediator.core.template import Unbound, bind_name


@dataclass(frozen=True, slots=True)
class Selector:
    """The `target:` of a playbook: field -> template, for instance `{"service": "$labels.service"}`."""

    fields: Mapping[str, str]

    def bind(self, labels: Mapping[str, str]) -> "Selection | Unbound":
        """Fill the templates; Unbound if any label is missing, empty or not a name."""
        bound: dict[str, str] = {}
        for name, template in self.fields.items():
            value = bind_name(template, labels)
            if isinstance(value, Unbound):
                return value
            bound[name] = value
        return Selection(bound)


@dataclass(frozen=True, slots=True)
class Selection:
    """A selector with its labels filled in: what platforms are asked to find. Never empty."""

    fields: Mapping[str, str]

    def __str__(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.fields.items())


class Health(StrEnum):
    HEALTHY = "healthy"
    STARTING = "starting"
    UNHEALTHY = "unhealthy"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Instance:
    """One container or process of a workload. `id` changes when it is recreated, `started_at` when it is restarted."""

    id: str
    name: str
    health: Health
    started_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Workload:
    """Exactly one thing to act on: a container, a compose service, a named command target, a database, a cache.

    `allow` is what its owner opted in to: step names, or `*` for every step that is not destructive. `protected` says
    why remediator must never act on it (itself, its store, its proxy), or is empty. `release` is what it runs now: an
    image id on Docker; empty where there is no such thing.
    """

    platform: str
    kind: str
    name: str
    service: str = ""
    allow: frozenset[str] = frozenset()
    instances: tuple[Instance, ...] = ()
    release: str = ""
    protected: str = ""
    peers: tuple[Instance, ...] = ()
    """Further instances of the same service, where the target is only a part of it."""
    details: Mapping[str, str] = field(default_factory=dict)
    lacks: frozenset[str] = frozenset()
    """Steps that its platform cannot take on it."""

    @property
    def id(self) -> str:
        """The key of locks, limits and breakers, for instance `docker:service/shop/api`."""
        return f"{self.platform}:{self.kind}/{self.name}"

    @property
    def locks(self) -> tuple[str, ...]:
        """What a run must hold to act on it: itself, and each instance, which another selection may find by its own name."""
        return tuple(sorted({self.id, *map(self.lock_of, self.instances)}))

    def lock_of(self, instance: Instance) -> str:
        """What a run holds that is at work on this instance or on a workload that it is part of."""
        return f"{self.platform}:instance/{instance.name}"
