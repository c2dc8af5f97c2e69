"""Alerts as Alertmanager tells them, and episodes: one alert identity from its first firing to resolved or expired."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256

WATCHDOG = "Watchdog"
"""The customary name of the alert that always fires. It is no incident: only its absence is."""
SERVICE = "service"
"""The label that says which service an alert is about."""


class AlertStatus(StrEnum):
    FIRING = "firing"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert of a webhook message, treated by its own status and never by the message's."""

    status: AlertStatus
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    starts_at: datetime
    ends_at: datetime | None
    fingerprint: str = ""
    generator_url: str = ""


def episode_key(labels: Mapping[str, str]) -> str:
    """128 bits of the SHA-256 of the canonical label set, in hexadecimal.

    Alertmanager's fingerprint is 64-bit FNV, which collides by construction for whoever chooses the labels; it is kept
    for people to search by and never used as a key. 0xFF cannot occur in UTF-8, so no label can forge a separator.
    """
    canonical = b"".join(
        name.encode(errors="surrogatepass") + b"\xff" + labels[name].encode(errors="surrogatepass") + b"\xff"
        for name in sorted(labels)
    )
    return sha256(canonical).hexdigest()[:32]


class EpisodeState(StrEnum):
    OPEN = "open"
    RESOLVED = "resolved"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Episode:
    """One alert identity from first firing to resolved or expired.

    `opened_at` and `heard_at` are remediator's clock; `starts_at` and `ends_at` are Prometheus's. `confirmed` is False
    for a firing that may be a late re-send of what was resolved already: it is recorded, not acted on. `muted` says why
    Alertmanager notifies nobody of it, as last heard, or is empty; `listed_at` is when Alertmanager last listed it.
    """

    id: int
    key: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    state: EpisodeState
    confirmed: bool
    starts_at: datetime
    opened_at: datetime
    heard_at: datetime
    ends_at: datetime | None = None
    fingerprint: str = ""
    muted: str = ""
    listed_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        return self.state is EpisodeState.OPEN


class Heard(StrEnum):
    """What hearing an alert did to its episode."""

    OPENED = "opened"
    REFRESHED = "refreshed"
    CONFIRMED = "confirmed"
    CONTINUED = "continued"
    CLOSED = "closed"
    LATE = "late"
    IGNORED = "ignored"


class Listed(StrEnum):
    """What finding an alert in Alertmanager's list did to its episode: the label of a metric, so a fixed list."""

    OPENED = "opened"
    """It fires, and no message ever told of it."""
    KNOWN = "known"
    MUTED = "muted"
    UNMUTED = "unmuted"
    LEFT_ALONE = "left_alone"
    """Muted or too young to be missed, and not open: nothing is begun."""


def hear(alert: Alert, last: Episode | None) -> Heard:
    """What this alert means, given the last episode of the same identity (open or closed), or None if there was none.

    `startsAt` is not part of an identity: it moves when Prometheus restarts or a second Prometheus reports. A firing
    whose `startsAt` lies before the `endsAt` of the resolve that closed the last episode may be a notification that was
    delayed on its way (design, section 2): LATE. An episode that merely expired is CONTINUED when the same firing is heard
    again, and closed when its resolve comes after all; a firing that began later is a new one.
    """
    if alert.status is AlertStatus.RESOLVED:
        closes = last is not None and last.state is not EpisodeState.RESOLVED and not _ended_before(alert, last)
        return Heard.CLOSED if closes else Heard.IGNORED
    if last is None:
        return Heard.OPENED
    match last.state:
        case EpisodeState.OPEN:
            return Heard.REFRESHED if last.confirmed else Heard.CONFIRMED
        case EpisodeState.EXPIRED:
            return Heard.CONTINUED if alert.starts_at <= last.heard_at else Heard.OPENED
        case EpisodeState.RESOLVED:
            late = last.ends_at is not None and alert.starts_at < last.ends_at
            return Heard.LATE if late else Heard.OPENED


def _ended_before(alert: Alert, episode: Episode) -> bool:
    """A resolve of an earlier firing, delivered after the next firing had begun, does not close the new episode."""
    return alert.ends_at is not None and alert.ends_at < episode.starts_at
