"""How values lie in the database: times as whole microseconds UTC, mappings as JSON text. The same in every SQL."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_encode = json.JSONEncoder(separators=(",", ":"), default=str).encode


def micros(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND


def micros_or_none(at: datetime | None) -> int | None:
    return None if at is None else micros(at)


def moment(value: int) -> datetime:
    return _EPOCH + timedelta(microseconds=value)


def moment_or_none(value: int | None) -> datetime | None:
    return None if value is None else moment(value)


def dump(value: Mapping[str, Any]) -> str:
    return _encode(value)


def load(text: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(text)
    return value
