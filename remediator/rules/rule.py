"""Rules as data, before they are text, and how a service's series are selected. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from remediator.core.template import promql_quoted
from remediator.services_file import Priority, ServicePart


class Severity(StrEnum):
    """How bad it is: an outage or nearly one, or not yet."""

    CRITICAL = "critical"
    WARNING = "warning"

    def priority(self, service: ServicePart) -> Priority:
        """How urgent it is to people: an outage as the service says, a warning two steps less, as far as there are any."""
        steps = tuple(Priority)
        return service.priority if self is Severity.CRITICAL else steps[min(steps.index(service.priority) + 2, len(steps) - 1)]


@dataclass(frozen=True, slots=True)
class Alert:
    """An alerting rule. `lasts` is its `for`, empty for at once; `page` is one of `docs/runbooks/`."""

    name: str
    expr: str
    severity: Severity
    summary: str
    description: str
    page: str
    lasts: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Record:
    """A recording rule."""

    name: str
    expr: str
    labels: Mapping[str, str] = field(default_factory=dict)


Rule = Alert | Record


def series(metric: str, labels: Mapping[str, str], *more: str) -> str:
    """The selector of series with these labels; `more` are matchers as they are written."""
    matchers = [f'{name}="{promql_quoted(value)}"' for name, value in labels.items()]
    return f"{metric}{{{', '.join([*matchers, *more])}}}"
