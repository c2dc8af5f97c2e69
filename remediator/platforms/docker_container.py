"""One container as the engine tells it, the labels that it may bear, and the names that a rollback gives it. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from remediator.core.target import Health
from remediator.ports import Facts

ALLOW = "remediator.io/allow"
SERVICE = "remediator.io/service"
PROTECTED = "remediator.io/protected"
COMPOSE_PROJECT = "com.docker.compose.project"
COMPOSE_SERVICE = "com.docker.compose.service"
COMPOSE_ONEOFF = "com.docker.compose.oneoff"
COMPOSE_IMAGE = "com.docker.compose.image"

LEFT_OVER = re.compile(r"-remediator-(old|new)-[0-9a-f]{12}")
"""In the names of containers that are nobody's instances."""


@dataclass(frozen=True, slots=True)
class Container:
    """One container, as `GET /containers/{id}/json` told it."""

    told: Facts

    @property
    def id(self) -> str:
        return str(self.told["Id"])

    @property
    def name(self) -> str:
        return str(self.told["Name"]).removeprefix("/")

    @property
    def image(self) -> str:
        """The id of the image that it was created from; a tag may have moved since."""
        return str(self.told["Image"])

    @property
    def config(self) -> Facts:
        config: Facts = self.told["Config"]
        return config

    @property
    def host_config(self) -> Facts:
        host_config: Facts = self.told["HostConfig"]
        return host_config

    @property
    def labels(self) -> Mapping[str, str]:
        return self.config.get("Labels") or {}

    @property
    def state(self) -> Facts:
        state: Facts = self.told["State"]
        return state

    @property
    def status(self) -> str:
        """created, running, paused, restarting, removing, exited or dead."""
        return str(self.state["Status"])

    @property
    def started_at(self) -> str:
        """As the engine writes it, in nanoseconds: two starts never look alike."""
        return str(self.state["StartedAt"])

    @property
    def runs(self) -> bool:
        return self.status == "running"

    @property
    def health(self) -> Health:
        """Its health check's word while it runs; paused and restarting ones do no work and count as unhealthy."""
        match self.status, (self.state.get("Health") or {}).get("Status", "none"):
            case "running", "none" | "healthy":
                return Health.HEALTHY
            case "running", "starting":
                return Health.STARTING
            case "running" | "paused" | "restarting", _:
                return Health.UNHEALTHY
            case _:
                return Health.STOPPED

    def overrides(self, image: Facts) -> dict[str, Any]:
        """Its configuration without what it took from its image's (`image`, the `Config` of the image): what was asked for.

        Docker merges the two when it creates a container and keeps no record, so equal values count as taken from the
        image. An entrypoint that was overridden keeps its command: Docker then takes no command from the image.
        """
        asked: dict[str, Any] = {}
        for key, value in self.config.items():
            base = image.get(key)
            if isinstance(value, dict) and isinstance(base, dict):
                value = {name: given for name, given in value.items() if name not in base or base[name] != given}
            elif key == "Env":
                value = [given for given in value or () if given not in (base or ())]
            elif value == base:
                continue
            if value or key == "StopTimeout":  # of which 0 is a choice, too
                asked[key] = value
        if self.config.get("Entrypoint") != image.get("Entrypoint"):
            asked["Entrypoint"] = self.config.get("Entrypoint") or [""]
            asked["Cmd"] = self.config.get("Cmd")
        if asked.get("Hostname") == self.id[:12] or self.shares_host_name:
            asked.pop("Hostname", None)
        return {key: value for key, value in asked.items() if key not in ("Image", "OnBuild", "ArgsEscaped")}

    @property
    def shares_host_name(self) -> bool:
        """Whether its host name is the machine's or another container's, and must not be given when it is recreated."""
        network = str(self.host_config.get("NetworkMode"))
        return network == "host" or network.startswith("container:") or self.host_config.get("UTSMode") == "host"


def unnamed_volumes(one: Container) -> list[tuple[str, str]]:
    """Volumes whose names the engine made up, as (name, path inside): only this container knows that they are its own."""
    given = {bind.split(":")[1] for bind in one.host_config.get("Binds") or ()}
    given |= {mount["Target"] for mount in one.host_config.get("Mounts") or () if mount.get("Source")}
    volumes = [mount for mount in one.told.get("Mounts") or () if mount["Type"] == "volume"]
    return [(mount["Name"], mount["Destination"]) for mount in volumes if mount["Destination"] not in given]


def moment(text: str) -> datetime:
    """A time of the engine, in Go's RFC 3339 with nanoseconds, of which microseconds remain. Year 1: never."""
    return datetime.fromisoformat(text)


def parked_name(name: str, container_id: str) -> str:
    """What a container is called after a rollback has put it aside."""
    return f"{name}-remediator-old-{container_id[:12]}"


def coming_name(name: str, container_id: str) -> str:
    """What the container that will replace it is called until it does."""
    return f"{name}-remediator-new-{container_id[:12]}"
