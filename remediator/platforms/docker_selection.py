"""Which containers a selection means, and where to ask the engine for them. Sends only GET requests."""

import re
from collections.abc import Mapping
from typing import Any

from remediator.core.target import Instance
from remediator.platforms.docker_container import COMPOSE_PROJECT, COMPOSE_SERVICE, SERVICE, Container, moment
from remediator.platforms.docker_engine import Client, NotFound
from remediator.ports import Facts, PermanentError

CONTAINERS_MAX = 1000
"""Of one listing; a selection of more is a mistake."""


def service_name(name: str, labels: Mapping[str, str]) -> str:
    """What `service:` of a target is compared with: the owner's label, else compose's, else the container's own name."""
    return labels.get(SERVICE) or labels.get(COMPOSE_SERVICE) or name


def belongs_to(one: Container) -> tuple[str, str]:
    """Kind and name of the workload: its compose service, or itself."""
    project, service = one.labels.get(COMPOSE_PROJECT), one.labels.get(COMPOSE_SERVICE)
    return ("service", f"{project}/{service}") if project and service else ("container", one.name)


def selects(fields: Mapping[str, str], name: str, labels: Mapping[str, str]) -> bool:
    has = {"name": name, "service": service_name(name, labels), "project": labels.get(COMPOSE_PROJECT, "")}
    return all(has[field] == wanted for field, wanted in fields.items())


def filters_for(fields: Mapping[str, str]) -> list[Facts]:
    """The engine's filters that let through all that may be selected: it ANDs the labels of one list, so ORs are several."""
    labels = [f"{COMPOSE_PROJECT}={fields['project']}"] if "project" in fields else []
    if "name" in fields:
        return [named(fields["name"]) | {"label": labels}]
    if "service" not in fields:
        return [{"label": labels}]
    service = fields["service"]
    by_label = [{"label": [*labels, f"{label}={service}"]} for label in (SERVICE, COMPOSE_SERVICE)]
    return [*by_label, named(service) | {"label": labels}]


def named(name: str) -> dict[str, Any]:
    return {"name": f"^/{re.escape(name)}$"}


def summaries(filters: Facts, client: Client) -> list[Facts]:
    found: list[Facts] = client.containers(all=True, filters=filters)
    if len(found) > CONTAINERS_MAX:
        raise PermanentError(f"{len(found)} containers fit {dict(filters)}, more than {CONTAINERS_MAX}")
    return found


def inspected(container_id: str, client: Client) -> Container | None:
    """None if it went away between the listing and now."""
    try:
        return Container(client.inspect_container(container_id))
    except NotFound:
        return None


def instance(one: Container) -> Instance:
    started_at = moment(one.started_at)
    return Instance(one.id, one.name, one.health, started_at if started_at.year > 1 else None)
