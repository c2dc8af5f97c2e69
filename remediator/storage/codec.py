"""How values lie in the database: times as whole microseconds UTC, mappings as JSON text. The same in every SQL."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_encode = json.JSONEncoder(separators=(",", ":"), default=str).encode


def micros(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND


def micros_or_none(at: datetime | None) -> int | None:
    return None if at is None else micros(at)


@lru_cache(maxsize=4096)
def moment(value: int) -> datetime:
    """Remembered: guards read the times of the same few hundred rows with every decision."""
    return _EPOCH + timedelta(microseconds=value)


def moment_or_none(value: int | None) -> datetime | None:
    return None if value is None else moment(value)


def dump(value: Mapping[str, Any]) -> str:
    return _encode(value)


def load(text: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(text)
    return value
