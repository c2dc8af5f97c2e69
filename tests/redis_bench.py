"""A cache called `cache`, as the configuration has it, for tests against a real Redis."""

from remediator.core.target import Workload
from remediator.settings import ServiceEndpoints

CACHE = Workload("redis", "cache", "cache", service="cache")


def configured(url: str) -> dict[str, ServiceEndpoints]:
    return {"cache": ServiceEndpoints(redis=url)}
