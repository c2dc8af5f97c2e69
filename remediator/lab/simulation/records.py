"""What is known of runs, rungs and breakers while a seed is played: kept as things happen, never read from remediator."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from remediator.core.alert import episode_key
from remediator.core.playbook import BreakerLimits, Playbook


@dataclass(frozen=True, slots=True)
class Broken:
    """A promise, and how it was broken."""

    promise: str
    how: str


@dataclass(eq=False, slots=True)
class Record:
    """What is known of one run."""

    id: str
    playbook: Playbook
    episode: int
    key: str
    labels: Mapping[str, str]
    opened_at: datetime
    created_at: datetime
    deadline: datetime
    ended: bool = False
    told: bool = False
    in_doubt: bool = False
    plan: str = ""
    process: str = ""
    """Who put its last row on record."""
    used_plans: dict[str, None] = field(default_factory=dict)
    approvals: dict[str, datetime] = field(default_factory=dict)
    """Plans that a person agreed to, and until when."""


@dataclass(eq=False, slots=True)
class Flow:
    """The goes of one rung of one episode."""

    open: bool = False
    """A call went, and nobody has put on record what came of it."""
    proven_not_sent: bool = False
    effects: int = 0


@dataclass(eq=False, slots=True)
class Trips:
    """A breaker, kept as events come: not computed from history, as the one under test is."""

    failures: int = 0
    failed: dict[str, datetime] = field(default_factory=dict)
    open_until: datetime | None = None
    opened: int = 0

    def trip(self, now: datetime, limits: BreakerLimits, *, may: bool) -> None:
        """After a failure: open, or open again for longer."""
        if self.open_until is not None and now < self.open_until:
            return
        if self.open_until is not None or may:
            self.open_until = now + min(limits.open_for * 2**self.opened, limits.open_for_at_most)
            self.opened += 1


def moment(micros: int) -> datetime:
    return datetime.fromisoformat("1970-01-01T00:00:00+00:00") + timedelta(microseconds=micros)


def timeout_of(step: object) -> object:
    return getattr(step, "timeout", None)


def alerts_in(body: bytes, status: str = "firing") -> list[str]:
    """The keys of a message's alerts of this status."""
    return [episode_key(alert["labels"]) for alert in json.loads(body)["alerts"] if alert["status"] == status]
