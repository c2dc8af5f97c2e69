"""Episodes: opened, refreshed, closed as `core.alert.hear` says."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from remediator.core.alert import Alert, Episode, EpisodeState, Heard, episode_key, hear
from remediator.core.matching import Matcher, MatchOp
from remediator.storage.codec import dump, load, micros, micros_or_none, moment, moment_or_none
from remediator.storage.database import Database

EPISODES = "episodes"
"""The scope of whoever opens, closes or expires episodes: one process at a time."""

GET = "SELECT * FROM episodes WHERE id = :id"
OPEN = "SELECT * FROM episodes WHERE key = :key AND state = 'open'"
# The open one or, if there is none, the latest that is over: one question, because it is asked about every alert.
LAST = """
    SELECT * FROM episodes
     WHERE id = coalesce((SELECT id FROM episodes WHERE key = :key AND state = 'open'),
                         (SELECT max(id) FROM episodes WHERE key = :key AND state <> 'open'))
"""
INSERT = """
    INSERT INTO episodes (key, alertname, fingerprint, labels, annotations, state, confirmed,
                          starts_at, opened_at, heard_at, ends_at)
    VALUES (:key, :alertname, :fingerprint, :labels, :annotations, 'open', :confirmed, :starts_at, :at, :at, NULL)
    RETURNING id
"""
REFRESH = "UPDATE episodes SET heard_at = :at, confirmed = :confirmed WHERE id = :id"
CONFIRM = "UPDATE episodes SET confirmed = :confirmed WHERE id = :id"
REOPEN = "UPDATE episodes SET state = 'open', heard_at = :at, ends_at = NULL WHERE id = :id"
CLOSE = "UPDATE episodes SET state = 'resolved', heard_at = :at, ends_at = :ends_at WHERE id = :id"
COUNT_OPEN = "SELECT count(*) AS open FROM episodes WHERE state = 'open'"
SILENT = "SELECT * FROM episodes WHERE state = 'open' AND heard_at < :heard_before ORDER BY heard_at LIMIT 500"
EXPIRE = "UPDATE episodes SET state = 'expired' WHERE id = :id"
OPEN_NAMED = "SELECT * FROM episodes WHERE alertname = :alertname AND state = 'open'"
ALL_OPEN = "SELECT * FROM episodes WHERE state = 'open'"
# Its own run hears of a change in whatever state it is: it may be deciding just now on what it knew before. What holds
# for a cause hears of the end of any episode.
WAKE = """
    UPDATE runs SET due_at = :at
     WHERE finished_at IS NULL
       AND (episode_id = :id OR state = 'waiting' AND reason = 'cause_open')
"""


class SqlEpisodes:
    """`confirm_after`: how much later than a possible late re-send a message must come to confirm it."""

    def __init__(self, db: Database, confirm_after: timedelta) -> None:
        self._db = db
        self._confirm_after = confirm_after

    def hear(self, alert: Alert, at: datetime) -> tuple[Heard, Episode | None]:
        self._db.lock([EPISODES])
        key = episode_key(alert.labels)
        last = self._last(key)
        heard = hear(alert, last)
        if heard is Heard.IGNORED:
            return heard, None
        if last is None or heard in (Heard.OPENED, Heard.LATE):
            return heard, self._open(alert, key, at, confirmed=heard is Heard.OPENED)
        if heard is Heard.CONFIRMED and at < last.opened_at + self._confirm_after:
            heard = Heard.REFRESHED
        return heard, self._update(last, heard, alert, at)

    def _update(self, last: Episode, heard: Heard, alert: Alert, at: datetime) -> Episode:
        match heard:
            case Heard.CLOSED:
                self._db.run(CLOSE, id=last.id, at=micros(at), ends_at=micros_or_none(alert.ends_at))
                self._db.run(WAKE, id=last.id, at=micros(at))
                return replace(last, state=EpisodeState.RESOLVED, heard_at=at, ends_at=alert.ends_at)
            case Heard.CONTINUED:
                self._db.run(REOPEN, id=last.id, at=micros(at))
                return replace(last, state=EpisodeState.OPEN, heard_at=at, ends_at=None)
            case _:
                confirmed = last.confirmed or heard is Heard.CONFIRMED
                self._db.run(REFRESH, id=last.id, at=micros(at), confirmed=int(confirmed))
                if heard is Heard.CONFIRMED:
                    self._db.run(WAKE, id=last.id, at=micros(at))
                return replace(last, heard_at=at, confirmed=confirmed)

    def confirm(self, episode: int, *, firing: bool) -> None:
        self._db.run(CONFIRM, id=episode, confirmed=int(firing))

    def expire(self, heard_before: datetime, at: datetime) -> Sequence[Episode]:
        self._db.lock([EPISODES])
        silent = [episode_of(row) for row in self._db.all(SILENT, heard_before=micros(heard_before))]
        for episode in silent:
            self._db.run(EXPIRE, id=episode.id)
            self._db.run(WAKE, id=episode.id, at=micros(at))
        return [replace(episode, state=EpisodeState.EXPIRED) for episode in silent]

    def get(self, episode: int) -> Episode:
        return episode_of(self._db.one(GET, id=episode))

    def open_for(self, labels: Mapping[str, str]) -> Episode | None:
        """The open episode of these labels."""
        row = self._db.one(OPEN, key=episode_key(labels))
        return None if row is None else episode_of(row)

    def count_open(self) -> int:
        return int(self._db.one(COUNT_OPEN)["open"])

    def open_that_meet(self, matchers: Sequence[Matcher], but: int) -> Sequence[Episode]:
        """Open episodes, except `but`, that meet any of `matchers`."""
        found: dict[int, Episode] = {}
        for matcher in matchers:
            by_name = matcher.label == "alertname" and matcher.op is MatchOp.EQUAL
            rows = self._db.all(OPEN_NAMED, alertname=matcher.value) if by_name else self._db.all(ALL_OPEN)
            met = (episode for episode in map(episode_of, rows) if matcher.matches(episode.labels))
            found |= {episode.id: episode for episode in met if episode.id != but}
        return list(found.values())

    def _last(self, key: str) -> Episode | None:
        row = self._db.one(LAST, key=key)
        return None if row is None else episode_of(row)

    def _open(self, alert: Alert, key: str, at: datetime, *, confirmed: bool) -> Episode:
        row = self._db.one(
            INSERT,
            key=key,
            alertname=alert.labels.get("alertname", ""),
            fingerprint=alert.fingerprint,
            labels=dump(alert.labels),
            annotations=dump(alert.annotations),
            confirmed=int(confirmed),
            starts_at=micros(alert.starts_at),
            at=micros(at),
        )
        return Episode(
            row["id"], key, alert.labels, alert.annotations, EpisodeState.OPEN, confirmed, alert.starts_at, at, at,
            fingerprint=alert.fingerprint,
        )  # fmt: skip


def episode_of(row: Any) -> Episode:
    return Episode(
        id=row["id"],
        key=row["key"],
        labels=load(row["labels"]),
        annotations=load(row["annotations"]),
        state=EpisodeState(row["state"]),
        confirmed=bool(row["confirmed"]),
        starts_at=moment(row["starts_at"]),
        opened_at=moment(row["opened_at"]),
        heard_at=moment(row["heard_at"]),
        ends_at=moment_or_none(row["ends_at"]),
        fingerprint=row["fingerprint"],
        muted=row["muted"],
        listed_at=moment_or_none(row["listed_at"]),
    )
