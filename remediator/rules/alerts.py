"""The alerts that `alert_rules/` has, each about one service by its name. Pure.

What they find out is the same there and here: a test compares the two. Here it is noticed, too, that there is nothing to find
out from: whoever names a service says that it should be there.
"""

from collections.abc import Iterator
from textwrap import indent

from remediator.rules.requests import failed, requests
from remediator.rules.rule import Alert, Record, Rule, Severity, series
from remediator.services_file import Kind, ServicePart

ERRORS = "service:http_requests_5xx:ratio_rate5m"
REQUESTS = "service:http_requests:rate5m"
SESSIONS = "database:pg_sessions:ratio"
TOP_SERVICE = "database:pg_sessions:top_service"
_WATCHED = {Kind.HTTP: "up", Kind.REDIS: "redis_up", Kind.POSTGRES: "pg_up"}


def alerts_about(service: ServicePart) -> Iterator[Rule]:
    """The alerts for a service of its kind, as far as the file says how it is seen, and what they are computed from."""
    if service.probe:
        yield _api_down(service)
    if not service.labels:
        return
    yield _not_watched(service)
    match service.kind:
        case Kind.HTTP:
            yield _service_down(service)
            yield from _errors(service)
        case Kind.REDIS:
            yield _redis_down(service)
        case Kind.POSTGRES:
            yield from _database(service)


def _api_down(service: ServicePart) -> Rule:
    probed = series("probe_success", {"instance": service.probe or ""})
    return Alert(
        "APIDown",
        f"max by (namespace) ({probed}) == 0",
        Severity.CRITICAL,
        f"{service.name} does not answer its health check",
        f"No HTTP probe of {service.name} has succeeded for a minute.",
        "api-down",
        lasts="1m",
    )


def _service_down(service: ServicePart) -> Rule:
    return Alert(
        "ServiceDown",
        f"max by (namespace) ({series('up', service.labels)}) == 0",
        Severity.CRITICAL,
        f"{service.name} is down",
        f"Prometheus has reached no instance of {service.name} for a minute.",
        "api-down",
        lasts="1m",
    )


def _redis_down(service: ServicePart) -> Rule:
    return Alert(
        "RedisDown",
        f"max by (namespace) ({series('redis_up', service.labels)}) == 0",
        Severity.CRITICAL,
        f"Redis {service.name} does not answer",
        f"Redis {service.name} has not answered PING for half a minute.",
        "redis-down",
        lasts="30s",
    )


def _not_watched(service: ServicePart) -> Rule:
    """No reason to restart anything: after a start of Prometheus nothing is there for the time of a scrape."""
    return Alert(
        "ServiceNotWatched",
        f"max(absent({series(_WATCHED[service.kind], service.labels)}))",
        Severity.WARNING,
        f"Nobody would notice if {service.name} were down",
        f"Prometheus has had no {_WATCHED[service.kind]} of {service.name} for five minutes.",
        "service-not-watched",
        lasts="5m",
    )


def _errors(service: ServicePart) -> Iterator[Rule]:
    rate, share = (series(name, _of(service)) for name in (REQUESTS, ERRORS))
    yield Record(REQUESTS, requests(service), _of(service))
    yield Record(ERRORS, f"(\n{indent(failed(service), '  ')}\n)\n/ {requests(service)}", _of(service))
    for severity, percent, lasts, in_words in (
        (Severity.CRITICAL, 5, "2m", "two minutes"),
        (Severity.WARNING, 1, "5m", "five minutes"),
    ):
        yield Alert(
            "HighErrorRate",
            # Below one request in ten seconds a share means nothing: one failed request of ten would be 10 %.
            f"{share} > {percent / 100} and {rate} > 0.1",
            severity,
            f"{service.name} fails {{{{ $value | humanizePercentage }}}} of its requests",
            f"More than {percent} % of the requests to {service.name} were answered with a 5xx status for {in_words}.",
            "high-error-rate",
            lasts=lasts,
        )


def _database(service: ServicePart) -> Iterator[Rule]:
    name, database = service.name, {"database": service.name}
    yield Alert(
        "DatabaseDown",
        f"max by (namespace) ({series('pg_up', service.labels)}) == 0",
        Severity.CRITICAL,
        f"Database {name} does not answer",
        f"postgres_exporter has not been able to connect to {name} for a minute.",
        "database-down",
        lasts="1m",
        labels={**_of(service), **database},
    )
    yield Record(SESSIONS, _share_of_sessions(service), database)
    yield Record(TOP_SERVICE, _who_has_most_sessions(service), database)
    taken = f"{series(SESSIONS, database)} > 0.8"
    yield Alert(
        "DatabaseConnectionPoolExhausted",
        f"""\
(
  ({taken})
  * on (namespace, database) group_right ()
  group by (namespace, database, service) ({series(TOP_SERVICE, database)})
)
or on (namespace, database)
  {taken}""",
        Severity.CRITICAL,
        f"{{{{ $value | humanizePercentage }}}} of the connections of {name} are taken",
        f"More than 80 % of max_connections of {name} are in use, "
        'most of them by {{ or $labels.service "sessions without an application_name" }}.',
        "database-connection-pool-exhausted",
        lasts="2m",
        labels=database,
    )


def _share_of_sessions(service: ServicePart) -> str:
    taken, most = (series(name, service.labels) for name in ("pg_stat_activity_count", "pg_settings_max_connections"))
    return f"sum by (namespace) ({taken})\n/ max by (namespace) ({most})"


def _who_has_most_sessions(service: ServicePart) -> str:
    """Averaged, because two applications that take turns at the top would keep the alert from ever firing."""
    named = series("pg_stat_activity_count", service.labels, 'application_name!=""')
    return f"""\
label_replace(
  topk by (namespace) (1, sum by (namespace, application_name) (avg_over_time({named}[5m]))),
  "service", "$1", "application_name", "(.+)"
)"""


def _of(service: ServicePart) -> dict[str, str]:
    return {"service": service.name}
