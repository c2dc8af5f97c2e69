"""Episodes: opened, refreshed, closed as `core.alert.hear` says."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from remediator.core.alert import SERVICE, Alert, Episode, EpisodeState, Heard, Listed, episode_key, hear
from remediator.core.matching import Matcher, MatchOp
from remediator.core.verdict import Reason
from remediator.storage.codec import dump, load, micros, micros_or_none, moment, moment_or_none
from remediator.storage.database import Database

HEARD_AT_ONCE = 400
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
    INSERT INTO episodes (id, key, alertname, service, fingerprint, labels, annotations, state, confirmed,
                          starts_at, opened_at, heard_at, ends_at)
    VALUES (:id, :key, :alertname, :service, :fingerprint, :labels, :annotations, 'open', :confirmed,
            :starts_at, :at, :at, NULL)
"""
REFRESH = "UPDATE episodes SET heard_at = :at, confirmed = :confirmed WHERE id = :id"
CONFIRM = "UPDATE episodes SET confirmed = 1, listed_at = :at WHERE id = :id"
DENY = "UPDATE episodes SET confirmed = 0 WHERE id = :id"
REOPEN = "UPDATE episodes SET state = 'open', heard_at = :at, ends_at = NULL, muted = '' WHERE id = :id"
CLOSE = "UPDATE episodes SET state = 'resolved', heard_at = :at, ends_at = :ends_at WHERE id = :id"
# News that came in the meantime is not made older by what was listed before it.
LISTED = """
    UPDATE episodes SET muted = :muted, listed_at = :at, heard_at = CASE WHEN heard_at < :at THEN :at ELSE heard_at END,
                        confirmed = CASE WHEN opened_at < :at THEN 1 ELSE confirmed END
     WHERE id = :id
"""
UNLISTED = """
    SELECT * FROM episodes WHERE state = 'open' AND heard_at < :since AND listed_at < :since ORDER BY heard_at LIMIT 200
"""
UNMUTE_ALL = "UPDATE episodes SET muted = '' WHERE state = 'open' AND muted <> ''"
PAGE_OF_OPEN = """
    SELECT episodes.*, coalesce((SELECT CASE WHEN runs.state = 'cancelled' THEN runs.reason END
                                   FROM runs WHERE runs.episode_id = episodes.id ORDER BY runs.id DESC LIMIT 1),
                                'clear') AS cancelled_for
      FROM episodes
     WHERE state = 'open' AND (heard_at, id) > (:heard_at, :id) ORDER BY heard_at, id LIMIT 200
"""
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


MISSED_AFTER = timedelta(minutes=2)
"""How long after an alert began, or was over, Alertmanager's list says more than the messages that may still come."""


class SqlEpisodes:
    """`confirm_after`: how much later than a possible late re-send a message must come to confirm it."""

    def __init__(self, db: Database, confirm_after: timedelta) -> None:
        self._db = db
        self._confirm_after = confirm_after

    def hear(self, alert: Alert, at: datetime) -> tuple[Heard, Episode | None]:
        return next(self.hear_all([(alert, at)]))

    def hear_all(self, alerts: Sequence[tuple[Alert, datetime]]) -> Iterator[tuple[Heard, Episode | None]]:
        self._db.lock([EPISODES])
        for begin in range(0, len(alerts), HEARD_AT_ONCE):
            some = alerts[begin : begin + HEARD_AT_ONCE]
            keys = [episode_key(alert.labels) for alert, _ in some]
            known = self._lasts(dict.fromkeys(keys))
            for key, (alert, at) in zip(keys, some, strict=True):
                heard, episode = self._hear(alert, key, known[key], at)
                known[key] = episode or known[key]
                yield heard, episode

    def _hear(self, alert: Alert, key: str, last: Episode | None, at: datetime) -> tuple[Heard, Episode | None]:
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
                return self._close(last, alert.ends_at, at)
            case Heard.CONTINUED:
                self._db.later(REOPEN, id=last.id, at=micros(at))
                return replace(last, state=EpisodeState.OPEN, heard_at=at, ends_at=None, muted="")
            case _:
                confirmed = last.confirmed or heard is Heard.CONFIRMED
                self._db.later(REFRESH, id=last.id, at=micros(at), confirmed=int(confirmed))
                if heard is Heard.CONFIRMED:
                    self._db.later(WAKE, id=last.id, at=micros(at))
                return replace(last, heard_at=at, confirmed=confirmed)

    def _close(self, episode: Episode, ends_at: datetime | None, at: datetime) -> Episode:
        self._db.later(CLOSE, id=episode.id, at=micros(at), ends_at=micros_or_none(ends_at))
        self._db.later(WAKE, id=episode.id, at=micros(at))
        return replace(episode, state=EpisodeState.RESOLVED, heard_at=at, ends_at=ends_at)

    def listed(self, alert: Alert, muted: str, at: datetime) -> tuple[Listed, Episode | None]:
        self._db.lock([EPISODES])
        key = episode_key(alert.labels)
        last = self._lasts([key])[key]
        if last is None or not last.is_open:
            return self._missed(alert, key, last, muted, at)
        self._db.later(LISTED, id=last.id, muted=muted, at=micros(at))
        listed = Listed.KNOWN
        if bool(muted) is not bool(last.muted):
            listed = Listed.MUTED if muted else Listed.UNMUTED
        confirmed = last.confirmed or last.opened_at < at
        if listed is not Listed.KNOWN or confirmed is not last.confirmed:
            self._db.later(WAKE, id=last.id, at=micros(at))
        return listed, replace(last, muted=muted, listed_at=at, heard_at=max(last.heard_at, at), confirmed=confirmed)

    def _missed(self, alert: Alert, key: str, last: Episode | None, muted: str, at: datetime) -> tuple[Listed, Episode | None]:
        """It fires, and no episode is open: the messages about it were lost, or it was silenced until now."""
        if muted or at < alert.starts_at + MISSED_AFTER or (last is not None and at < last.heard_at + MISSED_AFTER):
            return Listed.LEFT_ALONE, None
        if last is not None and hear(alert, last) is Heard.CONTINUED:
            episode = self._update(last, Heard.CONTINUED, alert, at)
        else:
            episode = self._open(alert, key, at, confirmed=True)
        self._db.later(LISTED, id=episode.id, muted="", at=micros(at))
        return Listed.OPENED, replace(episode, listed_at=at)

    def unlisted(self, since: datetime, at: datetime) -> Sequence[Episode]:
        self._db.lock([EPISODES])
        gone = [episode_of(row) for row in self._db.all(UNLISTED, since=micros(since))]
        return [self._close(episode, at, at) for episode in gone]

    def unmute_all(self) -> int:
        return self._db.run(UNMUTE_ALL)

    def page_of_open(self, after: Episode | None) -> Sequence[tuple[Episode, Reason]]:
        self._db.lock([EPISODES])
        heard_at, last_id = (micros(after.heard_at), after.id) if after else (0, 0)
        rows = self._db.all(PAGE_OF_OPEN, heard_at=heard_at, id=last_id)
        return [(episode_of(row), Reason(row["cancelled_for"])) for row in rows]

    def confirm(self, episode: int, *, firing: bool, at: datetime) -> None:
        if firing:
            self._db.run(CONFIRM, id=episode, at=micros(at))
        else:
            self._db.run(DENY, id=episode)

    def expire(self, heard_before: datetime, at: datetime) -> Sequence[Episode]:
        self._db.lock([EPISODES])
        silent = [episode_of(row) for row in self._db.all(SILENT, heard_before=micros(heard_before))]
        for episode in silent:
            self._db.later(EXPIRE, id=episode.id)
            self._db.later(WAKE, id=episode.id, at=micros(at))
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

    def _lasts(self, keys: Iterable[str]) -> dict[str, Episode | None]:
        """Of each key the open episode or, if there is none, the latest that is over."""
        asked = list(keys)
        rows = self._db.each(LAST, [{"key": key} for key in asked])
        return {key: None if row is None else episode_of(row) for key, row in zip(asked, rows, strict=True)}

    def _open(self, alert: Alert, key: str, at: datetime, *, confirmed: bool) -> Episode:
        new = self._db.add(
            "episodes",
            INSERT,
            key=key,
            alertname=alert.labels.get("alertname", ""),
            service=alert.labels.get(SERVICE, ""),
            fingerprint=alert.fingerprint,
            labels=dump(alert.labels),
            annotations=dump(alert.annotations),
            confirmed=int(confirmed),
            starts_at=micros(alert.starts_at),
            at=micros(at),
        )
        return Episode(
            new, key, alert.labels, alert.annotations, EpisodeState.OPEN, confirmed, alert.starts_at, at, at,
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
