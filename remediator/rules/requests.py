"""How many requests there are in a second, and how many of them are bad, in PromQL. Pure.

Rates over five minutes: a scrape or two may be missing, and a restart of a counter is seen.
"""

from decimal import Decimal

from remediator.rules.rule import series
from remediator.services_file import LatencyPart, ServicePart


def requests(service: ServicePart) -> str:
    return _rate(series(service.metrics.requests, service.labels))


def failed(service: ServicePart) -> str:
    """Client libraries call the label `status` or `code`. A service without errors has no such series: 0 by the last line."""
    by_status, by_code = (series(service.metrics.requests, service.labels, f'{label}=~"5.."') for label in ("status", "code"))
    return f"sum by (namespace) (rate({by_status}[5m]) or rate({by_code}[5m]))\nor\n  0 * {requests(service)}"


def timed(service: ServicePart) -> str:
    return _rate(series(f"{service.metrics.duration}_count", service.labels))


def slow(service: ServicePart, latency: LatencyPart) -> str:
    """All but those in the bucket of the objective."""
    bound = Decimal(str(latency.within.total_seconds()))
    return f"{timed(service)}\n- {_rate(series(f'{service.metrics.duration}_bucket', service.labels, _upper(bound)))}"


def _rate(selected: str) -> str:
    return f"sum by (namespace) (rate({selected}[5m]))"


def _upper(bound: Decimal) -> str:
    """Libraries write a whole number of seconds as `1` or as `1.0`."""
    return f'le=~"{bound.to_integral()}([.]0)?"' if bound == bound.to_integral() else f'le="{bound:f}"'
