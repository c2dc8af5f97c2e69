"""Breakers: the results and re-fires on record that they are computed from, and their reset by a person."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import lru_cache

from remediator.core.alert import Episode
from remediator.core.guards.breaker import BreakerState, Opening, of_playbook, of_target
from remediator.core.playbook import Playbook
from remediator.core.snapshot import Result, Score
from remediator.ports import Breaker, LedgerKind, LedgerRow
from remediator.storage.codec import micros, moment
from remediator.storage.database import Database
from remediator.storage.episodes import episode_of
from remediator.storage.runs import append_apart

RESULTS_REMEMBERED = 100
OPENINGS_REMEMBERED = 100

RESULTS_ON_TARGET = """
    SELECT at, target, score FROM ledger WHERE kind = 'result' AND target = :scope ORDER BY id DESC LIMIT :limit
"""
RESULTS_OF_PLAYBOOK = """
    SELECT at, target, score FROM ledger WHERE kind = 'result' AND playbook = :scope ORDER BY id DESC LIMIT :limit
"""
# What people were told is in doubt has no result yet, and may have none for hours.
IN_DOUBT = """
    SELECT target, (SELECT max(at) FROM ledger WHERE run_id = runs.id AND kind = 'observation') AS at FROM runs
     WHERE finished_at IS NULL AND state = 'in_doubt' AND reason = 'in_doubt' AND playbook = :playbook
"""
OPENINGS = "SELECT created_at FROM runs WHERE target = :target AND target <> '' ORDER BY created_at DESC LIMIT :limit"
OPENINGS_OF_PLAYBOOK = """
    SELECT target, created_at FROM runs WHERE playbook = :playbook AND target <> '' ORDER BY created_at DESC LIMIT :limit
"""


def _stopped(of_it: str) -> str:
    """Of the newest runs of a target, or of a playbook, those that a breaker left to people while their alert still fires."""
    return f"""
        SELECT episodes.* FROM runs JOIN episodes ON episodes.id = runs.episode_id
         WHERE {of_it} AND runs.target <> '' AND runs.state = 'escalated' AND runs.reason = 'breaker_open'
           AND episodes.state = 'open'
           AND NOT EXISTS (SELECT 1 FROM runs AS newer WHERE newer.episode_id = runs.episode_id AND newer.id > runs.id)
         ORDER BY runs.created_at DESC LIMIT 100
    """  # noqa: S608 - it is a text of this module


STOPPED_ON_TARGET = _stopped("runs.target = :target")
STOPPED_OF_PLAYBOOK = _stopped("runs.playbook = :playbook")
WAKE = "UPDATE runs SET due_at = :at WHERE state = 'waiting' AND reason = 'breaker_trial'"


class SqlBreakers:
    def __init__(self, db: Database) -> None:
        self._db = db

    def results_on(self, target: str) -> tuple[Result, ...]:
        """The results on a target, oldest first."""
        return self._results(RESULTS_ON_TARGET, target) if target else ()

    def results_of(self, playbook: str) -> tuple[Result, ...]:
        """The results of a playbook, oldest first; what is in doubt counts as failed."""
        results = self._results(RESULTS_OF_PLAYBOOK, playbook)
        doubts = [
            Result(moment(self._db.steady(row["at"])), row["target"], Score.FAILURE)
            for row in self._db.all(IN_DOUBT, playbook=playbook)
        ]
        return tuple(sorted((*results, *doubts), key=lambda result: result.at)) if doubts else results

    def openings_on(self, target: str) -> tuple[datetime, ...]:
        rows = self._db.all(OPENINGS, target=target, limit=OPENINGS_REMEMBERED)
        return tuple(moment(self._db.steady(row["created_at"])) for row in rows)

    def openings_of(self, playbook: str) -> tuple[Opening, ...]:
        rows = self._db.all(OPENINGS_OF_PLAYBOOK, playbook=playbook, limit=OPENINGS_REMEMBERED)
        return tuple((row["target"], moment(self._db.steady(row["created_at"]))) for row in rows)

    def of(self, playbook: Playbook) -> Sequence[Breaker]:
        return [
            Breaker(playbook.name, target, state.open_until, state.opened_times)
            for target, state in self._states(playbook)
            if state.open_until is not None
        ]

    def _states(self, playbook: Playbook) -> Iterator[tuple[str, BreakerState]]:
        """The playbook's own and that of every target that it aimed at lately, whichever playbook opened it."""
        results, limits = self.results_of(playbook.name), playbook.limits.breaker
        openings = self.openings_of(playbook.name)
        yield "", of_playbook(results, limits, openings)
        for target in sorted(({result.target for result in results} | {target for target, _ in openings}) - {""}):
            yield target, of_target(self.results_on(target), self.openings_on(target), limits)

    def reset(self, breaker: Breaker, who: str, why: str, at: datetime) -> None:
        """A target's breaker is reset for whichever playbook acts on it; a playbook's leaves those of its targets alone."""
        data = {"score": Score.RESET, "why": why}
        row = LedgerRow(at, LedgerKind.RESULT, target=breaker.target, who=who, data=data)
        append_apart(self._db, row, playbook="" if breaker.target else breaker.playbook)
        self._db.run(WAKE, at=micros(at))

    def stopped(self, breaker: Breaker) -> Sequence[Episode]:
        if breaker.target:
            rows = self._db.all(STOPPED_ON_TARGET, target=breaker.target)
        else:
            rows = self._db.all(STOPPED_OF_PLAYBOOK, playbook=breaker.playbook)
        return [episode_of(row) for row in rows]

    def _results(self, sql: str, scope: str) -> tuple[Result, ...]:
        rows = self._db.all(sql, scope=scope, limit=RESULTS_REMEMBERED)
        return tuple(_result(self._db.steady(row["at"]), row["target"], row["score"]) for row in reversed(rows))


@lru_cache(maxsize=4096)
def _result(at: int, target: str, score: str) -> Result:
    """Remembered, as their times are."""
    return Result(moment(at), target, Score(score))
