"""Durations and rates as people write them in Prometheus files (`30s`, `1h30m`, `3 per 1h`), for pydantic models."""

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from remediator.core.playbook import RateLimit, brief

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION = re.compile(r"(?:\d+(?:ms|s|m|h|d|w))+")
_PART = re.compile(r"(\d+)(ms|s|m|h|d|w)")
_RATE = re.compile(r"\s*(\d+)\s+per\s+(\S+)\s*")


def parse_duration(value: Any) -> timedelta:
    """Parse Prometheus's notation. Raises ValueError with what to write instead."""
    if isinstance(value, timedelta):
        return value
    if value in (0, "0") and value is not False:
        return timedelta()
    if not isinstance(value, str) or not _DURATION.fullmatch(value):
        raise ValueError(f"{value!r} is not a duration; write one as 30s, 10m or 1h30m")
    try:
        return timedelta(seconds=sum(int(count) * _UNITS[unit] for count, unit in _PART.findall(value)))
    except OverflowError as error:
        raise ValueError(f"{value[:40]!r} is longer than any duration can be") from error


def parse_rate(value: Any) -> RateLimit:
    """Parse `N per DURATION`. Raises ValueError with what to write instead."""
    if isinstance(value, RateLimit):
        return value
    found = _RATE.fullmatch(value) if isinstance(value, str) else None
    if found is None or int(found[1]) < 1:
        raise ValueError(f"{value!r} is not a rate; write one as: 3 per 1h")
    window = parse_duration(found[2])
    if not window:
        raise ValueError(f"{value!r} has no window; write one as: 3 per 1h")
    return RateLimit(int(found[1]), window)


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(brief),
    WithJsonSchema({"type": "string", "pattern": r"^([0-9]+(ms|s|m|h|d|w))+$", "examples": ["30s", "10m", "1h30m"]}),
]
Rate = Annotated[
    RateLimit,
    BeforeValidator(parse_rate),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "pattern": r"^\s*[0-9]+\s+per\s+([0-9]+(ms|s|m|h|d|w))+\s*$", "examples": ["3 per 1h"]}),
]
