"""Alertmanager's webhook message (version 4) and Grafana's (version 1), as `core.Alert`s.

Other people's payloads: unknown fields are ignored, one bad alert never drops its neighbours, and everything is bounded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, FailFast, Field, StringConstraints, TypeAdapter, ValidationError

from remediator.core.alert import Alert, AlertStatus

LABELS_MAX = 128
ALERTS_MAX = 50_000
"""More than 8 MiB of real alerts; without it, 8 MiB of `0,` keep the process busy for half a minute."""
NOT_REAL = frozenset({"DatasourceNoData", "DatasourceError"})
"""Grafana raises these about itself, not about a service (Grafana documentation, "No data and error alerts")."""

Name = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
Value = Annotated[str, StringConstraints(max_length=16_384)]


class Rejection(StrEnum):
    """Why one alert of a good message was not taken: the label of a metric, so a fixed list."""

    MALFORMED = "malformed"
    NO_LABELS = "no_labels"
    TOO_MANY_LABELS = "too_many_labels"
    DATASOURCE = "datasource"


class NotAMessage(Exception):
    """The body is not a webhook message; the text says what it is, in a line, for the sender's log."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """An alert that was not taken. `position` counts from 0 in its message."""

    position: int
    reason: Rejection
    why: str


@dataclass(frozen=True, slots=True)
class Parsed:
    alerts: Sequence[Alert]
    rejected: Sequence[Rejected]


@dataclass(frozen=True, slots=True)
class Tally:
    """How many alerts of a message can be used, and how many of these say `firing`."""

    taken: int
    firing: int
    rejected: Sequence[Rejected]


class _Alert(BaseModel):
    model_config = ConfigDict(extra="ignore")

    status: Literal["firing", "resolved"]
    labels: dict[Name, Value]
    annotations: dict[Name, Value] = {}
    startsAt: AwareDatetime  # noqa: N815 - their names
    endsAt: AwareDatetime | None = None  # noqa: N815
    generatorURL: Value = ""  # noqa: N815
    fingerprint: Value = ""


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore")

    version: Literal["4", "1"]
    alerts: Annotated[list[_Alert], FailFast(), Field(max_length=ALERTS_MAX)]


class _Envelope(BaseModel):
    """The message with its alerts unread: what is used once any of them is bad."""

    model_config = ConfigDict(extra="ignore")

    version: Literal["4", "1"]
    alerts: Annotated[list[Any], Field(max_length=ALERTS_MAX)]


_MESSAGE = TypeAdapter(_Message)
_ENVELOPE = TypeAdapter(_Envelope)
_ALERT = TypeAdapter(_Alert)


def parse(body: bytes) -> Parsed:
    """Read a message. Raises NotAMessage; a bad alert among good ones is in `rejected`."""
    taken, rejected = _read(body)
    return Parsed([_alert_of(each) for each in taken], rejected)


def tally(body: bytes) -> Tally:
    """What `parse` will make of a message. Raises NotAMessage.

    The intake asks only this, and so lets go of the message before it waits for the commit: thousands of parsed alerts
    kept meanwhile by concurrent requests make the garbage collector's rounds dearer than the parsing.
    """
    taken, rejected = _read(body)
    return Tally(len(taken), [each.status for each in taken].count("firing"), rejected)


def _read(body: bytes) -> tuple[Sequence[_Alert], Sequence[Rejected]]:
    try:
        given: Sequence[_Alert | Rejected] = _MESSAGE.validate_json(body).alerts
    except ValidationError:
        given = _one_by_one(body)
    except RecursionError as error:
        raise NotAMessage("the JSON is nested too deeply") from error
    taken, rejected = [], []
    for position, each in enumerate(given):
        if isinstance(each, Rejected):
            rejected.append(each)
        elif refused := refusal(each.labels):
            rejected.append(Rejected(position, *refused))
        else:
            taken.append(each)
    return taken, rejected


def _one_by_one(body: bytes) -> list[_Alert | Rejected]:
    try:
        envelope = _ENVELOPE.validate_json(body)
    except ValidationError as error:
        raise NotAMessage(_in_a_line(error)) from error
    given: list[_Alert | Rejected] = []
    for position, each in enumerate(envelope.alerts):
        try:
            given.append(_ALERT.validate_python(each))
        except ValidationError as error:
            given.append(Rejected(position, Rejection.MALFORMED, _in_a_line(error)))
    return given


def refusal(labels: Mapping[str, str]) -> tuple[Rejection, str] | None:
    """Why an alert with these labels is not taken, whoever tells of it; None: it is."""
    if not labels:
        return Rejection.NO_LABELS, "an alert without labels has no identity"
    if len(labels) > LABELS_MAX:
        return Rejection.TOO_MANY_LABELS, f"{len(labels)} labels, at most {LABELS_MAX} are taken"
    if labels.get("alertname") in NOT_REAL:
        return Rejection.DATASOURCE, f"{labels['alertname']} is about Grafana's data source, not about a service"
    return None


def _alert_of(given: _Alert) -> Alert:
    """Alertmanager gives a firing alert the end `0001-01-01`; that is no end."""
    ends_at = _utc(given.endsAt) if given.endsAt is not None and given.endsAt.year > 1 else None
    return Alert(
        AlertStatus(given.status),
        given.labels,
        given.annotations,
        _utc(given.startsAt),
        ends_at,
        given.fingerprint,
        given.generatorURL,
    )


def _utc(at: datetime) -> datetime:
    """In UTC; the ends of the calendar cannot be shifted between zones, and are taken as they stand."""
    try:
        return at.astimezone(UTC)
    except OverflowError:
        return at.replace(tzinfo=UTC)


def _in_a_line(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{place}: {first['msg']}{more}"[:300] if place else f"{first['msg']}{more}"[:300]
