"""Who decides how many instances a workload has, and how many it shall have. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from remediator.core.step import Scale
from remediator.platforms.kubernetes_objects import Controller, under
from remediator.ports import Facts

AUTOSCALING = "autoscaling/v2"
AUTOSCALERS = "horizontalpodautoscalers"


@dataclass(frozen=True, slots=True)
class Autoscaler:
    """A HorizontalPodAutoscaler as the API told it."""

    told: Facts

    @property
    def name(self) -> str:
        return str(self.told["metadata"]["name"])

    @property
    def path(self) -> str:
        return f"{under(self.told['metadata']['namespace'], AUTOSCALERS, AUTOSCALING)}/{quote(self.name, safe='')}"

    @property
    def bounds(self) -> Facts:
        """Its least and most instances."""
        spec = self.told["spec"]
        return {"minReplicas": int(spec.get("minReplicas") or 1), "maxReplicas": int(spec["maxReplicas"])}


def in_charge(controller: Controller, listed: Iterable[Facts]) -> Autoscaler | None:
    """The autoscaler of a workload; one does nothing where the workload is scaled to 0."""
    for told in listed:
        aim = told["spec"]["scaleTargetRef"]
        if (aim["kind"].lower(), aim["name"]) == (controller.kind, controller.name) and controller.wanted:
            return Autoscaler(told)
    return None


def more(step: Scale, replicas: int) -> int:
    """How many there shall be: as many as there are, where there may be no more."""
    return max(replicas, min(replicas + step.by, step.at_most))


def raised(bounds: Mapping[str, int], wanted: int) -> Facts:
    """Bounds within which there are at least as many as wanted."""
    return {"minReplicas": wanted, "maxReplicas": max(bounds["maxReplicas"], wanted)}
